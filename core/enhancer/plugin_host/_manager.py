"""Loads each plugin on its own, so that a broken one is a line in a list and not the end of the program."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import pluggy

from enhancer import hookspecs
from enhancer.errors import EnhancerError, PluginError, did_you_mean
from enhancer.plugin_host import _commands
from enhancer.plugin_host._catalog import Catalog, load_target, make_offer
from enhancer.plugin_host._model import COMMAND_HOOK, KINDS, REGISTRATION_HOOKS, PluginInfo, Source, normalise
from enhancer.plugin_host._observers import Observers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import typer

    from enhancer.contracts import Context

_log = logging.getLogger(__name__)
GROUP = "enhancer"
ALLOW_LIST = "ENHANCER_PLUGINS"

# A plugin that calls sys.exit while it loads is as broken as one that raises; Ctrl-C is the user's own.
_FAULTS = (Exception, SystemExit)
_KNOWN_BY_OPTIONS = frozenset({"backbone", "fuser"})


def load_plugins(environ: Mapping[str, str] | None = None) -> PluginManager:
    """Load every installed plugin.

    Args:
        environ: Environment; by default the process's. ``ENHANCER_PLUGINS``, if set, names the distributions that may
            be loaded, separated by commas (the bundled plugins are those of ``enhancer``); others are never imported.
    """
    allowed = (os.environ if environ is None else environ).get(ALLOW_LIST)
    manager = PluginManager()
    manager.load_entry_points(None if allowed is None else {normalise(name) for name in allowed.split(",")})
    return manager


def _order(entry: importlib.metadata.EntryPoint) -> tuple[bool, str, str]:
    """The bundled plugins first, then by name: a listing that does not depend on the order of installation."""
    distribution = entry.dist.name if entry.dist else ""
    return (normalise(distribution) != GROUP, distribution, entry.name)


def _source(entry: importlib.metadata.EntryPoint) -> Source:
    if entry.dist is None:
        return Source("unknown", None, entry.name)
    return Source(entry.dist.name, entry.dist.version, entry.name)


class PluginManager:
    """The plugins of one process.

    >>> manager = PluginManager()
    >>> manager.get("store", "lmdb")
    Traceback (most recent call last):
    enhancer.errors.PluginError: unknown store 'lmdb'; no plugin of kind store is installed
    """

    def __init__(self) -> None:
        self._pluggy = _new_pluggy()
        self._catalog = Catalog()
        self._faults: list[PluginInfo] = []
        self._observing: list[Source] = []
        self._command_hooks: list[tuple[Source, Callable[[typer.Typer], Any]]] = []
        self._taken: frozenset[str] = frozenset()
        self.only_installed = True
        """Whether every plugin came by its entry point, so that another process finds the same ones."""
        self.hook = Observers(self._pluggy)
        """Calls the observer hooks: ``manager.hook.profile_stored(record=record)``. No listener can end a run."""

    def register(self, plugin: object, *, distribution: str = "local", version: str | None = None) -> None:
        """Add a plugin by hand: a module, or any object with hooks. For tests and notebooks.

        Args:
            plugin: What an entry point would name.
            distribution: Stands for the distribution in listings and in ``"distribution:name"``.
            version: Its version, for listings.

        Raises:
            PluginError: A hook's signature is wrong, or a hook fails; the plugin is then not registered, or in part.
        """
        if self._pluggy.is_registered(plugin):  # it is installed, and its entry point came first
            return
        self.only_installed = False
        name = getattr(plugin, "__name__", type(plugin).__name__)
        self._admit(plugin, Source(distribution, version, name))

    def load_entry_points(self, allowed: set[str] | None = None) -> None:
        """Load what is installed; whatever goes wrong becomes a line of the listing.

        Args:
            allowed: Normalised names of the distributions that may be loaded; None for all.
        """
        installed = sorted(importlib.metadata.entry_points(group=GROUP), key=_order)
        names = {normalise(_source(entry).distribution) for entry in installed}
        for name in sorted((allowed or set()) - names - {""}):
            hint = did_you_mean(name, names)
            _log.warning(
                "%s names %r, and no such distribution brings plugins%s", ALLOW_LIST, name, f"; {hint}" if hint else ""
            )
        for entry in installed:
            source = _source(entry)
            if allowed is None or normalise(source.distribution) in allowed:
                self._load(entry, source)
            else:
                reason = f"{ALLOW_LIST} does not name {source.distribution}"
                self._faults.append(source.info(source.entry_point, None, "skipped", reason))

    def _load(self, entry: importlib.metadata.EntryPoint, source: Source) -> None:
        # Standard output is for results: a plugin that greets its user must not spoil somebody's JSON.
        with contextlib.redirect_stdout(sys.stderr):
            try:
                plugin = entry.load()
            except _FAULTS as error:
                what = "calls sys.exit" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
                reason = f"importing {entry.value} failed: {what}"
                self._faults.append(source.info(entry.name, None, "broken", reason))
                return
            with contextlib.suppress(PluginError):  # it is in the listing by now
                self._admit(plugin, source)

    def _admit(self, plugin: object, source: Source) -> None:
        try:
            _check_hooks(plugin)
            self._pluggy.register(plugin, name=f"{source.distribution}:{source.entry_point}")
        except _FAULTS as error:
            reason = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            self._faults.append(source.info(source.entry_point, None, "broken", reason))
            raise PluginError(f"plugin {source.entry_point!r} of {source.distribution}: {reason}") from error
        observes = False
        failed: list[str] = []
        for caller in self._pluggy.get_hookcallers(plugin) or []:
            hook = next(implementation for implementation in caller.get_hookimpls() if implementation.plugin is plugin)
            if kind := REGISTRATION_HOOKS.get(caller.name):
                failed += self._offers(hook, caller.name, kind, source)
            elif caller.name == COMMAND_HOOK:
                self._command_hooks.append((source, _positional(hook)))
            else:
                observes = True
        if observes:
            self._observing.append(source)
        if failed:
            raise PluginError(f"plugin {source.entry_point!r} of {source.distribution}: {'; '.join(failed)}")

    def _offers(self, hook: pluggy.HookImpl, hook_name: str, kind: str, source: Source) -> list[str]:
        """Let a plugin register what it has of one kind. Returns what went wrong."""
        failed: list[str] = []

        def broken(name: str, reason: str) -> None:
            failed.append(reason)
            self._faults.append(source.info(name, kind, "broken", reason))

        def register(
            name: str, target: type | str, *, extra: str | None = None, requires: tuple[str, ...] = ()
        ) -> None:
            try:
                self._catalog.add(make_offer(source, kind, name, target, extra=extra, requires=requires))
            except PluginError as error:  # this one is at fault; what else the plugin registers may be sound
                broken(str(name), str(error))

        try:
            _positional(hook)(register)
        except _FAULTS as error:
            broken(source.entry_point, f"{hook_name} failed: {type(error).__name__}: {error}")
        return failed

    def listing(self) -> list[PluginInfo]:
        """What is installed, by kind and name, with what is wrong with it. Imports no plugin's libraries."""
        lines = [*self._catalog.listing(), *self._faults]
        lines += [source.info(source.entry_point, "observer", "ok") for source in self._observing]
        lines += [line for line, _ in self._judged_commands()]
        order = [*KINDS, "command", "observer", None]
        return sorted(lines, key=lambda line: (order.index(line.kind), line.name, line.distribution))

    def get(self, kind: str, use: str, *, complete: bool = True) -> type[Any]:
        """The class of a plugin.

        Args:
            kind: ``llm``, ``embedder``, ``store``, ``backbone`` or ``fuser``.
            use: Its name, or ``"distribution:name"``.
            complete: Refuse it when a library is missing that it requires. Without, its class is good enough to be
                looked at, and to plan with.

        Raises:
            PluginError: Unknown (with the nearest name), claimed by several distributions, without its extra (with
                the command that installs it), or broken.
        """
        if kind not in KINDS:
            raise PluginError(f"unknown kind of plugin {kind!r}", hint=f"known: {', '.join(KINDS)}")
        try:
            offer = self._catalog.find(kind, use)
        except PluginError as error:
            raise PluginError(error.message, hint=self._hint(error.hint)) from None
        return load_target(offer, complete=complete)

    def _hint(self, hint: str | None) -> str | None:
        """An unknown name may be that of a plugin which did not load: say which ones did not."""
        absent = sorted({f"{line.name} of {line.distribution} ({line.reason})" for line in self._faults})
        return "; ".join([hint or "", *(f"not loaded: {each}" for each in absent)]) if absent else hint

    def create(
        self,
        kind: str,
        use: str,
        options: Mapping[str, Any],
        context: Context,
        also_known: Iterable[str] = (),
        *,
        complete: bool = True,
        where: str | None = None,
    ) -> Any:
        """An instance of a plugin.

        Args:
            kind: As for :meth:`get`.
            use: As for :meth:`get`.
            options: Its options as configured; checked by its options class.
            context: Where it runs.
            also_known: Further keys of the same table, to draw suggestions from.
            complete: As for :meth:`get`.
            where: How messages name the place; by default the table of that kind.

        Raises:
            PluginError: As for :meth:`get`, or its constructor fails; a backbone or fuser that does not keep its
                options, so that a run by other options would be taken for the same.
            ConfigError: An unknown option (with the nearest known one) or a value of a wrong type.
        """
        target = self.get(kind, use, complete=complete)
        from enhancer.contracts.options import build_options

        checked = build_options(target.options_class, options, where=where or f"[{kind}]", also_known=also_known)
        try:
            made = target(checked, context)
        except EnhancerError:
            raise
        except _FAULTS as error:
            raise PluginError(f"{kind} {use!r} failed to start: {type(error).__name__}: {error}") from error
        if kind in _KNOWN_BY_OPTIONS and not hasattr(made, "options"):
            raise PluginError(
                f"{kind} {use!r} does not keep its options",
                hint="have its constructor set self.options = options: finished runs are known again by them",
            )
        return made

    def add_commands(self, app: typer.Typer, taken: Iterable[str] = ()) -> None:
        """Add the commands of all plugins to the command line.

        Args:
            app: The command line.
            taken: Names of its own commands, which no plugin can have.
        """
        self._taken = frozenset(taken)
        _commands.add((command for _, command in self._judged_commands() if command), app)

    def _judged_commands(self) -> list[tuple[PluginInfo, _commands.Command | None]]:
        """A line for each command of each plugin, and the command to add where it is sound."""
        collected: list[_commands.Command] = []
        broken: list[tuple[PluginInfo, _commands.Command | None]] = []
        for source, hook in self._command_hooks:
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    collected += _commands.collect(source, hook)
            except _FAULTS as error:
                reason = f"{COMMAND_HOOK} failed: {type(error).__name__}: {error}"
                broken.append((source.info(source.entry_point, "command", "broken", reason), None))
        return [*_commands.judge(collected, self._taken), *broken]


def _positional(hook: pluggy.HookImpl) -> Callable[[Any], Any]:
    """Call a hook of one argument; an implementation may leave out arguments that it does not want."""
    return lambda argument: hook.function(*[argument] * len(hook.argnames))


def _new_pluggy() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def _check_hooks(plugin: object) -> None:
    """Try a plugin on a manager of its own, so that one that is refused leaves no trace.

    Raises:
        PluginError: It has no hooks, or they are not those of ``enhancer.hookspecs``.
    """
    trial = _new_pluggy()
    try:
        trial.register(plugin)
        trial.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(" ".join(str(error).split())) from None
    callers = trial.get_hookcallers(plugin) or []
    if not callers:
        raise PluginError("it implements no hook", hint="decorate its functions with @enhancer.hookimpl")
    for caller in callers:
        if any(hook.wrapper or hook.hookwrapper for hook in caller.get_hookimpls()):
            raise PluginError(f"{caller.name} is a hook wrapper: enhancer calls plugins one by one, without wrappers")
