"""Exporter ``lancedb``: a table of a LanceDB database."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Literal

from enhancer.contracts import Exported, Exporter, Options
from enhancer.errors import EnhancerError, ExportError
from enhancer_plugins.exporters._targets import as_json, check_name, clean_batches, reason, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts import ExportOrder, ExportSource, VectorTable

_MARK: Final = b"enhancer"


class LanceDBOptions(Options):
    """Options of the exporter ``lancedb``."""

    index: Literal["none", "IVF_PQ", "IVF_HNSW_SQ"] = "none"
    """Index for approximate search by inner products; ``none`` searches exactly."""


class LanceDBExporter(Exporter):
    """Writes columns ``id, vector, title, profile, tags, generated_at, new``. A table appears when it is complete."""

    options_class = LanceDBOptions
    options: LanceDBOptions

    def write(self, source: ExportSource, order: ExportOrder) -> Exported:
        """See :meth:`enhancer.contracts.Exporter.write`."""
        import lancedb
        import pyarrow as pa

        check_name(order.name)
        table = source.table(order.what)
        columns = [
            pa.field("id", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), table.width), nullable=False),
            pa.field("title", pa.string()),
            pa.field("profile", pa.string()),
            pa.field("tags", pa.list_(pa.string())),
            pa.field("generated_at", pa.string()),
            pa.field("new", pa.bool_()),
        ]
        schema = pa.schema(columns, metadata={_MARK: as_json(table.source).encode()})
        stopped: list[BaseException] = []
        try:
            database = lancedb.connect(order.target)
            there = _existing(database, order.name)
            if there is not None:
                ours = _MARK in (there.schema.metadata or {})
                refuse(f"the table {order.name} of {order.target}", order, ours=ours)
            reader = pa.RecordBatchReader.from_batches(schema, _batches(table, schema, stopped))
            mode = "create" if there is None else "overwrite"
            made = database.create_table(order.name, data=reader, schema=schema, mode=mode)
            if self.options.index != "none":
                made.create_index(metric="dot", vector_column_name="vector", index_type=self.options.index)
            rows = made.count_rows()
        except EnhancerError:
            raise
        except Exception as error:  # noqa: BLE001 - the library raises many types
            if stopped:  # the library wraps what its reader raises
                raise stopped[0] from None
            raise ExportError(f"LanceDB cannot write {order.name} of {order.target}: {reason(error)}") from None

        def search(queries: NDArray[np.float32], k: int) -> list[list[str]]:
            asked = (made.search(query, vector_column_name="vector").distance_type("dot") for query in queries)
            return [one.limit(k).select(["id", "_distance"]).to_arrow()["id"].to_pylist() for one in asked]

        return Exported(rows=rows, width=table.width, search=search)


def _existing(database: Any, name: str) -> Any:
    """Return the table, or None. What is left of an interrupted export is listed, but is no table."""
    with contextlib.suppress(ValueError, FileNotFoundError):
        return database.open_table(name)
    return None


def _batches(table: VectorTable, schema: Any, stopped: list[BaseException]) -> Iterator[Any]:
    import pyarrow as pa

    try:
        for batch in clean_batches(table):
            columns: list[Any] = [
                pa.array(batch.ids, pa.string()),
                pa.FixedSizeListArray.from_arrays(pa.array(batch.vectors.ravel()), table.width),
            ]
            columns += [
                pa.array([one.get(field.name) for one in batch.payloads], field.type) for field in list(schema)[2:]
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
    except BaseException as error:
        stopped.append(error)
        raise
