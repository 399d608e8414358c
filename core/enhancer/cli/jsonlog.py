"""Write progress and messages to stderr as JSON, one object per line (``--log-json``).

Every line has ``time`` (UTC, ISO 8601), ``level`` (``info``, ``warning`` or ``error``) and ``event``:

============  =======================================================================================
event         other keys
============  =======================================================================================
``progress``  ``stage``, ``done``, ``total`` (null while unknown), ``detail``
``log``       ``logger``, ``message``: a log record of the library or of a plugin
``message``   ``message``: text that is otherwise printed to stderr
``summary``   ``command``, ``result``: what ``--json`` prints, for commands that take long
``error``     ``type``, ``message``, ``hint`` (or null), ``exit_code``
============  =======================================================================================

Secrets are redacted in every string before it is written.
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
"""Seconds between two lines of a stage that is not complete."""
_enabled = False


def enable(on: bool) -> None:
    """Turn JSON lines on stderr on or off for this process."""
    global _enabled  # noqa: PLW0603  stderr belongs to the process, and so does this
    _enabled = on


def enabled() -> bool:
    """Return whether stderr carries JSON lines."""
    return _enabled


def emit(event: str, *, level: str = "info", stream: TextIO | None = None, **fields: Any) -> None:
    """Write one line. Errors of a closed stderr are ignored."""
    from enhancer.harness.redact import redact

    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"time": at, "level": level, "event": event, **plain(fields, redact)}
    with contextlib.suppress(OSError, ValueError):
        out = sys.stderr if stream is None else stream
        out.write(json.dumps(line, ensure_ascii=True, allow_nan=False) + "\n")
        out.flush()


def summary(command: str, result: dict[str, Any]) -> None:
    """Write the result of a command, if JSON lines are enabled."""
    if _enabled:
        emit("summary", command=command, result=result)


class ProgressWriter:
    """A listener for :mod:`enhancer.progress` that writes JSON lines.

    For each stage it writes the first event, at most one event a second, and the last event.

    Args:
        stream: Where lines are written; by default stderr.
        clock: Returns monotonic seconds.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._written: dict[str, tuple[float, Progress]] = {}
        self._pending: dict[str, Progress] = {}

    def __call__(self, progress: Progress) -> None:
        """Handle an event."""
        at, last = self._written.get(progress.stage, (float("-inf"), None))
        was_complete = last is not None and last.complete
        if progress == last:
            self._pending.pop(progress.stage, None)
        elif self._clock() - at >= _EVERY or (progress.complete and not was_complete):
            self._write(progress)
        else:
            self._pending[progress.stage] = progress

    def finish(self) -> None:
        """Write the last event of each stage, if it has not been written yet."""
        for progress in list(self._pending.values()):
            self._write(progress)

    def _write(self, progress: Progress) -> None:
        self._written[progress.stage] = (self._clock(), progress)
        self._pending.pop(progress.stage, None)
        fields: dict[str, Any] = {"stage": progress.stage, "done": progress.done, "total": progress.total}
        if progress.growing:
            fields["growing"] = True
        emit("progress", stream=self._stream, **fields, detail=dict(progress.detail))


def plain(value: Any, text: Callable[[str], str] = str) -> Any:
    """Convert a value to JSON types; NaN and infinities become None, unknown types become strings.

    Args:
        value: Any nesting of dictionaries, lists, tuples, arrays and scalars.
        text: Applied to every string.
    """
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {text(str(key)): plain(inner, text) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner, text) for inner in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, int):
        return value
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return plain(value.tolist(), text)
    return text(str(value))
