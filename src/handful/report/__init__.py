"""What is shown of a classifier: figures."""
