"""Re-export :mod:`enhancer.storekit.keyed`, the module's name since version 0.6."""

from enhancer.storekit.keyed import *  # noqa: F403
