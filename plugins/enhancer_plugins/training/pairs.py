"""Two pieces of a step's work at once.

Torch's own threads and those of the kernels are two crowds that spin while they wait, each where the other wants to
work. So on a CPU torch is held to one thread, and what it has much of is cut into two fixed pieces. Another thread of
this process takes one of them; it sleeps when it has nothing to do.
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

_told = threading.local()
_helpers: dict[int, ThreadPoolExecutor] = {}


def _helper() -> ThreadPoolExecutor:
    """A thread of this process's own (one that was forked inherits none)."""
    pid = os.getpid()
    if pid not in _helpers:
        _helpers.clear()
        _helpers[pid] = ThreadPoolExecutor(1, thread_name_prefix="enhancer-pairs")
    return _helpers[pid]


def divided() -> bool:
    """Whether work is to be cut in two at all: where torch has one thread. It decides what is summed in which order."""
    return torch.get_num_threads() == 1


@contextmanager
def shared(*, at_once: bool) -> Iterator[None]:
    """Say for a while whether :func:`both` does two things at once; otherwise it goes by the kernels' threads.

    Threads of the kernels spin for some milliseconds when their work is done. A step that is mostly torch's is quicker
    when kernels have one thread and torch's pieces two.
    """
    before = getattr(_told, "at_once", None)
    _told.at_once = at_once
    try:
        yield
    finally:
        _told.at_once = before


def kernels_too() -> bool:
    """Whether :func:`both` is to divide kernels as well: they have one thread here while torch's pieces have two."""
    return bool(getattr(_told, "at_once", None)) and divided() and numba.get_num_threads() == 1


def both(first: Callable[[], First], second: Callable[[], Second], *, worth: bool = True) -> tuple[First, Second]:
    """The results of two functions; at once where that is wanted (:func:`shared`) and it is ``worth`` it.

    Both run with gradients on or off as they are for the caller.
    """
    told = getattr(_told, "at_once", None)
    if not worth or not divided() or not (numba.get_num_threads() > 1 if told is None else told):
        return first(), second()
    other = _helper().submit(_like_here(second))
    try:
        own = first()
    finally:
        found = other.result()
    return own, found


def halves(n: int, run: Callable[[int, int], First], *, worth: bool = True) -> tuple[First, First]:
    """``run(first, last)`` over the two halves of ``n`` rows; see :func:`both`."""
    middle = n // 2
    return both(lambda: run(0, middle), lambda: run(middle, n), worth=worth)


def _like_here(work: Callable[[], Second]) -> Callable[[], Second]:
    """For another thread, which begins with gradients on."""
    on = torch.is_grad_enabled()

    def run() -> Second:
        with torch.set_grad_enabled(on):
            return work()

    return run
