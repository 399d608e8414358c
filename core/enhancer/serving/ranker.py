"""The ranker: recommendations from an artifact by inner products."""

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

from enhancer.contracts.placement import Placement
from enhancer.errors import ArtifactError, DataError
from enhancer.serving.additions import Added, Folded
from enhancer.serving.artifact import Artifact, open_artifact
from enhancer.serving.foldin import FoldIn
from enhancer.serving.ids import IdTable, ItemIds, StringTable
from enhancer.serving.results import Neighbours, Recommendation, Scored
from enhancer.serving.rows import among, check_ids, check_k, checked, inverse_norms, pairs_of
from enhancer.serving.topk import top_k

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.serving.index_file import IndexKind, IndexMetric


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
        self._artifact = artifact
        self._added = Added()
        self._folded: dict[str, Folded] = {}
        self._adding = threading.RLock()
        _RANKERS.add(self)

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = False, in_memory: bool = False) -> Ranker:
        """Open an artifact in milliseconds; its matrices are mapped into memory, not read.

        Args:
            folder: The artifact's folder.
            verify: Also compare the file's sha256 with the manifest's, which reads all of it.
            in_memory: Read the matrices instead of mapping them: nothing that happens to the file matters afterwards.

        Raises:
            ArtifactError: It is missing, damaged, or was written by a newer enhancer.
        """
        return cls(open_artifact(folder, verify=verify, in_memory=in_memory))

    def __repr__(self) -> str:
        return f"Ranker({str(self.folder)!r}, users={self.n_users}, items={self.n_items})"

    @property
    def n_users(self) -> int:
        """Users that can be asked about, added ones included."""
        return len(self._user_ids) + len(self._folded)

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
        self.ensure_whole()
        queries, seen = self._queries(user_ids)
        added = self._added
        items, chosen = self._items(added), None
        k = check_k(k, len(items))
        if candidates is not None:
            chosen = np.unique(self._rows_of_items(candidates, added))
            items = items[chosen]
        pairs = []
        if exclude_seen:
            pairs.append(pairs_of(seen))
        banned = None
        if isinstance(exclude, Mapping):
            pairs.append(self._excluded_pairs(user_ids, exclude, added))
        elif exclude is not None:
            banned = self._rows_of_items(exclude, added)
        masked = (np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])) if pairs else None
        if chosen is not None:
            masked, banned = among(chosen, masked, banned)
        rows, scores = top_k(queries, items, k, masked=masked, banned=banned)
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
        self.ensure_whole()
        added = self._added
        row = self._rows_of_items([item_id], added)
        items = self._items(added)
        k = check_k(k, len(items))
        inverse = self._inverse_norms
        if added.matrix is not None:
            inverse = np.concatenate([inverse, inverse_norms(items[len(inverse) :])])
        query = items[row] * inverse[row, None]
        rows, scores = top_k(query, items, k, banned=row, scale=inverse)
        return Neighbours(item_id, self._scored(rows[0], scores[0], added))

    def score(self, user_id: str, item_ids: Sequence[str]) -> NDArray[np.float32]:
        """The scores of some items for one user: float32 ``[len(item_ids)]``.

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
        check_ids(item_ids, "item")
        vectors = checked(vectors, self._place_items, "item", item_ids)
        self.ensure_whole()
        with self._adding:
            old = self._added
            new = dict(old.rows)
            for id_ in item_ids:
                if not id_:
                    raise DataError("the id of a new item is empty")
                if id_ in new or self._item_ids.row(id_) is not None:
                    there = "is already there" if id_ not in new or id_ in old.rows else "comes twice"
                    raise DataError(f"item {id_!r} {there}")
                new[id_] = len(self._item_ids) + len(new)
            matrix = np.concatenate([self._items(old), self._place_items(vectors)])
            self._added = Added((*old.ids, *item_ids), new, matrix)

    def add_users(
        self,
        histories: Mapping[str, Sequence[str]],
        vectors: Mapping[str, NDArray[np.float32]] | None = None,
        *,
        skip_unknown: bool = False,
    ) -> dict[str, list[str]]:
        """Fold in users whom training never saw, from a few interactions; they can be asked about from now on.

        A row for a history is what the trained users' own rows and histories tell it should be: see
        :mod:`enhancer.serving.foldin`. A user who was added before is placed anew, so give the whole history. The
        artifact on disk is not changed.

        Args:
            histories: Items that each new user touched, in any order.
            vectors: float32 ``[ds]`` for some of them: their semantic vectors, made as those in training were. A vector
                places a user without a history, and counts as much as one interaction beside others.
            skip_unknown: Leave out items that are not known, and users of whom nothing is left, instead of refusing
                them.

        Returns:
            The unknown items that were left out, by user; users without any are not in it.

        Raises:
            ArtifactError: The artifact has no histories to learn from, or (for vectors) no map for users.
            DataError: A user is one that training knew, nothing is known of one, an item is unknown, or a vector is not
                finite, zero, or of another length.
        """
        self.ensure_whole()
        placed, unknown = self._placed(histories, vectors or {}, skip_unknown=skip_unknown)
        with self._adding:
            self._folded = {**self._folded, **placed}
        return unknown

    def with_users(
        self,
        histories: Mapping[str, Sequence[str]],
        vectors: Mapping[str, NDArray[np.float32]] | None = None,
        *,
        skip_unknown: bool = False,
    ) -> tuple[Ranker, dict[str, list[str]]]:
        """As :meth:`add_users`, but leaves this ranker as it is and gives another that shares everything with it."""
        self.ensure_whole()
        if any(histories.values()):
            self._fold_in  # noqa: B018 - learned here, so that the next copy has it too
        other = copy.copy(self)
        _RANKERS.add(other)
        return other, other.add_users(histories, vectors, skip_unknown=skip_unknown)

    def export_index(self, path: str | Path, *, kind: IndexKind = "usearch", metric: IndexMetric = "ip") -> Path:
        """Write the item matrix, added items included, as an index; ``PATH.json`` beside it lists the ids by row.

        Args:
            path: File to write.
            kind: ``usearch``, ``hnswlib`` or ``faiss``; the library must be installed.
            metric: ``ip`` for queries by user rows, as they are; ``cosine`` for queries by item rows of unit length.

        Returns:
            The path.

        Raises:
            ConfigError: The library is not installed, or the kind or metric is unknown.
            DataError: There are no items.
            ArtifactError: The index cannot be written.
        """
        from enhancer.serving.index_file import write_index

        ids, items = self.item_table()
        sha256 = self.manifest["tensors"]["sha256"]
        return write_index(path, ids, items, artifact_sha256=sha256, kind=kind, metric=metric)

    def item_table(self) -> tuple[ItemIds, NDArray[np.float32]]:
        """Ids and rows of all items, added ones last: float32 ``[m, k]``."""
        self.ensure_whole()
        added = self._added
        return ItemIds(self._item_ids, added.ids), self._items(added)

    def user_table(self, user_ids: Sequence[str]) -> tuple[NDArray[np.float32], list[NDArray[np.integer[Any]]]]:
        """Rows of users, float32 ``[n, k]``, and the rows of items that each has seen.

        Raises:
            DataError: An id is unknown.
        """
        self.ensure_whole()
        return self._queries(user_ids)

    def user_sample(self, n: int) -> list[str]:
        """At most ``n`` users of the artifact, spread evenly over its table."""
        total = len(self._user_ids)
        return (
            [self._user_ids[row * total // n] for row in range(n)]
            if total > n
            else list(map(self._user_ids.__getitem__, range(total)))
        )

    def knows_user(self, user_id: str) -> bool:
        """Whether the user can be asked about."""
        self.ensure_whole()
        return user_id in self._folded or self._user_ids.row(user_id) is not None

    def knows_item(self, item_id: str) -> bool:
        """Whether the item can be recommended."""
        self.ensure_whole()
        return self._has_item(item_id, self._added)

    def nearest_user(self, user_id: str) -> str | None:
        """A hint that names the known user whose id is most like this unknown one."""
        return self._user_ids.nearest(user_id)

    def nearest_item(self, item_id: str) -> str | None:
        """A hint that names the known item whose id is most like this unknown one."""
        return self._item_ids.nearest(item_id)

    def ensure_whole(self) -> None:
        """Refuse to read an artifact that was cut short while it is mapped; every call begins with this.

        Raises:
            ArtifactError: It was.
        """
        self._artifact.ensure_whole()

    def warm(self) -> None:
        """Get ready to answer at full speed: matrices are read into the system's cache, small tables of ids indexed."""
        self.ensure_whole()
        self._user_ids.warm()
        self._item_ids.warm()
        self._inverse_norms  # noqa: B018 - computing it reads every item
        if len(self._users):
            self._users.max()
        with contextlib.suppress(ArtifactError):  # one that cannot fold in says so when it is asked to
            self._fold_in  # noqa: B018

    def title(self, item_id: str) -> str | None:
        """The item's name for people, where the artifact has one."""
        row = self._item_ids.row(item_id)
        return (self._titles[row] or None) if self._titles is not None and row is not None else None

    def seen(self, user_id: str) -> list[str]:
        """What the user touched in training.

        Raises:
            DataError: The id is unknown.
        """
        self.ensure_whole()
        _, (seen,) = self._queries([user_id])
        ids, _ = self.item_table()
        return [ids[row] for row in seen.tolist()]

    # --- ids and rows ---------------------------------------------------------------------------------------------

    def _items(self, added: Added) -> NDArray[np.float32]:
        return self._trained if added.matrix is None else added.matrix

    def _queries(self, ids: Sequence[str]) -> tuple[NDArray[np.float32], list[NDArray[np.integer[Any]]]]:
        """The rows of users, float32 ``[n, k]``, and what each has seen."""
        queries = np.empty((len(ids), self._users.shape[1]), dtype=np.float32)
        seen: list[NDArray[np.integer[Any]]] = []
        folded = self._folded
        for place, id_ in enumerate(ids):
            row = self._user_ids.row(id_)
            if row is not None:
                queries[place] = self._users[row]
                seen.append(self._seen_items[self._seen_starts[row] : self._seen_starts[row + 1]])
            elif (one := folded.get(id_)) is not None:
                queries[place] = one.row
                seen.append(one.seen)
            else:
                raise DataError(f"unknown user {id_!r}", hint=self._user_ids.nearest(id_))
        return queries, seen

    def _placed(
        self, histories: Mapping[str, Sequence[str]], vectors: Mapping[str, NDArray[np.float32]], *, skip_unknown: bool
    ) -> tuple[dict[str, Folded], dict[str, list[str]]]:
        """New users, and the unknown items in their histories."""
        if not isinstance(histories, Mapping):
            raise DataError("histories must be a dictionary: of each user, a list of item ids")
        check_ids([*histories, *vectors], "user")
        added = self._added
        unknown: dict[str, list[str]] = {}
        seen: dict[str, NDArray[np.int64]] = {}
        for user in dict.fromkeys((*histories, *vectors)):
            if self._user_ids.row(user) is not None:
                raise DataError(f"user {user!r} is one that training knew", hint="ask about them as they are")
            items = histories.get(user, ())
            check_ids(items, "item")
            if skip_unknown:
                left = {item: None for item in items if not self._has_item(item, added)}
                if left:
                    unknown[user] = list(left)
                items = [item for item in items if item not in left]
            rows = np.unique(self._rows_of_items(items, added))
            if len(rows) or user in vectors:
                seen[user] = rows
            elif not skip_unknown:
                raise DataError(
                    f"nothing is known of user {user!r}", hint="give a history that is not empty, or a vector"
                )
        rows_of: dict[str, NDArray[np.float32]] = {}
        if active := [user for user in seen if len(seen[user])]:
            rows_of = dict(zip(active, self._fold_in([seen[user] for user in active], self._items(added)), strict=True))
        if vectors:
            if self._place_users is None:
                raise ArtifactError(
                    f"the artifact {self.folder} cannot place users by vectors: its fuser has no map for them",
                    hint='train with vectors of users and [fuser] use = "align" or "concat", or give histories alone',
                )
            stacked = checked(np.stack(list(vectors.values())), self._place_users, "user", list(vectors))
            for user, row in zip(vectors, self._place_users(stacked), strict=True):
                n = len(seen[user])
                rows_of[user] = (n * rows_of[user] + row) / (n + 1) if n else row
        return {user: Folded(np.asarray(rows_of[user], np.float32), seen[user]) for user in seen}, unknown

    def _has_item(self, id_: str, added: Added) -> bool:
        return id_ in added.rows or self._item_ids.row(id_) is not None

    def _rows_of_items(self, ids: Sequence[str], added: Added) -> NDArray[np.int64]:
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

    def _scored(self, rows: NDArray[np.int64], scores: NDArray[np.float32], added: Added) -> list[Scored]:
        ids = ItemIds(self._item_ids, added.ids)
        return [(ids[row], score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True) if row >= 0]

    def _excluded_pairs(
        self, user_ids: Sequence[str], exclude: Mapping[str, Sequence[str]], added: Added
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return pairs_of([self._rows_of_items(exclude.get(user, ()), added) for user in user_ids])

    @cached_property
    def _fold_in(self) -> FoldIn:
        return FoldIn(self._users, self._trained, self._seen_starts, self._seen_items)

    @cached_property
    def _inverse_norms(self) -> NDArray[np.float32]:
        return inverse_norms(self._trained)

    def _placement(self, name: str, tensors: Mapping[str, NDArray[Any]]) -> Placement | None:
        description = self.manifest["placements"].get(name)
        if description is None:
            return None
        try:
            return Placement.from_tensors(f"place_{name}", tensors, description)
        except (KeyError, ValueError, TypeError) as error:
            raise ArtifactError(f"the artifact {self.folder} is damaged: its map of {name}: {error}") from None


_RANKERS: weakref.WeakSet[Ranker] = weakref.WeakSet()


def _after_fork() -> None:
    """A lock that another thread held at the fork is never let go of in the child."""
    for ranker in list(_RANKERS):
        ranker._adding = threading.RLock()  # noqa: SLF001 - of this module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
