"""Exports: what is written to other systems, and the check of what they find in it."""
