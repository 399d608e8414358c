"""Load and render prompt templates: TOML files with a system text, a user text, and a JSON schema or aspects.

The user text is written in a restricted form of Jinja2's language; see :mod:`enhancer.prompts.user_text`. Outside text
is only ever a quoted value, never part of a template.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from enhancer.config.integers import check_integers
from enhancer.errors import ConfigError, did_you_mean
from enhancer.prompts.request_text import check_note_name, default_group_instructions, request_text
from enhancer.prompts.schema import PROFILE_SCHEMA, check_schema, group_schema
from enhancer.prompts.user_text import CONTEXT_NAMES, FIELD_PREFIX, UserText

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.contracts.llm import Message
    from enhancer.contracts.record import Kind
    from enhancer.data import Entity
    from enhancer.prompts.request_text import Knowledge, RequestText

_KEYS = ("kind", "system", "user", "batch", "schema", "aspects")
_PLACEHOLDER = re.compile(r"\{\{\s*.*?\s*\}\}")
_DEFAULT_GROUP_INSTRUCTIONS = """
This time there are several entries, each in an <entry> with its id. Answer for each from its own entry alone, as if \
it were the only one. Answer with one JSON object and nothing else: {"items": [...]}, one element for each entry, of \
the form asked for above, with the entry's own id under "id".
"""


class Template:
    """A compiled template. Templates with equal content have equal fingerprints, whatever their names.

    Attributes:
        name: Configured name: ``item/v1``, or the file name without its ending.
        kind: Kind of the entities that it describes.
        system: System text.
        user: User text, with its markers.
        aspects: Notes that it asks for, and what to write in each; empty if it asks for a profile.
        group_instructions: Text added to the system text when a group of entities shares a request.
        fingerprint: Hexadecimal hash of the canonical content; part of the cache key.
        version: Name and start of the fingerprint, for display, such as ``item/v1@3fa9c1d2``.
        schema: JSON schema of an answer about one entity, with all notes.
        group_schema: JSON schema of an answer about a group of entities.
    """

    def __init__(self, name: str, content: Mapping[str, Any], *, where: str | None = None) -> None:
        """Compile the parsed TOML ``content``.

        Args:
            name: Name of the template.
            content: Parsed TOML.
            where: Name of the template for error messages.

        Raises:
            ConfigError: A key is missing, unknown or of a wrong type, or the user text is not valid.
        """
        where = where or f"template {name!r}"
        _check_keys(content, where)
        self.name = name
        self.kind: Kind = content.get("kind", "item")
        self.system: str = content["system"].strip()
        self.aspects: Mapping[str, str] = {key: text.strip() for key, text in content.get("aspects", {}).items()}
        default = default_group_instructions() if self.aspects else _DEFAULT_GROUP_INSTRUCTIONS
        self.group_instructions: str = content.get("batch", default).strip()
        self._user = UserText(content["user"].strip(), where)
        self.user = self._user.source
        self._where = where
        self._requests: dict[tuple[Knowledge, tuple[str, ...]], RequestText] = {}
        own: Mapping[str, Any] = {"aspects": self.aspects}
        if not self.aspects:
            schema = content.get("schema", PROFILE_SCHEMA)
            check_schema(schema, where)
            own = {"schema": schema}
        canonical = json.dumps(
            {"kind": self.kind, "system": self.system, "user": self.user, "batch": self.group_instructions, **own},
            sort_keys=True,
            separators=(",", ":"),
        )
        self.fingerprint = hashlib.sha256(canonical.encode()).hexdigest()
        self.version = f"{name}@{self.fingerprint[:8]}"
        self.schema: Mapping[str, Any] = own["schema"] if not self.aspects else self.request(*self.aspects).schema
        self.group_schema = group_schema(self.schema)

    @classmethod
    def load(cls, name_or_path: str, root: Path | None = None) -> Self:
        """Load a template from a file if ``name_or_path`` ends in ``.toml``, else a bundled template.

        Args:
            name_or_path: ``"item/v1"``, or a path relative to ``root``.
            root: Project folder.

        Raises:
            ConfigError: The template does not exist or is not valid. The message names it.
        """
        if name_or_path.endswith(".toml"):
            path = (root or Path()) / name_or_path
            try:
                text = path.read_text(encoding="utf-8")
            except OSError as error:
                raise ConfigError(f"cannot read template {path}: {error.strerror}") from None
            except UnicodeDecodeError as error:
                raise ConfigError(f"template {path} is not UTF-8: {error.reason}") from None
            return cls(path.stem, _toml(text, f"template {path}"), where=f"template {path}")
        names = bundled_names()
        if name_or_path not in names:
            hint = did_you_mean(name_or_path, names)
            raise ConfigError(
                f"unknown template {name_or_path!r}",
                hint=f"{hint} (the name of a file must end in .toml)" if hint else None,
            )
        file = resources.files(__package__).joinpath("bundled", *f"{name_or_path}.toml".split("/"))
        return cls(name_or_path, _toml(file.read_text(encoding="utf-8"), f"template {name_or_path!r}"))

    @property
    def context_names(self) -> tuple[str, ...]:
        """Values from other tables that the user text uses, such as ``history`` and ``reviews``."""
        return tuple(name for name in CONTEXT_NAMES if name in self._user.names)

    @property
    def value_names(self) -> tuple[str, ...]:
        """All values that the user text uses."""
        return self._user.names

    def can_do_without(self, name: str) -> bool:
        """Return whether a condition of the user text tests that a value is there."""
        return name in self._user.tested

    def render(self, entity: Entity, **context: str) -> str:
        """Render the user text for one entity; see :meth:`render_all`."""
        return self.render_all([entity], {name: [value] for name, value in context.items()})[0]

    def render_all(
        self, entities: Sequence[Entity], context: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> list[str]:
        """Render the user text for each entity. Values are quoted as data and limited in length.

        Args:
            entities: The entities.
            context: Values from other tables by name, such as ``history`` (see ``history_text``), one for each entity;
                a value that is not given is empty.

        Raises:
            ConfigError: The table of the entities lacks a column that the template names, or an expression fails.
        """
        values = [self._values(name, entities, context) for name in self._user.names]
        return self._user.render_all(values, lambda n: f"{entities[n].kind} {entities[n].id!r}")

    def _values(self, name: str, entities: Sequence[Entity], context: Mapping[str, Sequence[str]]) -> Sequence[str]:
        """Return the value of a placeholder for each entity."""
        if name == "text":
            return [entity.text for entity in entities]
        if name in CONTEXT_NAMES:
            return context.get(name) or [""] * len(entities)
        if name == "id":
            return [entity.id for entity in entities]
        if name == "title":
            return [entity.title or "" for entity in entities]
        column = name.removeprefix(FIELD_PREFIX)
        try:
            return [entity.columns[column][entity.row] for entity in entities]
        except KeyError:
            entity = next(entity for entity in entities if column not in entity.columns)
            raise ConfigError(
                f"{self._where}: no column {column!r} in the table of {entity.kind}s",
                hint=did_you_mean(column, entity.columns),
            ) from None

    def request(self, *notes: str, knowledge: Knowledge = "closed") -> RequestText:
        """Return the texts and schemas of requests for some notes.

        Args:
            notes: Names of aspects; not used by a template without aspects, which asks for a profile.
            knowledge: What the model may write from.
        """
        found = self._requests.get((knowledge, notes))
        if found is None:
            found = self._requests[knowledge, notes] = request_text(self, notes, knowledge)
        return found

    def messages(self, rendered: str) -> tuple[Message, ...]:
        """Return the messages of a request about one entity, for all notes."""
        return self.request(*self.aspects).messages(rendered)

    def group_messages(self, entries: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
        """Return the messages of a request about a group of entities, for all notes.

        Args:
            entries: Pairs of id and rendered user text.
        """
        return self.request(*self.aspects).group_messages(entries)


def bundled_names() -> list[str]:
    """Return the names of the bundled templates."""
    found = []
    for folder in resources.files(__package__).joinpath("bundled").iterdir():
        if folder.is_dir():
            found += [f"{folder.name}/{f.name[:-5]}" for f in folder.iterdir() if f.name.endswith(".toml")]
    return sorted(found)


def _toml(text: str, where: str) -> dict[str, Any]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from None
    except (RecursionError, ValueError):
        raise ConfigError(
            f"{where} is nested too deeply, or has an integer of thousands of digits", hint="write it more simply"
        ) from None
    check_integers(content, where)
    return content


def _check_keys(content: Mapping[str, Any], where: str) -> None:
    for key in content:
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}", hint=did_you_mean(key, _KEYS))
    for key in ("system", "user", "batch"):
        value = content.get(key, "" if key != "batch" else "x")
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{where}: {key!r} must be a non-empty text")
        if key != "user" and _PLACEHOLDER.search(value):
            raise ConfigError(
                f"{where}: {key!r} holds a placeholder",
                hint="only 'user' may hold placeholders; the other texts are the same for all entities",
            )
    if content.get("kind", "item") not in ("item", "user"):
        raise ConfigError(f"{where}: kind must be 'item' or 'user', not {content['kind']!r}")
    for key in ("schema", "aspects"):
        if not isinstance(content.get(key, {}), dict):
            raise ConfigError(f"{where}: [{key}] must be a table")
    if "aspects" in content:
        _check_aspects(content, where)


def _check_aspects(content: Mapping[str, Any], where: str) -> None:
    if not content["aspects"]:
        raise ConfigError(f"{where}: [aspects] is empty", hint='add a line such as mood = "What it feels like."')
    if "schema" in content:
        raise ConfigError(
            f"{where}: [schema] and [aspects] exclude each other",
            hint="the schema of aspects follows from their names: each is a text",
        )
    for name, text in content["aspects"].items():
        check_note_name(name, where)
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{where}: [aspects] {name} must say what to write, as a non-empty text")
        if _PLACEHOLDER.search(text):
            raise ConfigError(
                f"{where}: [aspects] {name} holds a placeholder",
                hint="only 'user' may hold placeholders; the other texts are the same for all entities",
            )
