"""Sample the (user, positive, negative) triples of an epoch."""

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
    """Users with a positive and a negative item: int64 ``[b]`` each. ``negatives`` is empty for a loss without them."""

    users: torch.Tensor
    positives: torch.Tensor
    negatives: torch.Tensor


class TripletSampler:
    """Sampler of as many triples per epoch as there are interactions.

    By default each interaction is a positive once, in random order. With ``by_user``, each triple has a user drawn
    uniformly from those with an interaction and an item drawn uniformly from that user's, with replacement, as in the
    code published with LightGCN (He et al. 2020). Users with few interactions then weigh as much as users with many, as
    in a mean of a metric over users.

    Negatives are drawn uniformly from the items that have a training interaction, without the user's own: items held
    out of training must not be trained as negatives. For a user of all such items the negative is the positive itself,
    which has no gradient. An epoch depends on ``seed`` and its number alone, so that a resumed run needs no state.

    Args:
        data: Training interactions.
        seed: Seed of order and negatives.
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
        """Return all triples of epoch ``number``."""
        random = np.random.default_rng([self._seed & 0xFFFFFFFFFFFFFFFF, number])
        order = random.permutation(len(self._users)) if self._active is None else self._by_user(random, self._active)
        users, positives = self._users[order], self._items[order]
        drawn: NDArray[np.int64] = np.empty_like(users)
        key = random.integers(0, 2**64, dtype=np.uint64)
        kernels.sample_negatives(self._indptr, self._own, self._candidates, users, positives, key, drawn)
        return Triples(torch.from_numpy(users), torch.from_numpy(positives), torch.from_numpy(drawn))

    def positives(self) -> Triples:
        """Return every positive once, by user and item, without negatives."""
        users, items = torch.from_numpy(self._users), torch.from_numpy(self._items)
        return Triples(users, items, items[:0])

    def _by_user(self, random: np.random.Generator, active: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draw the indices of as many interactions as there are."""
        users = active[random.integers(len(active), size=len(self._users))]
        return random.integers(self._indptr[users], self._indptr[users + 1])

    def steps(self, number: int, size: int) -> Iterator[Triples]:
        """Iterate over the triples of epoch ``number``, ``size`` at a time; the last step may be smaller."""
        return split_into_steps(self.epoch(number), size)


def split_into_steps(triples: Triples, size: int) -> Iterator[Triples]:
    """Iterate over triples, ``size`` at a time; the last step may be smaller."""
    for start in range(0, len(triples.users), size):
        yield Triples(*(column[start : start + size] for column in triples))


def occurrences(ids: torch.Tensor, n: int) -> torch.Tensor:
    """Count how often each of 0 to ``n - 1`` occurs in ``ids`` (int64 ``[b]``): int64 ``[n]``.

    On a GPU this avoids ``bincount``, which synchronises at each call to find the largest id.
    """
    if ids.device.type == "cpu":
        return torch.bincount(ids, minlength=n)
    return torch.searchsorted(ids.sort().values, torch.arange(n + 1, device=ids.device)).diff()


class PrefetchedEpochs:
    """Epochs on another device than the CPU: a thread draws the next one while the device trains on the current one.

    Args:
        draw: Draws an epoch, which depends on its number alone.
        device: Device to move the triples to.
    """

    def __init__(self, draw: Callable[[int], Triples], device: str) -> None:
        self._draw, self._device = draw, device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="enhancer-epochs")
        self._next: tuple[int, Future[Triples]] | None = None

    def __call__(self, number: int) -> Triples:
        """Return all triples of epoch ``number``."""
        triples = None
        if self._next is not None:
            expected, drawn = self._next
            made = drawn.result()  # wait for it in any case: kernels must not have two callers at once
            triples = made if expected == number else None
        triples = triples or self._draw(number)
        self._next = number + 1, self._thread.submit(self._draw, number + 1)
        return Triples(*(column.to(self._device) for column in triples))

    def close(self) -> None:
        """Wait for the thread to end."""
        self._thread.shutdown()
