"""Re-export :mod:`enhancer.plugin_host`, the current name of this module."""

from enhancer.plugin_host import *  # noqa: F403
