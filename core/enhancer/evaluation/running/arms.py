"""Define the arms of an experiment, and build them from the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from enhancer.config.inputs import PROFILE, TEXT, all_texts, averaged, is_closed_version, note_of, texts_of, without
from enhancer.errors import ConfigError, did_you_mean
from enhancer.evaluation.judging.wording import enumerate_words

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from enhancer.config import Settings
    from enhancer.config.inputs import Input
    from enhancer.evaluation.frontier.shares import CatalogueShare

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
    """Changes to the options of ``[backbone]``; all options if ``backbone`` is another one."""
    semantic: bool = True
    """Whether the fuser uses vectors."""
    untuned: Arm | None = None
    """The arm as configured, if a search has changed its options."""
    backbone: str | None = None
    """Name of the backbone, if it was chosen for this arm; None for that of ``[backbone]``."""
    left_out: Input | None = None
    """The text that it lacks of the inputs of ``[embedder]``; None for an arm of its own."""
    opened: tuple[Input, ...] | None = None
    """If it has the closed versions of the notes of another arm, the inputs of that one, which it is compared with
    alone."""
    kept: CatalogueShare | None = None
    """Items that keep their generated texts; the others have their raw text alone. None for all items."""

    @property
    def configured(self) -> Arm:
        """The arm as configured. Arms are matched by these options, because a search changes those of every arm."""
        return self.untuned or self

    @property
    def is_competitor(self) -> bool:
        """Whether it is compared with the baseline; the others tell something of one arm alone."""
        return self.left_out is None and self.opened is None

    @property
    def description(self) -> str:
        """Short description for reports."""
        if not self.semantic:
            return "interactions only, no vectors"
        return f"{described(self.inputs)}{', shuffled (placebo)' if self.shuffle else ''}, by {self.fuser}"

    @property
    def has_notes(self) -> bool:
        """Whether anything that an LLM wrote is among the inputs."""
        return any(text != TEXT for text in all_texts(self.inputs))

    def same_recipe(self, other: Arm) -> bool:
        """Check whether both arms train the same model."""
        return self._recipe == other._recipe

    @property
    def _recipe(self) -> tuple[object, ...]:
        options = (dict(self.fuser_options), dict(self.backbone_options))
        return (self.fuser, self.backbone, *options, self.inputs, self.shuffle, self.kept)


def resolve_arms(
    settings: Settings,
    *,
    uses_semantics: Callable[[str], bool] = lambda fuser: fuser != "none",
    fusers: Collection[str] | None = None,
) -> list[Arm]:
    """Build the arms of ``[evaluation] arms``.

    ``text`` and ``placebo`` use the primary fuser: that of ``[fuser]`` if it uses vectors, else that of the first arm
    that does. ``text`` is left out if it repeats another arm (``[prompts.item] source = "text"``). With
    ``[evaluation] controls``, arms are appended that are not listed: the configured fuser, which ``enhancer train``
    would train, with a placebo of its own; ``text``; and ``placebo``. None is appended that would repeat an arm, or if
    no listed arm uses vectors. With ``[evaluation] aspects``, an arm without each of the inputs follows, and the arm
    with all of them if no other is. With closed versions of notes beside open ones, an arm with the closed ones
    follows, as far as ``controls`` allows.

    Args:
        settings: The configuration.
        uses_semantics: Returns whether the fuser with a given name uses vectors.
        fusers: Names of the available fusers, to detect misspelt arms; None skips that check.

    Raises:
        ConfigError: An arm is listed twice, its name is unknown, or there is no fuser for it.
    """
    evaluation, listed = settings.evaluation, settings.listed_arms
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise ConfigError(f"[evaluation] arms: {twice[0]!r} is listed twice", hint="list each arm once")
    if fusers is not None:
        for name in dict.fromkeys([*listed, *evaluation.arm]):
            _check_name(name, settings, fusers)
    primary = _primary_fuser(settings, uses_semantics, fusers)
    arms = [_named_arm(name, settings, primary, uses_semantics, fusers) for name in listed]
    if evaluation.controls and settings.prompts.item.source != "none" and any(arm.semantic for arm in arms):
        controls = [name for name in (TEXT_ARM, PLACEBO_ARM) if name not in listed]
        configured, placebo = _configured_arms(settings, uses_semantics)
        added = [
            configured,
            *(_named_arm(name, settings, primary, uses_semantics, fusers) for name in controls),
            placebo,
        ]
        for arm in added:
            if arm is not None and not any(arm.same_recipe(other) for other in arms):
                arms.append(arm)
    arms = [arm for arm in arms if arm.name != TEXT_ARM or not any(_repeats(arm, other) for other in arms)]
    if evaluation.aspects is not None:
        arms += _leave_one_out(arms, settings, primary, uses_semantics)
    if evaluation.controls and primary is not None and settings.closed_inputs(settings.inputs) != settings.inputs:
        arms += _closed(arms, settings, primary, uses_semantics)
    return arms


def _closed(
    arms: Collection[Arm], settings: Settings, primary: str, uses_semantics: Callable[[str], bool]
) -> list[Arm]:
    """Return an arm with closed versions of the notes, after the arm with the notes themselves unless it is there."""
    free = _free_names(arms, settings)
    options = settings.fuser.options if primary == settings.fuser.use else {}
    whole = Arm(free(primary), primary, options, settings.inputs, semantic=uses_semantics(primary))
    closed = replace(whole, name=free("closed"), inputs=settings.closed_inputs(settings.inputs), opened=whole.inputs)
    return [closed] if any(arm.same_recipe(whole) for arm in arms) else [whole, closed]


def _leave_one_out(
    arms: Collection[Arm], settings: Settings, primary: str | None, uses_semantics: Callable[[str], bool]
) -> list[Arm]:
    """Return an arm without each text of ``[embedder] input``, after the arm with all of them unless it is there."""
    inputs = settings.inputs
    texts = all_texts(inputs)
    if primary is None or len(texts) == 1:
        what = f"[embedder] input names one alone, {texts[0]!r}" if len(texts) == 1 else "no fuser uses vectors"
        raise ConfigError(
            f"[evaluation] aspects = {settings.evaluation.aspects!r} compares inputs with each left out, but {what}",
            hint='name several, such as input = ["*"], or remove the key',
        )
    free = _free_names(arms, settings)
    options = settings.fuser.options if primary == settings.fuser.use else {}
    whole = Arm(free(primary), primary, options, inputs, semantic=uses_semantics(primary))
    known = next((arm for arm in arms if arm.same_recipe(whole)), None)
    parts = [
        replace(whole, name=free(f"without-{text}"), inputs=without(inputs, text), left_out=text) for text in texts
    ]
    return parts if known is not None else [whole, *parts]


def _free_names(arms: Collection[Arm], settings: Settings) -> Callable[[str], str]:
    """Return a function that changes a name that is taken."""
    taken = {arm.name for arm in arms} | {*settings.evaluation.arm}

    def free(name: str) -> str:
        return name if name not in taken else free(f"{name}-again")

    return free


def described(inputs: Sequence[Input]) -> str:
    """Describe inputs for people.

    >>> described(["text", "plot", "mood"]), described(["plot+mood"])
    ('plot and mood beside raw text', 'plot and mood as one text')
    """
    if tuple(inputs) == (TEXT,):
        return "raw text, no LLM"
    if set(inputs) == {PROFILE, TEXT}:
        return "LLM profiles and raw text"
    others = [name for name in inputs if name != TEXT]
    pieces = [_described(name) for name in others]
    found = ", ".join(pieces) if any(" and " in piece for piece in pieces) else enumerate_words(pieces)
    return f"{found} beside raw text" if len(others) < len(inputs) else found


def _described(name: Input) -> str:
    means = averaged(name)
    if len(means) > 1:
        return f"the mean of {enumerate_words([_described(one) for one in means])}"
    texts = [_text_described(text) for text in texts_of(name)]
    return enumerate_words(texts) + (" as one text" if len(texts) > 1 else "")


def _text_described(text: Input) -> str:
    known = {PROFILE: "LLM profiles", TEXT: "raw text"}
    note = known.get(note_of(text), note_of(text))
    return f"{note} (closed)" if is_closed_version(text) else note


def _named_arm(
    name: str,
    settings: Settings,
    primary: str | None,
    uses_semantics: Callable[[str], bool],
    fusers: Collection[str] | None,
) -> Arm:
    """Return the arm of a name in ``[evaluation] arms``, or of a table ``[evaluation.arm.NAME]``."""
    from enhancer.config.evaluation import ArmConfig

    own = settings.evaluation.arm.get(name, ArmConfig())
    fuser = _named_fuser(name, settings, fusers) or primary
    if fuser is None:
        raise ConfigError(
            f"[evaluation] arms: {name!r} needs a fuser that uses vectors, but none is configured",
            hint='set [fuser] use, for example use = "align"',
        )
    options = settings.fuser.options if fuser == settings.fuser.use else {}
    if own.input or own.join:
        inputs = settings.joined_inputs(own.input, own.join)
    else:
        inputs = (TEXT,) if name == TEXT_ARM else settings.inputs
    return Arm(
        name=name,
        fuser=fuser,
        fuser_options={**options, **own.options},
        inputs=inputs,
        shuffle=name == PLACEBO_ARM if own.shuffle is None else own.shuffle,
        backbone_options=own.backbone,
        semantic=uses_semantics(fuser),
    )


def _configured_arms(settings: Settings, uses_semantics: Callable[[str], bool]) -> tuple[Arm, Arm] | tuple[None, None]:
    """Return the arm that ``enhancer train`` trains, and its placebo; None if its fuser uses no vectors.

    None, too, without a table ``[fuser]``: nobody chose the default fuser, and the backbone may not accept it.
    """
    fuser, taken = settings.fuser, {*settings.listed_arms, *settings.evaluation.arm}
    if "fuser" not in settings.model_fields_set or not uses_semantics(fuser.use):
        return None, None

    def free(name: str) -> str:
        return name if name not in taken else free(f"configured-{name}")

    arm = Arm(name=free(fuser.use), fuser=fuser.use, fuser_options=fuser.options, inputs=settings.inputs)
    return arm, replace(arm, name=free(f"{fuser.use}-{PLACEBO_ARM}"), shuffle=True)


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
    for name in settings.listed_arms:
        fuser = _named_fuser(name, settings, fusers)
        if fuser is not None and uses_semantics(fuser):
            return fuser
    return None


def _repeats(arm: Arm, other: Arm) -> bool:
    return other.name != arm.name and arm.same_recipe(other)
