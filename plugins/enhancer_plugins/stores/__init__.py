"""Feature stores: ``lmdb`` and ``sqlite``."""
