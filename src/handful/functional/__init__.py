"""The equations, as pure functions on tensors. Nothing here knows of images, files or methods."""
