"""Interactions that benchmarks of training learn from: MovieLens, and made-up ones of any size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Part:
    """Interactions of one part of a split."""

    users: np.ndarray
    items: np.ndarray


@dataclass(frozen=True, eq=False)
class Data:
    """A split over one vocabulary."""

    n_users: int
    n_items: int
    train: Part
    validation: Part
    test: Part

    def save(self, path: Path) -> None:
        """As arrays ``train_users``, ``train_items`` and so on, for those who have another Python."""
        arrays = {
            f"{part}_{side}": getattr(getattr(self, part), side)
            for part in ("train", "validation", "test")
            for side in ("users", "items")
        }
        np.savez(path, n_users=self.n_users, n_items=self.n_items, **arrays)


def cut(n_users: int, n_items: int, whole: Part, validation: float, test: float, seed: int = 0) -> Data:
    """Cut each user's interactions at random, each part rounded."""
    order = np.lexsort((np.random.default_rng(seed).random(len(whole.users)), whole.users))
    users, items = whole.users[order], whole.items[order]
    counts = np.bincount(users, minlength=n_users)
    place = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = np.round(test * counts).astype(np.int64)[users]
    kept = np.round(validation * counts).astype(np.int64)[users]
    number = np.where(place < held, 2, np.where(place < held + kept, 1, 0))
    return Data(n_users, n_items, *(Part(users[number == part], items[number == part]) for part in range(3)))


def movielens(folder: Path, validation: float, test: float, seed: int = 0) -> Data:
    """All ratings of MovieLens-100k (``ml-100k.inter``) as positives."""
    lines = (folder / "ml-100k.inter").read_text().splitlines()[1:]
    table = np.array([line.split("\t")[:2] for line in lines])
    users, items = (np.unique(column, return_inverse=True)[1].astype(np.int32) for column in table.T)
    random, parts = np.random.default_rng(seed), np.zeros(len(users), np.int8)
    for user in range(users.max() + 1):
        rows = random.permutation(np.flatnonzero(users == user))
        held, kept = round(test * len(rows)), round(validation * len(rows))
        parts[rows[:held]] = 2
        parts[rows[held : held + kept]] = 1
    of = [Part(users[parts == number], items[parts == number]) for number in range(3)]
    return Data(int(users.max()) + 1, int(items.max()) + 1, *of)


def power_law(millions: float, seed: int = 0, *, per_user: int = 20, per_item: int = 100) -> Data:
    """Made-up interactions, all for training: so many a user and an item on average, items of Zipf's popularity, pairs unique."""
    random, wanted = np.random.default_rng(seed), int(millions * 1e6)
    n_users, n_items = wanted // per_user, wanted // per_item
    activity = random.pareto(1.5, n_users) + 0.3
    fame = np.cumsum(1 / np.arange(1, n_items + 1) ** 0.8)
    pairs = np.empty(0, np.int64)
    chances = np.cumsum(activity)
    while len(pairs) < wanted:
        users = np.searchsorted(chances, random.random(wanted // 2) * chances[-1])
        items = np.searchsorted(fame, random.random(wanted // 2) * fame[-1])
        pairs = np.unique(np.concatenate([pairs, users * n_items + items]))
    users, items = np.divmod(random.permutation(pairs)[:wanted], n_items)
    nothing = Part(np.empty(0, np.int32), np.empty(0, np.int32))
    return Data(n_users, n_items, Part(users.astype(np.int32), items.astype(np.int32)), nothing, nothing)


def tastes(n_users: int, n_items: int, wanted: int, validation: float, test: float, seed: int = 0) -> Data:
    """Made-up interactions with something to learn: two hundred tastes, each with its own order of items.

    A user has three tastes and mixes them unevenly; activity and popularity are power laws, as in :func:`power_law`.
    A taste holds a fiftieth of the items, drawn by popularity, so that tastes overlap in what everybody takes.
    """
    random = np.random.default_rng(seed)
    fame = 1 / np.arange(1, n_items + 1) ** 0.8
    size = n_items // 50
    shelves = np.stack([random.choice(n_items, size, replace=False, p=fame / fame.sum()) for _ in range(200)])
    within = np.cumsum(1 / np.arange(1, size + 1) ** 0.7)
    chances = np.cumsum(random.pareto(1.5, n_users) + 0.3)
    liked, mix = random.integers(0, 200, (n_users, 3)), np.array([0.6, 0.9, 1.0])
    pairs = np.empty(0, np.int64)
    while len(pairs) < wanted:
        users = np.searchsorted(chances, random.random(wanted // 2) * chances[-1])
        shelf = liked[users, np.searchsorted(mix, random.random(len(users)))]
        items = shelves[shelf, np.searchsorted(within, random.random(len(users)) * within[-1])]
        pairs = np.unique(np.concatenate([pairs, users * n_items + items]))
    users, items = np.divmod(random.permutation(pairs)[:wanted], n_items)
    whole = Part(users.astype(np.int32), items.astype(np.int32))
    return cut(n_users, n_items, whole, validation, test, seed)
