"""Groups of items by popularity and of users by history, so that a mean cannot hide who gains.

Popularity and history count training interactions alone. Ranking is always over all warm items: a stratum restricts
which items count as relevant (or which users are averaged over), never what a model must choose from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.measuring.metrics import PairList, only_items

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.label_metrics import Labelled
    from enhancer.evaluation.measuring.ranking import Pairs
    from enhancer.evaluation.measuring.views import Views

HEAD_SHARE, TAIL_SHARE = 0.5, 0.8
"""Head: the most popular items that together make the first half of training interactions; tail: beyond 80%."""


@dataclass(frozen=True, eq=False)
class Stratum:
    """Part of the relevant pairs."""

    name: str
    words: str
    """What it is, for people."""
    pairs: Pairs
    """The relevant pairs that belong to it."""
    items: int
    """Items in it."""
    labelled: Labelled | None = None
    """Its labelled test pairs, good and bad, where interactions have labels."""


def popularity_groups(popularity: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Masks of head, middle, tail and cold items.

    Items are taken from the most popular down. One belongs to the head while those before it make less than half of
    all interactions, to the middle while they make less than 80%, else to the tail. Equally popular items stay
    together, in the group of the first of them. Cold items have no interaction.

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
    """Masks of users with a short, medium and long history: thirds of the users that have one.

    Users of equal history stay together, in the group where the first of them falls.

    >>> import numpy as np
    >>> groups = history_groups(np.array([0, 1, 2, 3, 4, 5, 6]))
    >>> {name: np.flatnonzero(mask).tolist() for name, mask in groups.items()}
    {'short': [1, 2], 'medium': [3, 4], 'long': [5, 6]}
    """
    warm = history > 0
    lengths, where, counts = np.unique(history[warm], return_inverse=True, return_counts=True)
    del lengths
    before = np.zeros(len(history))
    before[warm] = ((np.cumsum(counts) - counts) / max(int(warm.sum()), 1))[where]
    edge = 1e-9  # thirds of integers, not of their rounding
    return {
        "short": warm & (before < 1 / 3 - edge),
        "medium": warm & (before >= 1 / 3 - edge) & (before < 2 / 3 - edge),
        "long": warm & (before >= 2 / 3 - edge),
    }


def warm_strata(views: Views) -> list[Stratum]:
    """The strata of the warm panel. Left out are those without a test pair, and those that hold all of them.

    Where all users have histories of one length, "short histories" would say again what "all items" says.
    """
    part = views.warm_test
    strata: list[Stratum] = []
    by_popularity = popularity_groups(views.popularity)
    words = {
        "head": "the most popular items, which make half of the training interactions",
        "middle": "items that make the next 30% of the training interactions",
        "tail": "items beyond the first 80% of the training interactions",
    }
    for name, text in words.items():
        mask = by_popularity[name]
        labelled = views.labelled_test.take(mask[views.labelled_test.items])
        strata.append(Stratum(name, text, only_items(part, mask, views.n_items), int(mask.sum()), labelled))
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
