"""Bundled fusers."""
