"""Answers that a model gave once, given again: demos, tests and teaching without a key, a network or a bill."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enhancer.contracts import Completion, Context, LLMProvider, Options, Price, Request
from enhancer.errors import ConfigError, DataError, RequestError, did_you_mean

if TYPE_CHECKING:
    from enhancer.contracts import Key

_BUNDLED = Path(__file__).parent / "recorded"
_KEYS = ("kind", "id")


class ReplayOptions(Options):
    """Options of ``replay``."""

    path: str = "movielens-100k"
    """A bundled recording (movielens-100k), or a JSONL file: {"id": …, "profile": …, "tags": […]}, one line an item."""


class Replay(LLMProvider):
    """Finds the recorded answer by the subjects' ids; what the prompt says makes no difference.

    A line may say ``"kind": "user"``; without it is an item's. All its other fields are the answer.
    """

    options_class = ReplayOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, ReplayOptions)
        self._path = _resolve(options.path, context.root)
        self._answers: dict[tuple[str, str], bytes] | None = None
        self._digest = ""

    @property
    def endpoint(self) -> str:
        """The digest of the recording: another recording means other answers."""
        self._load()
        return f"replay:sha256:{self._digest}"

    def price(self, model: str) -> Price | None:  # noqa: ARG002 - whatever it is called
        """Nothing, and that is known."""
        return Price(0.0, 0.0)

    def describe(self, model: str) -> str:  # noqa: ARG002 - it is asked nothing
        """The recording: no model answers here."""
        return f"recorded answers of {self._path.name}"

    def check(self, model: str) -> None:  # noqa: ARG002 - likewise
        """Read the recording."""
        self._load()

    async def complete(self, request: Request) -> Completion:
        """Give the recorded answer; a request that names no subject, or one without a record, is refused."""
        if not request.subjects:
            raise RequestError("replay: the request names no subject")
        if request.grouped:
            items = [{"id": subject.id, **self._answer(subject)} for subject in request.subjects]
            text = json.dumps({"items": items}, ensure_ascii=False)
        else:
            text = json.dumps(self._answer(request.subjects[0]), ensure_ascii=False)
        # This call costs nothing, and that is known; how many tokens the recorded one took is not.
        return Completion(text=text, cost_usd=0.0, model=f"replay/{self._path.stem}")

    def _answer(self, subject: Key) -> dict[str, Any]:
        line = self._load().get((subject.kind, subject.id))
        if line is None:
            raise RequestError(
                f"replay: {self._path.name} holds no answer for {subject.kind} {subject.id!r}",
                hint="use a live model for entities that were not recorded",
            )
        return {name: value for name, value in json.loads(line).items() if name not in _KEYS}

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


def _key(line: bytes, where: str) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: not a line of JSON in UTF-8") from None
    if not isinstance(row, dict) or not isinstance(row.get("id"), (str, int)) or isinstance(row["id"], bool):
        raise DataError(f"{where}: a JSON object with an id is wanted")
    kind = row.get("kind", "item")
    if kind not in {"item", "user"}:
        raise DataError(f"{where}: kind is 'item' or 'user', not {kind!r}")
    return str(kind), str(row["id"])


def _resolve(path: str, root: Path) -> Path:
    """A bundled name, or a file relative to the configuration's folder."""
    if Path(path).name == path and not Path(path).suffix:
        bundled = {file.stem: file for file in _BUNDLED.glob("*.jsonl")}
        if path in bundled:
            return bundled[path]
        if not (root / path).exists():
            raise ConfigError(f"[llm] path: no recording is called {path!r}", hint=did_you_mean(path, bundled))
    return root / path
