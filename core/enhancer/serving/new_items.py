"""Share the places of lists between trained items and new ones, which training has not seen.

A rank is a place of one user's list. Two numbers decide who gets it:

- ``explore`` is a promise: this share of the places goes to new items, whatever their scores. By rank ``r`` the user
  ``u`` has had ``floor(r * explore + phase_u)`` of them, with a phase between 0 and 1. The phases of the artifact's
  users are spread evenly, so over all of them, asked for lists of any one length, the number of places differs from
  the promise by at most one half. Every rank gives the same share.
- ``new_items_cap`` is a limit: beyond what is promised, at most this share of the first ``r`` places, for every ``r``,
  goes to new items that earn it by their scores. With a promise and no cap, new items get the promised places alone.

The places depend on the user's id and the artifact alone, so lists are repeatable, and a shorter list is a prefix of a
longer one. If one kind of items runs out, the other fills the list. New items are those without an interaction in
training, and those added later.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from enhancer.errors import ArtifactError, ConfigError
from enhancer.serving.rows import restrict_to
from enhancer.serving.topk import top_k

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.serving.ids import IdTable

    Ranked = tuple[NDArray[np.int64], NDArray[np.float32]]
    """Rows int64 ``[b, k]``, best first and -1 where there is none, and their scores float32 ``[b, k]``."""

_GOLDEN: Final = (math.sqrt(5) - 1) / 2
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class NewItemShare:
    """Share of each list that new items get.

    Raises:
        ConfigError: A share is not between 0 and 1, or the cap is below the promise.
    """

    explore: float = 0.0
    """Share of places that new items get, whatever their scores."""
    new_items_cap: float | None = None
    """Largest share of a list that is new items, beyond which none enters by its score. None: no limit without
    ``explore``, and nothing beyond the promise with it."""

    def __post_init__(self) -> None:
        for name in ("explore", "new_items_cap"):
            value = getattr(self, name)
            if value is None and name == "new_items_cap":
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
                raise ConfigError(f"[serving] {name} must be a share from 0 to 1, not {value!r}")
        if self.new_items_cap is not None and self.new_items_cap < self.explore:
            raise ConfigError(
                f"[serving] new_items_cap = {self.new_items_cap:g} is below explore = {self.explore:g}",
                hint="new items get the promised places in any case: raise the cap, or lower explore",
            )

    @classmethod
    def of(cls, manifest: Mapping[str, Any], explore: float | None, new_items_cap: float | None) -> NewItemShare:
        """Return the shares of a manifest, with those that are not None in their stead.

        Raises:
            ArtifactError: The manifest's own shares are impossible.
            ConfigError: The others are.
        """
        section = manifest.get("serving")
        section = section if isinstance(section, dict) else {}
        try:
            kept = cls(section.get("explore", 0.0), section.get("new_items_cap"))
        except ConfigError as error:
            raise ArtifactError(f"the artifact's manifest is damaged: {error.message}", hint=error.hint) from None
        return cls(
            kept.explore if explore is None else explore,
            kept.new_items_cap if new_items_cap is None else new_items_cap,
        )

    @property
    def active(self) -> bool:
        """Whether lists differ from plain ones."""
        return self.explore > 0 or (self.new_items_cap is not None and self.new_items_cap < 1)

    def mix(self, trained: Ranked, new: Ranked, phases: NDArray[np.float64], k: int) -> Ranked:
        """Merge lists of trained and of new items.

        Args:
            trained: The best trained items of each user.
            new: The best new items of each user.
            phases: float64 ``[b]``: the users' phases.
            k: Length of the merged lists.
        """
        cap = self.new_items_cap
        if cap is None:
            cap = 0.0 if self.explore else 1.0
        users = np.arange(len(phases))
        (trained_rows, trained_scores), (new_rows, new_scores) = _with_end(trained), _with_end(new)
        taken, taken_new = np.zeros(len(phases), np.int64), np.zeros(len(phases), np.int64)
        rows = np.full((len(phases), k), -1, np.int64)
        scores = np.full((len(phases), k), -np.inf, np.float32)
        for rank in range(k):
            promised = np.floor((rank + 1) * self.explore + phases)
            allowed = np.maximum(promised, math.floor((rank + 1) * cap + _ROUNDING))
            row, score = trained_rows[users, taken], trained_scores[users, taken]
            new_row, new_score = new_rows[users, taken_new], new_scores[users, taken_new]
            better = (new_score > score) | ((new_score == score) & (new_row < row))
            wins = (taken_new < promised) | ((taken_new < allowed) & better) | (row < 0)
            wins &= new_row >= 0
            rows[:, rank], scores[:, rank] = np.where(wins, new_row, row), np.where(wins, new_score, score)
            taken_new += wins
            taken += ~wins & (row >= 0)
        return rows, scores


def _with_end(ranked: Ranked) -> Ranked:
    """Append an empty place, at which a list that has been taken whole stays."""
    rows, scores = ranked
    end = ((0, 0), (0, 1))
    return np.pad(rows, end, constant_values=-1), np.pad(scores, end, constant_values=-np.inf)


def even_phases(rows: NDArray[np.int64], total: int) -> NDArray[np.float64]:
    """Return the phases of users by row, float64 ``[n]``.

    Over all rows, they are the middles of ``total`` equal parts of the interval from 0 to 1. Neighbouring rows have
    distant phases, so that a part of the table is spread evenly, too.
    """
    step = max(round(total * _GOLDEN), 1)
    while math.gcd(step, total) != 1:
        step += 1
    return ((rows.astype(np.int64) * step) % total + 0.5) / total


class NewItems:
    """Ranks the items of an artifact under a :class:`NewItemShare`.

    Args:
        share: The shares.
        user_ids: Ids of the artifact's users.
        seen_items: Item rows of all training interactions.
        n_items: Number of the artifact's items; rows from there on were added later.
    """

    def __init__(
        self, share: NewItemShare, user_ids: IdTable, seen_items: NDArray[np.integer[Any]], n_items: int
    ) -> None:
        self.share = share
        self._user_ids, self._seen_items, self._n_items = user_ids, seen_items, n_items
        self._untrained: NDArray[np.bool_] | None = None
        self._part: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]] | None = None

    def mask(self, total: int) -> NDArray[np.bool_]:
        """Return which of the first ``total`` item rows are new, bool ``[total]``."""
        if self._untrained is None:
            self._untrained = np.bincount(self._seen_items, minlength=self._n_items) == 0
        return np.concatenate([self._untrained, np.ones(total - self._n_items, np.bool_)])

    def phases(self, users: Sequence[str]) -> NDArray[np.float64]:
        """Return the phase of each user, float64 ``[n]``; that of a user added later comes from a hash of the id."""
        found = [self._user_ids.row(user) for user in users]
        rows = np.array([-1 if row is None else row for row in found], np.int64)
        phases = even_phases(rows, max(len(self._user_ids), 1))
        for place in np.flatnonzero(rows < 0).tolist():
            digest = hashlib.blake2b(users[place].encode("utf-8", "surrogatepass"), digest_size=6).digest()
            phases[place] = (int.from_bytes(digest) + 0.5) / (1 << 48)
        return phases

    def top_k(
        self,
        users: Sequence[str],
        queries: NDArray[np.float32],
        items: NDArray[np.float32],
        k: int,
        *,
        candidates: NDArray[np.int64] | None = None,
        masked: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
        banned: NDArray[np.int64] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Ranked:
        """Return the best ``k`` rows of ``items`` for each query, with new items in their places.

        Args:
            users: User ids.
            queries: float32 ``[b, d]``: their rows.
            items: float32 ``[m, d]``: the items to rank.
            k: Length of the lists.
            candidates: Item row of each row of ``items``; None if ``items`` are all items.
            masked: As for :func:`~enhancer.serving.topk.top_k`.
            banned: As for :func:`~enhancer.serving.topk.top_k`.
            stop: As for :func:`~enhancer.serving.topk.top_k`.
        """
        if not self.share.active:
            return top_k(queries, items, k, masked=masked, banned=banned, stop=stop)
        if candidates is None:
            rows, matrix = self._new_part(items)
        else:
            rows = np.flatnonzero(self.mask(max(int(candidates.max(initial=-1)) + 1, self._n_items))[candidates])
            matrix = items[rows]
        if not len(rows):
            return top_k(queries, items, k, masked=masked, banned=banned, stop=stop)
        left_out = rows if banned is None else np.union1d(banned, rows)
        trained = top_k(queries, items, k, masked=masked, banned=left_out, stop=stop)
        masked, banned = restrict_to(rows, masked, banned)
        new_rows, new_scores = top_k(queries, matrix, k, masked=masked, banned=banned, stop=stop)
        new = np.where(new_rows >= 0, rows[new_rows], -1), new_scores
        return self.share.mix(trained, new, self.phases(users), k)

    def _new_part(self, items: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the rows of the new items and their matrix, which is kept until items are added."""
        part = self._part
        if part is None or part[0] is not items:
            rows = np.flatnonzero(self.mask(len(items)))
            part = self._part = items, rows, np.ascontiguousarray(items[rows])
        return part[1], part[2]
