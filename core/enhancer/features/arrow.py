"""Kept for imports of the old name; use :mod:`enhancer.features.storing.arrow`."""

from enhancer.features.storing.arrow import *  # noqa: F403
