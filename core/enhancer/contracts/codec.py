"""Re-export :mod:`enhancer.storekit.codec`, the module's name since version 0.6."""

from enhancer.storekit.codec import *  # noqa: F403
