"""Embed profiles and texts, and write records to the store and to files."""
