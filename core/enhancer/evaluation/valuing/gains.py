r"""Measure what bought vectors gain over interactions, raw text and shuffled vectors, group by group.

Items are divided into groups, and a random sample of each group has been bought. Three models of the direction of an
item's factors are regressions, by leave-one-out, of what a backbone has learnt without vectors:

    text       T            on the vector of the raw text, with a mean for each group (without texts, that mean alone)
    bought     T + c R(v)   and of what this leaves, on the bought vectors
    shuffled   T + c R(v')  the same, with the vectors of the items of a group exchanged at random

with :math:`c \ge 0` by least squares. Each group takes :math:`R` learnt from the rows of all groups or from its own,
whichever errs less on left-out rows: vectors may mean something in one group alone. As in the fuser ``prior``, an item
with :math:`n` training interactions is ranked by :math:`(n e + k P) / (n + k)`, with :math:`e` its own direction,
:math:`P` one of the models, and for each model, shuffled ones as well, the :math:`k` that suits it best. It is ranked
alone among all items with interactions, which keep their factors. Its scores keep their mean over all users, and have
at least the spread of the average item.

New items have no interactions to measure on. Items of all other groups stand in for them: they are ranked among
themselves by :math:`P` alone, which knows nothing of their groups.

What is measured is the discounted gain of validation pairs of bought items. The gain of a group is a ratio of sums over
its sampled items, pairs in the denominator (Cochran 1977, "Sampling Techniques", section 6.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.measuring.metrics import PairList
from enhancer.evaluation.valuing.bounds import Appraisal, Offer, simultaneous
from enhancer.evaluation.valuing.left_out import GroupMeans, LeftOutRidge
from enhancer.evaluation.valuing.measured import LEAST, StandIns, WarmItems
from enhancer.evaluation.valuing.models import Catalogue, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors
    from enhancer.evaluation.measuring.views import Views
    from enhancer.evaluation.running.vectors import FloatMatrix
    from enhancer.evaluation.valuing.measured import Measured

NEW = "new"
"""Name of the group of items without training interactions."""
SHUFFLES = 199
"""Number of times that vectors are exchanged."""
_MOST_PAIRS = 12_000
"""Number of validation pairs that are ranked; of more, popular items give a sample."""
_MOST_ROWS = 2400
"""Number of bought items that models are fitted to and measured on, drawn equally from all groups."""
_TEXT_ROWS = 8192
"""Number of items that the regression on raw texts is fitted to, beside those bought."""


@dataclass(frozen=True, eq=False)
class _Sample:
    """The validation pairs of bought items."""

    rows: NDArray[np.int64]
    """Item rows, ascending."""
    users: NDArray[np.int32]
    """User of each pair."""
    place: NDArray[np.int64]
    """Position in ``rows`` of the item of each pair."""
    weight: NDArray[np.float64]
    """Number of validation pairs that each pair stands for."""


class Appraiser:
    """Measures what bought vectors gain.

    Args:
        factors: Factors of a backbone trained without vectors.
        views: The split. Its validation part is measured; the test part is not read.
        groups: Item rows by name of the group, apart from one another. Those of ``new`` have no training interaction.
        texts: float32 ``[n_items, d]``: vectors of raw texts; zero where an item has none. None without texts.
        seed: Seed of samples and shuffles.
        shuffles: Number of times that vectors are exchanged.
    """

    def __init__(
        self,
        factors: Factors,
        views: Views,
        groups: Mapping[str, NDArray[np.integer]],
        texts: FloatMatrix | None,
        *,
        seed: int = 0,
        shuffles: int = SHUFFLES,
    ) -> None:
        self._views, self._texts, self._seed, self._shuffles = views, texts, seed, shuffles
        names = [name for name in groups if name != NEW]
        group = np.full(views.n_items, -1, np.int64)
        for number, name in enumerate(names):
            group[groups[name]] = number
        pairs = np.bincount(views.warm_validation.items, minlength=views.n_items)
        items = factors.items.astype(np.float64)
        directions = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
        self._predicted: dict[tuple[bool, bytes], NDArray[np.float64]] = {}
        self._catalogue = Catalogue(factors, directions, names, group, views.popularity, pairs)

    def appraise(
        self, vectors: Mapping[str, FloatMatrix], bought: NDArray[np.bool_], offers: Sequence[Offer]
    ) -> list[Appraisal]:
        """Measure what offers gain.

        Args:
            vectors: float32 ``[n_items, d]`` by aspect; zero where an item has none.
            bought: bool ``[n_items]``: items that were bought as a random sample of their group. Others with vectors
                help the regression and are not measured.
            offers: The offers, which are judged together.

        Returns:
            The gain of each offer over its controls.
        """
        sample = self._sampled(bought & np.any([table.any(axis=1) for table in vectors.values()], axis=0))
        if sample is None:
            return [Appraisal(offer) for offer in offers]
        found: dict[Offer, Appraisal] = {}
        self._predicted.clear()  # rows differ from round to round
        for aspects, given, new in dict.fromkeys((each.aspects, each.given, each.group == NEW) for each in offers):
            alike = [each for each in offers if each[1:] == (aspects, given) and (each.group == NEW) == new]
            found |= {one.offer: one for one in self._appraised(sample, vectors, alike)}
        return simultaneous([found[offer] for offer in offers])

    def _sampled(self, bought: NDArray[np.bool_]) -> _Sample | None:
        part = self._views.warm_validation
        mask = bought & self._catalogue.measurable
        kept = np.random.default_rng([self._seed, 1]).permutation(np.flatnonzero(mask[part.items]))
        kept = kept[np.argsort(part.items[kept], kind="stable")]
        if not len(kept):
            return None
        rows, place, counts = np.unique(part.items[kept], return_inverse=True, return_counts=True)
        rank = np.arange(len(kept)) - np.repeat(np.cumsum(counts) - counts, counts)
        most = _cap(counts, _MOST_PAIRS)
        few = rank < most
        weight = (counts / np.minimum(counts, most))[place]
        return _Sample(rows.astype(np.int64), part.users[kept[few]], place[few], weight[few])

    def _some(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return rows, or a sample of them with as many of each group as there are, ascending."""
        shuffled = np.random.default_rng([self._seed, 3]).permutation(rows)
        group = self._catalogue.group[shuffled]
        order = np.argsort(group, kind="stable")
        counts = np.bincount(group)
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(shuffled[order[rank < _cap(counts, _MOST_ROWS)]])

    def _by_text(self, rows: NDArray[np.int64], *, new: bool) -> NDArray[np.float64]:
        """Predict the directions of items from their texts, or else by the mean of the others of their group."""
        known = self._predicted.get((new, rows.tobytes()))
        if known is None:
            known = self._predicted[new, rows.tobytes()] = self._predict_by_text(rows, new=new)
        return known

    def _predict_by_text(self, rows: NDArray[np.int64], *, new: bool) -> NDArray[np.float64]:
        catalogue = self._catalogue
        warm = self._views.warm_items
        warm = warm[catalogue.group[warm] >= 0]
        if self._texts is not None:
            warm = warm[self._texts[warm].any(axis=1)][:_TEXT_ROWS]
        fitted = np.union1d(rows, warm)
        group, weights = catalogue.group_of(fitted, new=new), np.maximum(catalogue.trust(fitted), 1e-3)
        targets, at = catalogue.directions[fitted], np.searchsorted(fitted, rows)
        if self._texts is None:
            return GroupMeans(weights, group).left_out(targets)[at]
        return LeftOutRidge(self._texts[fitted], weights, group).predict(targets)[at]

    def _appraised(
        self, sample: _Sample, vectors: Mapping[str, FloatMatrix], offers: Sequence[Offer]
    ) -> list[Appraisal]:
        """Appraise offers that differ in their group alone, or one for new items."""
        catalogue, first, new = self._catalogue, offers[0], offers[0].group == NEW
        complete = np.all([vectors[name].any(axis=1) for name in (*first.aspects, *first.given)], axis=0)
        rows = self._some(np.flatnonzero(complete & (catalogue.group >= 0)))
        if not new:  # a purchase that was cut short may have come to some groups alone
            bought = {catalogue.names[number] for number in np.unique(catalogue.group[rows])}
            if absent := [Appraisal(offer) for offer in offers if offer.group not in bought]:
                rest = [offer for offer in offers if offer.group in bought]
                return [*absent, *(self._appraised(sample, vectors, rest) if rest else ())]
        if len(rows) < LEAST:
            return [Appraisal(offer) for offer in offers]
        base, repeated = self._by_text(rows, new=new), None if self._texts is None else self._texts[rows]
        if first.given:
            repeated = np.hstack([vectors[name][rows] for name in first.given])
            base = Stage.of(catalogue, repeated, rows, base, new=new).predict()
        stage = Stage.of(catalogue, np.hstack([vectors[name][rows] for name in first.aspects]), rows, base, new=new)
        mine = stage.predict()
        models: dict[str, NDArray[np.float64] | None] = {"": mine, "ids": None}
        if repeated is not None:
            known = " + ".join(first.given) if first.given else "text"
            models[known] = base
            # The same regression on the same vectors once more: to repeat what is known is no gain.
            models[f"{known} twice"] = Stage.of(catalogue, repeated, rows, base, new=new).predict()
        measured = [self._measured(sample, stage, offer.group) for offer in offers]
        numbers = [0 if new else catalogue.names.index(offer.group) for offer in offers]
        draws, explained = np.zeros((len(offers), self._shuffles)), np.zeros((len(offers), 1 + self._shuffles))
        explained[:, 0] = stage.explained(mine)[numbers]
        for turn in range(self._shuffles):
            shuffled = stage.predict(self._order(stage, turn))
            explained[:, 1 + turn] = stage.explained(shuffled)[numbers]
            for number, one in enumerate(measured):
                draws[number, turn] = one.mean(one.utilities(shuffled))
        return [
            one.appraisal(offer, models, draw, share)
            for one, offer, draw, share in zip(measured, offers, draws, explained, strict=True)
        ]

    def _measured(self, sample: _Sample, stage: Stage, group: str) -> Measured:
        """Select the pairs of a group, or for new items those of all groups."""
        catalogue, new = self._catalogue, group == NEW
        at = np.searchsorted(stage.rows, sample.rows)
        known = stage.rows[np.minimum(at, len(stage.rows) - 1)] == sample.rows
        wanted = known if new else known & (catalogue.group[sample.rows] == catalogue.names.index(group))
        chosen = np.flatnonzero(wanted[sample.place])
        place, weight = sample.place[chosen], sample.weight[chosen]
        pairs = PairList(sample.users[chosen], sample.rows[place].astype(np.int32))
        if not new:
            return WarmItems(catalogue, self._views, pairs, at[place], weight)
        # Groups were sampled at different rates; each sampled item stands for as many of its group.
        n = len(catalogue.names)
        every = np.bincount(catalogue.group[catalogue.measurable], minlength=n)
        some = np.bincount(catalogue.group[sample.rows[wanted]], minlength=n)
        weight = weight * (every / np.maximum(some, 1))[catalogue.group[pairs.items]]
        return StandIns(catalogue, self._views, pairs, at[place], weight, stage.rows)

    def _order(self, stage: Stage, turn: int) -> NDArray[np.int64]:
        """Exchange rows within groups. The order depends on the turn and the rows alone, not on the aspects."""
        rng = np.random.default_rng([self._seed, 2, turn])
        keys = rng.random(len(self._catalogue.group))[stage.rows]
        order = np.empty(len(stage.rows), np.int64)
        for number in range(int(stage.group.max()) + 1):
            here = np.flatnonzero(stage.group == number)
            order[here] = here[np.argsort(keys[here])]
        return order


def _cap(counts: NDArray[np.int64], total: int) -> int:
    """Return the largest number of pairs an item may give, so that all give at most ``total``; at least 1."""
    low, high = 1, int(counts.max(initial=1))
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(counts, middle).sum()) <= total:
            low = middle
        else:
            high = middle - 1
    return low
