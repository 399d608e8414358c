"""The arms of an experiment: which fuser, fed by which vectors, shuffled or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enhancer.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

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
    untuned: Arm | None = None
    """The arm as it was configured, where a search has chosen options of its own for it."""

    @property
    def configured(self) -> Arm:
        """As it was before a search gave every arm other options: what arms are compared by, to tell like from like."""
        return self.untuned or self

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
    from enhancer.config.schema import ArmConfig

    evaluation = settings.evaluation
    twice = sorted({name for name in evaluation.arms if evaluation.arms.count(name) > 1})
    if twice:
        raise ConfigError(f"[evaluation] arms: {twice[0]!r} is there twice", hint="name each arm once")
    if fusers is not None:
        for name in dict.fromkeys([*evaluation.arms, *evaluation.arm]):
            _check_name(name, settings, fusers)
    primary = _primary(settings, uses_semantics, fusers)
    arms: list[Arm] = []
    added = _added(settings, uses_semantics, fusers) if primary is not None else []
    for name in [*evaluation.arms, *added]:
        own = evaluation.arm.get(name, ArmConfig())
        fuser = _fuser_of(name, settings, fusers)
        if fuser is None:
            if primary is None:
                raise ConfigError(
                    f"[evaluation] arms: {name!r} needs a fuser that uses vectors, and none is configured",
                    hint='set [fuser] use, for example use = "align"',
                )
            fuser = primary
        options = settings.fuser.options if fuser == settings.fuser.use else {}
        inputs: tuple[Input, ...] = ("text",) if name == TEXT_ARM else settings.inputs
        arm = Arm(
            name=name,
            fuser=fuser,
            fuser_options={**options, **own.options},
            inputs=tuple(own.input) if own.input else inputs,
            shuffle=name == PLACEBO_ARM if own.shuffle is None else own.shuffle,
            backbone_options=own.backbone,
            semantic=uses_semantics(fuser),
        )
        arms.append(arm)
    droppable = {TEXT_ARM, *added}
    return [arm for arm in arms if not (arm.name in droppable and any(_repeats(arm, other) for other in arms))]


def _check_name(name: str, settings: Settings, fusers: Collection[str]) -> None:
    fuser, own = _fuser_of(name, settings, fusers), settings.evaluation.arm
    if fuser is None or ":" in fuser or fuser in fusers:
        return
    raise ConfigError(
        f"[evaluation] arms: {name!r} is neither a fuser nor defined in [evaluation.arm.{name}]"
        if name not in own
        else f"[evaluation.arm.{name}] unknown fuser {fuser!r}",
        hint=did_you_mean(fuser, {*fusers, TEXT_ARM, PLACEBO_ARM, *own}),
    )


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


def _added(settings: Settings, uses_semantics: Callable[[str], bool], fusers: Collection[str] | None) -> list[str]:
    """The controls that are run without being named."""
    evaluation = settings.evaluation
    if not evaluation.controls or settings.prompts.item.source == "none":
        return []
    named = [_fuser_of(name, settings, fusers) for name in evaluation.arms]
    if not any(fuser is not None and uses_semantics(fuser) for fuser in named):
        return []
    return [name for name in (TEXT_ARM, PLACEBO_ARM) if name not in evaluation.arms]


def _fuser_of(name: str, settings: Settings, fusers: Collection[str] | None) -> str | None:
    """The fuser that an arm names; None where it takes the primary one."""
    own = settings.evaluation.arm.get(name)
    if own is not None and (own.fuser is not None or name not in (fusers or ())):
        return own.fuser
    return None if name in {TEXT_ARM, PLACEBO_ARM} else name


def _primary(settings: Settings, uses_semantics: Callable[[str], bool], fusers: Collection[str] | None) -> str | None:
    if uses_semantics(settings.fuser.use):
        return settings.fuser.use
    for name in settings.evaluation.arms:
        fuser = _fuser_of(name, settings, fusers)
        if fuser is not None and uses_semantics(fuser):
            return fuser
    return None


def _repeats(arm: Arm, other: Arm) -> bool:
    return other.name != arm.name and arm.same_recipe(other)
