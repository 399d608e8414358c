"""Re-export :mod:`enhancer.features.storing.interchange`, the module's name since version 0.6."""

from enhancer.features.storing.interchange import *  # noqa: F403
