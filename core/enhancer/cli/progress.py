"""Progress on stderr: one live line a stage on a terminal, a plain line now and then in a pipe or a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self, TextIO

from enhancer.cli import jsonlog
from enhancer.cli.tables import count, dollars, duration, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enhancer.progress import Progress

_PLAIN_EVERY = 5.0
"""Seconds between two plain lines of one stage."""
_WINDOW = 30.0
"""Seconds of the past that the rate is taken from: cached entities at the start must not flatter it."""
_TELLING = 1e-3
"""Share of the whole that must be done before a rate over less than that window means anything."""
_TELLING_OF_RUN = 0.05
"""Likewise, of one training run among several."""
_RUNS = 10
"""Training runs whose mean time tells how long the others will take."""
_MONEY = {"cost_usd"}
_COUNTS = {"cached": "cached", "generated": "generated", "failed": "failed", "tokens": "tokens"}


class _Stage:
    """What is known of one stage."""

    def __init__(self, progress: Progress, now: float) -> None:
        self.started = now
        self.latest = progress
        self.past: deque[tuple[float, float]] = deque()
        self._training: dict[object, float] = {}
        self._runs: deque[float] = deque(maxlen=_RUNS)
        self._turned = now
        self.printed_at: float | None = None
        self.stale = True
        """Whether something came after the last plain line."""

    def update(self, progress: Progress, now: float) -> None:
        # What is complete and says the same again is no news; what stands still is: it shows that somebody is there.
        self.stale = self.stale or not self.complete or progress != self.latest
        run, ended = progress.detail.get("run"), progress.done - self.latest.done
        self.latest = progress
        share = _share_of_run(progress)
        if share is not None:
            if not self._training and not self._runs:
                self._turned = now
            self._training[run] = share
        elif self._training.pop(run, None) is not None and ended > 0:  # else it is only remembered
            self._runs.append((now - self._turned) / ended)
            self._turned = now
        elif run is not None:
            return  # nothing was done for it: it tells nothing of the rate
        self.past.append((now, self._done))
        while len(self.past) > 2 and now - self.past[0][0] > _WINDOW:
            self.past.popleft()

    @property
    def complete(self) -> bool:
        return self.latest.total is not None and self.latest.done >= self.latest.total

    @property
    def _done(self) -> float:
        """How far along; of training runs, the shares of those that are going on."""
        return sum(self._training.values()) if self._training else self.latest.done

    @property
    def may_stop_early(self) -> bool:
        """Whether what is left goes by the epochs that there may be, most of which an early stop will spare."""
        return "epochs" in self.latest.detail and not self._runs

    def left(self, now: float) -> float | None:
        """Seconds to go at the present rate, or None while that is anybody's guess."""
        total = self.latest.total
        if total is None or self.complete or len(self.past) < 2:
            return None
        if self._runs:  # most runs end long before their last epoch
            left = sum(self._runs) / len(self._runs) * (total - self.latest.done) - (now - self._turned)
            return left if left > 0 else None
        (then, before), after = self.past[0], self._done
        if now <= then or after <= before:
            return None
        least = _TELLING_OF_RUN if self._training else _TELLING * total
        if now - then < _WINDOW and after - before < least:
            return None  # the first epoch compiles, the first call connects: a thousand times that is no estimate
        return (total - (self.latest.done if self._training else 0) - after) * (now - then) / (after - before)


def _share_of_run(progress: Progress) -> float | None:
    """How much of one training run among several is done; None where this is said of none."""
    epoch, epochs = progress.detail.get("epoch"), progress.detail.get("epochs")
    if isinstance(epoch, int | float) and isinstance(epochs, int | float) and epochs > 0 and progress.total != epochs:
        return min(epoch / epochs, 1.0)
    return None


def describe(progress: Progress, left: float | None = None, *, at_most: bool = False) -> str:
    """One line for where a stage stands.

    >>> from enhancer.progress import Progress
    >>> describe(Progress("generate", 50, 200, {"cached": 10, "failed": 0, "tokens": 1234, "cost_usd": 0.0021}), 12)
    'generate  50/200 (25%)  cached 10  failed 0  tokens 1,234  $0.0021  12s left'
    >>> describe(Progress("train", 0, 5, {"run": "align/seed0", "epoch": 3, "epochs": 40, "loss": 0.5, "metric": 0.31}))
    'train  0/5 (0%)  align/seed0  epoch 3/40  loss 0.5000  metric 0.3100'
    """
    parts = [progress.stage]
    if progress.total is None:
        parts.append(count(progress.done))
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
        elif name in _COUNTS and isinstance(value, int | float):
            parts.append(f"{_COUNTS[name]} {count(value)}")
        else:
            parts.append(f"{name} {number(value)}")
    if left is not None:
        parts.append(f"{'at most ' if at_most else ''}{duration(left)} left")
    return "  ".join(parts)


class ProgressView:
    """A listener for :mod:`enhancer.progress`, to be used in a ``with`` statement.

    Args:
        quiet: Show nothing.
        stream: Where to; by default stderr.
        clock: Seconds that only grow.
    """

    def __init__(
        self, *, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.quiet = quiet
        self._stream = stream or sys.stderr
        self._clock = clock
        self._stages: dict[str, _Stage] = {}
        self._live: Any = None
        self._narrator = jsonlog.Narrator(stream, clock) if jsonlog.speaks_json() else None
        self._terminal = not quiet and self._narrator is None and self._stream.isatty()

    def __call__(self, progress: Progress) -> None:
        """Take an event."""
        if self.quiet:
            return
        if self._narrator is not None:
            self._narrator(progress)
            return
        now = self._clock()
        if progress.stage not in self._stages:
            self._flush()  # a new stage begins: what is left to say of the others is said before
            self._stages[progress.stage] = _Stage(progress, now)
        stage = self._stages[progress.stage]
        stage.update(progress, now)
        if self._terminal:
            if self._live is None:
                self._start()
        elif stage.printed_at is None or now - stage.printed_at >= _PLAIN_EVERY:
            # A stage whose total grows with the work is complete again and again: its end is told at the end.
            self._print(stage, now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._flush()
        if self._narrator is not None:
            self._narrator.finish()

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Leave the terminal alone while a question is asked; what comes after starts below it."""
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
        print(describe(stage.latest, stage.left(now), at_most=stage.may_stop_early), file=self._stream, flush=True)

    def _start(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._stream)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=6)
        self._live.start()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Any:
        from rich.text import Text

        now = self._clock()
        lines = [
            describe(stage.latest, stage.left(now), at_most=stage.may_stop_early)
            for stage in list(self._stages.values())
        ]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
