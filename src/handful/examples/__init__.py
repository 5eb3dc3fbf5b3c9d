"""Photographs that come with the package, and the quick start on them."""
