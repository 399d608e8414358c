"""Write the item matrix as an approximate-nearest-neighbour index, and open one for search.

An index stores item rows under their row numbers and ranks by inner product, so user rows serve as queries unchanged.
With ``metric="cosine"`` item rows are scaled to unit length first; unit-length queries then rank by cosine, as
``similar`` does. ``PATH.json``, beside the index, records the artifact it was built from and the item id of each row.

The libraries (usearch, hnswlib, faiss) are imported on use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

import numpy as np

from enhancer.errors import ArtifactError, ConfigError, DataError
from enhancer.files import atomic_replace, check_output_path
from enhancer.serving.rows import inverse_norms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

IndexKind = Literal["usearch", "hnswlib", "faiss"]
IndexMetric = Literal["ip", "cosine"]
_PACKAGES: Final = {"usearch": "usearch", "hnswlib": "hnswlib", "faiss": "faiss-cpu"}
_ENDINGS: Final[dict[str, IndexKind]] = {
    ".usearch": "usearch",
    ".hnswlib": "hnswlib",
    ".hnsw": "hnswlib",
    ".faiss": "faiss",
}
"""Libraries by the endings of files that name them."""
_NEUTRAL: Final = frozenset({"", ".bin", ".index"})
"""Endings of indexes of any library."""
_GRAPH_LINKS: Final = 32
_SEARCH_WIDTH: Final = 256
"""Candidate list size while building and searching; inner products need a longer list than distances."""
_ONE_THREAD_ITEMS: Final = 20_000
"""Largest catalogue that is indexed by one thread; takes a few seconds."""


class Search(Protocol):
    """Finds the approximate nearest rows of an index."""

    def __call__(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """Return int64 ``[n, <= k]`` item rows for float32 ``[n, width]`` queries, best first; -1 fills short lists."""


@dataclass(frozen=True, slots=True)
class ItemIndex:
    """An opened index."""

    search: Search
    n_items: int
    """Number of indexed items; they are rows ``0 .. n_items - 1`` of the item table."""


def write_index(
    path: str | Path,
    item_ids: Sequence[str],
    items: NDArray[np.float32],
    *,
    artifact_sha256: str,
    kind: IndexKind | None = None,
    metric: IndexMetric = "ip",
) -> Path:
    """Write an index of item rows, and ``PATH.json`` beside it.

    Args:
        path: File to write.
        item_ids: Item id of each row.
        items: float32 ``[m, width]``.
        artifact_sha256: Hash of the artifact that the rows come from; :func:`open_index` compares it.
        kind: Library; by default the one that the ending of ``path`` names, see :func:`kind_for`.
        metric: ``ip`` stores rows unchanged; ``cosine`` scales them to unit length.

    Returns:
        The path.

    Raises:
        ConfigError: The library is not installed, the kind or metric is unknown, or the ending of ``path`` names
            another library.
        DataError: There are no items.
        ArtifactError: The index cannot be written.
    """
    path = Path(path)
    kind = kind_for(path, kind)
    if kind not in get_args(IndexKind) or metric not in get_args(IndexMetric):
        raise ConfigError(
            f"no index of kind {kind!r} with metric {metric!r}",
            hint="kinds: usearch, hnswlib, faiss; metrics: ip, cosine",
        )
    check_output_path(path)
    library = _library(kind)
    if not len(items):
        raise DataError("there are no items to index")
    if metric == "cosine":
        items = items * inverse_norms(items)[:, None]
    items = np.ascontiguousarray(items, dtype=np.float32)
    description = {
        "kind": kind,
        "metric": metric,
        "width": items.shape[1],
        "items": len(items),
        "artifact": artifact_sha256,
        "ids": list(item_ids),
    }
    try:
        # The inner block ends first, so the description is replaced last: after a crash between the two it still names
        # the previous artifact, and the pair is rejected.
        with atomic_replace(_description_path(path)) as description_draft, atomic_replace(path) as draft:
            _BUILD[kind](library, items, str(draft))
            description_draft.write_text(json.dumps(description), encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"cannot write the index {path}: {error.strerror}") from None
    return path


def kind_for(path: Path, kind: IndexKind | None = None) -> IndexKind:
    """Return the library of an index file: the one that is asked for, else the one that the ending names.

    ``.faiss``, ``.usearch``, ``.hnswlib`` and ``.hnsw`` name a library. A file without an ending, or with ``.bin`` or
    ``.index``, is of usearch unless another library is asked for.

    >>> kind_for(Path("items.faiss")), kind_for(Path("items"))
    ('faiss', 'usearch')

    Args:
        path: File to write.
        kind: Library that is asked for; None for the one of the ending.

    Raises:
        ConfigError: The ending names another library than ``kind``, or is unknown and no library is asked for.
    """
    named = _ENDINGS.get(path.suffix.lower())
    if kind is not None and named not in (None, kind):
        raise ConfigError(
            f"{path.name} would be an index of {kind}, but its ending names {named}",
            hint=f"{_described_endings()}; change the ending, or the kind",
        )
    if kind is None and named is None and path.suffix.lower() not in _NEUTRAL:
        raise ConfigError(
            f"{path.name}: the ending {path.suffix} names no library",
            hint=f"{_described_endings()}; or say --kind usearch, hnswlib or faiss",
        )
    return kind or named or "usearch"


def _described_endings() -> str:
    return ", ".join(f"{ending} is of {library}" for ending, library in _ENDINGS.items())


def open_index(path: str | Path, *, artifact_sha256: str, artifact_folder: Path) -> ItemIndex:
    """Open an inner-product index of an artifact's items.

    Args:
        path: File that :func:`write_index` wrote, with ``metric="ip"``.
        artifact_sha256: Hash of the artifact that the index must have been built from.
        artifact_folder: Folder of that artifact, for the error message.

    Raises:
        ArtifactError: The index is missing, damaged, of another artifact or of another metric.
        ConfigError: The library is not installed.
    """
    path = Path(path)
    again = "rebuild it: `enhancer index`"
    try:
        description = json.loads(_description_path(path).read_text(encoding="utf-8"))
        kind, metric, width, count = (description[key] for key in ("kind", "metric", "width", "items"))
        matches = kind in _OPEN and description["artifact"] == artifact_sha256
    except OSError as error:
        raise ArtifactError(
            f"there is no index in {path}: {error.strerror}", hint="build one: `enhancer index`"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(f"{_description_path(path)} does not describe an index", hint=again) from None
    if not matches or metric != "ip":
        raise ArtifactError(f"{path} is not an inner-product index of the items of {artifact_folder}", hint=again)
    try:
        return ItemIndex(_OPEN[kind](_library(kind), str(path), int(width), int(count)), int(count))
    except (RuntimeError, OSError, ValueError) as error:
        raise ArtifactError(f"the index {path} cannot be read: {error}", hint=again) from None


def _description_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _library(kind: IndexKind) -> Any:
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
        connectivity=_GRAPH_LINKS,
        expansion_add=_SEARCH_WIDTH,
        expansion_search=_SEARCH_WIDTH,
    )
    # Only a single thread builds a reproducible graph.
    index.add(np.arange(len(items), dtype=np.uint64), items, threads=1 if len(items) <= _ONE_THREAD_ITEMS else 0)
    index.save(path)


def _open_usearch(library: Any, path: str, width: int, count: int) -> Search:
    index = library.Index(
        ndim=width,
        metric="ip",
        dtype="f32",
        connectivity=_GRAPH_LINKS,
        expansion_add=_SEARCH_WIDTH,
        expansion_search=_SEARCH_WIDTH,
    )
    index.load(path)
    if len(index) != count or index.ndim != width:
        raise ValueError(f"{len(index)} rows instead of {count}")
    index.expansion_search = _SEARCH_WIDTH

    def search(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        found = index.search(queries, k)
        rows = np.atleast_2d(found.keys).astype(np.int64)
        counts = np.atleast_1d(getattr(found, "counts", np.full(len(queries), rows.shape[1])))
        rows[np.arange(rows.shape[1])[None, :] >= counts[:, None]] = -1
        return rows

    return search


def _build_hnswlib(library: Any, items: NDArray[np.float32], path: str) -> None:
    index = library.Index(space="ip", dim=items.shape[1])
    index.init_index(max_elements=len(items), ef_construction=_SEARCH_WIDTH, M=_GRAPH_LINKS, random_seed=0)
    index.add_items(items, np.arange(len(items)))
    index.save_index(path)


def _open_hnswlib(library: Any, path: str, width: int, count: int) -> Search:
    index = library.Index(space="ip", dim=width)
    index.load_index(path, max_elements=count)
    if index.get_current_count() != count:
        raise ValueError(f"{index.get_current_count()} rows instead of {count}")

    def search(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        index.set_ef(max(_SEARCH_WIDTH, k))
        while k:
            try:
                rows: NDArray[np.int64] = index.knn_query(queries, k=k)[0].astype(np.int64)
            except RuntimeError:  # the graph reaches fewer than k rows; the library does not report how many
                k -= k // 16 + 1
            else:
                return rows
        return np.full((len(queries), 1), -1, dtype=np.int64)

    return search


def _build_faiss(library: Any, items: NDArray[np.float32], path: str) -> None:
    index = library.IndexHNSWFlat(items.shape[1], _GRAPH_LINKS, library.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _SEARCH_WIDTH
    index.add(items)
    library.write_index(index, path)


def _open_faiss(library: Any, path: str, width: int, count: int) -> Search:
    index = library.read_index(path)
    if (index.ntotal, index.d) != (count, width):
        raise ValueError(f"{index.ntotal} rows of {index.d} instead of {count} of {width}")

    def search(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        parameters = library.SearchParametersHNSW(efSearch=max(_SEARCH_WIDTH, k))
        rows: NDArray[np.int64] = index.search(np.ascontiguousarray(queries), k, params=parameters)[1]
        return rows

    return search


_BUILD: Final = {"usearch": _build_usearch, "hnswlib": _build_hnswlib, "faiss": _build_faiss}
_OPEN: Final = {"usearch": _open_usearch, "hnswlib": _open_hnswlib, "faiss": _open_faiss}
