"""Re-export :mod:`enhancer.plugin_host`, the module's name since version 0.6."""

from enhancer.plugin_host import *  # noqa: F403
