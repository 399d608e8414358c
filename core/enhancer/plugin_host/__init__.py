"""Plugin host: find plugins by the entry-point group ``enhancer``, isolate their failures, create instances.

    >>> manager = load_plugins(environ={"ENHANCER_PLUGINS": ""})
    >>> [info.name for info in manager.listing() if info.status == "ok"]
    []

Importing this package, and listing plugins, imports none of the libraries that the plugins use.
"""

from __future__ import annotations

from enhancer.plugin_host._events import ActiveRun, Events
from enhancer.plugin_host._manager import PluginManager, load_plugins
from enhancer.plugin_host._model import KINDS, PluginInfo, normalise

__all__ = ["KINDS", "ActiveRun", "Events", "PluginInfo", "PluginManager", "load_plugins", "normalise"]
