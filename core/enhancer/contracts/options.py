"""Options classes of plugins, their validation, and the context that a plugin is constructed with."""

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
    """Base class of all options classes: typed, frozen, without unknown keys.

    The string under a field is its one-line description; ``enhancer plugins show NAME`` prints it.

        >>> class Mine(Options):
        ...     layers: int = 3
        ...     '''Graph convolutions.'''
        >>> Mine(layers=2).layers
        2
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    searched: ClassVar[Mapping[str, float]] = {}
    """Options that a hyper-parameter search varies by default, in addition to the well-known ones
    (:data:`enhancer.evaluation.running.search.DEFAULT_FACTORS`): each from its value divided by this factor to its
    value times the factor."""

    def in_effect(self, name: str) -> Any:
        """Return the effective value of an option: the default that None stands for, or None without effect."""
        return getattr(self, name, None)

    def without_effect(self) -> dict[str, str]:
        """Return options that were set but have no effect because of other options. Such options are rejected.

        Returns:
            Reasons by option, as phrases that can follow ``option = value``. Empty by default.
        """
        return {}


@dataclass(frozen=True)
class Context:
    """Surroundings of a plugin."""

    root: Path = field(default_factory=Path)
    """Folder of the configuration file. Relative paths in options are relative to it."""


OptionsT = TypeVar("OptionsT", bound=BaseModel)


def build_options(
    cls: type[OptionsT], values: Mapping[str, Any], *, where: str, also_known: Iterable[str] = ()
) -> OptionsT:
    """Validate ``values`` and return an instance of ``cls``.

    Args:
        cls: The options class.
        values: Options as configured.
        where: Name of the place for messages, such as ``"[llm]"``.
        also_known: Further keys to draw suggestions from.

    Raises:
        ConfigError: An unknown key (with the nearest known one), a value of a wrong type, or an option without effect;
            the message names ``where``.
    """
    try:
        made = cls.model_validate(dict(values))
    except ValidationError as error:
        first = _first_error(error)
        raise option_error(first, first["loc"], where=where, known=[*cls.model_fields, *also_known]) from None
    if isinstance(made, Options):
        refuse_without_effect(made, where=where)
    return made


def _first_error(error: ValidationError) -> ErrorDetails:
    """Return the first error; of an option that takes a value or one of some words, a single error that names both.

    Pydantic has one error for each alternative, and adds its own name of the alternative to the place.
    """
    first, *others = error.errors(include_url=False)
    place = first["loc"][:-1]
    words = [
        each["ctx"]["expected"]
        for each in others
        if each["loc"][:-1] == place and str(each["loc"][-1]).startswith("literal[")
    ]
    if words:
        first["loc"] = place
        first["msg"] = f"{first['msg'].partition(',')[0]}, or {' or '.join(words)}"
    return first


def option_error(details: ErrorDetails, place: Sequence[int | str], *, where: str, known: Iterable[str]) -> ConfigError:
    """Return a ConfigError for a validation error of pydantic, with the names of the table and the key.

    Args:
        details: The error.
        place: Keys of the wrong value within the table.
        where: Name of the table in messages, such as ``"[llm]"``.
        known: Keys of the table, to draw suggestions from.
    """
    name = ".".join(map(str, place))
    if details["type"] == "extra_forbidden":
        return ConfigError(f"{where} unknown key {name!r}", hint=did_you_mean(name, list(known)))
    if details["type"] == "value_error":  # raised by a validator: the message already names keys and values
        return ConfigError(
            f"{where} {name}: {details['ctx']['error']}" if name else f"{where} {details['ctx']['error']}"
        )
    shown = "" if details["type"] == "missing" else f", not {details.get('input')!r}"
    return ConfigError(f"{where} {name}: {details['msg'][0].lower()}{details['msg'][1:]}{shown}")


def refuse_without_effect(options: Options, *, where: str) -> None:
    """Raise an error for options that were set but have no effect.

    Raises:
        ConfigError: An option has no effect; the message names ``where``, the option and the reason.
    """
    for name, why in options.without_effect().items():
        raise ConfigError(
            f"{where} {name} = {getattr(options, name)!r} {why}",
            hint="it would be ignored: remove it, or change the option that it depends on",
        )


def ignored(cls: type[BaseModel], values: Mapping[str, Any]) -> set[str]:
    """Return the options that have no effect; none if ``values`` are not valid options of ``cls``."""
    if not issubclass(cls, Options):
        return set()
    try:
        return set(cls.model_validate(dict(values)).without_effect())
    except ValidationError:  # reported where the options are used
        return set()


def overlaid(cls: type[BaseModel], base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``changes`` into ``base``, without those options of ``base`` that have no effect after the changes.

    For example, a base that sets a softmax temperature allows a change to a loss without temperature. Options set by
    ``changes`` are kept, and are rejected later if they have no effect.
    """
    merged = {**base, **changes}
    useless = ignored(cls, merged) - set(changes)
    return {name: value for name, value in merged.items() if name not in useless}
