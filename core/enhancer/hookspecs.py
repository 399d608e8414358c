"""The whole plugin contract at a glance. Project name and entry-point group: ``enhancer``.

A plugin implements the hooks that it needs with ``@enhancer.hookimpl``; ``docs/reference/plugins.md`` has an example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping

    import typer

    from enhancer.contracts.record import Record

hookspec = pluggy.HookspecMarker("enhancer")
hookimpl = pluggy.HookimplMarker("enhancer")


class Register(Protocol):
    """Called by a plugin for each thing it offers."""

    def __call__(
        self, name: str, target: type | str, *, extra: str | None = None, requires: tuple[str, ...] = ()
    ) -> None:
        """Offer ``target`` under ``name``.

        Args:
            name: What users write after ``use =``.
            target: A class, or a lazy ``"module:Class"`` string, imported only when the plugin is used.
            extra: The extra of the plugin's distribution that brings the libraries, named in the message when missing.
            requires: Modules that must be installed for it to work; looked for, not imported, when plugins are listed.
        """


@hookspec
def register_llm_providers(register: Register) -> None:
    """Offer LLM providers (``enhancer.contracts.LLMProvider``)."""


@hookspec
def register_embedders(register: Register) -> None:
    """Offer embedders (``enhancer.contracts.Embedder``)."""


@hookspec
def register_feature_stores(register: Register) -> None:
    """Offer feature stores (``enhancer.contracts.FeatureStore``)."""


@hookspec
def register_backbones(register: Register) -> None:
    """Offer backbones (``enhancer.contracts.Backbone``)."""


@hookspec
def register_fusers(register: Register) -> None:
    """Offer fusers (``enhancer.contracts.Fuser``)."""


@hookspec
def register_commands(cli: typer.Typer) -> None:
    """Add commands to the command line."""


@hookspec
def profile_stored(record: Record) -> None:
    """Observe: a record was stored."""


@hookspec
def epoch_finished(run: str, epoch: int, loss: float, metric: float | None) -> None:
    """Observe: an epoch of the run named ``run`` (such as ``align/seed0``) ended."""


@hookspec
def ablation_finished(result: Mapping[str, Any]) -> None:
    """Observe: an ablation ended; ``result`` is what ``enhancer ablate --json`` prints."""
