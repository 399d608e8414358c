"""Worth of the vectors of some items, measured on validation while most items have none."""
