"""Re-export :mod:`enhancer.evaluation.measuring.metrics`, the module's name since version 0.6."""

from enhancer.evaluation.measuring.metrics import *  # noqa: F403
