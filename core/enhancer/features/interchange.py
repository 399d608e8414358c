"""Kept for imports of the old name; use :mod:`enhancer.features.storing.interchange`."""

from enhancer.features.storing.interchange import *  # noqa: F403
