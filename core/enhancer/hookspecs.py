"""Hook specifications: the complete plugin interface. Pluggy project name and entry-point group: ``enhancer``.

A plugin implements the hooks it needs with ``@enhancer.hookimpl``; all are optional. See ``docs/reference/plugins.md``
for a complete example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping

    import typer

    from enhancer.contracts.observer import ArmRunResult, RunInfo, RunResult
    from enhancer.contracts.record import Record

hookspec = pluggy.HookspecMarker("enhancer")
hookimpl = pluggy.HookimplMarker("enhancer")


class Register(Protocol):
    """Callback that adds one implementation to the registry."""

    def __call__(
        self, name: str, target: type | str, *, extra: str | None = None, requires: tuple[str, ...] = ()
    ) -> None:
        """Register ``target`` under ``name``.

        Args:
            name: Name that users write after ``use =``.
            target: A class, or a lazy ``"module:Class"`` string, imported only when the plugin is used.
            extra: Extra of the plugin's distribution that installs ``requires``, for the message if one is missing.
            requires: Modules that must be installed. Listing plugins checks for them without importing them.
        """


class RegisterObserver(Protocol):
    """Callback that adds one observer to the registry."""

    def __call__(
        self,
        name: str,
        target: type | str,
        *,
        extra: str | None = None,
        requires: tuple[str, ...] = (),
        active: bool = False,
    ) -> None:
        """Register the observer ``target`` under ``name``.

        Args:
            name: Name of the table ``[observers.NAME]`` that configures and activates the observer.
            target: As for :class:`Register`.
            extra: As for :class:`Register`.
            requires: As for :class:`Register`.
            active: Whether the observer is also active, with its default options, in a project that has no table for
                it. By default, installing an observer does not activate it.
        """


@hookspec
def register_llm_providers(register: Register) -> None:
    """Register LLM providers (``enhancer.contracts.LLMProvider``)."""


@hookspec
def register_embedders(register: Register) -> None:
    """Register embedders (``enhancer.contracts.Embedder``)."""


@hookspec
def register_feature_stores(register: Register) -> None:
    """Register feature stores (``enhancer.contracts.FeatureStore``)."""


@hookspec
def register_backbones(register: Register) -> None:
    """Register backbones (``enhancer.contracts.Backbone``)."""


@hookspec
def register_fusers(register: Register) -> None:
    """Register fusers (``enhancer.contracts.Fuser``)."""


@hookspec
def register_runners(register: Register) -> None:
    """Register runners (``enhancer.contracts.Runner``)."""


@hookspec
def register_exporters(register: Register) -> None:
    """Register exporters (``enhancer.contracts.Exporter``), the kinds of ``enhancer export``."""


@hookspec
def register_observers(register: RegisterObserver) -> None:
    """Register observers (``enhancer.contracts.Observer``), which receive the events below and take options.

    An observer is active in a project with a table ``[observers.NAME]``, unless the table says ``enabled = false``. It
    is imported and constructed when the first verb that emits events starts.
    """


@hookspec
def register_commands(cli: typer.Typer) -> None:
    """Add commands to the command line."""


@hookspec
def run_started(run: RunInfo) -> None:
    """Event: a verb (``generate``, ``refresh``, ``train``, ``ablate`` or ``density``) started."""


@hookspec
def run_finished(run: RunInfo, result: RunResult) -> None:
    """Event: the verb ended: done, failed or interrupted. Follows every ``run_started``."""


@hookspec
def profile_stored(record: Record) -> None:
    """Event: a record was written to the feature store."""


@hookspec
def epoch_finished(run: str, epoch: int, loss: float, metric: float | None) -> None:
    """Event: an epoch of the training run named ``run`` (such as ``align/seed0``) ended."""


@hookspec
def arm_run_finished(run: RunInfo, result: ArmRunResult) -> None:
    """Event: one training run (arm and seed) of the ablation ``run`` ended."""


@hookspec
def ablation_finished(result: Mapping[str, Any]) -> None:
    """Event: an ablation ended; ``result`` equals the output of ``enhancer ablate --json``."""
