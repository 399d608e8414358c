"""Kept for imports of the old name; use :mod:`enhancer.evaluation.measuring.metrics`."""

from enhancer.evaluation.measuring.metrics import *  # noqa: F403
