"""Data classes of the plugin host: origin, registrations and status of a plugin."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "unavailable", "broken", "conflict", "skipped"]

KINDS: dict[str, str] = {
    "llm": "LLMProvider",
    "embedder": "Embedder",
    "store": "FeatureStore",
    "backbone": "Backbone",
    "fuser": "Fuser",
    "runner": "Runner",
    "exporter": "Exporter",
    "observer": "Observer",
}
"""Kinds of plugins that are registered by name, each with its base class in ``enhancer.contracts``."""

RESERVED = frozenset({("backbone", "auto")})
"""Kinds and names that core itself gives a meaning: ``[backbone] use = "auto"`` tries all candidates."""

REGISTRATION_HOOKS: dict[str, str] = {
    "register_llm_providers": "llm",
    "register_embedders": "embedder",
    "register_feature_stores": "store",
    "register_backbones": "backbone",
    "register_fusers": "fuser",
    "register_runners": "runner",
    "register_exporters": "exporter",
    "register_observers": "observer",
}
"""Hooks that are called with ``register``, each with the kind that it registers."""

COMMAND_HOOK = "register_commands"


def normalise(name: str) -> str:
    """Return the canonical spelling of a name, as for distributions.

    >>> normalise("Sentence_Transformers")
    'sentence-transformers'
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One line of ``enhancer plugins``."""

    name: str
    """Name for ``use =``, or name of the command; name of the entry point if the plugin could not register."""
    kind: str | None
    """One of :data:`KINDS`, or ``command``; None if the plugin could not register."""
    distribution: str
    version: str | None
    status: Status
    """``ok``; ``unavailable``: a library is missing; ``broken``: the plugin has an error; ``conflict``: several
    distributions claim the name; ``skipped``: excluded by ``ENHANCER_PLUGINS``."""
    reason: str | None = None
    """Why the status is not ``ok``, and how to fix it."""

    def to_json(self) -> dict[str, str | None]:
        """Return the line as ``enhancer plugins --json`` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Source:
    """Origin of a plugin."""

    distribution: str
    version: str | None
    entry_point: str

    def info(self, name: str, kind: str | None, status: Status, reason: str | None = None) -> PluginInfo:
        """Return a line of the listing for this source."""
        return PluginInfo(name, kind, self.distribution, self.version, status, reason)


@dataclass(frozen=True, slots=True)
class Registration:
    """Arguments of one call ``register(name, target)``."""

    source: Source
    kind: str
    name: str
    """Normalised."""
    target: type | str
    extra: str | None = None
    requires: tuple[str, ...] = ()
    active: bool = False
    """Whether an observer is active without a table ``[observers.NAME]``."""

    @property
    def qualified(self) -> str:
        """Unique name: ``distribution:name``."""
        return f"{normalise(self.source.distribution)}:{self.name}"
