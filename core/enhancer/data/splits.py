"""Split interactions into train, validation and test, once for all arms and seeds.

Random numbers come from ``Generator(PCG64)`` seeded with ``split_seed``, one stream per purpose, over pairs sorted by
(user, item). The order of rows in the file therefore has no effect unless the vocabulary depends on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from enhancer.data.interactions import Interactions, read_interactions
from enhancer.data.time_values import align_times
from enhancer.data.unseen_entities import find_unseen_entities
from enhancer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.config import ColumnsConfig, EvaluationConfig
    from enhancer.data.readers import TableOptions

_TRAIN, _VALIDATION, _TEST, _NEITHER = 0, 1, 2, 3
_AT_ONCE = 1 << 21
"""Pairs among which those that are held out are chosen at once."""
_WORDS = {2: "two", 3: "three"}


@dataclass(frozen=True, eq=False)
class Split:
    """Train, validation and test over one vocabulary. No pair is in two parts.

    With ``test_users``, pairs of cold items and users who are not drawn are in none.
    """

    train: Interactions
    validation: Interactions
    """Validation pairs; empty if ``validation_size`` is 0."""
    test: Interactions
    """Warm test pairs and all pairs of cold items and cold users."""
    cold_items: NDArray[np.int32]
    """int32, ascending: rows of items without training and validation pairs. These are the drawn items. If none were
    drawn, they are the items that occur only in the test part, provided there are enough to evaluate them."""
    cold_users: NDArray[np.int32]
    """int32, ascending: rows of the users that were drawn to be held out."""
    notes: tuple[str, ...] = ()
    """Sentences about rows left out of the files of a ``files`` split."""
    unseen_notes: tuple[str, ...] = ()
    """Sentences about test pairs of items and users without training interactions."""
    new_items: int = 0
    """Number of items that occur only in the test part and were not drawn."""
    unknown_users: int = 0
    """Number of rows of the test file of a ``files`` split left out because their users are not in training."""


def split_interactions(
    interactions: Interactions,
    config: EvaluationConfig,
    root: Path,
    columns: ColumnsConfig,
    *,
    options: TableOptions | None = None,
) -> Split:
    """Split interactions according to ``[evaluation]``.

    First, cold items and users are drawn among those with interactions; all their pairs become test pairs. The other
    pairs are split per user, and each user keeps at least one training pair:

    - ``random``: a share ``test_size`` at random, rounded to the nearest count;
    - ``temporal``: the latest share ``test_size``; the seed breaks ties of time at random;
    - ``temporal-global``: one moment for all users, after which about a share ``test_size`` of all pairs lies. No
      training pair is later than a test pair, and a user may have no training pair;
    - ``leave-one-out``: the last pair by time, or a random one if there are no times;
    - ``files``: all interactions are training pairs; ``config.test`` holds the test pairs.

    If no cold items are drawn, the items that occur only in the test part become the cold items, provided there are
    enough to evaluate them; see :mod:`enhancer.data.unseen_entities`.

    Validation is a share ``validation_size`` of each user's training pairs, chosen by the same rule as the test pairs.

    With ``test_users``, only the pairs of so many users are held out, drawn at random among those with two pairs or
    more. Pairs of cold items and other users are left out, since they must not be trained on.

    Args:
        interactions: All interactions; with ``files``, the training interactions.
        config: ``[evaluation]``.
        root: Folder that ``config.test`` and ``config.validation`` are relative to.
        columns: Column mapping for these files.
        options: How these files are read.

    Raises:
        ConfigError: The split needs times and there are none, a file of the split is missing, or ``test_users`` is
            set for a split that is not by user.
        DataError: Nothing is left for training or testing.
    """
    cold_item_rng, cold_user_rng, cut_rng, validation_rng, tested_rng = (
        np.random.Generator(np.random.PCG64(seed)) for seed in np.random.SeedSequence(config.split_seed).spawn(5)
    )
    cold_items = _draw(interactions.items, config.cold_items, cold_item_rng, "cold_items")
    cold_users = _draw(interactions.users, config.cold_users, cold_user_rng, "cold_users")
    part = np.zeros(len(interactions.users), np.int8)
    cold = _is_cold(interactions, cold_items, cold_users)
    part[cold] = _TEST
    tested = _tested_users(interactions, config, cold_users, tested_rng)
    if tested is not None:
        part[cold & ~_of_users(interactions, tested, cold_users)] = _NEITHER
    if config.split == "files":
        read_part = partial(_read_part, train=interactions, config=config, columns=columns, options=options)
        split = _from_files(interactions, part, config, root, read_part, validation_rng, (cold_items, cold_users))
    else:
        if config.split.startswith("temporal") and interactions.timestamps is None:
            why = "[data.columns] timestamp = false" if columns.timestamp is False else "the interactions have none"
            raise ConfigError(
                f"[evaluation] split = {config.split!r} needs timestamps, but {why}",
                hint="set [data.columns] timestamp or use split = 'random'",
            )
        leave_one_out = config.split == "leave-one-out"
        by_time = config.split != "random" and interactions.timestamps is not None
        if config.split == "temporal-global":
            _hold_out_after_cutoff(interactions, part, _TEST, config.test_size)
            _hold_out_after_cutoff(interactions, part, _VALIDATION, config.validation_size)
        else:
            share = 1 if leave_one_out else config.test_size
            _hold_out_per_user(interactions, part, _TEST, share, cut_rng, by_time=by_time, among=tested)
            if config.validation_size > 0:
                share = 1 if leave_one_out else config.validation_size
                _hold_out_per_user(
                    interactions, part, _VALIDATION, share, validation_rng, by_time=by_time, among=tested
                )
        split = Split(
            interactions.take(part == _TRAIN),
            interactions.take(part == _VALIDATION),
            interactions.take(part == _TEST),
            cold_items,
            cold_users,
        )
    for name, empty in (("train", not len(split.train)), ("test", not len(split.test))):
        if empty:
            raise DataError(
                f"the split leaves no {name} interactions: {len(interactions):,} interactions of "
                f"{len(np.unique(interactions.users)):,} users, split = {config.split!r}",
                hint=_empty_part_hint(name, interactions, config, split.notes),
            )
    return _with_unseen_entities(split)


def _empty_part_hint(name: str, interactions: Interactions, config: EvaluationConfig, notes: Sequence[str]) -> str:
    if len(np.unique(interactions.items)) == 1:
        return "all interactions are with one item, so there is nothing to rank"
    if config.split == "temporal-global":
        return "all interactions have the same time" if name == "test" else "lower the held-out shares"
    if name == "train":
        return "lower the held-out shares"
    if config.split == "files":
        return "; ".join(["remove the test interactions from the training file", *notes])
    most = int(np.bincount(interactions.users).max())
    leave_one_out = config.split == "leave-one-out"
    if most < 2 or leave_one_out:
        needed = 2 if leave_one_out else _fewest_to_test(config.test_size)
        more = ", and three to have one in the validation part too" if leave_one_out and config.validation_size else ""
        return f"each user needs at least {_WORDS.get(needed, f'{needed:,}')} interactions{more}"
    return (
        f"users have at most {most} interactions, of which test_size = {config.test_size:g} rounds to none: raise "
        "[evaluation] test_size, or set split = 'leave-one-out'"
    )


def _fewest_to_test(share: float) -> int:
    """Return the smallest number of interactions of a user of which one is in the test part."""
    count = max(2, math.ceil(0.5 / share))
    return count if _rounded(count, share) else count + 1


def _rounded(count: int, share: float) -> int:
    return math.floor(count * share + 0.5)


def _with_unseen_entities(split: Split) -> Split:
    """Make the items that occur only in the test part the cold items, unless cold items were drawn."""
    drawn = len(split.cold_items) > 0
    unseen = find_unseen_entities(split.train, split.validation, split.test, split.cold_items, split.cold_users)
    return replace(
        split,
        cold_items=split.cold_items if drawn or not unseen.enough else unseen.items,
        unseen_notes=tuple(unseen.notes(drawn=drawn)),
        new_items=len(unseen.items),
    )


def _draw(rows: NDArray[np.int32], share: float, rng: np.random.Generator, name: str) -> NDArray[np.int32]:
    """Draw a share of the distinct rows, at least one. The result is sorted."""
    if share <= 0:
        return np.empty(0, np.int32)
    occurring = np.unique(rows)
    count = max(1, round(share * len(occurring)))
    if count >= len(occurring):
        raise DataError(f"[evaluation] {name} = {share:g} holds out all {len(occurring)}", hint="use a lower value")
    return np.sort(rng.permutation(occurring)[:count]).astype(np.int32)


def _tested_users(
    interactions: Interactions, config: EvaluationConfig, cold_users: NDArray[np.int32], rng: np.random.Generator
) -> NDArray[np.int32] | None:
    """Return the rows of the users whose pairs are held out; None for all."""
    if config.test_users is None:
        return None
    if config.split in ("files", "temporal-global"):
        raise ConfigError(
            f"[evaluation] test_users draws users, and split = {config.split!r} holds out none in particular",
            hint="remove test_users, or use split = 'random', 'temporal' or 'leave-one-out'",
        )
    counts = np.bincount(interactions.users, minlength=len(interactions.user_ids))
    counts[cold_users] = 0
    able = np.flatnonzero(counts > 1)
    return rng.permutation(able)[: config.test_users].astype(np.int32) if config.test_users < len(able) else None


def _of_users(interactions: Interactions, *rows: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which pairs are of some users, bool ``[n]``."""
    chosen = np.zeros(len(interactions.user_ids), np.bool_)
    for each in rows:
        chosen[each] = True
    return chosen[interactions.users]


def _is_cold(
    interactions: Interactions, cold_items: NDArray[np.int32], cold_users: NDArray[np.int32]
) -> NDArray[np.bool_]:
    item = np.zeros(len(interactions.item_ids), bool)
    user = np.zeros(len(interactions.user_ids), bool)
    item[cold_items] = True
    user[cold_users] = True
    cold: NDArray[np.bool_] = item[interactions.items] | user[interactions.users]
    return cold


def _hold_out_per_user(
    interactions: Interactions,
    part: NDArray[np.int8],
    target: int,
    share: float,
    rng: np.random.Generator,
    *,
    by_time: bool,
    among: NDArray[np.int32] | None = None,
) -> None:
    """Move some training pairs of each user to another part; the user keeps at least one.

    Args:
        interactions: All pairs.
        part: int8 ``[n]``: part of each pair; changed in place.
        target: Part to move pairs to.
        share: Share of each user's training pairs if below 1; 1 means one pair.
        rng: Chooses the pairs, or breaks ties of time.
        by_time: Whether to move the latest pairs.
        among: Rows of the users whose pairs may be moved; None for all.
    """
    pool = np.flatnonzero(part == _TRAIN if among is None else (part == _TRAIN) & _of_users(interactions, among))
    users = interactions.users[pool]
    counts = np.bincount(users, minlength=len(interactions.user_ids))
    wanted = np.ones_like(counts) if share >= 1 else np.floor(counts * share + 0.5).astype(counts.dtype)
    wanted = np.minimum(wanted, np.maximum(counts - 1, 0))
    pool = pool[np.argsort(users, kind="stable")]
    ends = np.cumsum(counts)
    first = begin = 0
    while begin < len(pool):  # some users at a time: sorting by several keys takes several times the memory of a key
        last = max(first + 1, int(np.searchsorted(ends, begin + _AT_ONCE, side="right")))
        rows = pool[begin : ends[last - 1]]
        rows = rows[np.lexsort((interactions.items[rows], interactions.users[rows]))]  # whatever the order of the file
        users, random_key = interactions.users[rows], rng.random(len(rows))
        if by_time and interactions.timestamps is not None:
            order = np.lexsort((random_key, -interactions.timestamps[rows], users))
        else:
            order = np.lexsort((random_key, users))
        own = counts[first:last]
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(own) - own, own)
        part[rows[order[rank < wanted[users[order]]]]] = target
        first, begin = last, int(ends[last - 1])


def _hold_out_after_cutoff(interactions: Interactions, part: NDArray[np.int8], target: int, share: float) -> None:
    """Move all training pairs after a cutoff time to another part. Pairs with equal times stay together.

    Args:
        interactions: All pairs, with times.
        part: int8 ``[n]``: part of each pair; changed in place.
        target: Part to move pairs to.
        share: Share of all training pairs to move. The cutoff is the time whose share is closest.
    """
    pool = np.flatnonzero(part == _TRAIN)
    if share <= 0 or not len(pool) or interactions.timestamps is None:
        return
    times, counts = np.unique(interactions.timestamps[pool], return_counts=True)
    moved = len(pool) - np.concatenate([[0], np.cumsum(counts)[:-1]])  # pairs moved, by the first time that is moved
    if len(times) > 1:
        first = 1 + int(np.argmin(np.abs(moved[1:] - share * len(pool))))
        part[pool[interactions.timestamps[pool] >= times[first]]] = target


def _from_files(
    train: Interactions,
    part: NDArray[np.int8],
    config: EvaluationConfig,
    root: Path,
    read_part: Callable[[Path, str, list[str]], Interactions],
    rng: np.random.Generator,
    cold: tuple[NDArray[np.int32], NDArray[np.int32]],
) -> Split:
    if config.test is None:
        raise ConfigError(
            "[evaluation] split = 'files' needs a file of test interactions", hint="set [evaluation] test"
        )
    notes: list[str] = []
    test = read_part(root / config.test, "test", notes)
    unknown_users = test.report.unknown_users
    test = _without(test, train, notes, "test", "train")
    if config.validation is not None:
        validation = read_part(root / config.validation, "validation", notes)
        validation = _without(validation, train, notes, "validation", "train")
        validation = _without(validation, test, notes, "validation", "test")
        is_cold = _is_cold(validation, *cold)
        test = joined(test, validation.take(is_cold))
        validation = validation.take(~is_cold)
    else:
        if config.validation_size > 0:
            _hold_out_per_user(train, part, _VALIDATION, config.validation_size, rng, by_time=False)
        validation = train.take(part == _VALIDATION)
    test = joined(test, train.take(part == _TEST))
    return Split(train.take(part == _TRAIN), validation, test, *cold, notes=tuple(notes), unknown_users=unknown_users)


def _read_part(
    path: Path,
    name: str,
    notes: list[str],
    *,
    train: Interactions,
    config: EvaluationConfig,
    columns: ColumnsConfig,
    options: TableOptions | None,
) -> Interactions:
    read = read_interactions(
        path,
        columns,
        item_ids=train.item_ids,
        user_ids=train.user_ids,
        min_rating=config.min_rating,
        options=options,
    )
    notes.extend(f"{name}: {line}" for line in read.report.lines(beside_training=True))
    # All parts must have the same columns.
    return replace(
        read,
        ratings=None if train.ratings is None else read.ratings,
        timestamps=None if train.timestamps is None else read.timestamps,
    )


def _without(part: Interactions, other: Interactions, notes: list[str], name: str, other_name: str) -> Interactions:
    """Drop the pairs that another part also holds."""
    width = max(1, len(part.item_ids))

    def pair_codes(interactions: Interactions) -> NDArray[np.int64]:
        return interactions.users.astype(np.int64) * width + interactions.items

    shared = np.isin(pair_codes(part), pair_codes(other))
    if shared.any():
        notes.append(f"{name}: {int(shared.sum()):,} interactions left out: {other_name} also holds them")
    return part.take(~shared)


def joined(first: Interactions, second: Interactions) -> Interactions:
    """Return the interactions of two parts of a split, those of the first part first."""
    if not len(second):
        return first
    ratings = (first.ratings, second.ratings)
    times: NDArray[np.int64] | None = None
    time_decimals = first.time_decimals
    if first.timestamps is not None and second.timestamps is not None:
        parts = [(first.timestamps, first.time_decimals), (second.timestamps, second.time_decimals)]
        aligned, time_decimals = align_times(parts)
        times = np.concatenate(aligned)
    return replace(
        first,
        users=np.concatenate([first.users, second.users]),
        items=np.concatenate([first.items, second.items]),
        ratings=None if ratings[0] is None or ratings[1] is None else np.concatenate([ratings[0], ratings[1]]),
        timestamps=times,
        time_decimals=time_decimals,
        labels=None if first.labels is None or second.labels is None else np.concatenate([first.labels, second.labels]),
    )
