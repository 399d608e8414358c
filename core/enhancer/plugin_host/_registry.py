"""Registry of plugins: resolve names, report conflicts, import targets."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING

from enhancer.errors import PluginError, did_you_mean
from enhancer.plugin_host._model import KINDS, RESERVED, PluginInfo, Registration, Source, normalise
from enhancer.plugin_host._modules import is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def make_registration(
    source: Source,
    kind: str,
    name: object,
    target: object,
    *,
    extra: str | None = None,
    requires: tuple[str, ...] | str = (),
    active: bool = False,
) -> Registration:
    """Validate the arguments of one call of ``register``.

    Raises:
        PluginError: The name or the target does not have the form that ``register`` takes.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(normalise(name)):
        raise PluginError(f"{kind} {name!r}: a name consists of letters, digits and hyphens")
    if (kind, normalise(name)) in RESERVED:
        raise PluginError(f"{kind} {name!r}: this name is reserved by enhancer; choose another")
    if isinstance(target, str):
        if not _TARGET.fullmatch(target):
            raise PluginError(f"{kind} {name!r}: a lazy target is written 'module:Class', not {target!r}")
    elif not isinstance(target, type):
        raise PluginError(f"{kind} {name!r}: the target must be a class or a string 'module:Class', not {target!r}")
    if active and kind != "observer":
        raise PluginError(f"{kind} {name!r}: only observers can be registered as active")
    # A single string would otherwise be split into letters.
    modules = (requires,) if isinstance(requires, str) else tuple(requires)
    return Registration(source, kind, normalise(name), target, extra, modules, active)


class Registry:
    """Registrations of all plugins."""

    def __init__(self) -> None:
        self._registrations: list[Registration] = []
        self._duplicates: list[Registration] = []

    def add(self, entry: Registration) -> None:
        """Add a registration; a second registration of the same name by the same distribution is listed as broken."""
        same = any(entry.qualified == other.qualified for other in self._of(entry.kind))
        (self._duplicates if same else self._registrations).append(entry)

    def _of(self, kind: str) -> Iterator[Registration]:
        return (entry for entry in self._registrations if entry.kind == kind)

    def names(self, kind: str) -> list[str]:
        """Return the names registered for a kind, sorted."""
        return sorted({entry.name for entry in self._of(kind)})

    def kinds_of(self, use: str) -> list[str]:
        """Return the kinds under which a name is registered."""
        return [kind for kind in KINDS if any(use in (entry.name, entry.qualified) for entry in self._of(kind))]

    def active_observers(self) -> list[str]:
        """Return the names of the observers that are active without configuration."""
        return sorted({entry.name for entry in self._of("observer") if entry.active})

    def find(self, kind: str, use: str) -> Registration:
        """Return the registration for ``use = "name"`` or ``use = "distribution:name"``.

        Raises:
            PluginError: The name is unknown (with the nearest one), or several distributions claim it.
        """
        wanted = ":".join(normalise(part) for part in use.split(":"))
        found = [entry for entry in self._of(kind) if wanted in (entry.name, entry.qualified)]
        if len(found) == 1:
            return found[0]
        if found:
            raise PluginError(
                f"{kind} {use!r} is claimed by {_distributions(found)}",
                hint=f'write use = "{found[0].qualified}" or use = "{found[1].qualified}"',
            )
        elsewhere = self.kinds_of(wanted)
        hint = f"{use!r} is a plugin of kind {elsewhere[0]}; " if elsewhere else ""
        near = did_you_mean(wanted, self.names(kind)) or f"no plugin of kind {kind} is installed"
        raise PluginError(f"unknown {kind} {use!r}", hint=hint + near)

    def listing(self) -> Iterator[PluginInfo]:
        """Yield a line for each registration."""
        for entry in self._registrations:
            yield self._line(entry)
        for entry in self._duplicates:
            yield entry.source.info(
                entry.name,
                entry.kind,
                "broken",
                f"{entry.source.distribution} registers this name twice",
            )

    def _line(self, entry: Registration) -> PluginInfo:
        rivals = [other for other in self._of(entry.kind) if other.name == entry.name]
        if len(rivals) > 1:
            reason = f'claimed by {_distributions(rivals)}; use = "{entry.qualified}" picks this one'
            return entry.source.info(entry.name, entry.kind, "conflict", reason)
        if missing := missing_requirement(entry):
            return entry.source.info(entry.name, entry.kind, "unavailable", missing)
        if fault := _unreachable(entry):
            return entry.source.info(entry.name, entry.kind, "broken", fault)
        return entry.source.info(entry.name, entry.kind, "ok")


def _distributions(entries: list[Registration]) -> str:
    return " and ".join(sorted({entry.source.distribution for entry in entries}))


def missing_requirement(entry: Registration) -> str | None:
    """Return which requirements of a registration are missing, with the command that installs them; None if none is."""
    missing = [module for module in entry.requires if not is_installed(module)]
    if not missing:
        return None
    verb = "is" if len(missing) == 1 else "are"
    fix = f'pip install "{entry.source.distribution}[{entry.extra}]"' if entry.extra else "install the missing modules"
    return f"needs {', '.join(missing)}, which {verb} not installed; {fix}"


def _unreachable(entry: Registration) -> str | None:
    """Return an error if the module of a lazy target does not exist; does not import it."""
    if isinstance(entry.target, str) and not is_installed(module := entry.target.partition(":")[0]):
        return f"its module {module} does not exist"
    return None


def load_target(entry: Registration, *, complete: bool = True) -> type:
    """Import the class of a registration and check it against the contract of its kind.

    Args:
        entry: The registration.
        complete: Whether to raise an error if a required library is missing.

    Raises:
        PluginError: A required library is missing, the import fails, or the class violates its contract.
    """
    who = f"{entry.kind} {entry.name!r} (of {entry.source.distribution})"
    if complete and (missing := missing_requirement(entry)):
        raise PluginError(f"{who} {missing}")
    target = _import(entry.target, who) if isinstance(entry.target, str) else entry.target
    from enhancer import contracts

    contract = getattr(contracts, KINDS[entry.kind])
    if not (isinstance(target, type) and issubclass(target, contract)):
        raise PluginError(f"{who} is not a subclass of enhancer.contracts.{contract.__name__}: {target!r}")
    if abstract := sorted(getattr(target, "__abstractmethods__", ())):
        raise PluginError(f"{who} does not implement {', '.join(abstract)} of {contract.__name__}")
    options_class = getattr(target, "options_class", None)
    if not (isinstance(options_class, type) and issubclass(options_class, contracts.Options)):
        raise PluginError(f"{who}: its options_class is not a subclass of enhancer.contracts.Options")
    return target


def _import(target: str, who: str) -> object:
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{who} cannot be imported: {type(error).__name__}: {error}") from error
