"""The item matrix as an index of an approximate-nearest-neighbour library, and a ranker over one.

An index holds the item rows under their row numbers, and answers by inner product, so rows of users go in as they are.
With ``metric="cosine"`` the rows are brought to unit length first: queries of unit length then find cosines, as
``similar`` does. Beside the index lies ``PATH.json``, which says what it was made of and gives the ids by row.

Libraries are imported when they are used: usearch, hnswlib or faiss.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from enhancer.errors import ArtifactError, ConfigError, DataError
from enhancer.files import replacing, require_place
from enhancer.serving.results import Recommendation
from enhancer.serving.rows import check_k, inverse_norms
from enhancer.serving.topk import top_k

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from enhancer.serving.ranker import Ranker

Kind = Literal["usearch", "hnswlib", "faiss"]
Metric = Literal["ip", "cosine"]
_PACKAGES: Final = {"usearch": "usearch", "hnswlib": "hnswlib", "faiss": "faiss-cpu"}
_LINKS: Final = 32
_BREADTH: Final = 256
"""How wide the graph is searched, in building and asking: inner products need more than distances do."""
_FEW: Final = 20_000
"""Items that one thread indexes in a few seconds."""


def write_index(ranker: Ranker, path: str | Path, *, kind: Kind = "usearch", metric: Metric = "ip") -> Path:
    """Write the item matrix, added items included, as an index; see :meth:`Ranker.export_index`."""
    if kind not in get_args(Kind) or metric not in get_args(Metric):
        raise ConfigError(
            f"no index of kind {kind!r} with metric {metric!r}",
            hint="kinds: usearch, hnswlib, faiss; metrics: ip, cosine",
        )
    path = Path(path)
    require_place(path)
    library = _library(kind)
    ids, items = ranker.item_table()
    if not len(items):
        raise DataError("there are no items to index")
    if metric == "cosine":
        items = items * inverse_norms(items)[:, None]
    items = np.ascontiguousarray(items, dtype=np.float32)
    note = {
        "kind": kind,
        "metric": metric,
        "width": items.shape[1],
        "items": len(items),
        "artifact": ranker.manifest["tensors"]["sha256"],
        "ids": list(ids),
    }
    try:
        # Blocks end from the inside: the note comes last, so that after a kill in between it names another artifact.
        with replacing(_note(path)) as note_draft, replacing(path) as draft:
            _BUILD[kind](library, items, str(draft))
            note_draft.write_text(json.dumps(note), encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"cannot write the index {path}: {error.strerror}") from None
    return path


class ApproximateRanker:
    """Recommends through an index: quicker over millions of items, and not quite exact.

    The index only chooses whom to look at: scores are the exact inner products, and items added to the ranker after the
    index was made are all looked at.

    Args:
        ranker: The exact one, of the same artifact.
        path: What :meth:`Ranker.export_index` wrote, with ``metric="ip"``.

    Raises:
        ArtifactError: There is no such index, or it is not one of this artifact's items by inner products.
        ConfigError: Its library is not installed.
    """

    def __init__(self, ranker: Ranker, path: str | Path) -> None:
        path = Path(path)
        try:
            note = json.loads(_note(path).read_text(encoding="utf-8"))
            kind, metric, width, count = (note[key] for key in ("kind", "metric", "width", "items"))
            known = kind in _OPEN and note["artifact"] == ranker.manifest["tensors"]["sha256"]
        except OSError as error:
            raise ArtifactError(
                f"there is no index in {path}: {error.strerror}", hint="make one: `enhancer index`"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise ArtifactError(
                f"{_note(path)} does not describe an index", hint="make it again: `enhancer index`"
            ) from None
        if not known or metric != "ip":
            raise ArtifactError(
                f"the index {path} is not one of inner products of the items of {ranker.folder}",
                hint="make it again: `enhancer index`",
            )
        self.ranker = ranker
        self._count = int(count)
        try:
            self._search = _OPEN[kind](_library(kind), str(path), int(width), self._count)
        except (RuntimeError, OSError, ValueError) as error:
            raise ArtifactError(f"the index {path} cannot be read: {error}", hint="make it again") from None

    def recommend(self, user_ids: Sequence[str], k: int = 10, *, exclude_seen: bool = True) -> list[Recommendation]:
        """As :meth:`Ranker.recommend`, over the items that the index finds.

        Raises:
            DataError: An id is unknown, or ``k`` is below 1.
        """
        queries, seen = self.ranker.user_table(user_ids)
        ids, items = self.ranker.item_table()
        k = check_k(k, len(items))
        # As many more as may fall away; in steps, so that one long history does not widen everybody's search.
        wanted = [min(k + (len(span) if exclude_seen else 0), self._count) for span in seen]
        steps = np.array([1 << max(n - 1, 0).bit_length() for n in wanted], dtype=np.int64)
        added = np.arange(self._count, len(items))
        found: dict[int, Recommendation] = {}
        for step in np.unique(steps):
            places = np.flatnonzero(steps == step)
            for place, rows in zip(places, self._search(queries[places], min(int(step), self._count)), strict=True):
                rows_of = np.union1d(rows[rows >= 0], added)
                if exclude_seen:
                    rows_of = np.setdiff1d(rows_of, seen[place], assume_unique=True)
                best, scores = top_k(queries[place, None], items[rows_of], k)
                scored = [
                    (ids[int(rows_of[row])], score)
                    for row, score in zip(best[0].tolist(), scores[0].tolist(), strict=True)
                    if row >= 0
                ]
                found[int(place)] = Recommendation(user_ids[int(place)], scored)
        return [found[place] for place in range(len(user_ids))]

    def recall(self, user_ids: Sequence[str], k: int = 10) -> float:
        """The share of the exact best ``k`` that is found, over these users; 1.0 where there is nothing to find."""
        pairs = zip(self.recommend(user_ids, k), self.ranker.recommend(user_ids, k), strict=True)
        shares = [
            len({item for item, _ in near.items} & {item for item, _ in exact.items}) / len(exact.items)
            for near, exact in pairs
            if exact.items
        ]
        return float(np.mean(shares)) if shares else 1.0


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _library(kind: Kind) -> Any:
    try:
        return import_module("usearch.index" if kind == "usearch" else kind)
    except ImportError:
        package = _PACKAGES[kind]
        raise ConfigError(f"an index of kind {kind!r} needs {package}", hint=f"pip install {package}") from None


# --- libraries ----------------------------------------------------------------------------------------------------


def _build_usearch(library: Any, items: NDArray[np.float32], path: str) -> None:
    index = library.Index(
        ndim=items.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=_LINKS,
        expansion_add=_BREADTH,
        expansion_search=_BREADTH,
    )
    # One thread builds the same graph each time, which several do not.
    index.add(np.arange(len(items), dtype=np.uint64), items, threads=1 if len(items) <= _FEW else 0)
    index.save(path)


def _open_usearch(library: Any, path: str, width: int, count: int) -> Callable[..., NDArray[np.int64]]:
    index = library.Index(
        ndim=width, metric="ip", dtype="f32", connectivity=_LINKS, expansion_add=_BREADTH, expansion_search=_BREADTH
    )
    index.load(path)
    if len(index) != count or index.ndim != width:
        raise ValueError(f"{len(index)} rows instead of {count}")
    index.expansion_search = _BREADTH

    def search(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        found = index.search(queries, k)
        rows = np.atleast_2d(found.keys).astype(np.int64)
        counts = np.atleast_1d(getattr(found, "counts", np.full(len(queries), rows.shape[1])))
        rows[np.arange(rows.shape[1])[None, :] >= counts[:, None]] = -1
        return rows

    return search


def _build_hnswlib(library: Any, items: NDArray[np.float32], path: str) -> None:
    index = library.Index(space="ip", dim=items.shape[1])
    index.init_index(max_elements=len(items), ef_construction=_BREADTH, M=_LINKS, random_seed=0)
    index.add_items(items, np.arange(len(items)))
    index.save_index(path)


def _open_hnswlib(library: Any, path: str, width: int, count: int) -> Callable[..., NDArray[np.int64]]:
    index = library.Index(space="ip", dim=width)
    index.load_index(path, max_elements=count)
    if index.get_current_count() != count:
        raise ValueError(f"{index.get_current_count()} rows instead of {count}")

    def search(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        index.set_ef(max(_BREADTH, k))
        while k:
            try:
                rows: NDArray[np.int64] = index.knn_query(queries, k=k)[0].astype(np.int64)
            except RuntimeError:  # fewer can be reached in its graph, by inner products; it does not say how many
                k -= k // 16 + 1
            else:
                return rows
        return np.full((len(queries), 1), -1, dtype=np.int64)

    return search


def _build_faiss(library: Any, items: NDArray[np.float32], path: str) -> None:
    index = library.IndexHNSWFlat(items.shape[1], _LINKS, library.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _BREADTH
    index.add(items)
    library.write_index(index, path)


def _open_faiss(library: Any, path: str, width: int, count: int) -> Callable[..., NDArray[np.int64]]:
    index = library.read_index(path)
    if (index.ntotal, index.d) != (count, width):
        raise ValueError(f"{index.ntotal} rows of {index.d} instead of {count} of {width}")

    def search(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        parameters = library.SearchParametersHNSW(efSearch=max(_BREADTH, k))
        rows: NDArray[np.int64] = index.search(np.ascontiguousarray(queries), k, params=parameters)[1]
        return rows

    return search


_BUILD: Final = {"usearch": _build_usearch, "hnswlib": _build_hnswlib, "faiss": _build_faiss}
_OPEN: Final = {"usearch": _open_usearch, "hnswlib": _open_hnswlib, "faiss": _open_faiss}
