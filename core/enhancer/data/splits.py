"""Train, validation and test: cut once, the same for every arm and seed.

Random numbers are drawn by ``Generator(PCG64)`` from ``split_seed``, a stream for each purpose, over pairs in order of
(user, item): the order of rows in the file changes nothing where the vocabulary does not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from enhancer.data.interactions import Interactions, read_interactions
from enhancer.data.newcomers import newcomers
from enhancer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.config import ColumnsConfig, EvaluationConfig

_TRAIN, _VALIDATION, _TEST = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Split:
    """Three parts over one vocabulary. No pair is in two of them."""

    train: Interactions
    validation: Interactions
    """Empty where ``validation_size`` is 0."""
    test: Interactions
    """Warm test pairs, and every pair of a cold item or a cold user."""
    cold_items: NDArray[np.int32]
    """int32, ascending: rows of items that train and validation hold nothing of. Those that were drawn; where none was,
    those that occur in the test part alone, if they are enough to say something of."""
    cold_users: NDArray[np.int32]
    """int32, ascending: rows of users that were drawn, likewise."""
    notes: tuple[str, ...] = ()
    """What was left out of the files of a split of ``files``, a sentence each."""
    newcomers: tuple[str, ...] = ()
    """What of the test part training never met, and what becomes of it, a sentence each."""
    new_items: int = 0
    """Items that occur in the test part alone, though nobody drew them."""
    unknown_users: int = 0
    """Rows of the test file, with ``files``, that were left out: training knows nothing of their users."""


def split_interactions(
    interactions: Interactions, config: EvaluationConfig, root: Path, columns: ColumnsConfig
) -> Split:
    """Cut interactions as ``[evaluation]`` says.

    First cold items and users are drawn among those with interactions; all their pairs are test pairs. The rest is
    cut user by user, and each user keeps one training pair at least:

    - ``random``: a share ``test_size`` at random (rounded to the nearest count);
    - ``temporal``: the latest share ``test_size``; ties of time are broken at random, by the seed;
    - ``temporal-global``: one moment for all users, from which on (about) a share ``test_size`` of all pairs happened:
      nothing that is trained on is later than anything that is tested. Here a user may have no training pair;
    - ``leave-one-out``: the last by time, at random where there are no times;
    - ``files``: all is training; ``config.test`` holds the test pairs.

    Where no cold items are drawn, items that occur in the test part alone are the cold ones, if they are enough to say
    something of; see :mod:`enhancer.data.newcomers`.

    Validation is a share ``validation_size`` of each user's training pairs, chosen like test: at random, the latest,
    the last one, those from an earlier moment on.

    Args:
        interactions: All of them; with ``files`` the training ones.
        config: ``[evaluation]``.
        root: Folder that ``config.test`` and ``config.validation`` are relative to.
        columns: Which column is which, for those files.

    Raises:
        ConfigError: Times are wanted and there are none; a file of the split is not named or not there.
        DataError: Nothing is left to train or to test.
    """
    cold_item_rng, cold_user_rng, cut_rng, validation_rng = (
        np.random.Generator(np.random.PCG64(seed)) for seed in np.random.SeedSequence(config.split_seed).spawn(4)
    )
    cold_items = _draw(interactions.items, config.cold_items, cold_item_rng, "cold_items")
    cold_users = _draw(interactions.users, config.cold_users, cold_user_rng, "cold_users")
    part = np.zeros(len(interactions.users), np.int8)
    part[_is_cold(interactions, cold_items, cold_users)] = _TEST
    if config.split == "files":
        split = _from_files(interactions, part, config, root, columns, validation_rng, (cold_items, cold_users))
    else:
        if config.split.startswith("temporal") and interactions.timestamps is None:
            raise ConfigError(
                f"[evaluation] split = {config.split!r} needs times, and the interactions have none",
                hint="see [data.columns] timestamp, or use split = 'random'",
            )
        one = config.split == "leave-one-out"
        by_time = config.split != "random" and interactions.timestamps is not None
        if config.split == "temporal-global":
            _cut_at_a_moment(interactions, part, _TEST, config.test_size)
            _cut_at_a_moment(interactions, part, _VALIDATION, config.validation_size)
        else:
            _cut(interactions, part, _TEST, 1 if one else config.test_size, cut_rng, by_time=by_time)
            if config.validation_size > 0:
                share = 1 if one else config.validation_size
                _cut(interactions, part, _VALIDATION, share, validation_rng, by_time=by_time)
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
                f"the split leaves nothing to {name}: {len(interactions):,} interactions of "
                f"{len(np.unique(interactions.users)):,} users, split = {config.split!r}",
                hint=_mend(name, config.split, split.notes),
            )
    return _with_newcomers(split)


def _mend(name: str, kind: str, notes: Sequence[str]) -> str:
    if kind == "temporal-global":
        return "all interactions have the same time" if name == "test" else "lower the held-out shares"
    if name == "train":
        return "lower the held-out shares"
    if kind == "files":
        return "; ".join(["take the test interactions out of the file that is trained on", *notes])
    return "each user needs two interactions or more"


def _with_newcomers(split: Split) -> Split:
    """Items that the test part alone knows are the cold ones, unless some were drawn: those are what was asked for."""
    drawn = len(split.cold_items) > 0
    new = newcomers(split.train, split.validation, split.test, split.cold_items, split.cold_users)
    return replace(
        split,
        cold_items=split.cold_items if drawn or not new.enough else new.items,
        newcomers=tuple(new.lines(drawn=drawn)),
        new_items=len(new.items),
    )


def _draw(rows: NDArray[np.int32], share: float, rng: np.random.Generator, name: str) -> NDArray[np.int32]:
    """A share of those that occur, one at least, sorted."""
    if share <= 0:
        return np.empty(0, np.int32)
    there = np.unique(rows)
    count = max(1, round(share * len(there)))
    if count >= len(there):
        raise DataError(f"[evaluation] {name} = {share:g} holds out all {len(there)}", hint="lower it")
    return np.sort(rng.permutation(there)[:count]).astype(np.int32)


def _is_cold(
    interactions: Interactions, cold_items: NDArray[np.int32], cold_users: NDArray[np.int32]
) -> NDArray[np.bool_]:
    item = np.zeros(len(interactions.item_ids), bool)
    user = np.zeros(len(interactions.user_ids), bool)
    item[cold_items] = True
    user[cold_users] = True
    cold: NDArray[np.bool_] = item[interactions.items] | user[interactions.users]
    return cold


def _cut(
    interactions: Interactions,
    part: NDArray[np.int8],
    target: int,
    share: float,
    rng: np.random.Generator,
    *,
    by_time: bool,
) -> None:
    """Move some training pairs of each user to another part; the user keeps one.

    Args:
        interactions: All pairs.
        part: int8 ``[n]``, changed in place.
        target: Where to.
        share: Below 1, of each user's training pairs; 1 means one pair.
        rng: Decides, or breaks ties of time.
        by_time: Take the latest.
    """
    pool = np.flatnonzero(part == _TRAIN)
    pool = pool[np.lexsort((interactions.items[pool], interactions.users[pool]))]  # the file's order plays no part
    users = interactions.users[pool]
    chance = rng.random(len(pool))
    if by_time and interactions.timestamps is not None:
        order = np.lexsort((chance, -interactions.timestamps[pool], users))
    else:
        order = np.lexsort((chance, users))
    counts = np.bincount(users, minlength=len(interactions.user_ids))
    wanted = np.ones_like(counts) if share >= 1 else np.floor(counts * share + 0.5).astype(counts.dtype)
    wanted = np.minimum(wanted, np.maximum(counts - 1, 0))
    rank = np.arange(len(pool)) - np.repeat(np.cumsum(counts) - counts, counts)
    part[pool[order[rank < wanted[users[order]]]]] = target


def _cut_at_a_moment(interactions: Interactions, part: NDArray[np.int8], target: int, share: float) -> None:
    """Move the latest training pairs of all users to another part; pairs of one moment stay together.

    Args:
        interactions: All pairs, with times.
        part: int8 ``[n]``, changed in place.
        target: Where to.
        share: Of all training pairs; of the two moments around it the one whose share is nearer.
    """
    pool = np.flatnonzero(part == _TRAIN)
    if share <= 0 or not len(pool) or interactions.timestamps is None:
        return
    moments, counts = np.unique(interactions.timestamps[pool], return_counts=True)
    moved = len(pool) - np.concatenate([[0], np.cumsum(counts)[:-1]])  # by the first moment that is moved
    if len(moments) > 1:
        first = 1 + int(np.argmin(np.abs(moved[1:] - share * len(pool))))
        part[pool[interactions.timestamps[pool] >= moments[first]]] = target


def _from_files(
    train: Interactions,
    part: NDArray[np.int8],
    config: EvaluationConfig,
    root: Path,
    columns: ColumnsConfig,
    rng: np.random.Generator,
    cold: tuple[NDArray[np.int32], NDArray[np.int32]],
) -> Split:
    if config.test is None:
        raise ConfigError("[evaluation] split = 'files' needs the file of test interactions", hint="set test = ...")
    notes: list[str] = []
    test = _file(root / config.test, "test", train, config, columns, notes)
    unknown_users = test.report.unknown_users
    test = _without(test, train, notes, "test", "train")
    if config.validation is not None:
        validation = _file(root / config.validation, "validation", train, config, columns, notes)
        validation = _without(validation, train, notes, "validation", "train")
        validation = _without(validation, test, notes, "validation", "test")
        held = _is_cold(validation, *cold)
        test = _joined(test, validation.take(held))
        validation = validation.take(~held)
    else:
        if config.validation_size > 0:
            _cut(train, part, _VALIDATION, config.validation_size, rng, by_time=False)
        validation = train.take(part == _VALIDATION)
    test = _joined(test, train.take(part == _TEST))
    return Split(train.take(part == _TRAIN), validation, test, *cold, notes=tuple(notes), unknown_users=unknown_users)


def _file(
    path: Path, name: str, train: Interactions, config: EvaluationConfig, columns: ColumnsConfig, notes: list[str]
) -> Interactions:
    read = read_interactions(
        path, columns, item_ids=train.item_ids, user_ids=train.user_ids, min_rating=config.min_rating
    )
    notes.extend(f"{name}: {line}" for line in read.report.lines(beside_training=True))
    # What only some of the files tell is told by none: the parts have the same columns.
    return replace(
        read,
        ratings=None if train.ratings is None else read.ratings,
        timestamps=None if train.timestamps is None else read.timestamps,
    )


def _without(part: Interactions, other: Interactions, notes: list[str], name: str, other_name: str) -> Interactions:
    """Drop the pairs that another part has too."""
    width = max(1, len(part.item_ids))

    def pairs(these: Interactions) -> NDArray[np.int64]:
        return these.users.astype(np.int64) * width + these.items

    twice = np.isin(pairs(part), pairs(other))
    if twice.any():
        notes.append(f"{name}: {int(twice.sum()):,} interactions left out: {other_name} holds them too")
    return part.take(~twice)


def _joined(first: Interactions, second: Interactions) -> Interactions:
    if not len(second):
        return first
    ratings = (first.ratings, second.ratings)
    times = (first.timestamps, second.timestamps)
    return replace(
        first,
        users=np.concatenate([first.users, second.users]),
        items=np.concatenate([first.items, second.items]),
        ratings=None if ratings[0] is None or ratings[1] is None else np.concatenate([ratings[0], ratings[1]]),
        timestamps=None if times[0] is None or times[1] is None else np.concatenate([times[0], times[1]]),
        labels=None if first.labels is None or second.labels is None else np.concatenate([first.labels, second.labels]),
    )
