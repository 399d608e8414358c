"""Exporter ``faiss``: an index file, and beside it the id and payload of each row."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import Field

from enhancer.contracts import Exported, Exporter, Options
from enhancer.errors import ConfigError, ExportError
from enhancer.files import atomic_replace
from enhancer_plugins.exporters._targets import as_json, check_parent, clean_batches, reason, refuse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts import ExportOrder, ExportSource, VectorTable

_FIRST_LINE: Final = 1023
"""Bytes of the first line, without its end. The hash in it is known after the rows have been written."""


class FaissOptions(Options):
    """Options of the exporter ``faiss``."""

    factory: str = "Flat"
    """Index as faiss's factory describes it: ``Flat`` (exact), ``HNSW32``, ``IVF1024,Flat``, ``IVF1024,PQ32`` ..."""
    training_rows: int = Field(200_000, ge=1)
    """Largest number of rows that a quantiser is trained on, from the beginning of the table."""


class FaissExporter(Exporter):
    """Writes ``TARGET``, an inner-product index, and ``TARGET.jsonl``: first the origin, then a line for each row."""

    options_class = FaissOptions
    options: FaissOptions

    def write(self, source: ExportSource, order: ExportOrder) -> Exported:
        """See :meth:`enhancer.contracts.Exporter.write`."""
        import faiss

        path = Path(order.target)
        rows_path = path.with_name(f"{path.name}.jsonl")
        check_parent(path)
        for there in (path, rows_path):
            if there.exists():
                refuse(str(there), order, ours=_is_ours(rows_path))
        table = source.table(order.what)
        index = self._index(faiss, table)
        try:
            # The rows are replaced last. The hash in their first line tells their index from another.
            with atomic_replace(rows_path) as rows_draft, atomic_replace(path) as draft:
                with rows_draft.open("w", encoding="utf-8") as lines:
                    lines.write(" " * _FIRST_LINE + "\n")
                    for batch in clean_batches(table):
                        index.add(batch.vectors)
                        for id_, payload in zip(batch.ids, batch.payloads, strict=True):
                            lines.write(as_json({"id": id_, **payload}) + "\n")
                faiss.write_index(index, str(draft))
                with draft.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                origin = as_json({"export": {**table.source, "rows": table.rows, "sha256": digest}})
                with rows_draft.open("r+b") as start:
                    start.write(origin.encode().ljust(_FIRST_LINE))
        except OSError as error:
            raise ExportError(f"cannot write {path}: {error.strerror}") from None
        except RuntimeError as error:
            raise ExportError(f"faiss cannot index the rows: {reason(error)}") from None
        with rows_path.open(encoding="utf-8") as lines:
            next(lines)
            ids = [json.loads(line)["id"] for line in lines]
        written = faiss.read_index(str(path))

        def search(queries: NDArray[np.float32], k: int) -> list[list[str]]:
            _, found = written.search(np.ascontiguousarray(queries), k)
            return [[ids[row] for row in rows if row >= 0] for rows in found.tolist()]

        return Exported(rows=written.ntotal, width=written.d, search=search)

    def _index(self, faiss: Any, table: VectorTable) -> Any:
        try:
            index = faiss.index_factory(table.width, self.options.factory, faiss.METRIC_INNER_PRODUCT)
            if not index.is_trained:
                parts, count = [], 0
                for batch in table.batches():
                    parts.append(batch.vectors)
                    count += len(batch.ids)
                    if count >= self.options.training_rows:
                        break
                index.train(np.vstack(parts)[: self.options.training_rows])
        except RuntimeError as error:
            raise ConfigError(
                f"faiss cannot make the index {self.options.factory!r} of {table.rows:,} rows of {table.width}:"
                f" {reason(error)}",
                hint="--option factory=Flat is exact and always works",
            ) from None
        return index


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return "export" in json.loads(file.readline(_FIRST_LINE + 1))
    except (OSError, ValueError, TypeError):
        return False
