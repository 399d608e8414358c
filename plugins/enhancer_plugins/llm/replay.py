"""Provider of recorded answers, for demos, tests and teaching without API key, network or cost."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enhancer.contracts import Completion, Context, LLMProvider, Options, Price, Request
from enhancer.errors import ConfigError, DataError, RequestError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.contracts import Key

_BUNDLED = Path(__file__).parent / "recorded"
_KEYS = ("kind", "id", "item_id", "user_id")


class ReplayOptions(Options):
    """Options of ``replay``."""

    path: str = "movielens-100k"
    """A bundled recording (movielens-100k), or a JSONL file: {"id": …, "profile": …, "tags": […]}, a line per item.
    Aspects are further fields of the line, under their names, and so is "confidence"."""


class Replay(LLMProvider):
    """Returns recorded answers by the ids of the subjects; the prompt is ignored.

    A line with ``"kind": "user"`` or a ``user_id`` belongs to a user, other lines to items. The answer consists of the
    other fields: of those that the schema of the request describes, if it has one.
    """

    options_class = ReplayOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, ReplayOptions)
        self._path = _resolve(options.path, context.root)
        self._answers: dict[tuple[str, str], bytes] | None = None
        self._digest = ""

    @property
    def endpoint(self) -> str:
        """Digest of the recording."""
        self._load()
        return f"replay:sha256:{self._digest}"

    def price(self, model: str) -> Price | None:  # noqa: ARG002 - the same for every model
        """Return a price of zero."""
        return Price(0.0, 0.0)

    def describe(self, model: str) -> str:  # noqa: ARG002 - no model is used
        """Return the name of the recording."""
        return f"recorded answers of {self._path.name}"

    def check(self, model: str) -> None:  # noqa: ARG002 - no model is used
        """Read the recording."""
        self._load()

    async def complete(self, request: Request) -> Completion:
        """Return the recorded answer.

        Raises:
            RequestError: The request has no subjects, or there is no recorded answer for one of them, or the answer
                lacks a field that the schema requires. Of several notes, one is enough.
        """
        if not request.subjects:
            raise RequestError("replay: the request has no subjects")
        schema = _schema_of_one(request)
        answers = [self._answer(subject, schema) for subject in request.subjects]
        if request.grouped:
            ids = [{"id": subject.id} for subject in request.subjects]
            text = json.dumps(
                {"items": [{**id_, **answer} for id_, answer in zip(ids, answers, strict=True)]}, ensure_ascii=False
            )
        else:
            text = json.dumps(answers[0], ensure_ascii=False)
        # The cost of this call is zero; the token counts of the recorded call are unknown.
        return Completion(text=text, cost_usd=0.0, model=f"replay/{self._path.stem}")

    def _answer(self, subject: Key, schema: Mapping[str, Any]) -> dict[str, Any]:
        line = self._load().get((subject.kind, subject.id))
        if line is None:
            raise RequestError(
                f"replay: {self._path.name} has no answer for {subject.kind} {subject.id!r}",
                hint="use a live model for entities that were not recorded",
            )
        described = schema.get("properties")
        answer = {
            name: value
            for name, value in json.loads(line).items()
            if name not in _KEYS and (described is None or name in described)
        }
        needed = [name for name in schema.get("required", ()) if name not in (*_KEYS, "confidence")]
        missing = [name for name in needed if name not in answer]
        # An answer with some of several notes is of use, and so is one that does not say how sure the model was.
        for name in missing:
            if "confidence" not in schema.get("properties", {}) or len(missing) == len(needed):
                raise RequestError(
                    f"replay: {self._path.name} has no {name!r} for {subject.kind} {subject.id!r}",
                    hint="ask for what was recorded, or use a live model",
                )
        return answer

    def _load(self) -> dict[tuple[str, str], bytes]:
        if self._answers is not None:
            return self._answers
        answers: dict[tuple[str, str], bytes] = {}
        digest = hashlib.sha256()
        try:
            with self._path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    digest.update(line)
                    if line.strip():
                        key = _key(line, f"{self._path}:{number}")
                        if key in answers:
                            raise DataError(f"{self._path}:{number}: a second answer for {key[0]} {key[1]!r}")
                        answers[key] = line
        except OSError as error:
            raise ConfigError(f"[llm] path: cannot read {self._path}: {error.strerror}") from None
        self._digest = digest.hexdigest()[:16]
        self._answers = answers
        return answers


def _schema_of_one(request: Request) -> Mapping[str, Any]:
    """Return the schema of the answer about one entity; an empty one if the request has none."""
    schema = request.schema or {}
    if not request.grouped:
        return schema
    elements: Mapping[str, Any] = schema.get("properties", {}).get("items", {}).get("items", {})
    return elements


def _key(line: bytes, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: not a line of JSON in UTF-8") from None
    row = row if isinstance(row, dict) else {}
    kind = row.get("kind", "user" if "user_id" in row and "id" not in row else "item")
    if kind not in {"item", "user"}:
        raise DataError(f"{where}: kind is 'item' or 'user', not {kind!r}")
    id_ = row.get("id", row.get(f"{kind}_id"))
    if not isinstance(id_, (str, int)) or isinstance(id_, bool):
        raise DataError(f"{where}: expected a JSON object with an id")
    return str(kind), str(id_)


def _resolve(path: str, root: Path) -> Path:
    """Return the path of a bundled recording, or of a file relative to the folder of the configuration."""
    if Path(path).name == path and not Path(path).suffix:
        bundled = {file.stem: file for file in _BUNDLED.glob("*.jsonl")}
        if path in bundled:
            return bundled[path]
        if not (root / path).exists():
            raise ConfigError(f"[llm] path: there is no recording {path!r}", hint=did_you_mean(path, bundled))
    return root / path
