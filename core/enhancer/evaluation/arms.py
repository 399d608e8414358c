"""The arms of an experiment: which fuser, fed by which vectors, shuffled or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.config import Settings
    from enhancer.config.schema import Input

TEXT_ARM, PLACEBO_ARM = "text", "placebo"
"""Names that mean an arm without being a fuser's."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to use semantics, or none."""

    name: str
    fuser: str
    fuser_options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ("profile",)
    """What its vectors come from; of no account to a fuser that ignores them."""
    shuffle: bool = False
    """Every entity gets the vector of another: a placebo, as wide as the real thing and without its meaning."""
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    """What it changes of the options of ``[backbone]``."""
    semantic: bool = True
    """Whether its fuser uses vectors at all."""

    @property
    def words(self) -> str:
        """What it is, for people."""
        if not self.semantic:
            return "interactions alone, no vectors"
        kinds = {"profile": "LLM profiles", "text": "raw text, no LLM"}
        source = "LLM profiles beside raw text" if len(self.inputs) > 1 else kinds[self.inputs[0]]
        return f"{source}{', shuffled (placebo)' if self.shuffle else ''}, by {self.fuser}"

    def same_recipe(self, other: Arm) -> bool:
        """Whether the two would train the same model."""
        return self._recipe == other._recipe

    @property
    def _recipe(self) -> tuple[object, ...]:
        return (self.fuser, dict(self.fuser_options), dict(self.backbone_options), self.inputs, self.shuffle)


def resolve_arms(
    settings: Settings,
    *,
    uses_semantics: Callable[[str], bool] = lambda fuser: fuser != "none",
    fusers: Collection[str] | None = None,
) -> list[Arm]:
    """Turn ``[evaluation] arms`` into arms.

    ``text`` and ``placebo`` use the primary fuser: that of ``[fuser]``, or, if that one ignores vectors, the first arm
    that does not. ``text`` is left out where it would repeat another arm (``[prompts.item] source = "text"``). With
    ``[evaluation] controls`` both are run also where they are not named: after the others, unless they repeat one or no
    arm uses vectors.

    Args:
        settings: The configuration.
        uses_semantics: Whether the fuser of that name uses vectors.
        fusers: Names of the fusers there are, to tell a mistyped arm; None leaves that to whoever makes the fuser.

    Raises:
        ConfigError: An arm that is twice there, that is nothing known, or that has no fuser to use.
    """
    evaluation = settings.evaluation
    twice = sorted({name for name in evaluation.arms if evaluation.arms.count(name) > 1})
    if twice:
        raise ConfigError(f"[evaluation] arms: {twice[0]!r} is there twice", hint="name each arm once")
    inputs: tuple[Input, ...] = tuple(settings.embedder.input)
    if settings.prompts.item.source == "text":
        inputs = ("text",)
    primary = _primary(settings, uses_semantics)
    arms: list[Arm] = []
    added = _added(settings, uses_semantics) if primary is not None else []
    for name in [*evaluation.arms, *added]:
        own = evaluation.arm.get(name)
        fuser = _fuser_of(name, settings)
        if fuser is None:
            if primary is None:
                raise ConfigError(
                    f"[evaluation] arms: {name!r} needs a fuser that uses vectors, and none is configured",
                    hint='set [fuser] use, for example use = "align"',
                )
            fuser = primary
        if fusers is not None and ":" not in fuser and fuser not in fusers:
            known = {*fusers, TEXT_ARM, PLACEBO_ARM, *evaluation.arm}
            raise ConfigError(
                f"[evaluation] arms: {name!r} is neither a fuser nor defined in [evaluation.arm.{name}]"
                if own is None
                else f"[evaluation.arm.{name}] unknown fuser {fuser!r}",
                hint=did_you_mean(fuser, known),
            )
        options = settings.fuser.options if fuser == settings.fuser.use else {}
        if own is not None and own.options:
            options = own.options
        arm = Arm(
            name=name,
            fuser=fuser,
            fuser_options=options,
            inputs=tuple(own.input) if own is not None and own.input else ("text",) if name == TEXT_ARM else inputs,
            shuffle=own.shuffle if own is not None else name == PLACEBO_ARM,
            backbone_options=own.backbone if own is not None else {},
            semantic=uses_semantics(fuser),
        )
        arms.append(arm)
    droppable = {TEXT_ARM, *added}
    return [arm for arm in arms if not (arm.name in droppable and any(_repeats(arm, other) for other in arms))]


def resolve_baseline(settings: Settings, arms: Collection[Arm]) -> str:
    """The arm that the others are compared with.

    Raises:
        ConfigError: It is not one of the arms.
    """
    names = [arm.name for arm in arms]
    baseline = settings.evaluation.baseline or names[0]
    if baseline not in names:
        raise ConfigError(f"[evaluation] baseline: {baseline!r} is not an arm", hint=did_you_mean(baseline, names))
    return baseline


def shuffled(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Give every row that has a vector the vector of another such row.

    The rows go round one cycle drawn from ``seed``, so that none keeps its own (unless there is one alone); rows
    without a vector (all zero) stay without.
    """
    rows = np.flatnonzero(vectors.any(axis=1))
    cycle = np.random.default_rng([seed, len(rows)]).permutation(rows)
    out = vectors.copy()
    out[cycle] = vectors[np.roll(cycle, 1)]
    return out


def controls(arm: Arm, arms: Sequence[Arm]) -> list[Arm]:
    """What an arm with vectors must beat, beside the baseline, before meaning may be credited.

    The placebo nearest to it (the same fuser, then the same options of the backbone, then the same inputs, as far as
    there is one), and the arm of raw text nearest to it if it uses profiles.
    """
    if not arm.semantic or arm.shuffle:
        return []
    chosen: list[Arm] = []
    placebos = [other for other in arms if other.semantic and other.shuffle]
    if placebos:
        chosen.append(max(placebos, key=lambda other: _nearness(arm, other)))
    texts = [other for other in arms if other.semantic and not other.shuffle and other.inputs == ("text",)]
    if texts and "profile" in arm.inputs:
        chosen.append(max(texts, key=lambda other: _nearness(arm, other)))
    return chosen


def _added(settings: Settings, uses_semantics: Callable[[str], bool]) -> list[str]:
    """The controls that are run without being named."""
    evaluation = settings.evaluation
    if not evaluation.controls or settings.prompts.item.source == "none":
        return []
    named = [_fuser_of(name, settings) for name in evaluation.arms]
    if not any(fuser is not None and uses_semantics(fuser) for fuser in named):
        return []
    return [name for name in (TEXT_ARM, PLACEBO_ARM) if name not in evaluation.arms]


def _fuser_of(name: str, settings: Settings) -> str | None:
    """The fuser that an arm names; None where it takes the primary one."""
    own = settings.evaluation.arm.get(name)
    if own is not None:
        return own.fuser
    return None if name in {TEXT_ARM, PLACEBO_ARM} else name


def _primary(settings: Settings, uses_semantics: Callable[[str], bool]) -> str | None:
    if uses_semantics(settings.fuser.use):
        return settings.fuser.use
    for name in settings.evaluation.arms:
        fuser = _fuser_of(name, settings)
        if fuser is not None and uses_semantics(fuser):
            return fuser
    return None


def _repeats(arm: Arm, other: Arm) -> bool:
    return other.name != arm.name and arm.same_recipe(other)


def _nearness(arm: Arm, other: Arm) -> tuple[bool, ...]:
    same_backbone = dict(other.backbone_options) == dict(arm.backbone_options)
    return other.fuser == arm.fuser, same_backbone, other.inputs == arm.inputs
