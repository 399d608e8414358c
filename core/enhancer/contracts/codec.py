"""Kept for imports of the old name; use :mod:`enhancer.storekit.codec`."""

from enhancer.storekit.codec import *  # noqa: F403
