"""Kept for imports of the old name; use :mod:`enhancer.project.profile_checks`."""

from enhancer.project.profile_checks import *  # noqa: F403
