"""Load settings: flags override the environment, which overrides the project file and its defaults.

Options of plugins are validated by their own classes, in :mod:`enhancer.project.chosen_plugins`.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from enhancer.config.integers import check_integers
from enhancer.config.schema import Settings
from enhancer.contracts.options import option_error
from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

ENV_PREFIX = "ENHANCER_"
_NOT_SETTINGS = frozenset({"ENHANCER_PLUGINS"})
"""Variables with this prefix that are not settings."""


def load_settings(
    path: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> tuple[Settings, Path]:
    """Read the configuration.

    Args:
        path: ``enhancer.toml``, or a ``pyproject.toml`` with ``[tool.enhancer]``; by default the first of the two in
            the working folder.
        overrides: Settings such as ``"llm.model=openai/gpt-4o"``; a value that is not TOML is a plain string.
        environ: Environment variables; by default those of the process. ``ENHANCER_LLM__MODEL`` sets ``llm.model``.

    Returns:
        The settings, and the folder that relative paths in them are resolved against.

    Raises:
        ConfigError: The file is missing or not TOML, or a key or value is wrong; the message names it.
    """
    path = _find(path)
    tree = _read(path)
    for name, value in sorted((os.environ if environ is None else environ).items()):
        # A double underscore separates tables and keys; variables without one are not settings.
        if name.startswith(ENV_PREFIX) and name not in _NOT_SETTINGS and "__" in name:
            _assign(tree, name.removeprefix(ENV_PREFIX).lower().split("__"), value, f"environment variable {name}:")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--set {override!r} is not of the form key=value", hint="for example --set llm.model=gpt-4o"
            )
        _assign(tree, key.strip().split("."), value.strip(), f"--set {key.strip()}:")
    check_integers(tree, str(path))
    return _build(tree, path), path.parent


def settings_of(tree: Mapping[str, Any], name: str = "settings") -> Settings:
    """Return settings from the tables of a configuration file, as a mapping.

    Args:
        tree: Tables and keys, such as ``{"backbone": {"use": "als"}}``.
        name: What the mapping is, for messages.

    Raises:
        ConfigError: A key or value is wrong; the message names it.
    """
    check_integers(dict(tree), name)
    return _build(dict(tree), Path(name))


def _find(path: Path | None) -> Path:
    if path is not None:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder", hint=f"name the file: {path / 'enhancer.toml'}")
        if not path.is_file():
            raise ConfigError(f"no configuration file {path}", hint="run `enhancer init` to create one")
        return path
    if (found := Path("enhancer.toml")).is_file():
        return found
    if (found := Path("pyproject.toml")).is_file() and "enhancer" in _toml(found).get("tool", {}):
        return found
    raise ConfigError(
        f"no enhancer.toml in {Path.cwd()}",
        hint="run `enhancer init` to create one, or choose a file with --config FILE",
    )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not TOML, not UTF-8, or an integer of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply to be read") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _read(path: Path) -> dict[str, Any]:
    tree = _toml(path)
    if path.name != "pyproject.toml":
        return tree
    section = tree.get("tool", {}).get("enhancer")
    if section is None:
        raise ConfigError(f"{path} has no table [tool.enhancer]", hint="run `enhancer init` to create an enhancer.toml")
    return dict(section)


def _assign(tree: dict[str, Any], keys: list[str], text: str, where: str) -> None:
    """Set a nested key to a TOML value, or to a string if the text is not TOML."""
    node = tree
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{where} {key!r} is a value, not a table")
        node = child
    try:
        value = tomllib.loads(f"value = {text}")["value"]
        check_integers({keys[-1]: value}, where.removesuffix(":"))
        node[keys[-1]] = value
    except tomllib.TOMLDecodeError:
        node[keys[-1]] = text
    except ValueError as error:  # an integer of thousands of digits
        raise ConfigError(f"{where} {error}") from None
    except RecursionError:
        raise ConfigError(f"{where} the value is nested too deeply to be read") from None


def _build(tree: dict[str, Any], path: Path) -> Settings:
    """Validate the file; an error names the table and the nearest known key."""
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        order = {key: place for place, key in enumerate(tree)}

        # A misspelt table explains what goes wrong in others, so it comes first; the rest in the order of the file.
        def precedence(details: ErrorDetails) -> tuple[bool, int]:
            table = str(next(iter(details["loc"]), ""))  # no location: a contradiction between tables
            return table in Settings.model_fields, order.get(table, 0)

        raise _config_error(min(error.errors(include_url=False), key=precedence), path) from None


def _config_error(details: ErrorDetails, path: Path) -> ConfigError:
    place = details["loc"]
    if details["type"] in ("model_type", "dict_type"):
        name = ".".join(map(str, place))
        return ConfigError(f"{path}: {name!r} must be a table, not {details['input']!r}", hint=f"write [{name}]")
    table, depth = _innermost_table(place)
    where = f"{path}: [{'.'.join(map(str, place[:depth]))}]" if depth else f"{path}:"
    return option_error(details, place[depth:], where=where, known=table.model_fields)


def _innermost_table(place: Sequence[int | str]) -> tuple[type[BaseModel], int]:
    """Return the class of the innermost table on the way to a value, and the number of keys that lead to it."""
    table: type[BaseModel] = Settings
    depth = 0
    node: Any = Settings
    for length, key in enumerate(place, start=1):
        if node is None:
            break
        if get_origin(node) is dict:
            node = _table_type(get_args(node)[1])
        else:
            node = _table_type(node.model_fields[key].annotation) if key in node.model_fields else None
        if _is_class_of_table(node):
            table, depth = node, length
    return table, depth


def _table_type(annotation: Any) -> Any:
    """Return the class of a table, or a dictionary of tables, that an annotation allows; None for other values."""
    members = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return next((one for one in members if _is_class_of_table(one) or get_origin(one) is dict), None)


def _is_class_of_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
