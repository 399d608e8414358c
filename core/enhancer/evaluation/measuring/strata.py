"""Divide test pairs into strata by item popularity and by length of user history.

Popularity and history count training interactions only. All warm items are ranked in every stratum: a stratum restricts
which items are relevant or which users are averaged, not the candidate items.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.measuring.metrics import PairList, restrict_to_items

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.label_metrics import LabelledPairs
    from enhancer.evaluation.measuring.ranking import Pairs
    from enhancer.evaluation.measuring.views import Views

HEAD_SHARE, TAIL_SHARE = 0.5, 0.8
"""Shares of training interactions at which the head ends and the tail begins, from the most popular item down."""


@dataclass(frozen=True, eq=False)
class Stratum:
    """Subset of the relevant pairs."""

    name: str
    description: str
    """Short description for reports."""
    pairs: Pairs
    """Relevant pairs in the stratum."""
    n_items: int
    """Number of items in the stratum."""
    labelled: LabelledPairs | None = None
    """Labelled test pairs in the stratum, positive and negative; empty if interactions have no labels."""


@dataclass(frozen=True, eq=False)
class ItemGroup:
    """Items that are measured apart, as if there were no others, such as those that an LLM knows."""

    name: str
    description: str
    """Short description for reports."""
    members: NDArray[np.bool_]
    """bool ``[n_items]``."""

    @property
    def key(self) -> str:
        """Identity for caches: name and a hash of the members."""
        return f"{self.name}:{hashlib.blake2b(np.packbits(self.members).tobytes(), digest_size=8).hexdigest()}"


def popularity_groups(popularity: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Return masks of head, middle, tail and cold items.

    Items are taken from the most popular down. An item belongs to the head if the items before it have less than half
    of all interactions, to the middle if they have less than 80%, and to the tail otherwise. Equally popular items are
    put in the same group, that of the first of them. Cold items have no interactions.

    >>> import numpy as np
    >>> groups = popularity_groups(np.array([50, 20, 20, 5, 5, 0]))
    >>> {name: np.flatnonzero(mask).tolist() for name, mask in groups.items()}
    {'head': [0], 'middle': [1, 2], 'tail': [3, 4], 'cold': [5]}
    """
    counts, where = np.unique(-popularity, return_inverse=True)  # ascending in -popularity: the most popular first
    totals = np.bincount(where, minlength=len(counts)) * -counts
    before = np.cumsum(totals) - totals
    share = (before / max(int(totals.sum()), 1))[where]
    warm = popularity > 0
    head = warm & (share < HEAD_SHARE)
    middle = warm & (share >= HEAD_SHARE) & (share < TAIL_SHARE)
    return {"head": head, "middle": middle, "tail": warm & (share >= TAIL_SHARE), "cold": ~warm}


def history_groups(history: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Return masks of users with a short, medium and long history: thirds of the users that have one.

    Users with histories of equal length are put in the same group, that of the first of them.

    >>> import numpy as np
    >>> groups = history_groups(np.array([0, 1, 2, 3, 4, 5, 6]))
    >>> {name: np.flatnonzero(mask).tolist() for name, mask in groups.items()}
    {'short': [1, 2], 'medium': [3, 4], 'long': [5, 6]}
    """
    warm = history > 0
    _, where, counts = np.unique(history[warm], return_inverse=True, return_counts=True)
    before = np.zeros(len(history))
    before[warm] = ((np.cumsum(counts) - counts) / max(int(warm.sum()), 1))[where]
    edge = 1e-9  # so that rounding does not decide at the boundary of a third
    return {
        "short": warm & (before < 1 / 3 - edge),
        "medium": warm & (before >= 1 / 3 - edge) & (before < 2 / 3 - edge),
        "long": warm & (before >= 2 / 3 - edge),
    }


def warm_strata(views: Views) -> list[Stratum]:
    """Return the strata of the warm panel. Strata with none or all of the test pairs are left out.

    A stratum with all test pairs would repeat the results of ``all``.
    """
    part = views.warm_test
    strata: list[Stratum] = []
    by_popularity = popularity_groups(views.popularity)
    descriptions = {
        "head": "the most popular items, with half of the training interactions",
        "middle": "items with the next 30% of the training interactions",
        "tail": "items with the last 20% of the training interactions",
    }
    for name, text in descriptions.items():
        mask = by_popularity[name]
        labelled = views.labelled_test.take(mask[views.labelled_test.items])
        strata.append(Stratum(name, text, restrict_to_items(part, mask, views.n_items), int(mask.sum()), labelled))
    for name, mask in history_groups(views.history).items():
        keep = mask[part.users]
        most, least = int(views.history[mask].max(initial=0)), int(views.history[mask].min(initial=1 << 40))
        lengths = f"{least}" if least == most else f"{least} to {most}"
        strata.append(
            Stratum(
                f"history_{name}",
                f"users with {lengths} training interaction{'' if most == 1 else 's'}",
                PairList(part.users[keep], part.items[keep]),
                len(views.warm_items),
                views.labelled_test.take(mask[views.labelled_test.users]),
            )
        )
    return [stratum for stratum in strata if 0 < len(stratum.pairs.users) < len(part.users)]
