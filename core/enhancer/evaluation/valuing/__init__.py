"""What vectors of some items are worth, measured on validation while most items have none."""
