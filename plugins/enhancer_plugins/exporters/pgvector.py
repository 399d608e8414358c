"""Exporter ``pgvector``: a table of a PostgreSQL database with the extension pgvector."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from enhancer.contracts import Exported, Exporter, Options
from enhancer.errors import ConfigError, ExportError
from enhancer_plugins.exporters._targets import as_json, check_name, clean_batches, reason, refuse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts import ExportOrder, ExportSource, VectorTable

URL_VARIABLE: Final = "ENHANCER_PGVECTOR_URL"
_MARK: Final = "enhancer export "
_WIDEST: Final = 16_000
"""Longest vector of pgvector's type ``vector``."""
_WIDEST_INDEX: Final = 2_000
"""Longest vector that pgvector indexes."""


class PgvectorOptions(Options):
    """Options of the exporter ``pgvector``."""

    index: Literal["none", "hnsw"] = "none"
    """Index for approximate search by inner products; ``none`` searches exactly."""
    ef_search: int = Field(200, ge=1, le=1000)
    """Candidates that the check looks at, with an index; your own queries set ``hnsw.ef_search``."""
    connect_timeout: int = Field(10, ge=2)
    """Time limit for connecting in seconds."""


class PgvectorExporter(Exporter):
    """Writes a table ``id text PRIMARY KEY, vector vector(width), payload jsonb`` in one transaction."""

    options_class = PgvectorOptions
    options: PgvectorOptions

    def place(self, target: str) -> str:
        """Return host and database of a connection string."""
        import psycopg

        try:
            found = psycopg.conninfo.conninfo_to_dict(_resolved(target))
        except psycopg.Error:
            return "the PostgreSQL server"
        host, port = found.get("host") or found.get("hostaddr") or "localhost", found.get("port")
        return f"postgresql://{host}{f':{port}' if port else ''}/{found.get('dbname') or ''}"

    def write(self, source: ExportSource, order: ExportOrder) -> Exported:
        """See :meth:`enhancer.contracts.Exporter.write`."""
        import psycopg

        check_name(order.name)
        table = source.table(order.what)
        widest = _WIDEST if self.options.index == "none" else _WIDEST_INDEX
        if table.width > widest:
            raise ConfigError(f"pgvector takes at most {widest:,} dimensions here, not {table.width:,}")
        place = self.place(order.target)
        try:
            connection: Any = psycopg.connect(_resolved(order.target), connect_timeout=self.options.connect_timeout)
        except psycopg.Error as error:
            # The message of the library may quote the connection string, so it is not passed on.
            raise ConfigError(
                f"cannot connect to {place} ({type(error).__name__})",
                hint=f"check server, user and password; `env` as target reads the URL from {URL_VARIABLE}",
            ) from None
        try:
            with connection.transaction(), connection.cursor() as cursor:
                self._write(cursor, table, order, place)
            (rows,) = connection.execute(f'SELECT count(*) FROM "{order.name}"').fetchone()  # noqa: S608 - a checked name
        except psycopg.Error as error:
            connection.close()
            raise ExportError(f"{place} cannot hold {order.name}: {reason(error)}") from None
        except BaseException:
            connection.close()
            raise
        query = f'SELECT id FROM "{order.name}" ORDER BY vector <#> %s::vector LIMIT %s'  # noqa: S608 - a checked name

        def search(queries: NDArray[np.float32], k: int) -> list[list[str]]:
            found = []
            with connection.transaction(), connection.cursor() as cursor:
                if self.options.index == "hnsw":
                    cursor.execute(f"SET LOCAL hnsw.ef_search = {max(self.options.ef_search, k)}")
                for one in queries:
                    cursor.execute(query, (_text(one), k))
                    found.append([id_ for (id_,) in cursor.fetchall()])
            return found

        return Exported(rows=rows, width=table.width, search=search, close=connection.close)

    def _write(self, cursor: Any, table: VectorTable, order: ExportOrder, place: str) -> None:
        name, draft = f'"{order.name}"', f'"{order.name}_{secrets.token_hex(4)}"'
        if not cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone():
            if not cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone():
                raise ConfigError(f"{place} does not have pgvector", hint="install the extension on the server")
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        there = cursor.execute(
            "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass(%s)", (name,)
        ).fetchone()
        if there is not None:
            refuse(f"the table {order.name} of {place}", order, ours=(there[0] or "").startswith(_MARK))
        columns = f'id text COLLATE "C" NOT NULL, vector vector({table.width}) NOT NULL, payload jsonb NOT NULL'
        cursor.execute(f"CREATE TABLE {draft} ({columns})")
        with cursor.copy(f"COPY {draft} (id, vector, payload) FROM STDIN") as copy:
            for batch in clean_batches(table):
                for id_, vector, payload in zip(batch.ids, batch.vectors, batch.payloads, strict=True):
                    copy.write_row((id_, _text(vector), as_json(payload)))
        cursor.execute(f"ALTER TABLE {draft} ADD PRIMARY KEY (id)")
        if self.options.index == "hnsw":
            cursor.execute(f"CREATE INDEX ON {draft} USING hnsw (vector vector_ip_ops)")
        mark = (_MARK + json.dumps(table.source, sort_keys=True)).replace("'", "''")
        cursor.execute(f"COMMENT ON TABLE {draft} IS '{mark}'")
        if there is not None:  # only now, so that readers of the earlier table wait for nothing but the exchange
            cursor.execute(f"DROP TABLE {name}")
        cursor.execute(f"ALTER TABLE {draft} RENAME TO {name}")


def _resolved(target: str) -> str:
    """Return the connection string: the target, or for ``env`` that of the environment."""
    if target != "env":
        return target
    if URL_VARIABLE not in os.environ:
        raise ConfigError(f"{URL_VARIABLE} is not set", hint="it holds the URL that the target `env` stands for")
    return os.environ[URL_VARIABLE]


def _text(vector: NDArray[np.float32]) -> str:
    """Return a vector as pgvector reads it; nine digits keep every bit of a float32."""
    return "[" + ",".join(f"{value:.9g}" for value in vector.tolist()) + "]"
