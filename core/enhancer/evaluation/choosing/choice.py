"""The outcome of trying backbones on the validation part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enhancer.contracts.backbone import Backbone

MakeBackbone = Callable[[Mapping[str, Any]], "Backbone"]
"""Function that makes a backbone with the given options."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidate:
    """A backbone to try, with the options that distinguish it from other candidates of the same plugin."""

    label: str
    """Name in tables and of arms, such as ``lightgcn-bpr``."""
    backbone: str
    """Name of the plugin, as for ``[backbone] use``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    make: MakeBackbone
    unavailable: str | None = None
    """Why it cannot be created, such as a missing library; None if it can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneTrial:
    """One trial fit of a candidate."""

    options: Mapping[str, Any]
    """Options that were varied."""
    value: float | None
    """Best value of the first metric on the validation part; None if training failed."""
    seconds: float
    """Wall time."""
    stopped: bool = False
    """Whether it was ended early, because it could not reach the best trial of the candidate any more."""
    failure: str | None = None
    """Why training failed."""
    error: float | None = None
    """Standard error, over users, of the lead over a list of bestsellers; None for a metric of labelled pairs."""

    def to_json(self) -> dict[str, Any]:
        """Return all fields but a failure that did not happen."""
        return {
            "options": dict(self.options),
            "validation": self.value,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "error": self.error,
            **({} if self.failure is None else {"failure": self.failure}),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> BackboneTrial:
        """Return the trial that :meth:`to_json` describes.

        Raises:
            KeyError: A field is missing.
        """
        return cls(
            options=stored["options"],
            value=stored["validation"],
            seconds=stored["seconds"],
            stopped=stored["stopped"],
            error=stored["error"],
            failure=stored.get("failure"),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class TriedBackbone:
    """A candidate after its trials, or with the reason why it was not tried."""

    candidate: Candidate
    options: Mapping[str, Any]
    """Options of the best trial, those of the candidate included."""
    value: float | None = None
    """Value of the first metric on the validation part with these options; None if it was not tried or failed."""
    trials: tuple[BackboneTrial, ...] = ()
    """In the order they were run."""
    reason: str | None = None
    """Why it was not tried, why it failed, or why it got fewer trials than others; None otherwise."""

    @property
    def error(self) -> float | None:
        """Standard error of the best trial; see :attr:`BackboneTrial.error`."""
        return next((trial.error for trial in self.trials if trial.value == self.value), None)

    @property
    def label(self) -> str:
        """Label of the candidate."""
        return self.candidate.label

    @property
    def backbone(self) -> str:
        """Name of the plugin."""
        return self.candidate.backbone

    def make(self) -> Backbone:
        """Make the backbone with the options of the best trial."""
        return self.candidate.make(self.options)

    def to_json(self) -> dict[str, Any]:
        """Return the fields, with the candidate's label and plugin."""
        return {
            "label": self.label,
            "backbone": self.backbone,
            "options": dict(self.options),
            "validation": self.value,
            "trials": [trial.to_json() for trial in self.trials],
            "reason": self.reason,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class BackboneChoice:
    """All candidates, the best first."""

    metric: str
    """The metric that decided, on the validation part."""
    seed: int
    """Seed of all trials."""
    tried: tuple[TriedBackbone, ...]
    """Candidates with a value, the best first; at least one."""
    left_out: tuple[TriedBackbone, ...] = ()
    """Candidates that were not tried or failed, with the reason."""
    finals: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """Validation of the best candidates together with a fuser, by arm and candidate; None if training failed."""

    @property
    def winner(self) -> TriedBackbone:
        """The best candidate without vectors."""
        return self.tried[0]

    def best(self, accepted: Callable[[TriedBackbone], bool]) -> TriedBackbone | None:
        """Return the best candidate for which ``accepted`` returns True; None if there is none."""
        return next((each for each in self.tried if accepted(each)), None)

    def to_json(self) -> dict[str, Any]:
        """Return the winner, the metric, all candidates with their trials, and their trials with fusers."""
        return {
            "backbone": self.winner.backbone,
            "options": dict(self.winner.options),
            "metric": self.metric,
            "validation": self.winner.value,
            "seed": self.seed,
            "candidates": [each.to_json() for each in (*self.tried, *self.left_out)],
            "with_fuser": {arm: dict(values) for arm, values in self.finals.items()},
        }
