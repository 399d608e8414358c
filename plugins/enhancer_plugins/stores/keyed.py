"""Re-export :mod:`enhancer.storekit.keyed`, the current name of this module."""

from enhancer.storekit.keyed import *  # noqa: F403
