"""The observer hooks, called so that a listener that fails cannot end the run it listens to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pluggy

_log = logging.getLogger("enhancer.plugin_host")


class Observers:
    """``observers.epoch_finished(run=…, epoch=…, …)`` tells every plugin that listens.

    A listener that raises is named in one warning; the run and the other listeners go on.
    """

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._manager = manager
        self._warned: set[tuple[str, str]] = set()

    def __getattr__(self, hook: str) -> Callable[..., None]:
        caller = getattr(self._manager.hook, hook, None)
        if hook.startswith("_") or caller is None or not caller.has_spec():
            raise AttributeError(f"no hook {hook!r}")

        def tell(**details: Any) -> None:
            for listener in caller.get_hookimpls():
                try:
                    listener.function(*(details[name] for name in listener.argnames))
                except (Exception, SystemExit) as error:  # noqa: BLE001  a listener can raise anything
                    self._warn(listener.plugin_name, hook, error)

        return tell

    def _warn(self, plugin: str, hook: str, error: BaseException) -> None:
        if (plugin, hook) not in self._warned:
            self._warned.add((plugin, hook))
            _log.warning(
                "plugin %s failed in %s: %s: %s; the run goes on, and this is said once",
                plugin,
                hook,
                type(error).__name__,
                error,
            )
            _log.debug("the traceback of %s in %s", plugin, hook, exc_info=error)
