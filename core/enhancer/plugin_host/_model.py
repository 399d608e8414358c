"""What the host knows of a plugin: where it came from, what it offers, what is wrong with it."""

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
    "observer": "Observer",
}
"""Kinds of plugins that are registered by name, each with its base class in ``enhancer.contracts``."""

REGISTRATION_HOOKS: dict[str, str] = {
    "register_llm_providers": "llm",
    "register_embedders": "embedder",
    "register_feature_stores": "store",
    "register_backbones": "backbone",
    "register_fusers": "fuser",
    "register_observers": "observer",
}
"""Hooks that are called with ``register``, each with the kind that it registers."""

COMMAND_HOOK = "register_commands"


def normalise(name: str) -> str:
    """One spelling for names that people write in several, as for distributions.

    >>> normalise("Sentence_Transformers")
    'sentence-transformers'
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One line of ``enhancer plugins``."""

    name: str
    """The name that ``use =`` takes, or the command's; the entry point's where the plugin never got to register."""
    kind: str | None
    """One of :data:`KINDS`, ``command`` or ``observer``; None where the plugin never got to register."""
    distribution: str
    version: str | None
    status: Status
    """``ok``; ``unavailable``: a library is missing; ``broken``: its own fault; ``conflict``: the name is claimed by
    several; ``skipped``: left out by ``ENHANCER_PLUGINS``."""
    reason: str | None = None
    """Why the status is not ``ok``, and what mends it."""

    def to_json(self) -> dict[str, str | None]:
        """As printed by ``enhancer plugins --json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plugin came from."""

    distribution: str
    version: str | None
    entry_point: str

    def info(self, name: str, kind: str | None, status: Status, reason: str | None = None) -> PluginInfo:
        """A line of the listing for something of this source."""
        return PluginInfo(name, kind, self.distribution, self.version, status, reason)


@dataclass(frozen=True, slots=True)
class Offer:
    """One ``register(name, target)``."""

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
        """The name that is this offer's alone."""
        return f"{normalise(self.source.distribution)}:{self.name}"
