"""Define the arms of an experiment, and build them from the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enhancer.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from enhancer.config import Settings
    from enhancer.config.schema import Input

TEXT_ARM, PLACEBO_ARM = "text", "placebo"
"""Reserved arm names, which are not names of fusers."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train: a fuser, its options, and the vectors it uses."""

    name: str
    fuser: str
    fuser_options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ("profile",)
    """Embedded inputs that the vectors come from; ignored if ``semantic`` is False."""
    shuffle: bool = False
    """Whether every entity gets the vector of another one. Such an arm is a placebo: as wide, but without meaning."""
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    """Changes to the options of ``[backbone]``."""
    semantic: bool = True
    """Whether the fuser uses vectors."""
    untuned: Arm | None = None
    """The arm as configured, if a search has changed its options."""

    @property
    def configured(self) -> Arm:
        """The arm as configured. Arms are matched by these options, because a search changes those of every arm."""
        return self.untuned or self

    @property
    def description(self) -> str:
        """Short description for reports."""
        if not self.semantic:
            return "interactions only, no vectors"
        kinds = {"profile": "LLM profiles", "text": "raw text, no LLM"}
        source = "LLM profiles and raw text" if len(self.inputs) > 1 else kinds[self.inputs[0]]
        return f"{source}{', shuffled (placebo)' if self.shuffle else ''}, by {self.fuser}"

    def same_recipe(self, other: Arm) -> bool:
        """Check whether both arms train the same model."""
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
    """Build the arms of ``[evaluation] arms``.

    ``text`` and ``placebo`` use the primary fuser: that of ``[fuser]`` if it uses vectors, else that of the first arm
    that does. ``text`` is left out if it repeats another arm (``[prompts.item] source = "text"``). With
    ``[evaluation] controls``, both are appended even if they are not listed, unless they repeat an arm or no arm uses
    vectors.

    Args:
        settings: The configuration.
        uses_semantics: Returns whether the fuser with a given name uses vectors.
        fusers: Names of the available fusers, to detect misspelt arms; None skips that check.

    Raises:
        ConfigError: An arm is listed twice, its name is unknown, or there is no fuser for it.
    """
    from enhancer.config.schema import ArmConfig

    evaluation = settings.evaluation
    twice = sorted({name for name in evaluation.arms if evaluation.arms.count(name) > 1})
    if twice:
        raise ConfigError(f"[evaluation] arms: {twice[0]!r} is listed twice", hint="list each arm once")
    if fusers is not None:
        for name in dict.fromkeys([*evaluation.arms, *evaluation.arm]):
            _check_name(name, settings, fusers)
    primary = _primary_fuser(settings, uses_semantics, fusers)
    arms: list[Arm] = []
    added = _unlisted_controls(settings, uses_semantics, fusers) if primary is not None else []
    for name in [*evaluation.arms, *added]:
        own = evaluation.arm.get(name, ArmConfig())
        fuser = _named_fuser(name, settings, fusers)
        if fuser is None:
            if primary is None:
                raise ConfigError(
                    f"[evaluation] arms: {name!r} needs a fuser that uses vectors, but none is configured",
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
    fuser, own = _named_fuser(name, settings, fusers), settings.evaluation.arm
    if fuser is None or ":" in fuser or fuser in fusers:
        return
    raise ConfigError(
        f"[evaluation] arms: {name!r} is neither a fuser nor defined in [evaluation.arm.{name}]"
        if name not in own
        else f"[evaluation.arm.{name}] unknown fuser {fuser!r}",
        hint=did_you_mean(fuser, {*fusers, TEXT_ARM, PLACEBO_ARM, *own}),
    )


def resolve_baseline(settings: Settings, arms: Collection[Arm]) -> str:
    """Return the name of the arm that the others are compared with.

    Raises:
        ConfigError: ``[evaluation] baseline`` is not one of the arms.
    """
    names = [arm.name for arm in arms]
    baseline = settings.evaluation.baseline or names[0]
    if baseline not in names:
        raise ConfigError(f"[evaluation] baseline: {baseline!r} is not an arm", hint=did_you_mean(baseline, names))
    return baseline


def _unlisted_controls(
    settings: Settings, uses_semantics: Callable[[str], bool], fusers: Collection[str] | None
) -> list[str]:
    """Return the names of control arms to run that are not listed."""
    evaluation = settings.evaluation
    if not evaluation.controls or settings.prompts.item.source == "none":
        return []
    named = [_named_fuser(name, settings, fusers) for name in evaluation.arms]
    if not any(fuser is not None and uses_semantics(fuser) for fuser in named):
        return []
    return [name for name in (TEXT_ARM, PLACEBO_ARM) if name not in evaluation.arms]


def _named_fuser(name: str, settings: Settings, fusers: Collection[str] | None) -> str | None:
    """Return the fuser that an arm names, or None if it uses the primary one."""
    own = settings.evaluation.arm.get(name)
    if own is not None and (own.fuser is not None or name not in (fusers or ())):
        return own.fuser
    return None if name in {TEXT_ARM, PLACEBO_ARM} else name


def _primary_fuser(
    settings: Settings, uses_semantics: Callable[[str], bool], fusers: Collection[str] | None
) -> str | None:
    if uses_semantics(settings.fuser.use):
        return settings.fuser.use
    for name in settings.evaluation.arms:
        fuser = _named_fuser(name, settings, fusers)
        if fuser is not None and uses_semantics(fuser):
            return fuser
    return None


def _repeats(arm: Arm, other: Arm) -> bool:
    return other.name != arm.name and arm.same_recipe(other)
