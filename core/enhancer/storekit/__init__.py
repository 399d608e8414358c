"""Code that feature stores share: the record codec and a base class for stores with ordered byte keys."""
