"""Show progress on stderr: a live line for each stage on a terminal, and a line every few seconds in a pipe or log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self, TextIO

from enhancer.cli import jsonlog
from enhancer.cli.formatting import count, dollars, duration, number
from enhancer.cli.streams import clean, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enhancer.progress import Progress

_PLAIN_EVERY = 5.0
"""Seconds between two plain lines of one stage."""
_WINDOW = 30.0
"""Seconds over which the rate is measured, so that cached entities at the start do not inflate it."""
_MIN_SHARE = 1e-3
"""Share of the total that must be done before a rate measured over less than that window is used."""
_MIN_SHARE_OF_RUN = 0.05
"""The same for one training run among several."""
_RUNS = 10
"""Number of recent training runs whose mean time predicts the time of the others."""
_MONEY = {"cost_usd"}
_COUNTS = {"cached", "generated", "failed", "tokens"}


class _Stage:
    """State and rate of one stage."""

    def __init__(self, progress: Progress, now: float) -> None:
        self.started = now
        self.latest = progress
        self.past: deque[tuple[float, float]] = deque()
        self._training: dict[object, float] = {}
        self._runs: deque[float] = deque(maxlen=_RUNS)
        self._run_ended_at = now
        self.printed_at: float | None = None
        self.stale = True
        """Whether there is news since the last plain line."""

    def update(self, progress: Progress, now: float) -> None:
        # A repeated event is news, since it shows that work goes on, unless the stage is complete.
        self.stale = self.stale or not self.complete or progress != self.latest
        run, ended = progress.detail.get("run"), progress.done - self.latest.done
        self.latest = progress
        share = _share_of_run(progress)
        if share is not None:
            if not self._training and not self._runs:
                self._run_ended_at = now
            self._training[run] = share
        elif self._training.pop(run, None) is not None and ended > 0:  # otherwise the run was cached
            self._runs.append((now - self._run_ended_at) / ended)
            self._run_ended_at = now
        elif run is not None:
            return  # a cached run takes no time and must not count towards the rate
        self.past.append((now, self._done))
        while len(self.past) > 2 and now - self.past[0][0] > _WINDOW:
            self.past.popleft()

    @property
    def complete(self) -> bool:
        return self.latest.complete

    @property
    def _done(self) -> float:
        """Units done; while runs are being trained, the sum of their completed shares."""
        return sum(self._training.values()) if self._training else self.latest.done

    @property
    def may_stop_early(self) -> bool:
        """Whether the remaining time is an upper bound: it counts all epochs, and most runs stop early."""
        return "epochs" in self.latest.detail and not self._runs

    def remaining(self, now: float) -> float | None:
        """Estimate the seconds to go; None while there is too little to base an estimate on."""
        total = self.latest.total
        if total is None or self.latest.growing or self.complete or len(self.past) < 2:
            return None
        if self._runs:  # most runs stop long before their last epoch
            seconds = sum(self._runs) / len(self._runs) * (total - self.latest.done) - (now - self._run_ended_at)
            return seconds if seconds > 0 else None
        (then, before), after = self.past[0], self._done
        if now <= then or after <= before:
            return None
        least = _MIN_SHARE_OF_RUN if self._training else _MIN_SHARE * total
        if now - then < _WINDOW and after - before < least:
            return None  # the first epoch compiles and the first call connects: too slow to extrapolate from
        return (total - (self.latest.done if self._training else 0) - after) * (now - then) / (after - before)


def _share_of_run(progress: Progress) -> float | None:
    """Return the completed share of one training run among several; None for other events."""
    epoch, epochs = progress.detail.get("epoch"), progress.detail.get("epochs")
    if isinstance(epoch, int | float) and isinstance(epochs, int | float) and epochs > 0 and progress.total != epochs:
        return min(epoch / epochs, 1.0)
    return None


def describe(progress: Progress, remaining: float | None = None, *, at_most: bool = False) -> str:
    """Format an event as one line.

    >>> from enhancer.progress import Progress
    >>> describe(Progress("generate", 50, 200, {"cached": 10, "failed": 0, "tokens": 1234, "cost_usd": 0.0021}), 12)
    'generate  50/200 (25%)  cached 10  failed 0  tokens 1,234  $0.0021  12s left'
    >>> describe(Progress("train", 0, 5, {"run": "align/seed0", "epoch": 3, "epochs": 40, "loss": 0.5, "metric": 0.31}))
    'train  0/5 (0%)  align/seed0  epoch 3/40  loss 0.5000  metric 0.3100'
    >>> describe(Progress("embed", 64, 200, growing=True))
    'embed  64 of 200 so far'
    """
    parts = [progress.stage]
    if progress.total is None:
        parts.append(count(progress.done))
    elif progress.growing:
        parts.append(f"{count(progress.done)} of {count(progress.total)} so far")
    else:
        share = 100 * progress.done // progress.total if progress.total else 100
        parts.append(f"{count(progress.done)}/{count(progress.total)} ({share}%)")
    detail = dict(progress.detail)
    if (run := detail.pop("run", None)) and run != progress.stage:
        parts.append(str(run))
    if (epoch := detail.pop("epoch", None)) is not None:
        epochs = detail.pop("epochs", None)
        parts.append(f"epoch {epoch}" + ("" if epochs is None else f"/{epochs}"))
    detail.pop("epochs", None)
    for name, value in detail.items():
        if value is None and name not in _MONEY:
            continue
        if name in _MONEY:
            parts.append(dollars(value) if isinstance(value, int | float) else "cost unknown")
        elif name == "in_flight":
            parts.append(f"{number(value)} in flight")
        elif name in _COUNTS and isinstance(value, int | float):
            parts.append(f"{name} {count(value)}")
        else:
            parts.append(f"{name} {number(value)}")
    if remaining is not None:
        parts.append(f"{'at most ' if at_most else ''}{duration(remaining)} left")
    return "  ".join(parts)


class ProgressView:
    """A listener for :mod:`enhancer.progress`, used as a context manager.

    Args:
        quiet: Show nothing.
        stream: Where progress is written; by default stderr.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self, *, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.quiet = quiet
        self._stream = stream or sys.stderr
        self._clock = clock
        self._stages: dict[str, _Stage] = {}
        self._live: Any = None
        self._json = jsonlog.ProgressWriter(stream, clock) if jsonlog.enabled() else None
        self._terminal = not quiet and self._json is None and self._stream.isatty()

    def __call__(self, progress: Progress) -> None:
        """Handle an event."""
        if self.quiet:
            return
        if self._json is not None:
            self._json(progress)
            return
        now = self._clock()
        if progress.stage not in self._stages:
            self._flush()  # print pending lines of other stages before the first line of a new one
        stage = self._stage(progress, now)
        if self._terminal:
            if self._live is None:
                self._start()
        elif stage.printed_at is None or now - stage.printed_at >= _PLAIN_EVERY:
            # Not on completion: a stage whose total grows with the work is complete many times.
            self._print(stage, now)

    def _stage(self, progress: Progress, now: float) -> _Stage:
        """Return the stage of an event, brought up to date."""
        stage = self._stages.setdefault(progress.stage, _Stage(progress, now))
        stage.update(progress, now)
        return stage

    def latest(self) -> list[str]:
        """Return the beginnings of the last profiles."""
        return [clean(line) for stage in list(self._stages.values()) for line in stage.latest.latest]

    def _lines(self) -> list[tuple[_Stage, str]]:
        """Return each stage with the line that describes it."""
        now = self._clock()
        return [
            (stage, clean(describe(stage.latest, self._remaining(stage, now), at_most=stage.may_stop_early)))
            for stage in list(self._stages.values())
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._flush()
        if self._json is not None:
            self._json.finish()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Stop the display while other text is printed or a question is asked; later progress starts below it."""
        self._stop()
        self._stages.clear()
        yield

    def _flush(self) -> None:
        for stage in () if self._terminal else self._stages.values():
            self._print(stage, self._clock())

    def _print(self, stage: _Stage, now: float) -> None:
        if not stage.stale:
            return
        stage.printed_at, stage.stale = now, False
        remaining = self._remaining(stage, now)
        print(describe(stage.latest, remaining, at_most=stage.may_stop_early), file=self._stream, flush=True)

    def _remaining(self, stage: _Stage, now: float) -> float | None:
        """Estimate the seconds to go. Answers that wait for their vector are no end: embedding may take longer."""
        own, embedding = stage.remaining(now), self._stages.get("embed")
        if own is None or embedding is None or stage.latest.stage != "generate" or embedding.complete:
            return own
        other = embedding.remaining(now)
        return None if other is None else max(own, other)

    def _start(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=raw(self._stream))
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=6)
        self._live.start()

    def _stop(self) -> None:
        if self._live is not None:
            with contextlib.suppress(OSError):  # the terminal was closed
                self._live.stop()
            self._live = None

    def _render(self) -> Any:
        from rich.text import Text

        lines = [*(line for _, line in self._lines()), *(f"  {line}" for line in self.latest())]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
