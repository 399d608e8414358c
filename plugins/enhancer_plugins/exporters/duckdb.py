"""Exporter ``duckdb``: a table in a DuckDB file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from enhancer.contracts import Exported, Exporter
from enhancer.errors import ConfigError, ExportError
from enhancer_plugins.exporters._targets import as_json, check_name, check_parent, clean_batches, reason, refuse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts import ExportOrder, ExportSource, VectorTable

_MARK: Final = "enhancer export "


class DuckDBExporter(Exporter):
    """Writes a table ``id VARCHAR PRIMARY KEY, vector FLOAT[width], payload JSON`` in one transaction."""

    def write(self, source: ExportSource, order: ExportOrder) -> Exported:
        """See :meth:`enhancer.contracts.Exporter.write`."""
        import duckdb

        path = Path(order.target)
        check_parent(path)
        check_name(order.name)
        table = source.table(order.what)
        created = not path.exists()
        try:
            connection = duckdb.connect(str(path))
        except duckdb.Error as error:
            raise ConfigError(
                f"{path} cannot be opened by DuckDB: {reason(error)}", hint="name a DuckDB file, or a new one"
            ) from None
        try:
            _write(connection, table, order, str(path))
        except BaseException as error:
            connection.close()
            if created:  # it would be a file without a table
                path.unlink(missing_ok=True)
                path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
            if isinstance(error, duckdb.Error):
                raise ExportError(f"DuckDB cannot write {order.name} of {path}: {reason(error)}") from None
            raise
        name, width = f'"{order.name}"', table.width
        (rows,) = connection.execute(f"SELECT count(*) FROM {name}").fetchone() or (0,)  # noqa: S608 - a checked name
        query = f"SELECT id FROM {name} ORDER BY array_inner_product(vector, ?::FLOAT[{width}]) DESC LIMIT ?"  # noqa: S608

        def search(queries: NDArray[np.float32], k: int) -> list[list[str]]:
            return [[id_ for (id_,) in connection.execute(query, [one, k]).fetchall()] for one in queries.tolist()]

        return Exported(rows=rows, width=width, search=search, close=connection.close)


def _write(connection: Any, table: VectorTable, order: ExportOrder, place: str) -> None:
    import pyarrow as pa

    name = f'"{order.name}"'
    connection.execute("BEGIN")
    there = connection.execute(
        "SELECT comment FROM duckdb_tables() WHERE lower(table_name) = lower($1)"
        " UNION ALL SELECT 'a view' FROM duckdb_views() WHERE lower(view_name) = lower($1)",
        [order.name],
    ).fetchone()
    if there is not None:
        refuse(f"the table {order.name} of {place}", order, ours=(there[0] or "").startswith(_MARK))
        connection.execute(f"DROP TABLE {name}")
    connection.execute(f"CREATE TABLE {name} (id VARCHAR PRIMARY KEY, vector FLOAT[{table.width}], payload JSON)")
    for batch in clean_batches(table):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(batch.vectors.ravel()), table.width)
        columns = {"id": batch.ids, "vector": vectors, "payload": [as_json(one) for one in batch.payloads]}
        connection.register("enhancer_batch", pa.table(columns))
        connection.execute(f"INSERT INTO {name} SELECT * FROM enhancer_batch")  # noqa: S608 - a checked name
        connection.unregister("enhancer_batch")
    mark = (_MARK + json.dumps(table.source, sort_keys=True)).replace("'", "''")
    connection.execute(f"COMMENT ON TABLE {name} IS '{mark}'")
    connection.execute("COMMIT")
