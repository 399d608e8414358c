"""Re-export :mod:`enhancer.features.storing.arrow`, the module's name since version 0.6."""

from enhancer.features.storing.arrow import *  # noqa: F403
