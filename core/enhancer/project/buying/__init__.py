"""Weigh generated texts against what they cost."""
