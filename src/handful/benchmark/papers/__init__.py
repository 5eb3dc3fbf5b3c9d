"""The tables and figures of a paper by name: what they need, and ours beside the published."""
