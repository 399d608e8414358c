"""Bundled exporters."""
