"""Load each plugin separately, so that a broken one becomes a line of the listing instead of ending the program."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from enhancer import hookspecs
from enhancer.errors import EnhancerError, PluginError, did_you_mean
from enhancer.plugin_host import _commands
from enhancer.plugin_host._events import ANY_FAULT, Events
from enhancer.plugin_host._model import COMMAND_HOOK, KINDS, REGISTRATION_HOOKS, PluginInfo, Source, normalise
from enhancer.plugin_host._registry import Registry, load_target, make_registration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import typer

    from enhancer.contracts import Context, Observer
    from enhancer.contracts.options import Options
    from enhancer.plugin_host._model import Registration

_log = logging.getLogger(__name__)
GROUP = "enhancer"
ALLOW_LIST = "ENHANCER_PLUGINS"

_MUST_KEEP_OPTIONS = frozenset({"backbone", "fuser"})
"""Kinds whose options enter the key under which finished runs are cached."""


class ObserverTable(Protocol):
    """Configuration of one observer, as in a table ``[observers.NAME]``."""

    @property
    def use(self) -> str:
        """Name of the plugin; empty for the name of the table."""

    @property
    def enabled(self) -> bool:
        """Whether the observer is active."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the observer, not yet validated."""


def load_plugins(environ: Mapping[str, str] | None = None) -> PluginManager:
    """Load every installed plugin.

    Args:
        environ: Environment variables; by default those of the process. ``ENHANCER_PLUGINS``, if set, lists the
            distributions whose plugins may be loaded, separated by commas (the bundled plugins belong to ``enhancer``);
            no other plugin is imported.
    """
    allowed = (os.environ if environ is None else environ).get(ALLOW_LIST)
    manager = PluginManager()
    manager.load_entry_points(None if allowed is None else {normalise(name) for name in allowed.split(",")})
    return manager


def _order(entry: importlib.metadata.EntryPoint) -> tuple[bool, str, str]:
    """Return a sort key: bundled plugins first, then by name, so that listings do not depend on installation order."""
    distribution = entry.dist.name if entry.dist else ""
    return (normalise(distribution) != GROUP, distribution, entry.name)


def _source(entry: importlib.metadata.EntryPoint) -> Source:
    if entry.dist is None:
        return Source("unknown", None, entry.name)
    return Source(entry.dist.name, entry.dist.version, entry.name)


class PluginManager:
    """Registry of the plugins of one process.

    >>> manager = PluginManager()
    >>> manager.get("store", "lmdb")
    Traceback (most recent call last):
    enhancer.errors.PluginError: unknown store 'lmdb'; no plugin of kind store is installed
    """

    def __init__(self) -> None:
        self._pluggy = _new_pluggy()
        self._registry = Registry()
        self._faults: list[PluginInfo] = []
        self._observing: list[Source] = []
        self._command_hooks: list[tuple[Source, Callable[[typer.Typer], Any]]] = []
        self._reserved: frozenset[str] = frozenset()
        self.only_installed = True
        """Whether every plugin came from an entry point, so that other processes load the same plugins."""
        self.hook = Events(self._pluggy, lambda _: {})
        """Sends events to plugins that implement observer hooks directly; see :meth:`events`."""

    def register(self, plugin: object, *, distribution: str = "local", version: str | None = None) -> None:
        """Add a plugin by hand, for tests and notebooks.

        Args:
            plugin: A module, or another object with hook implementations.
            distribution: Name of the distribution for listings and for ``"distribution:name"``.
            version: Version for listings.

        Raises:
            PluginError: A hook has a wrong signature, or a hook raises; the plugin is then registered in part or not
                at all.
        """
        if self._pluggy.is_registered(plugin):  # already loaded from its entry point
            return
        self.only_installed = False
        name = getattr(plugin, "__name__", type(plugin).__name__)
        self._admit(plugin, Source(distribution, version, name))

    def load_entry_points(self, allowed: set[str] | None = None) -> None:
        """Load all installed plugins; failures become lines of the listing.

        Args:
            allowed: Normalised names of the distributions whose plugins may be loaded; None for all.
        """
        installed = sorted(importlib.metadata.entry_points(group=GROUP), key=_order)
        names = {normalise(_source(entry).distribution) for entry in installed}
        for name in sorted((allowed or set()) - names - {""}):
            hint = did_you_mean(name, names)
            _log.warning(
                "%s lists %r, but no installed distribution of that name has plugins%s",
                ALLOW_LIST,
                name,
                f"; {hint}" if hint else "",
            )
        for entry in installed:
            source = _source(entry)
            if allowed is None or normalise(source.distribution) in allowed:
                self._load(entry, source)
            else:
                reason = f"{ALLOW_LIST} does not list {source.distribution}"
                self._faults.append(source.info(source.entry_point, None, "skipped", reason))

    def _load(self, entry: importlib.metadata.EntryPoint, source: Source) -> None:
        # Standard output is reserved for results: a plugin that prints while it loads must not break --json.
        with contextlib.redirect_stdout(sys.stderr):
            try:
                plugin = entry.load()
            except ANY_FAULT as error:
                what = "calls sys.exit" if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
                reason = f"importing {entry.value} failed: {what}"
                self._faults.append(source.info(entry.name, None, "broken", reason))
                return
            with contextlib.suppress(PluginError):  # the listing has it now
                self._admit(plugin, source)

    def _admit(self, plugin: object, source: Source) -> None:
        try:
            _check_hooks(plugin)
            self._pluggy.register(plugin, name=f"{source.distribution}:{source.entry_point}")
        except ANY_FAULT as error:
            reason = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            self._faults.append(source.info(source.entry_point, None, "broken", reason))
            raise PluginError(f"plugin {source.entry_point!r} of {source.distribution}: {reason}") from error
        observes = False
        failed: list[str] = []
        for hook_name, hook in self._implementations(plugin):
            if kind := REGISTRATION_HOOKS.get(hook_name):
                failed += self._collect_registrations(hook, hook_name, kind, source)
            elif hook_name == COMMAND_HOOK:
                self._command_hooks.append((source, _positional(hook)))
            else:
                observes = True
        if observes:
            self._observing.append(source)
        if failed:
            raise PluginError(f"plugin {source.entry_point!r} of {source.distribution}: {'; '.join(failed)}")

    def _implementations(self, plugin: object) -> Iterator[tuple[str, pluggy.HookImpl]]:
        """Yield every hook implementation of a plugin with the name of its hook.

        A plugin may implement one hook several times, by functions marked ``@hookimpl(specname=...)``.
        """
        for caller in self._pluggy.get_hookcallers(plugin) or []:
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin:
                    yield caller.name, implementation

    def _collect_registrations(self, hook: pluggy.HookImpl, hook_name: str, kind: str, source: Source) -> list[str]:
        """Call one registration hook and store its registrations.

        Returns:
            Reasons of the registrations that failed.
        """
        failed: list[str] = []

        def broken(name: str, reason: str) -> None:
            failed.append(reason)
            self._faults.append(source.info(name, kind, "broken", reason))

        def register(name: str, target: type | str, **about: Any) -> None:
            try:
                self._registry.add(make_registration(source, kind, name, target, **about))
            except PluginError as error:  # the plugin's other registrations may be valid
                broken(str(name), str(error))

        try:
            _positional(hook)(register)
        except ANY_FAULT as error:
            function = hook.function.__name__
            label = hook_name if function == hook_name else f"{function} ({hook_name})"
            broken(source.entry_point, f"{label} failed: {type(error).__name__}: {error}")
        return failed

    def listing(self) -> list[PluginInfo]:
        """Return one line for each installed plugin, sorted by kind and name. Imports no plugin's libraries."""
        lines = [*self._registry.listing(), *self._faults]
        lines += [source.info(source.entry_point, "observer", "ok") for source in self._observing]
        lines += [line for line, _ in self._resolved_commands()]
        order = [*KINDS, "command", None]
        return sorted(lines, key=lambda line: (order.index(line.kind), line.name, line.distribution))

    def is_registered(self, kind: str | None, use: str) -> bool:
        """Return whether a plugin registered ``use`` as this kind; False for one that implements observer hooks."""
        return kind in self._registry.kinds_of(use)

    def get(self, kind: str, use: str, *, complete: bool = True) -> type[Any]:
        """Return the class of a plugin.

        Args:
            kind: One of :data:`~enhancer.plugin_host.KINDS`.
            use: Name of the plugin, or ``"distribution:name"``.
            complete: Whether to refuse a plugin whose required libraries are not installed. Without them its class
                still has options and prices.

        Raises:
            PluginError: The plugin is unknown (with the nearest name), claimed by several distributions, lacks its
                extra (with the command that installs it), or is broken.
        """
        return load_target(self._find(kind, use), complete=complete)

    def check_name(self, kind: str, use: str) -> None:
        """Check that a name stands for one plugin. Imports nothing, and does not ask for the plugin's libraries.

        Raises:
            PluginError: The plugin is unknown (with the nearest name), or claimed by several distributions.
        """
        self._find(kind, use)

    def names(self, kind: str) -> list[str]:
        """Return the names registered for a kind, sorted."""
        return self._registry.names(kind)

    def _find(self, kind: str, use: str) -> Registration:
        if kind not in KINDS:
            raise PluginError(f"unknown kind of plugin {kind!r}", hint=f"known: {', '.join(KINDS)}")
        try:
            return self._registry.find(kind, use)
        except PluginError as error:
            raise PluginError(error.message, hint=self._with_faults(error.hint)) from None

    def _with_faults(self, hint: str | None) -> str | None:
        """Add the plugins that failed to load to a hint: one of them may have had the wanted name."""
        absent = sorted({f"{line.name} of {line.distribution} ({line.reason})" for line in self._faults})
        return "; ".join([hint or "", *(f"not loaded: {each}" for each in absent)]) if absent else hint

    def create(
        self,
        kind: str,
        use: str,
        options: Mapping[str, Any] | Options,
        context: Context,
        also_known: Iterable[str] = (),
        *,
        complete: bool = True,
        where: str | None = None,
    ) -> Any:
        """Return a new instance of a plugin.

        Args:
            kind: As for :meth:`get`.
            use: As for :meth:`get`.
            options: Options as configured, which the plugin's options class validates, or validated ones.
            context: Location of the project.
            also_known: Further keys of the same table, to draw suggestions from.
            complete: As for :meth:`get`.
            where: Name of the place for messages; by default the table of the kind.

        Raises:
            PluginError: As for :meth:`get`; the constructor failed; or a backbone or fuser does not keep its options,
                which identify cached runs.
            ConfigError: An option is unknown (with the nearest known one) or has a wrong type.
        """
        target = self.get(kind, use, complete=complete)
        from enhancer.contracts.options import Options, build_options

        checked = (
            options
            if isinstance(options, Options)
            else build_options(target.options_class, options, where=where or f"[{kind}]", also_known=also_known)
        )
        try:
            made = target(checked, context)
        except EnhancerError:
            raise
        except ANY_FAULT as error:
            raise PluginError(f"{kind} {use!r} failed to start: {type(error).__name__}: {error}") from error
        if kind in _MUST_KEEP_OPTIONS and not hasattr(made, "options"):
            raise PluginError(
                f"{kind} {use!r} does not keep its options",
                hint="set self.options = options in its constructor: cached runs are found by them",
            )
        if kind in _MUST_KEEP_OPTIONS:
            made.plugin_name = use
        return made

    def events(self, tables: Mapping[str, ObserverTable], context: Context) -> Events:
        """Return the sender of events for one project. Imports and constructs its observers at the first event.

        Active observers are those that implement observer hooks directly, those with a table that does not say
        ``enabled = false``, and those registered as ``active`` without such a table.

        Args:
            tables: Tables ``[observers.NAME]`` by name.
            context: Location of the project.
        """

        def connect(events: Events) -> dict[str, Observer]:
            observers: dict[str, Observer | None] = {}
            for name, table in tables.items():
                if table.enabled:
                    where = f"[observers.{name}]"
                    observers[where] = self._observer(events, table.use or name, table.options, context, where=where)
            configured = {normalise((table.use or name).rpartition(":")[2]) for name, table in tables.items()}
            for name in self._registry.active_observers():
                if name not in configured:
                    where = f"observer {name!r}"
                    try:
                        observers[where] = self._observer(events, name, {}, context, where=where)
                    except EnhancerError as error:  # not requested in the settings: no reason to refuse the run
                        events.warn(where, "its start", error)
            return {where: observer for where, observer in observers.items() if observer is not None}

        return Events(self._pluggy, connect)

    def find_observer(self, use: str, options: Mapping[str, Any], *, where: str) -> tuple[type[Observer], Options]:
        """Return the class and the validated options of an observer, without constructing it.

        Args:
            use: As for :meth:`get`.
            options: Options as configured.
            where: Name of the place for messages, such as ``[observers.mlflow]``.

        Raises:
            PluginError: As for :meth:`get`.
            ConfigError: An option is unknown (with the nearest known one) or has a wrong type.
        """
        from enhancer.contracts.options import build_options

        target: type[Observer] = self.get("observer", use)
        checked: Options = build_options(target.options_class, options, where=where, also_known=("use", "enabled"))
        return target, checked

    def _observer(
        self, events: Events, use: str, options: Mapping[str, Any], context: Context, *, where: str
    ) -> Observer | None:
        """Return a new observer; None, with a warning, if its constructor raises."""
        target, checked = self.find_observer(use, options, where=where)
        try:
            return target(checked, context)
        except ANY_FAULT as error:
            events.warn(where, "its constructor", error)
            return None

    def add_commands(self, app: typer.Typer, reserved: Iterable[str] = ()) -> None:
        """Add the commands of all plugins to the command line.

        Args:
            app: The command line.
            reserved: Names of enhancer's own commands, which no plugin can replace.
        """
        self._reserved = frozenset(reserved)
        _commands.add((command for _, command in self._resolved_commands() if command), app)

    def _resolved_commands(self) -> list[tuple[PluginInfo, _commands.Command | None]]:
        """Return a line for each command of each plugin, with the command to add if it is valid."""
        collected: list[_commands.Command] = []
        broken: list[tuple[PluginInfo, _commands.Command | None]] = []
        for source, hook in self._command_hooks:
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    collected += _commands.collect(source, hook)
            except ANY_FAULT as error:
                reason = f"{COMMAND_HOOK} failed: {type(error).__name__}: {error}"
                broken.append((source.info(source.entry_point, "command", "broken", reason), None))
        return [*_commands.resolve(collected, self._reserved), *broken]


def _positional(hook: pluggy.HookImpl) -> Callable[[Any], Any]:
    """Return a function that calls a hook of one argument; an implementation may leave the argument out."""
    return lambda argument: hook.function(*[argument] * len(hook.argnames))


def _new_pluggy() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def _check_hooks(plugin: object) -> None:
    """Register a plugin with a manager of its own, so that a refused plugin leaves no trace.

    Raises:
        PluginError: It has no hooks, or hooks that ``enhancer.hookspecs`` does not define.
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
            raise PluginError(f"{caller.name} is a hook wrapper; wrappers are not supported")
