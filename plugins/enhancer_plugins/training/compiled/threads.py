"""Limit the threads of torch and of the kernels, and find the fastest setting."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numba
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def limited(*, torch_threads: int | None, kernel_threads: int | None) -> Iterator[None]:
    """Limit the threads of torch and of the numba kernels; None for no limit.

    Both have threads of their own, which spin for a while before they sleep. If torch has only small operations, its
    idle threads take the cores that the kernels need; if a whole step is small, synchronisation takes longer than the
    work. Results do not depend on the limits.
    """
    torch_before, kernels_before = torch.get_num_threads(), numba.get_num_threads()
    try:
        if torch_threads is not None:
            torch.set_num_threads(torch_threads)
        if kernel_threads is not None:
            numba.set_num_threads(kernel_threads)
        yield
    finally:
        torch.set_num_threads(torch_before)
        numba.set_num_threads(kernels_before)


class ThreadTuner:
    """Choice of the number of kernel threads, and of whether to use the worker thread, by timing steps.

    On an idle machine more threads are faster; on a busy one they wait for a thread that is not scheduled, and a step
    takes ten times longer. If torch does much work between the kernels, spinning kernel threads slow its halves down,
    and kernels are better limited to one thread. All settings are timed over a few steps now and then. Results do not
    depend on the choice.

    Args:
        most: Maximum number of threads.
        halves: Whether torch's operations are cut in halves (see :mod:`enhancer_plugins.training.compiled.worker`), so
            that the worker can be used while kernels have one thread.
    """

    _TIMED, _PERIOD = 4, 200  # the first timed step is not counted: threads of the setting before may still spin

    def __init__(self, most: int, *, halves: bool = False) -> None:
        self._settings = [(1, False)]
        if most > 1:
            self._settings += [(most, True), (1, True)] if halves else [(most, True)]
        self._step = -1  # the first step compiles kernels and is not timed
        self._seconds = [0.0] * len(self._settings)
        self._best = len(self._settings) - 1
        self.use_worker = most > 1
        """Whether the current step uses the worker thread."""

    @property
    def best_threads(self) -> int:
        """Fastest number of kernel threads so far."""
        return self._settings[self._best][0]

    def start_step(self) -> int:
        """Return the number of kernel threads of the next step."""
        timed = self._timed_setting()
        threads, self.use_worker = self._settings[self._best if timed is None else timed]
        return threads

    def finish_step(self, seconds: float) -> None:
        """Record the duration of the step."""
        timed = self._timed_setting()
        if timed is not None:
            place = self._step % self._PERIOD
            self._seconds[timed] = self._seconds[timed] + seconds if place % self._TIMED else 0.0
            if place == len(self._settings) * self._TIMED - 1:
                self._best = min(range(len(self._settings)), key=self._seconds.__getitem__)
        self._step += 1

    def _timed_setting(self) -> int | None:
        """Return the setting that is being timed; None if none is."""
        number = self._step % self._PERIOD // self._TIMED
        return number if self._step >= 0 and 1 < len(self._settings) > number else None
