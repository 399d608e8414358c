"""Have the garbage collector look for cycles rarely during a run, whose many objects hardly ever form any."""

from __future__ import annotations

import contextlib
import gc
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_OBJECTS = 50_000
"""New objects after which the youngest generation is collected; Python's default is 700."""
_GENERATIONS = 20
"""Collections of a generation after which the next older one is collected, too; Python's default is 10."""
_lock = threading.Lock()
_runs = 0
_before = (0, 0, 0)


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Collect cycles rarely within the context, in all threads of the process.

    Requests and answers are freed by their reference counts, and looking at them again and again takes a sixth of the
    CPU time of a run with a thousand calls in flight. Thresholds that are higher already, or 0 (no collections), are
    left alone.
    """
    global _runs, _before  # noqa: PLW0603 - runs of several threads share the collector
    with _lock:
        if _runs == 0:
            _before = gc.get_threshold()
            if 0 < _before[0] < _OBJECTS:
                gc.set_threshold(_OBJECTS, max(_GENERATIONS, _before[1]), max(_GENERATIONS, _before[2]))
        _runs += 1
    try:
        yield
    finally:
        with _lock:
            _runs -= 1
            if _runs == 0:
                gc.set_threshold(*_before)
