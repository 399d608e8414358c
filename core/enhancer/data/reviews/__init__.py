"""Read reviews of items, and keep those apart whose interaction is held out."""
