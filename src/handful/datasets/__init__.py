"""Images, labels and splits: where they come from, and how a few of them are drawn."""
