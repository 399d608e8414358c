"""Strata of the items table, each in the order in which its items are bought."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.measuring.strata import popularity_groups
from enhancer.evaluation.valuing.gains import NEW

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.views import Views


@dataclass(eq=False)
class Stratum:
    """Items that are alike in popularity, and how far they have been bought."""

    name: str
    """``head``, ``middle``, ``tail``, or ``new`` for items without training interactions."""
    rows: NDArray[np.int64]
    """int64 ``[n]``: item rows, in buying order."""
    pairs_per_item: float
    """Validation pairs of an item; of new items as many as of all others, which stand in for them."""
    measurable: int = 0
    """Number of items with validation pairs, which come first."""
    taken: dict[str, int] = field(default_factory=dict)
    """Number of items, in buying order, that each aspect has been bought for."""
    chain: list[tuple[str, ...]] = field(default_factory=list)
    """Sets of aspects that are worth buying, each beside those before it."""

    def __len__(self) -> int:
        return len(self.rows)

    def done(self, aspects: Sequence[str]) -> int:
        """Return the number of items that have been bought all of some aspects."""
        return min((self.taken.get(name, 0) for name in aspects), default=0)

    def complete(self) -> bool:
        """Return whether all that is worth buying has been bought."""
        return bool(self.chain) and all(self.done(step) >= len(self) for step in self.chain)


def make_strata(views: Views, item_ids: Sequence[str], known: Collection[str], seed: int) -> list[Stratum]:
    """Divide the items of the table into strata.

    The order within a stratum depends on ids and seed alone: items with validation pairs come first, because only they
    teach anything, and otherwise the order is random. Those bought first are thus a random sample of the stratum's
    items that can be measured.

    Args:
        views: The split.
        item_ids: Item ids by row.
        known: Ids of the items table; others have no text to write from.
        seed: Seed of the order.
    """
    pairs = np.bincount(views.warm_validation.items, minlength=views.n_items)
    tabled = np.array([id_ in known for id_ in item_ids], np.bool_)
    warm = int(np.count_nonzero(views.popularity > 0))
    found = []
    for name, mask in popularity_groups(views.popularity).items():
        unordered = np.flatnonzero(mask & tabled).tolist()
        if not unordered:
            continue
        is_new = name == "cold"
        keyed = sorted((not (pairs[row] or is_new), _key(item_ids[row], seed), row) for row in unordered)
        rows = np.array([row for _, _, row in keyed], np.int64)
        each = float(pairs.sum()) / max(warm, 1) if is_new else float(pairs[rows].sum()) / len(rows)
        measurable = 0 if is_new else int(np.count_nonzero(pairs[rows]))
        found.append(Stratum(NEW if is_new else name, rows, each, measurable))
    return found


def _key(id_: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{id_}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
