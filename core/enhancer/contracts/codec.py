"""Re-export :mod:`enhancer.storekit.codec`, the current name of this module."""

from enhancer.storekit.codec import *  # noqa: F403
