"""Count what the service does, for all processes together, and render it in Prometheus' text format.

Each process has a row of numbers in memory that all share, and only its own thread of the event loop writes there. Any
process can therefore answer ``/metrics`` for all of them: counters are added up, and no request needs a lock.
"""

from __future__ import annotations

import mmap
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from enhancer.serving.service.answers import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterator

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
ENDPOINTS: Final = ("recommend", "recommend_many", "similar", "health", "metrics", "openapi", "none")
"""Label of each endpoint; ``none`` stands for requests that reached no endpoint."""
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of the histogram."""

_GAUGES: Final = {
    "requests_in_flight": "Requests that are being answered.",
    "requests_waiting": "Requests that wait for a thread.",
    "connections": "Open connections.",
    "held_bytes": "Bytes of request bodies and unsent answers in memory.",
    "artifact_stale": "Processes whose newest artifact could not be loaded.",
    "workers": "Processes that serve.",
}
_COUNTERS: Final = {
    "unknown_users_total": "Users that were asked for, not known, and not placed by a history.",
    "connections_refused_total": "Connections refused because too many were open.",
    "bodies_refused_total": "Requests refused because too many bytes were in memory.",
    "artifact_reloads_total": "Times that a process has taken a new artifact.",
    "artifact_failures_total": "Times that a process could not load a new artifact.",
    "worker_restarts_total": "Times that a process that had ended was started again.",
}
_SCALARS: Final = (*_GAUGES, *_COUNTERS, "created", "loaded")
_CELLS: Final = {name: place for place, name in enumerate(_SCALARS)}
_STATUS_CELLS: Final = {
    (endpoint, status): len(_SCALARS) + place
    for place, (endpoint, status) in enumerate((endpoint, status) for endpoint in ENDPOINTS for status in STATUSES)
}
_HISTOGRAM: Final = len(_SCALARS) + len(_STATUS_CELLS)
_PER_HISTOGRAM: Final = len(SECONDS) + 2  # one beyond the last bound, and the sum
_HISTOGRAMS: Final = {name: _HISTOGRAM + place * _PER_HISTOGRAM for place, name in enumerate(ENDPOINTS[:-1])}
_ROW: Final = _HISTOGRAM + len(_HISTOGRAMS) * _PER_HISTOGRAM


class Board:
    """Numbers of all processes, in memory that processes forked later share.

    Args:
        workers: Number of processes.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._cells = memoryview(mmap.mmap(-1, 8 * _ROW * workers)).cast("d")

    def row(self, worker: int) -> memoryview[float]:
        """Return the numbers of one process."""
        return self._cells[worker * _ROW : (worker + 1) * _ROW]

    def restart(self, worker: int) -> None:
        """Set the gauges of a process that has ended to zero, and count that it is started again."""
        row = self.row(worker)
        for name in (*_GAUGES, "created", "loaded"):
            row[_CELLS[name]] = 0.0
        row[_CELLS["worker_restarts_total"]] += 1

    def is_serving(self, worker: int) -> bool:
        """Return whether a process has begun to serve."""
        return bool(self.row(worker)[_CELLS["workers"]])

    def render(self) -> bytes:
        """Return all numbers, added up over the processes, in Prometheus' text format."""
        return "".join(f"{line}\n" for line in self._lines()).encode()

    def _sum(self, cell: int) -> float:
        return sum(self._cells[cell + worker * _ROW] for worker in range(self.workers))

    def _lines(self) -> Iterator[str]:
        yield from _head("requests_total", "counter", "Requests answered.")
        for (endpoint, status), cell in _STATUS_CELLS.items():
            if count := self._sum(cell):
                yield f'enhancer_requests_total{{endpoint="{endpoint}",status="{status}"}} {_number(count)}'
        yield from _head("request_seconds", "histogram", "Seconds from the last byte of a request to its answer.")
        for endpoint, first in _HISTOGRAMS.items():
            counts = [self._sum(first + place) for place in range(_PER_HISTOGRAM)]
            total = 0.0
            for bound, count in zip((*SECONDS, "+Inf"), counts, strict=False):
                total += count
                yield f'enhancer_request_seconds_bucket{{endpoint="{endpoint}",le="{bound}"}} {_number(total)}'
            yield f'enhancer_request_seconds_sum{{endpoint="{endpoint}"}} {_number(counts[-1])}'
            yield f'enhancer_request_seconds_count{{endpoint="{endpoint}"}} {_number(total)}'
        for kind, names in (("gauge", _GAUGES), ("counter", _COUNTERS)):
            for name, meaning in names.items():
                yield from _head(name, kind, meaning)
                yield f"enhancer_{name} {_number(self._sum(_CELLS[name]))}"
        rows = [self.row(worker) for worker in range(self.workers) if self.is_serving(worker)]
        for name, meaning in (("created", "was made"), ("loaded", "was loaded")):
            times = [row[_CELLS[name]] for row in rows if row[_CELLS[name]]]
            if times:  # of the process that is furthest behind
                yield from _head(f"artifact_{name}_timestamp_seconds", "gauge", f"When the artifact in use {meaning}.")
                yield f"enhancer_artifact_{name}_timestamp_seconds {_number(min(times))}"
                if name == "created":
                    yield from _head("artifact_age_seconds", "gauge", "Seconds since the artifact in use was made.")
                    yield f"enhancer_artifact_age_seconds {_number(max(time.time() - min(times), 0.0))}"


class Metrics:
    """Numbers of this process.

    Args:
        board: Numbers of all processes.
        worker: Number of this one.
    """

    def __init__(self, board: Board | None = None, worker: int = 0) -> None:
        self.board = Board() if board is None else board
        self.worker = worker
        self._row = self.board.row(worker)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answer."""
        row, first = self._row, _HISTOGRAMS[endpoint]
        row[_STATUS_CELLS[endpoint, status]] += 1
        row[first + bisect_left(SECONDS, seconds)] += 1
        row[first + _PER_HISTOGRAM - 1] += seconds

    def refused(self, status: int) -> None:
        """Count an answer to a request that reached no endpoint."""
        self._row[_STATUS_CELLS["none", status]] += 1

    def add(self, name: str, amount: float = 1.0) -> None:
        """Change a number of this process."""
        self._row[_CELLS[name]] += amount

    def put(self, name: str, value: float) -> None:
        """Set a number of this process."""
        self._row[_CELLS[name]] = value


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP enhancer_{name} {meaning}"
    yield f"# TYPE enhancer_{name} {kind}"


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
