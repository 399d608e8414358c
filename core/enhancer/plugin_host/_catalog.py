"""Who offers what under which name, and which one a name means."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING

from enhancer.errors import PluginError, did_you_mean
from enhancer.plugin_host._model import KINDS, Offer, PluginInfo, Source, normalise
from enhancer.plugin_host._modules import is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def make_offer(
    source: Source,
    kind: str,
    name: object,
    target: object,
    *,
    extra: str | None = None,
    requires: tuple[str, ...] | str = (),
    active: bool = False,
) -> Offer:
    """Validate the arguments of one call of ``register``.

    Raises:
        PluginError: The name or the target does not have the form that ``register`` takes.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(normalise(name)):
        raise PluginError(f"{kind} {name!r}: a name consists of letters, digits and hyphens")
    if isinstance(target, str):
        if not _TARGET.fullmatch(target):
            raise PluginError(f"{kind} {name!r}: a lazy target is written 'module:Class', not {target!r}")
    elif not isinstance(target, type):
        raise PluginError(f"{kind} {name!r}: the target must be a class or a string 'module:Class', not {target!r}")
    if active and kind != "observer":
        raise PluginError(f"{kind} {name!r}: only observers can be registered as active")
    # A single string would otherwise be split into letters.
    modules = (requires,) if isinstance(requires, str) else tuple(requires)
    return Offer(source, kind, normalise(name), target, extra, modules, active)


class Catalog:
    """All offers of all plugins."""

    def __init__(self) -> None:
        self._offers: list[Offer] = []
        self._twice: list[Offer] = []

    def add(self, offer: Offer) -> None:
        """Take an offer; a second one of the same name by the same distribution is kept aside as a fault."""
        same = any(offer.qualified == other.qualified for other in self._of(offer.kind))
        (self._twice if same else self._offers).append(offer)

    def _of(self, kind: str) -> Iterator[Offer]:
        return (offer for offer in self._offers if offer.kind == kind)

    def names(self, kind: str) -> list[str]:
        """The names of one kind."""
        return sorted({offer.name for offer in self._of(kind)})

    def kinds_of(self, use: str) -> list[str]:
        """The kinds under which a name is offered."""
        return [kind for kind in KINDS if any(use in (offer.name, offer.qualified) for offer in self._of(kind))]

    def active_observers(self) -> list[str]:
        """Return the names of the observers that are active without configuration."""
        return sorted({offer.name for offer in self._of("observer") if offer.active})

    def find(self, kind: str, use: str) -> Offer:
        """The offer that ``use = "name"`` or ``use = "distribution:name"`` means.

        Raises:
            PluginError: No such name (with the nearest), or one that several distributions claim.
        """
        wanted = ":".join(normalise(part) for part in use.split(":"))
        found = [offer for offer in self._of(kind) if wanted in (offer.name, offer.qualified)]
        if len(found) == 1:
            return found[0]
        if found:
            raise PluginError(
                f"{kind} {use!r} is claimed by {_both(found)}",
                hint=f'write use = "{found[0].qualified}" or use = "{found[1].qualified}"',
            )
        elsewhere = self.kinds_of(wanted)
        hint = f"{use!r} is a plugin of kind {elsewhere[0]}; " if elsewhere else ""
        near = did_you_mean(wanted, self.names(kind)) or f"no plugin of kind {kind} is installed"
        raise PluginError(f"unknown {kind} {use!r}", hint=hint + near)

    def listing(self) -> Iterator[PluginInfo]:
        """A line for each offer."""
        for offer in self._offers:
            yield self._line(offer)
        for offer in self._twice:
            yield offer.source.info(
                offer.name, offer.kind, "broken", f"{offer.source.distribution} registers this name twice"
            )

    def _line(self, offer: Offer) -> PluginInfo:
        rivals = [other for other in self._of(offer.kind) if other.name == offer.name]
        if len(rivals) > 1:
            reason = f'claimed by {_both(rivals)}; use = "{offer.qualified}" picks this one'
            return offer.source.info(offer.name, offer.kind, "conflict", reason)
        if missing := missing_requirement(offer):
            return offer.source.info(offer.name, offer.kind, "unavailable", missing)
        if fault := _unreachable(offer):
            return offer.source.info(offer.name, offer.kind, "broken", fault)
        return offer.source.info(offer.name, offer.kind, "ok")


def _both(offers: list[Offer]) -> str:
    return " and ".join(sorted({offer.source.distribution for offer in offers}))


def missing_requirement(offer: Offer) -> str | None:
    """Say what an offer lacks, with the command that mends it; None when nothing."""
    missing = [module for module in offer.requires if not is_installed(module)]
    if not missing:
        return None
    verb = "is" if len(missing) == 1 else "are"
    mend = f'pip install "{offer.source.distribution}[{offer.extra}]"' if offer.extra else "install what brings it"
    return f"needs {', '.join(missing)}, which {verb} not installed; {mend}"


def _unreachable(offer: Offer) -> str | None:
    """Say that a lazy target's module does not exist, without importing it."""
    if isinstance(offer.target, str) and not is_installed(module := offer.target.partition(":")[0]):
        return f"its module {module} does not exist"
    return None


def load_target(offer: Offer, *, complete: bool = True) -> type:
    """Import the class of an offer and check that it is what its kind promises.

    Args:
        offer: What a plugin registered.
        complete: Refuse it when a library is missing that it requires.

    Raises:
        PluginError: An extra is missing, the import fails, or the class breaks its contract.
    """
    who = f"{offer.kind} {offer.name!r} (of {offer.source.distribution})"
    if complete and (missing := missing_requirement(offer)):
        raise PluginError(f"{who} {missing}")
    target = _import(offer.target, who) if isinstance(offer.target, str) else offer.target
    from enhancer import contracts

    contract = getattr(contracts, KINDS[offer.kind])
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
