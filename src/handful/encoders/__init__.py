"""Image tower and text tower behind one small protocol, and how pictures and names reach them."""
