"""``--log-json``: stderr for programs, one JSON object a line, in place of progress and messages for people.

Every line has ``time`` (UTC, ISO 8601), ``level`` (``info``, ``warning`` or ``error``) and ``event``:

============  ==================================================================================
event         further keys
============  ==================================================================================
``progress``  ``stage``, ``done``, ``total`` (null while unknown), ``detail``
``log``       ``logger``, ``message``; what the library and plugins have to say
``message``   ``message``; what a person at the terminal would read
``summary``   ``command``, ``result``: what ``--json`` prints; of the commands that take long
``error``     ``type``, ``message``, ``hint`` (or null), ``exit_code``
============  ==================================================================================

No secret enters a line: texts are redacted one by one, before they become JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.progress import Progress

FLAG = "--log-json"
_EVERY = 1.0
"""Seconds between two lines of one stage that is not complete."""
_on = False


def speak_json(on: bool) -> None:
    """Set how this process's stderr speaks."""
    global _on  # noqa: PLW0603  stderr is the process's, and so is this
    _on = on


def speaks_json() -> bool:
    """Whether stderr is for programs."""
    return _on


def emit(event: str, *, level: str = "info", stream: TextIO | None = None, **fields: Any) -> None:
    """Write one line; a stderr that is gone is nobody's error."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"time": at, "level": level, "event": event, **_plain(fields)}
    with contextlib.suppress(OSError, ValueError):
        out = sys.stderr if stream is None else stream
        out.write(json.dumps(line, ensure_ascii=True, allow_nan=False) + "\n")
        out.flush()


def summary(command: str, result: dict[str, Any]) -> None:
    """Tell what a command did, where stderr is for programs."""
    if _on:
        emit("summary", command=command, result=result)


class Narrator:
    """A listener for :mod:`enhancer.progress` that writes lines of JSON: a stage's first, one a second, and its last.

    Args:
        stream: Where to; by default stderr.
        clock: Seconds that only grow.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._told: dict[str, tuple[float, Progress]] = {}
        self._held: dict[str, Progress] = {}

    def __call__(self, progress: Progress) -> None:
        """Take an event."""
        at, last = self._told.get(progress.stage, (float("-inf"), None))
        complete = progress.total is not None and progress.done >= progress.total
        was_complete = last is not None and last.total is not None and last.done >= last.total
        if progress == last:
            self._held.pop(progress.stage, None)
        elif self._clock() - at >= _EVERY or (complete and not was_complete):
            self._tell(progress)
        else:
            self._held[progress.stage] = progress

    def finish(self) -> None:
        """Tell what came after the last line of each stage."""
        for progress in list(self._held.values()):
            self._tell(progress)

    def _tell(self, progress: Progress) -> None:
        self._told[progress.stage] = (self._clock(), progress)
        self._held.pop(progress.stage, None)
        emit(
            "progress",
            stream=self._stream,
            stage=progress.stage,
            done=progress.done,
            total=progress.total,
            detail=dict(progress.detail),
        )


def _plain(value: Any) -> Any:
    """JSON values, redacted; NaN and infinity become null."""
    from enhancer.harness.redact import redact

    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, int):
        return value
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        return _plain(value.tolist())
    return redact(str(value))
