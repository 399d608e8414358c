"""Runners: ``local``."""
