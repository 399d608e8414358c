"""Run one half of a step's torch operations in a worker thread.

The threads of torch and those of the kernels spin while they wait, and take cores from each other. On a CPU torch is
therefore limited to one thread, and its large operations are cut into two fixed halves. One half runs in a worker
thread of this process, which sleeps when it is idle.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numba
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

First = TypeVar("First")
Second = TypeVar("Second")

_setting = threading.local()
_workers: dict[int, ThreadPoolExecutor] = {}


def _worker() -> ThreadPoolExecutor:
    """Return the worker thread of this process; a forked process does not inherit its parent's."""
    pid = os.getpid()
    if pid not in _workers:
        _workers.clear()
        _workers[pid] = ThreadPoolExecutor(1, thread_name_prefix="enhancer-worker")
    return _workers[pid]


def splits_work() -> bool:
    """Return whether operations are cut in two: if torch has one thread. This determines the order of summation."""
    return torch.get_num_threads() == 1


@contextmanager
def enabled(value: bool) -> Iterator[None]:
    """Use the worker in :func:`run_both`, or not; by default it is used if kernels have several threads.

    The threads of the kernels spin for some milliseconds after their work. A step that is mostly torch's is faster if
    kernels have one thread and the halves of torch's operations two.
    """
    before = getattr(_setting, "enabled", None)
    _setting.enabled = value
    try:
        yield
    finally:
        _setting.enabled = before


def splits_kernels() -> bool:
    """Return whether to divide kernels, too: if they have one thread and the worker is enabled."""
    return bool(getattr(_setting, "enabled", None)) and splits_work() and numba.get_num_threads() == 1


def run_both(
    first: Callable[[], First], second: Callable[[], Second], *, worthwhile: bool = True
) -> tuple[First, Second]:
    """Return the results of two functions, of which the worker runs one if it is :func:`enabled`.

    Args:
        first: Runs in the calling thread.
        second: Runs in the worker, with gradients on or off as in the calling thread.
        worthwhile: Whether the functions take long enough to use the worker.
    """
    wanted = getattr(_setting, "enabled", None)
    if not worthwhile or not splits_work() or not (numba.get_num_threads() > 1 if wanted is None else wanted):
        return first(), second()
    other = _worker().submit(_with_grad_mode(second))
    try:
        own = first()
    finally:
        found = other.result()
    return own, found


def run_halves(n: int, function: Callable[[int, int], First], *, worthwhile: bool = True) -> tuple[First, First]:
    """Return ``function(first, last)`` of both halves of ``n`` rows; see :func:`run_both`."""
    middle = n // 2
    return run_both(lambda: function(0, middle), lambda: function(middle, n), worthwhile=worthwhile)


def _with_grad_mode(function: Callable[[], Second]) -> Callable[[], Second]:
    """Bind the calling thread's grad mode to a function: a new thread starts with gradients on."""
    on = torch.is_grad_enabled()

    def run() -> Second:
        with torch.set_grad_enabled(on):
            return function()

    return run
