"""How a plugin declares its options, and what it is told about where it runs."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads it
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from enhancer.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic_core import ErrorDetails


class Options(BaseModel):
    """Base of every options class: typed, frozen, unknown keys forbidden.

    The string under a field is its one-line description; ``enhancer plugins show NAME`` prints it.

        >>> class Mine(Options):
        ...     layers: int = 3
        ...     '''Graph convolutions.'''
        >>> Mine(layers=2).layers
        2
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    searched: ClassVar[Mapping[str, float]] = {}
    """Options that a search of hyper-parameters takes by default, beside the well-known ones
    (:data:`enhancer.evaluation.running.search.SPREAD`): each from its value divided by this to its product with it."""

    def in_effect(self, name: str) -> Any:
        """What an option comes to: where None stands for a value, that one; None where it has no say."""
        return getattr(self, name, None)

    def without_effect(self) -> dict[str, str]:
        """Options that were set and would be ignored, because of what others are: they are refused.

        Returns:
            By option, why, as a phrase that can follow ``option = value``. None by default.
        """
        return {}


@dataclass(frozen=True)
class Context:
    """What a plugin may know of its surroundings."""

    root: Path = field(default_factory=Path)
    """The folder of the configuration file: relative paths in options are relative to it."""


OptionsT = TypeVar("OptionsT", bound=BaseModel)


def build_options(
    cls: type[OptionsT], values: Mapping[str, Any], *, where: str, also_known: Iterable[str] = ()
) -> OptionsT:
    """Validate ``values`` as ``cls``.

    Args:
        cls: The options class.
        values: Keys and values as configured.
        where: How messages name the place, such as ``"[llm]"``.
        also_known: Further keys to draw suggestions from.

    Raises:
        ConfigError: An unknown key (with the nearest known one), a value of a wrong type, or one that would be ignored,
            naming ``where``.
    """
    try:
        made = cls.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise option_error(first, first["loc"], where=where, known=[*cls.model_fields, *also_known]) from None
    if isinstance(made, Options):
        refuse_without_effect(made, where=where)
    return made


def option_error(details: ErrorDetails, place: Sequence[int | str], *, where: str, known: Iterable[str]) -> ConfigError:
    """Turn an error of pydantic's into one that names the table and the key.

    Args:
        details: The error.
        place: Keys of the wrong value within the table.
        where: Name of the table in messages, such as ``"[llm]"``.
        known: Keys of the table, to draw suggestions from.
    """
    name = ".".join(map(str, place))
    if details["type"] == "extra_forbidden":
        return ConfigError(f"{where} unknown key {name!r}", hint=did_you_mean(name, list(known)))
    if details["type"] == "value_error":  # raised by a validator of the class, whose message names keys and values
        return ConfigError(
            f"{where} {name}: {details['ctx']['error']}" if name else f"{where} {details['ctx']['error']}"
        )
    shown = "" if details["type"] == "missing" else f", not {details.get('input')!r}"
    return ConfigError(f"{where} {name}: {details['msg'][0].lower()}{details['msg'][1:]}{shown}")


def refuse_without_effect(options: Options, *, where: str) -> None:
    """Refuse what was set and would be ignored.

    Raises:
        ConfigError: Names ``where``, the option, and why.
    """
    for name, why in options.without_effect().items():
        raise ConfigError(
            f"{where} {name} = {getattr(options, name)!r} {why}",
            hint="it would be ignored: take it out, or choose what it goes with",
        )


def ignored(cls: type[BaseModel], values: Mapping[str, Any]) -> set[str]:
    """Which of these options would be ignored; none where they are no options of ``cls`` at all."""
    if not issubclass(cls, Options):
        return set()
    try:
        return set(cls.model_validate(dict(values)).without_effect())
    except ValidationError:  # what is wrong with them is said where they are taken
        return set()


def overlaid(cls: type[BaseModel], base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` over it, less what ``base`` has set and ``changes`` leave no use for.

    A base that sets a temperature for its softmax is no reason to refuse a change to a loss without one. What
    ``changes`` set stays, and is refused if it would be ignored.
    """
    merged = {**base, **changes}
    useless = ignored(cls, merged) - set(changes)
    return {name: value for name, value in merged.items() if name not in useless}
