"""Rank an artifact's items by inner products."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import weakref
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import ArtifactError, DataError
from enhancer.serving.additions import AddedItems, FoldedUser
from enhancer.serving.artifact import Artifact, open_artifact
from enhancer.serving.foldin import FoldIn, add_vectors
from enhancer.serving.ids import IdTable, ItemIds, StringTable
from enhancer.serving.new_items import NewItems, NewItemShare
from enhancer.serving.results import Neighbours, Recommendation, Scored
from enhancer.serving.rows import check_ids, check_k, check_vectors, inverse_norms, pairs_of, restrict_to
from enhancer.serving.topk import top_k

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.serving.index_file import IndexKind, IndexMetric


_COPIED_BYTES = 16 << 20
"""Largest item matrix of which :meth:`Ranker.warm` makes a copy."""


class Ranker:
    """Ranks the items of an artifact for its users. Can be shared between threads, and between processes after a fork.

    Create it with :meth:`load`.
    """

    def __init__(self, artifact: Artifact, share: NewItemShare | None = None) -> None:
        tensors = artifact.tensors
        self.manifest = artifact.manifest
        """Manifest of the artifact: configuration, seed, metrics, versions."""
        self.folder = artifact.folder
        self._users: NDArray[np.float32] = tensors["users"]
        self._trained_items: NDArray[np.float32] = tensors["items"]
        self._seen_starts, self._seen_items = tensors["seen.starts"], tensors["seen.items"]
        self._user_ids, self._item_ids = IdTable("user_ids", tensors), IdTable("item_ids", tensors)
        self._titles = StringTable("titles", tensors) if "titles.offsets" in tensors else None
        self._place_items, self._place_users = artifact.placement("items"), artifact.placement("users")
        share = NewItemShare.of(artifact.manifest, None, None) if share is None else share
        self.new_items = NewItems(share, self._user_ids, self._seen_items, len(self._item_ids))
        """Which items are new, and the share of lists that they get."""
        self._artifact = artifact
        self._added = AddedItems()
        self._folded: dict[str, FoldedUser] = {}
        self._add_lock = threading.RLock()
        _RANKERS.add(self)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        verify: bool = True,
        in_memory: bool = False,
        explore: float | None = None,
        new_items_cap: float | None = None,
    ) -> Ranker:
        """Open an artifact and check its content; its matrices are mapped into memory.

        Args:
            folder: Folder of the artifact.
            verify: Compare the sha256 of the tensors file with the manifest's.
            in_memory: Read the matrices instead of mapping them; later changes of the file have no effect.
            explore: Share of places that new items get; by default that of the artifact. See
                :mod:`enhancer.serving.new_items`.
            new_items_cap: Largest share of a list that is new items; by default that of the artifact.

        Raises:
            ArtifactError: The artifact is missing, damaged, or was written by a newer enhancer.
            ConfigError: A share is not between 0 and 1, or the cap is below ``explore``.
        """
        artifact = open_artifact(folder, verify=verify, in_memory=in_memory)
        return cls(artifact, NewItemShare.of(artifact.manifest, explore, new_items_cap))

    def __repr__(self) -> str:
        return f"Ranker({str(self.folder)!r}, users={self.n_users}, items={self.n_items})"

    @property
    def n_users(self) -> int:
        """Number of users, added ones included."""
        return len(self._user_ids) + sum(self._user_ids.row(user) is None for user in self._folded)

    @property
    def n_items(self) -> int:
        """Number of items, added ones included."""
        return len(self._item_ids) + len(self._added.ids)

    def recommend(
        self,
        user_ids: Sequence[str],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        candidates: Sequence[str] | None = None,
        exclude: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> list[Recommendation]:
        """Recommend the ``k`` best items to each user, or fewer if not enough are left. Ties go to the earlier item.

        New items get the share of places that :attr:`new_items` says.

        Args:
            user_ids: User ids.
            k: Number of items for each user.
            exclude_seen: Leave out the user's items from training.
            candidates: Item ids to rank; all items by default.
            exclude: Item ids to leave out, for all users or by user id.
            stop: Called from time to time; if it returns True, the work is given up.

        Raises:
            DataError: An id is unknown (the hint names the nearest one), or ``k`` is below 1.
            StoppedError: ``stop`` returned True.
        """
        if isinstance(user_ids, str):
            raise DataError(f"user_ids must be a list of ids, not the string {user_ids!r}")
        self.ensure_whole()
        queries, seen = self._queries(user_ids)
        added = self._added
        items, candidate_rows = self._items(added), None
        k = check_k(k, len(items))
        if candidates is not None:
            candidate_rows = np.unique(self._rows_of_items(candidates, added))
            items = items[candidate_rows]
        pairs = []
        if exclude_seen:
            pairs.append(pairs_of(seen))
        banned = None
        if isinstance(exclude, Mapping):
            pairs.append(self._excluded_pairs(user_ids, exclude, added))
        elif exclude is not None:
            banned = self._rows_of_items(exclude, added)
        masked = (np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])) if pairs else None
        if candidate_rows is not None:
            masked, banned = restrict_to(candidate_rows, masked, banned)
        rows, scores = self.new_items.top_k(
            user_ids, queries, items, k, candidates=candidate_rows, masked=masked, banned=banned, stop=stop
        )
        if candidate_rows is not None and len(candidate_rows):
            rows = np.where(rows >= 0, candidate_rows[rows], -1)
        return [
            Recommendation(user, self._scored(row, score, added))
            for user, row, score in zip(user_ids, rows, scores, strict=True)
        ]

    def similar(self, item_id: str, k: int = 10, *, stop: Callable[[], bool] | None = None) -> Neighbours:
        """Return the ``k`` items nearest in serving space, by cosine; the item itself is left out.

        Raises:
            DataError: The id is unknown, or ``k`` is below 1.
            StoppedError: ``stop`` returned True.
        """
        self.ensure_whole()
        added = self._added
        row = self._rows_of_items([item_id], added)
        items = self._items(added)
        k = check_k(k, len(items))
        inverse = self._inverse_norms
        if added.matrix is not None:
            inverse = np.concatenate([inverse, inverse_norms(items[len(inverse) :])])
        query = items[row] * inverse[row, None]
        rows, scores = top_k(query, items, k, banned=row, scale=inverse, stop=stop)
        return Neighbours(item_id, self._scored(rows[0], scores[0], added))

    def score(self, user_id: str, item_ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the scores of some items for one user: float32 ``[len(item_ids)]``.

        Raises:
            DataError: An id is unknown.
        """
        self.ensure_whole()
        added = self._added
        rows = self._rows_of_items(item_ids, added)
        queries, _ = self._queries([user_id])
        scores: NDArray[np.float32] = self._items(added)[rows] @ queries[0]
        return scores

    def add_items(self, item_ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add new items, placed by their semantic vectors. The artifact on disk is unchanged.

        Copies the item matrix once.

        Args:
            item_ids: Ids of the new items.
            vectors: Semantic vectors, float32 ``[len(item_ids), ds]``, made as those in training were.

        Raises:
            ArtifactError: The artifact has no map from semantic to serving space.
            DataError: An id is not new, or a vector is zero, not finite, or of another length.
        """
        if self._place_items is None:
            raise ArtifactError(
                f"the artifact {self.folder} cannot place new items: its fuser has no map for them",
                hint='train with [fuser] use = "align" or "concat"',
            )
        check_ids(item_ids, "item")
        vectors = check_vectors(vectors, self._place_items, "item", item_ids)
        self.ensure_whole()
        with self._add_lock:
            old = self._added
            new = dict(old.rows)
            for id_ in item_ids:
                if not id_:
                    raise DataError("the id of a new item is empty")
                if id_ in new or self._item_ids.row(id_) is not None:
                    problem = "already exists" if id_ not in new or id_ in old.rows else "is given twice"
                    raise DataError(f"item {id_!r} {problem}")
                new[id_] = len(self._item_ids) + len(new)
            matrix = np.concatenate([self._items(old), self._place_items(vectors)])
            self._added = AddedItems((*old.ids, *item_ids), new, matrix)

    def add_users(
        self,
        histories: Mapping[str, Sequence[str]],
        vectors: Mapping[str, NDArray[np.float32]] | None = None,
        *,
        skip_unknown: bool = False,
        extend_known: bool = False,
    ) -> dict[str, list[str]]:
        """Fold in new users from a few interactions. The artifact on disk is unchanged.

        User rows are computed from histories by a regression on the trained users; see :mod:`enhancer.serving.foldin`.
        Adding a user again replaces the earlier row, so give the whole history.

        Args:
            histories: Item ids of each new user's interactions, in any order.
            vectors: Semantic vectors of some users, float32 ``[ds]``, made as those in training were. A vector places a
                user without a history; beside a history it has the weight of one interaction.
            skip_unknown: Leave out unknown items, and users left without a known item, instead of raising an error.
            extend_known: Take users of the artifact, too: they keep their rows, and have seen the history as well.

        Returns:
            Unknown items that were left out, by user; users without any are omitted.

        Raises:
            ArtifactError: The artifact has no histories to fit, or (for vectors) no map for users.
            DataError: A user is in the artifact or has neither history nor vector, an item is unknown, or a vector is
                zero, not finite, or of another length.
        """
        self.ensure_whole()
        placed, unknown = self._fold(histories, vectors or {}, skip_unknown=skip_unknown, extend_known=extend_known)
        with self._add_lock:
            self._folded = {**self._folded, **placed}
        return unknown

    def with_users(
        self,
        histories: Mapping[str, Sequence[str]],
        vectors: Mapping[str, NDArray[np.float32]] | None = None,
        *,
        skip_unknown: bool = False,
        extend_known: bool = False,
    ) -> tuple[Ranker, dict[str, list[str]]]:
        """Return a copy of this ranker with the users of :meth:`add_users`; the copy shares all matrices.

        Takes and raises what :meth:`add_users` does.

        Returns:
            The copy, and the unknown items that were left out, by user.
        """
        self.ensure_whole()
        if any(histories.values()):
            self._fold_in  # noqa: B018 - computed before the copy, so that later copies share it
        other = copy.copy(self)
        _RANKERS.add(other)
        return other, other.add_users(histories, vectors, skip_unknown=skip_unknown, extend_known=extend_known)

    def export_index(self, path: str | Path, *, kind: IndexKind | None = None, metric: IndexMetric = "ip") -> Path:
        """Write the item matrix, added items included, as an index; ``PATH.json`` beside it lists the ids by row.

        Args:
            path: File to write.
            kind: ``usearch``, ``hnswlib`` or ``faiss``; the library must be installed. By default the one that the
                ending of ``path`` names (``.usearch``, ``.hnswlib``, ``.hnsw``, ``.faiss``), else ``usearch``.
            metric: ``ip`` for queries by user rows, as they are; ``cosine`` for queries by item rows of unit length.

        Returns:
            The path.

        Raises:
            ConfigError: The library is not installed, the kind or metric is unknown, or the ending of ``path`` names
                another library.
            DataError: There are no items.
            ArtifactError: The index cannot be written.
        """
        from enhancer.serving.index_file import write_index

        ids, items = self.item_table()
        sha256 = self.manifest["tensors"]["sha256"]
        return write_index(path, ids, items, artifact_sha256=sha256, kind=kind, metric=metric)

    def item_table(self) -> tuple[ItemIds, NDArray[np.float32]]:
        """Return the ids of all items, added ones last, and the item matrix, float32 ``[m, width]``."""
        self.ensure_whole()
        added = self._added
        return ItemIds(self._item_ids, added.ids), self._items(added)

    def user_table(self, user_ids: Sequence[str]) -> tuple[NDArray[np.float32], list[NDArray[np.integer[Any]]]]:
        """Return user rows, float32 ``[n, width]``, and the item rows that each user has seen.

        Raises:
            DataError: An id is unknown.
        """
        self.ensure_whole()
        return self._queries(user_ids)

    def user_sample(self, n: int) -> list[str]:
        """Return at most ``n`` users of the artifact, spread evenly over its table."""
        count = min(n, total := len(self._user_ids))
        return [self._user_ids[row * total // count] for row in range(count)]

    def knows_user(self, user_id: str) -> bool:
        """Return whether the user exists."""
        self.ensure_whole()
        return user_id in self._folded or self._user_ids.row(user_id) is not None

    def knows_item(self, item_id: str) -> bool:
        """Return whether the item exists."""
        self.ensure_whole()
        return self._has_item(item_id, self._added)

    def item_beside(self, item_id: str) -> str | None:
        """Return the item of the artifact whose id begins most like an unknown one; takes microseconds."""
        return self._item_ids.beside(item_id)

    def ensure_whole(self) -> None:
        """Check that the mapped artifact was not truncated. Every method that reads it calls this first.

        Raises:
            ArtifactError: It was truncated.
        """
        self._artifact.ensure_whole()

    def warm(self) -> None:
        """Read the matrices into the page cache and build small look-up tables, so that the first requests are fast."""
        self.ensure_whole()
        for table in (self._user_ids, self._item_ids, self._titles):
            if table is not None:
                table.warm()
        if self._trained_items.nbytes <= _COPIED_BYTES:  # products with its columns take half of the time
            self._trained_items = np.asfortranarray(self._trained_items)
        self._inverse_norms  # noqa: B018 - reads every item
        if len(self._users):
            self._users.max()
        with contextlib.suppress(ArtifactError):  # no histories: adding users reports it
            self._fold_in  # noqa: B018

    def title(self, item_id: str) -> str | None:
        """Return the item's title, or None if it has none."""
        if self._titles is None or (row := self._item_ids.row(item_id)) is None:
            return None
        return self._titles[row] or None

    def is_new(self, item_id: str) -> bool:
        """Return whether an item had no training interaction, so that its row is placed by its vector."""
        row = self._item_ids.row(item_id)
        return row is None or bool(self.new_items.mask(len(self._item_ids))[row])

    def seen(self, user_id: str) -> list[str]:
        """Return the ids of the user's items from training.

        Raises:
            DataError: The id is unknown.
        """
        self.ensure_whole()
        _, (seen,) = self._queries([user_id])
        ids, _ = self.item_table()
        return [ids[row] for row in seen.tolist()]

    # --- ids and rows ---------------------------------------------------------------------------------------------

    def _items(self, added: AddedItems) -> NDArray[np.float32]:
        return self._trained_items if added.matrix is None else added.matrix

    def _queries(self, ids: Sequence[str]) -> tuple[NDArray[np.float32], list[NDArray[np.integer[Any]]]]:
        """Return user rows, float32 ``[n, width]``, and the item rows that each user has seen."""
        folded = self._folded
        rows = np.zeros(len(ids), np.int64)
        added: dict[int, FoldedUser] = {}
        for place, id_ in enumerate(ids):
            if folded and (user := folded.get(id_)) is not None:
                added[place] = user
            elif (row := self._user_ids.row(id_)) is not None:
                rows[place] = row
            else:
                raise DataError(f"unknown user {id_!r}", hint=self._user_ids.nearest(id_))
        if len(added) == len(ids):  # the artifact may have no users at all
            stacked = [user.row for user in added.values()]
            return np.stack(stacked) if stacked else self._users[:0], [user.seen for user in added.values()]
        bounds = zip(self._seen_starts[rows].tolist(), self._seen_starts[rows + 1].tolist(), strict=True)
        seen: list[NDArray[np.integer[Any]]] = [self._seen_items[start:end] for start, end in bounds]
        queries = self._users[rows]
        for place, user in added.items():
            queries[place], seen[place] = user.row, user.seen
        return queries, seen

    def _fold(
        self,
        histories: Mapping[str, Sequence[str]],
        vectors: Mapping[str, NDArray[np.float32]],
        *,
        skip_unknown: bool,
        extend_known: bool,
    ) -> tuple[dict[str, FoldedUser], dict[str, list[str]]]:
        """Return the new users, and the unknown items of their histories."""
        if not isinstance(histories, Mapping):
            raise DataError("histories must be a dictionary from user ids to lists of item ids")
        check_ids([*histories, *vectors], "user")
        added = self._added
        unknown: dict[str, list[str]] = {}
        seen: dict[str, NDArray[np.int64]] = {}
        extended: dict[str, FoldedUser] = {}
        for user in dict.fromkeys((*histories, *vectors)):
            own_row = self._user_ids.row(user)
            if own_row is not None and (user in vectors or not extend_known):
                raise DataError(f"user {user!r} is in the artifact already", hint="request it without a history")
            items = histories.get(user, ())
            check_ids(items, "item")
            if skip_unknown:
                missing = {item: None for item in items if not self._has_item(item, added)}
                if missing:
                    unknown[user] = list(missing)
                items = [item for item in items if item not in missing]
            rows = np.unique(self._rows_of_items(items, added))
            if own_row is not None:
                trained = self._seen_items[self._seen_starts[own_row] : self._seen_starts[own_row + 1]]
                extended[user] = FoldedUser(self._users[own_row], np.union1d(trained, rows))
            elif len(rows) or user in vectors:
                seen[user] = rows
            elif not skip_unknown:
                raise DataError(f"user {user!r} has no history and no vector", hint="give one of the two")
        rows_of: dict[str, NDArray[np.float32]] = {}
        if active := [user for user in seen if len(seen[user])]:
            rows_of = dict(zip(active, self._fold_in([seen[user] for user in active], self._items(added)), strict=True))
        if vectors:
            counts = {user: len(rows) for user, rows in seen.items()}
            add_vectors(rows_of, counts, vectors, self._place_users, self.folder)
        placed = {user: FoldedUser(np.asarray(rows_of[user], np.float32), seen[user]) for user in seen}
        return extended | placed, unknown

    def _has_item(self, id_: str, added: AddedItems) -> bool:
        return id_ in added.rows or self._item_ids.row(id_) is not None

    def _rows_of_items(self, ids: Sequence[str], added: AddedItems) -> NDArray[np.int64]:
        check_ids(ids, "item")
        rows = np.empty(len(ids), dtype=np.int64)
        for place, id_ in enumerate(ids):
            row = added.rows.get(id_) if added.rows else None
            if row is None:
                row = self._item_ids.row(id_)
            if row is None:
                raise DataError(f"unknown item {id_!r}", hint=self._item_ids.nearest(id_))
            rows[place] = row
        return rows

    def _scored(self, rows: NDArray[np.int64], scores: NDArray[np.float32], added: AddedItems) -> list[Scored]:
        ids = (None if added.ids else self._item_ids.kept) or ItemIds(self._item_ids, added.ids)
        return [(ids[row], score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True) if row >= 0]

    def _excluded_pairs(
        self, user_ids: Sequence[str], exclude: Mapping[str, Sequence[str]], added: AddedItems
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return pairs_of([self._rows_of_items(exclude.get(user, ()), added) for user in user_ids])

    @cached_property
    def _fold_in(self) -> FoldIn:
        return FoldIn(self._users, self._trained_items, self._seen_starts, self._seen_items)

    @cached_property
    def _inverse_norms(self) -> NDArray[np.float32]:
        return inverse_norms(self._trained_items)


_RANKERS: weakref.WeakSet[Ranker] = weakref.WeakSet()


def _after_fork() -> None:
    """Replace the locks in a forked child: one that another thread held at the fork would never be released."""
    for ranker in list(_RANKERS):
        ranker._add_lock = threading.RLock()  # noqa: SLF001 - same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
