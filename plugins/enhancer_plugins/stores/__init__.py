"""Feature stores. ``keyed`` is the part they share: a store is then only a place that keeps keys and values."""
