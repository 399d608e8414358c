"""Templates: TOML files with a system text, a user text with ``{{ placeholders }}``, and a JSON schema.

There is no logic in them, and outside text is never taken for a format: a template is compiled once into literal
pieces and names, and rendering sets neutralised values between the pieces.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from enhancer.contracts.llm import Message
from enhancer.errors import ConfigError, did_you_mean
from enhancer.prompts.quoting import neutral, neutral_all
from enhancer.prompts.schema import PROFILE_SCHEMA, batch_schema, check_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.contracts.record import Kind
    from enhancer.data import Entity

_KEYS = ("kind", "system", "user", "batch", "schema")
_PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_NAMES = ("id", "title", "text", "history")
_FIELD = "fields."
MAX_VALUE = 20_000
"""Characters of any one value that enter a prompt, whatever the configuration lets through."""
_DEFAULT_BATCH = """
This time there are several entries, each in an <entry> with its id. Answer for each from its own entry alone, as if \
it were the only one. Answer with one JSON object and nothing else: {"items": [...]}, one element for each entry, of \
the form asked for above, with the entry's own id under "id".
"""


class Template:
    """A compiled template. Two templates of equal content have equal fingerprints, whatever they are called.

    Attributes:
        name: As configured: ``item/v1``, or the file's name without its ending.
        kind: What it describes.
        fingerprint: Hash of the canonical content, hexadecimal; the cache trusts this alone.
        version: Name and fingerprint for people, such as ``item/v1@3fa9c1d2``.
        schema: JSON schema of an answer about one entity.
        batch_schema: Likewise about several.
    """

    def __init__(self, name: str, content: Mapping[str, Any], *, where: str | None = None) -> None:
        """Compile ``content``, the parsed TOML.

        Raises:
            ConfigError: A key is missing, unknown or of a wrong type, or a placeholder is unknown.
        """
        where = where or f"template {name!r}"
        _check_keys(content, where)
        self.name = name
        self.kind: Kind = content.get("kind", "item")
        self.system: str = content["system"].strip()
        self.batch: str = content.get("batch", _DEFAULT_BATCH).strip()
        self.schema: Mapping[str, Any] = content.get("schema", PROFILE_SCHEMA)
        check_schema(self.schema, where)
        self.batch_schema = batch_schema(self.schema)
        user: str = content["user"].strip()
        if "<data>" not in user:
            user = f"<data>\n{user}\n</data>"
        self._pieces = _compile(user, where)
        # The template's own literals become the pattern, never outside text.
        self._pattern = "%s".join(literal.replace("%", "%%") for _, literal in self._pieces)
        self._where = where
        canonical = json.dumps(
            {"kind": self.kind, "system": self.system, "user": user, "batch": self.batch, "schema": self.schema},
            sort_keys=True,
            separators=(",", ":"),
        )
        self.fingerprint = hashlib.sha256(canonical.encode()).hexdigest()
        self.version = f"{name}@{self.fingerprint[:8]}"

    @classmethod
    def load(cls, name_or_path: str, root: Path | None = None) -> Self:
        """Find a template: a file, if ``name_or_path`` ends in ``.toml``, else a bundled one.

        Args:
            name_or_path: ``"item/v1"``, or a path, relative to ``root``.
            root: The project's folder.

        Raises:
            ConfigError: There is none, or it is not a template; the message names it.
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
                f"unknown template {name_or_path!r}", hint=f"{hint} (a file's name must end in .toml)" if hint else None
            )
        file = resources.files(__package__).joinpath("bundled", *f"{name_or_path}.toml".split("/"))
        return cls(name_or_path, _toml(file.read_text(encoding="utf-8"), f"template {name_or_path!r}"))

    @property
    def uses_history(self) -> bool:
        """Whether it shows a user's history."""
        return any(name == "history" for name, _ in self._pieces[1:])

    def render(self, entity: Entity, history: str = "") -> str:
        """The user text about one entity: see :meth:`render_all`."""
        return self.render_all([entity], [history])[0]

    def render_all(self, entities: Sequence[Entity], histories: Sequence[str]) -> list[str]:
        """The user text about each entity. Values are outside text: neutralised and capped.

        Args:
            entities: What they are about.
            histories: The history of each, already a text (``history_text``).

        Raises:
            ConfigError: The template names a column that the entities' table does not have.
        """
        values = [neutral_all(self._values(name, entities, histories), MAX_VALUE) for name, _ in self._pieces[1:]]
        return list(map(self._pattern.__mod__, zip(*values, strict=True)))

    def _values(self, name: str, entities: Sequence[Entity], histories: Sequence[str]) -> Sequence[str]:
        """What a placeholder stands for, for each entity."""
        if name == "text":
            return [entity.text for entity in entities]
        if name == "history":
            return histories
        if name == "id":
            return [entity.id for entity in entities]
        if name == "title":
            return [entity.title or "" for entity in entities]
        column = name.removeprefix(_FIELD)
        try:
            return [entity.columns[column][entity.row] for entity in entities]
        except KeyError:
            entity = next(entity for entity in entities if column not in entity.columns)
            raise ConfigError(
                f"{self._where}: no column {column!r} in the table of {entity.kind}s",
                hint=did_you_mean(column, entity.columns),
            ) from None

    def messages(self, rendered: str) -> tuple[Message, ...]:
        """Ask about one entity."""
        return (Message("system", self.system), Message("user", rendered))

    def batch_messages(self, entries: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
        """Ask about several: pairs of id and rendered user text."""
        blocks = [f"<entry id={_quoted_id(id_)}>\n{rendered}\n</entry>" for id_, rendered in entries]
        return (Message("system", f"{self.system}\n\n{self.batch}"), Message("user", "\n\n".join(blocks)))


def bundled_names() -> list[str]:
    """Names of the templates that come with the package."""
    found = []
    for folder in resources.files(__package__).joinpath("bundled").iterdir():
        if folder.is_dir():
            found += [f"{folder.name}/{f.name[:-5]}" for f in folder.iterdir() if f.name.endswith(".toml")]
    return sorted(found)


def _quoted_id(id_: str) -> str:
    """An id as a JSON string that cannot leave its place."""
    return json.dumps(neutral(id_), ensure_ascii=False)


def _toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from None


def _check_keys(content: Mapping[str, Any], where: str) -> None:
    for key in content:
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}", hint=did_you_mean(key, _KEYS))
    for key in ("system", "user", "batch"):
        value = content.get(key, "" if key != "batch" else "x")
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{where}: {key!r} must be a text that is not empty")
        if key != "user" and _PLACEHOLDER.search(value):
            raise ConfigError(
                f"{where}: {key!r} holds a placeholder",
                hint="placeholders stand in 'user': the rest is the same for all",
            )
    if content.get("kind", "item") not in ("item", "user"):
        raise ConfigError(f"{where}: kind must be 'item' or 'user', not {content['kind']!r}")
    if not isinstance(content.get("schema", {}), dict):
        raise ConfigError(f"{where}: [schema] must be a table")


def _compile(user: str, where: str) -> list[tuple[str, str]]:
    """Split into (name, literal after it); the first has no name. Every placeholder must stand inside ``<data>``."""
    parts = _PLACEHOLDER.split(user)
    pieces = [("", parts[0])]
    inside = _ends_inside(parts[0], inside=False)
    for name, literal in zip(parts[1::2], parts[2::2], strict=True):
        if name not in _NAMES and not (name.startswith(_FIELD) and len(name) > len(_FIELD)):
            hint = did_you_mean(name, _NAMES)
            raise ConfigError(f"{where}: unknown placeholder {{{{ {name} }}}}", hint=f"{hint} (or fields.COLUMN)")
        if not inside:
            raise ConfigError(
                f"{where}: the placeholder {{{{ {name} }}}} stands outside <data> … </data>",
                hint="outside text must be marked as data",
            )
        pieces.append((name, literal))
        inside = _ends_inside(literal, inside=inside)
    if len(pieces) == 1:
        raise ConfigError(f"{where}: 'user' holds no placeholder", hint="write {{ text }} where the entity's text goes")
    return pieces


def _ends_inside(literal: str, *, inside: bool) -> bool:
    opened, closed = literal.rfind("<data>"), literal.rfind("</data>")
    return inside if opened == closed else opened > closed
