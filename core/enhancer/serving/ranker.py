"""The ranker: recommendations from an artifact by inner products."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.contracts.placement import Placement
from enhancer.errors import ArtifactError, DataError
from enhancer.serving.artifact import Artifact, open_artifact
from enhancer.serving.ids import IdTable, StringTable
from enhancer.serving.topk import top_k

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Scored = tuple[str, float]
"""Item id and score."""


def _scored_json(items: Sequence[Scored]) -> list[dict[str, Any]]:
    return [{"item_id": item, "score": score} for item, score in items]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The best items for one user, best first."""

    user_id: str
    items: list[Scored]

    def to_json(self) -> dict[str, Any]:
        """As ``enhancer recommend --json`` prints it."""
        return {"user_id": self.user_id, "items": _scored_json(self.items)}


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The items nearest to one item, nearest first."""

    item_id: str
    items: list[Scored]

    def to_json(self) -> dict[str, Any]:
        """As ``enhancer similar --json`` prints it."""
        return {"item_id": self.item_id, "items": _scored_json(self.items)}


@dataclass(frozen=True, eq=False, slots=True)
class _Added:
    """Items that training never saw. Replaced whole, never changed: readers need no lock."""

    ids: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)
    matrix: NDArray[np.float32] | None = None
    """float32 ``[m, k]``: all items, the artifact's first; None where nothing was added."""


class Ranker:
    """Scores users and items of an artifact; may be shared between threads, and between processes after a fork.

    Get one with :meth:`load`.
    """

    def __init__(self, artifact: Artifact) -> None:
        tensors = artifact.tensors
        self.manifest = artifact.manifest
        """What the artifact says of itself: configuration, seed, metrics, versions."""
        self.folder = artifact.folder
        self._users: NDArray[np.float32] = tensors["users"]
        self._trained: NDArray[np.float32] = tensors["items"]
        self._seen_starts, self._seen_items = tensors["seen.starts"], tensors["seen.items"]
        self._user_ids, self._item_ids = IdTable("user_ids", tensors), IdTable("item_ids", tensors)
        self._titles = StringTable("titles", tensors) if "titles.offsets" in tensors else None
        self._place_items = self._placement("items", tensors)
        self._place_users = self._placement("users", tensors)
        self._added = _Added()
        self._adding = threading.Lock()

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = False) -> Ranker:
        """Open an artifact in milliseconds; its matrices are mapped into memory, not read.

        Args:
            folder: The artifact's folder.
            verify: Also compare the file's sha256 with the manifest's, which reads all of it.

        Raises:
            ArtifactError: It is missing, damaged, or was written by a newer enhancer.
        """
        return cls(open_artifact(folder, verify=verify))

    def __repr__(self) -> str:
        return f"Ranker({str(self.folder)!r}, users={len(self._user_ids)}, items={self.n_items})"

    @property
    def n_users(self) -> int:
        """Users that can be asked about."""
        return len(self._user_ids)

    @property
    def n_items(self) -> int:
        """Items that can be recommended, added ones included."""
        return len(self._item_ids) + len(self._added.ids)

    def recommend(
        self,
        user_ids: Sequence[str],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: Sequence[str] | None = None,
        exclude: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    ) -> list[Recommendation]:
        """The ``k`` best items for each user; fewer where there are not as many. Ties go to the earlier item.

        Args:
            user_ids: Users.
            k: How many items each.
            exclude_seen: Leave out what the user touched in training.
            candidates: Items to choose from; by default all.
            exclude: Items to leave out: for everybody, or by user id.

        Raises:
            DataError: An id is unknown (the nearest one is named), or ``k`` is below 1.
        """
        if isinstance(user_ids, str):
            raise DataError(f"user_ids must be a list of ids, not the string {user_ids!r}")
        _check_k(k)
        added = self._added
        users = self._rows_of_users(user_ids)
        items, chosen = self._items(added), None
        if candidates is not None:
            chosen = np.unique(self._rows_of_items(candidates, added))
            items = items[chosen]
        pairs = []
        if exclude_seen:
            pairs.append(self._seen_pairs(users))
        banned = None
        if isinstance(exclude, Mapping):
            pairs.append(self._excluded_pairs(user_ids, exclude, added))
        elif exclude is not None:
            banned = self._rows_of_items(exclude, added)
        masked = (np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])) if pairs else None
        if chosen is not None:
            masked, banned = _among(chosen, masked, banned)
        rows, scores = top_k(self._users[users], items, k, masked=masked, banned=banned)
        if chosen is not None and len(chosen):
            rows = np.where(rows >= 0, chosen[rows], -1)
        return [
            Recommendation(user, self._scored(row, score, added))
            for user, row, score in zip(user_ids, rows, scores, strict=True)
        ]

    def similar(self, item_id: str, k: int = 10) -> Neighbours:
        """The ``k`` items of the most like direction in serving space, by cosine; the item itself is left out.

        Raises:
            DataError: The id is unknown, or ``k`` is below 1.
        """
        _check_k(k)
        added = self._added
        row = self._rows_of_items([item_id], added)
        items = self._items(added)
        inverse = self._inverse_norms
        if added.matrix is not None:
            inverse = np.concatenate([inverse, _inverse_norms(items[len(inverse) :])])
        query = items[row] * inverse[row, None]
        rows, scores = top_k(query, items, k, banned=row, scale=inverse)
        return Neighbours(item_id, self._scored(rows[0], scores[0], added))

    def score(self, user_id: str, item_ids: Sequence[str]) -> NDArray[np.float32]:
        """The scores of some items for one user: float32 ``[len(item_ids)]``.

        Raises:
            DataError: An id is unknown.
        """
        added = self._added
        rows = self._rows_of_items(item_ids, added)
        (user,) = self._rows_of_users([user_id])
        scores: NDArray[np.float32] = self._items(added)[rows] @ self._users[user]
        return scores

    def add_items(self, item_ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Place items that training never saw by their semantic vectors; they are recommended from now on.

        The artifact on disk is not changed. Costs one copy of the item matrix.

        Args:
            item_ids: New ids.
            vectors: float32 ``[len(item_ids), ds]``: their semantic vectors, made as those in training were.

        Raises:
            ArtifactError: The artifact has no map from semantic to serving space.
            DataError: An id is not new, or a vector is not finite, zero, or of another length.
        """
        if self._place_items is None:
            raise ArtifactError(
                f"the artifact {self.folder} cannot place new items: its fuser has no map for them",
                hint='train with [fuser] use = "align" or "concat"',
            )
        vectors = np.asarray(vectors, dtype=np.float32)
        width = self._place_items.layers[0].inputs if self._place_items.layers else vectors.shape[-1]
        if vectors.shape != (len(item_ids), width):
            raise DataError(f"vectors of shape {vectors.shape} for {len(item_ids)} items; expected [n, {width}]")
        bad = ~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)
        if bad.any():
            raise DataError(f"the vector of item {item_ids[int(np.flatnonzero(bad)[0])]!r} is zero or not finite")
        with self._adding:
            old = self._added
            new = dict(old.rows)
            for id_ in item_ids:
                if id_ in new or self._item_ids.row(id_) is not None:
                    raise DataError(f"item {id_!r} is already there")
                new[id_] = len(self._item_ids) + len(new)
            matrix = np.concatenate([self._items(old), self._place_items(vectors)])
            self._added = _Added((*old.ids, *item_ids), new, matrix)

    def title(self, item_id: str) -> str | None:
        """The item's name for people, where the artifact has one."""
        row = self._item_ids.row(item_id)
        return (self._titles[row] or None) if self._titles is not None and row is not None else None

    def seen(self, user_id: str) -> list[str]:
        """What the user touched in training.

        Raises:
            DataError: The id is unknown.
        """
        (row,) = self._rows_of_users([user_id])
        return [
            self._item_ids[int(item)] for item in self._seen_items[self._seen_starts[row] : self._seen_starts[row + 1]]
        ]

    # --- ids and rows ---------------------------------------------------------------------------------------------

    def _items(self, added: _Added) -> NDArray[np.float32]:
        return self._trained if added.matrix is None else added.matrix

    def _rows_of_users(self, ids: Sequence[str]) -> NDArray[np.int64]:
        rows = [self._user_ids.row(id_) for id_ in ids]
        for id_, row in zip(ids, rows, strict=True):
            if row is None:
                raise DataError(f"unknown user {id_!r}", hint=self._user_ids.nearest(id_))
        return np.array(rows, dtype=np.int64)

    def _rows_of_items(self, ids: Sequence[str], added: _Added) -> NDArray[np.int64]:
        if isinstance(ids, str):
            raise DataError(f"item ids must be a list of ids, not the string {ids!r}")
        rows = np.empty(len(ids), dtype=np.int64)
        for place, id_ in enumerate(ids):
            row = added.rows.get(id_) if added.rows else None
            if row is None:
                row = self._item_ids.row(id_)
            if row is None:
                raise DataError(f"unknown item {id_!r}", hint=self._item_ids.nearest(id_))
            rows[place] = row
        return rows

    def _scored(self, rows: NDArray[np.int64], scores: NDArray[np.float32], added: _Added) -> list[Scored]:
        known = len(self._item_ids)
        return [
            (self._item_ids[row] if row < known else added.ids[row - known], score)
            for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
            if row >= 0
        ]

    def _seen_pairs(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        spans = [self._seen_items[self._seen_starts[user] : self._seen_starts[user + 1]] for user in users]
        queries = np.repeat(np.arange(len(users)), [len(span) for span in spans])
        return queries, np.concatenate([np.empty(0, np.int64), *spans])

    def _excluded_pairs(
        self, user_ids: Sequence[str], exclude: Mapping[str, Sequence[str]], added: _Added
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        spans = [self._rows_of_items(exclude.get(user, ()), added) for user in user_ids]
        queries = np.repeat(np.arange(len(user_ids)), [len(span) for span in spans])
        return queries, np.concatenate([np.empty(0, np.int64), *spans])

    @cached_property
    def _inverse_norms(self) -> NDArray[np.float32]:
        return _inverse_norms(self._trained)

    def _placement(self, name: str, tensors: Mapping[str, NDArray[Any]]) -> Placement | None:
        description = self.manifest["placements"].get(name)
        if description is None:
            return None
        try:
            return Placement.from_tensors(f"place_{name}", tensors, description)
        except (KeyError, ValueError, TypeError) as error:
            raise ArtifactError(f"the artifact {self.folder} is damaged: its map of {name}: {error}") from None


def _check_k(k: int) -> None:
    if k < 1:
        raise DataError(f"k must be at least 1, not {k}")


def _inverse_norms(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """One over the length of each row; 0 for a row of zeros, which is like nothing."""
    length = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    inverse: NDArray[np.float32] = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    return inverse


def _among(
    chosen: NDArray[np.int64],
    masked: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    banned: NDArray[np.int64] | None,
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]] | None, NDArray[np.int64] | None]:
    """Item rows as places among the chosen ones; those that were not chosen fall away."""

    def places(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        found = np.searchsorted(chosen, rows)
        inside = (
            np.zeros(len(rows), dtype=bool) if not len(chosen) else chosen[np.minimum(found, len(chosen) - 1)] == rows
        )
        return found, inside

    if masked is not None:
        found, inside = places(masked[1])
        masked = masked[0][inside], found[inside]
    if banned is not None:
        found, inside = places(banned)
        banned = found[inside]
    return masked, banned
