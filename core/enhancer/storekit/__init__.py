"""What feature stores share: the record codec and the base of stores with ordered byte keys."""
