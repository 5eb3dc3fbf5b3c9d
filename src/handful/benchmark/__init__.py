"""Methods compared on images that they have not seen."""
