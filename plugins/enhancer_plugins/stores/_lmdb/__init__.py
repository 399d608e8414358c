"""Internals of the store ``lmdb``."""
