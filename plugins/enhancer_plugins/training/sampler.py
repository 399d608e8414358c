"""An epoch of (user, positive, negative) triples, and how often each node is in a step."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from enhancer_plugins.training.compiled import kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from enhancer.contracts import TrainingData


class Triples(NamedTuple):
    """Users with an item they took and one they did not: int64 ``[b]`` each; no negatives where a loss takes none."""

    users: torch.Tensor
    positives: torch.Tensor
    negatives: torch.Tensor


class TripletSampler:
    """An epoch has as many triples as there are interactions: every positive once in random order, or drawn by user.

    By user, each triple is of a user drawn evenly from those with an interaction, and of an item drawn evenly from
    theirs, with replacement, as in the code that He et al. 2020 published with LightGCN. Then a user with few
    interactions weighs as much as one with many, as in a mean of a metric over users.

    Negatives are drawn evenly from the items that have a training interaction, leaving out the user's own: an item
    that is held out of training altogether must not be taught to be disliked. For a user who took every such item
    the negative is the positive itself, which has no gradient. An epoch depends on ``seed`` and its number alone, so
    a resumed run needs no state.

    Args:
        data: The interactions.
        seed: Draws order and negatives.
        by_user: Whether positives are drawn by user.
    """

    def __init__(self, data: TrainingData, seed: int, *, by_user: bool = False) -> None:
        users, items = np.asarray(data.users), np.asarray(data.items)
        by_item = kernels.stable_order(items, data.n_items)
        order = by_item[kernels.stable_order(users[by_item], data.n_users)]
        self._users, self._items = users[order].astype(np.int64), items[order].astype(np.int64)
        self._indptr = np.zeros(data.n_users + 1, np.int64)
        np.cumsum(np.bincount(users, minlength=data.n_users), out=self._indptr[1:])
        self._own = self._items.astype(np.int32)
        self._candidates = np.unique(self._own)
        self._active = np.flatnonzero(np.diff(self._indptr)) if by_user else None
        self._seed = seed

    def __len__(self) -> int:
        return len(self._users)

    def epoch(self, number: int) -> Triples:
        """All triples of epoch ``number``."""
        random = np.random.default_rng([self._seed & 0xFFFFFFFFFFFFFFFF, number])
        order = random.permutation(len(self._users)) if self._active is None else self._by_user(random, self._active)
        users, positives = self._users[order], self._items[order]
        drawn: NDArray[np.int64] = np.empty_like(users)
        key = random.integers(0, 2**64, dtype=np.uint64)
        kernels.negatives(self._indptr, self._own, self._candidates, users, positives, key, drawn)
        return Triples(torch.from_numpy(users), torch.from_numpy(positives), torch.from_numpy(drawn))

    def everything(self) -> Triples:
        """Every positive once, by user and item, for a loss that takes no negatives."""
        users, items = torch.from_numpy(self._users), torch.from_numpy(self._items)
        return Triples(users, items, items[:0])

    def _by_user(self, random: np.random.Generator, active: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of as many interactions as there are."""
        users = active[random.integers(len(active), size=len(self._users))]
        return random.integers(self._indptr[users], self._indptr[users + 1])

    def batches(self, number: int, size: int) -> Iterator[Triples]:
        """The triples of epoch ``number``, ``size`` at a time; the last batch holds what is left."""
        return in_steps(self.epoch(number), size)


def in_steps(triples: Triples, size: int) -> Iterator[Triples]:
    """The triples, ``size`` at a time; the last batch holds what is left."""
    for start in range(0, len(triples.users), size):
        yield Triples(*(column[start : start + size] for column in triples))


def occurrences(ids: torch.Tensor, n: int) -> torch.Tensor:
    """How often each of 0 to ``n - 1`` is among ``ids`` (int64 ``[b]``): int64 ``[n]``, without waiting for a GPU.

    There ``bincount`` asks for the largest of them first, at every call.
    """
    if ids.device.type == "cpu":
        return torch.bincount(ids, minlength=n)
    return torch.searchsorted(ids.sort().values, torch.arange(n + 1, device=ids.device)).diff()


class Ahead:
    """Epochs on another device than the CPU. While it is busy with one, a thread draws the next.

    Args:
        make: Draws an epoch by its number, from that alone.
        device: Where the triples go.
    """

    def __init__(self, make: Callable[[int], Triples], device: str) -> None:
        self._make, self._device = make, device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="enhancer-epochs")
        self._next: tuple[int, Future[Triples]] | None = None

    def __call__(self, number: int) -> Triples:
        """All triples of epoch ``number``."""
        triples = None
        if self._next is not None:
            expected, drawn = self._next
            made = drawn.result()  # another one is waited for as well: kernels do not bear two callers at once
            triples = made if expected == number else None
        triples = triples or self._make(number)
        self._next = number + 1, self._thread.submit(self._make, number + 1)
        return Triples(*(column.to(self._device) for column in triples))

    def close(self) -> None:
        """Wait for the thread."""
        self._thread.shutdown()
