"""How many threads torch and the kernels have, and which number a step does best with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numba
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def bounded(*, torch_threads: int | None, kernel_threads: int | None) -> Iterator[None]:
    """Bound the threads of torch and of the numba kernels for a while (None leaves them alone).

    Both have threads of their own, which spin for a while before they sleep. Where torch has only small things to do,
    its idle threads would take the cores that the kernels need; and where a whole step is small, waiting for one
    another takes longer than the work. Results do not depend on it.
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


class Pace:
    """Picks by the clock how a step's work is shared among threads.

    On an idle machine more threads are faster; on a busy one they wait, spinning, for a thread that was put aside, and
    a step takes ten times longer. And where torch has much to do between the kernels, threads that spin after a kernel
    are in the way of its pieces: then kernels are better left to one. Now and then all ways are timed over a few steps.
    Results do not depend on the choice.

    Args:
        most: The most threads there are.
        pieces: Whether torch's work is cut in pieces (:mod:`~enhancer_plugins.training.pairs`), so that it may be
            shared while kernels are not.
    """

    _PROBE, _PERIOD = 4, 200  # the first step of a probe is not counted: threads of the way before may still spin

    def __init__(self, most: int, *, pieces: bool = False) -> None:
        self._ways = [(1, False)]
        if most > 1:
            self._ways += [(most, True), (1, True)] if pieces else [(most, True)]
        self._step = -1  # the first step compiles: it is not timed
        self._spent = [0.0] * len(self._ways)
        self._best = len(self._ways) - 1
        self.sharing = most > 1
        """Whether torch's pieces are shared in this step."""

    @property
    def choice(self) -> int:
        """How many threads kernels do best with, by what is known."""
        return self._ways[self._best][0]

    def begin(self) -> int:
        """How many threads the kernels of the next step take."""
        way = self._probed()
        threads, self.sharing = self._ways[self._best if way is None else way]
        return threads

    def end(self, seconds: float) -> None:
        """Tell how long that step took."""
        way = self._probed()
        if way is not None:
            place = self._step % self._PERIOD
            self._spent[way] = self._spent[way] + seconds if place % self._PROBE else 0.0
            if place == len(self._ways) * self._PROBE - 1:
                self._best = min(range(len(self._ways)), key=self._spent.__getitem__)
        self._step += 1

    def _probed(self) -> int | None:
        """Which way is being timed; None if none is."""
        way = self._step % self._PERIOD // self._PROBE
        return way if self._step >= 0 and 1 < len(self._ways) > way else None
