"""Encode once: extraction, the store that keeps features between runs, and features files."""
