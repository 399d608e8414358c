"""Re-export :mod:`enhancer.project.profile_checks`, the module's name since version 0.6."""

from enhancer.project.profile_checks import *  # noqa: F403
