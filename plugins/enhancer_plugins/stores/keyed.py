"""Kept for imports of the old name; use :mod:`enhancer.storekit.keyed`."""

from enhancer.storekit.keyed import *  # noqa: F403
