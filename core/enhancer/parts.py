"""Re-export :mod:`enhancer.project.parts`, the module's name since version 0.6."""

from enhancer.project.parts import *  # noqa: F403
