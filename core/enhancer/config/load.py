"""Where settings come from: flags > environment > project file > defaults."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin

from enhancer.config.schema import Settings
from enhancer.contracts.options import build_options
from enhancer.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENV_PREFIX = "ENHANCER_"
_NOT_SETTINGS = frozenset({"ENHANCER_PLUGINS"})
"""Variables of this prefix that are read elsewhere."""


def load_settings(
    path: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> tuple[Settings, Path]:
    """Read the configuration.

    Args:
        path: ``enhancer.toml`` or a ``pyproject.toml`` with ``[tool.enhancer]``. By default the first of the two that
            the working folder has.
        overrides: ``"llm.model=openai/gpt-4o"`` and the like; the value is TOML, or else a plain string.
        environ: Environment; by default the process's. ``ENHANCER_LLM__MODEL`` sets ``llm.model``.

    Returns:
        The settings, and the folder that relative paths in them are relative to.

    Raises:
        ConfigError: The file is missing or is not TOML, or a key or value is wrong; the message names it.
    """
    path = _find(path)
    tree = _read(path)
    for name, value in sorted((os.environ if environ is None else environ).items()):
        # A double underscore marks a path into the file; other ENHANCER_ variables are not settings.
        if name.startswith(ENV_PREFIX) and name not in _NOT_SETTINGS and "__" in name:
            _assign(tree, name.removeprefix(ENV_PREFIX).lower().split("__"), value, f"environment variable {name}:")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--set {override!r} is not of the form key=value", hint="for example --set llm.model=gpt-4o"
            )
        _assign(tree, key.strip().split("."), value.strip(), f"--set {key.strip()}:")
    return _build(tree, path), path.parent


def _find(path: Path | None) -> Path:
    if path is not None:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder", hint=f"name the file: {path / 'enhancer.toml'}")
        if not path.is_file():
            raise ConfigError(f"no configuration file {path}", hint="run `enhancer init` to make one")
        return path
    if (found := Path("enhancer.toml")).is_file():
        return found
    if (found := Path("pyproject.toml")).is_file() and "enhancer" in _toml(found).get("tool", {}):
        return found
    raise ConfigError(
        f"no enhancer.toml in {Path.cwd()}", hint="run `enhancer init` to make one, or name it with --config FILE"
    )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _read(path: Path) -> dict[str, Any]:
    tree = _toml(path)
    if path.name != "pyproject.toml":
        return tree
    section = tree.get("tool", {}).get("enhancer")
    if section is None:
        raise ConfigError(f"{path} has no table [tool.enhancer]", hint="run `enhancer init` to make an enhancer.toml")
    return dict(section)


def _assign(tree: dict[str, Any], keys: list[str], text: str, where: str) -> None:
    """Set a nested key. The text is a TOML value if it reads as one, else a string."""
    node = tree
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{where} {key!r} is a value, not a table")
        node = child
    try:
        node[keys[-1]] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        node[keys[-1]] = text


def _build(tree: dict[str, Any], path: Path) -> Settings:
    """Check table by table, so that a message can name the table, and say what is near an unknown key."""
    unknown = sorted(set(tree) - set(Settings.model_fields))
    if unknown:
        raise ConfigError(f"{path}: unknown key {unknown[0]!r}", hint=did_you_mean(unknown[0], Settings.model_fields))
    _check_nested(tree, path)
    return build_options(Settings, tree, where=f"{path}:")


def _check_nested(tree: dict[str, Any], path: Path) -> None:
    """Let each table fail under its own name; what passes here is built once more as a whole."""
    for name, value in tree.items():
        annotation = Settings.model_fields[name].annotation
        if _is_table(annotation) and not isinstance(value, dict):
            raise ConfigError(f"{path}: {name!r} must be a table, not {value!r}", hint=f"write [{name}]")
        _check_table(annotation, value, [name], path)


def _check_table(annotation: Any, value: object, keys: list[str], path: Path) -> None:
    """A table after the tables within it; what is none is left to the one that holds it."""
    if not isinstance(value, dict):
        return
    for one in get_args(annotation) if isinstance(annotation, UnionType) else (annotation,):
        if get_origin(one) is dict:  # of tables, by names that are free
            for key, inner in value.items():
                _check_table(get_args(one)[1], inner, [*keys, key], path)
        elif _is_table(one):
            for key, inner in value.items():
                if key in one.model_fields:
                    _check_table(one.model_fields[key].annotation, inner, [*keys, key], path)
            kept = {**value, "template": value.get("template", "")} if keys[:-1] == ["prompts"] else value
            build_options(one, kept, where=f"{path}: [{'.'.join(keys)}]")


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and hasattr(annotation, "model_fields")
