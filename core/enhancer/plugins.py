"""Kept for imports of the old name; use :mod:`enhancer.plugin_host`."""

from enhancer.plugin_host import *  # noqa: F403
