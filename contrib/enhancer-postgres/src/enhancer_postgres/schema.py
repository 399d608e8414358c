"""Find, check and create the table of records."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from psycopg import errors
from psycopg.sql import SQL, Composed, Identifier, Literal

from enhancer.errors import StoreCorruptError, StoreError
from enhancer_postgres.rows import COLUMNS

if TYPE_CHECKING:
    from enhancer_postgres.options import PostgresOptions
    from enhancer_postgres.server import Connection

FORMAT: Final = 1
_LOCK: Final = "enhancer: a store is being made"
_INLINE_BYTES: Final = 8160
"""Rows up to a page are stored inline: a vector outside of its row would cost a second look-up."""

_FIND: Final = """
SELECT t.typname FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'vector' AND NOT a.attisdropped
LEFT JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = %s AND c.relname = %s
"""


@dataclass(frozen=True)
class Layout:
    """An existing table."""

    table: Composed
    """Quoted name."""
    pgvector: bool
    """Whether vectors have pgvector's type; otherwise ``bytea``."""
    stage: Identifier
    """Temporary table for records to be written."""

    def query(self, text: str) -> Composed:
        """Return a query with the names of the tables in place of ``{table}`` and ``{stage}``."""
        return SQL(text).format(table=self.table, stage=self.stage)

    @property
    def upsert(self) -> Composed:
        """Statement that moves the staged records into the table and commits. Key order prevents deadlocks."""
        columns = SQL(", ").join(map(Identifier, COLUMNS))
        changes = SQL(", ").join(SQL("{0} = excluded.{0}").format(Identifier(name)) for name in COLUMNS[1:])
        return SQL(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM {stage} ORDER BY key "
            "ON CONFLICT (key) DO UPDATE SET {changes}; COMMIT"
        ).format(table=self.table, columns=columns, stage=self.stage, changes=changes)


def find(connection: Connection, options: PostgresOptions, name: str) -> Layout | None:
    """Return the table; None if it does not exist.

    Raises:
        StoreError: The table is not a store, has a newer format, or another type of vectors than configured.
        StoreCorruptError: The format of the table is unknown.
    """
    schema, table = options.place
    row = connection.execute(_FIND, (schema, table)).fetchone()
    if row is None:
        return None
    if row[0] not in ("vector", "bytea"):
        raise StoreError(f"{name} is a table, but not a feature store", hint="choose another [store] table")
    try:
        formats = connection.execute(SQL("SELECT format FROM {}").format(_format_table(options))).fetchall()
    except errors.UndefinedTable:
        raise StoreError(f"{name} is a table, but not a feature store", hint="choose another [store] table") from None
    if len(formats) != 1 or not isinstance(formats[0][0], int):
        raise StoreCorruptError(f"the format of {name} is unknown: its table of formats has {len(formats)} rows")
    if formats[0][0] > FORMAT:
        raise StoreError(
            f"{name} has format {formats[0][0]}; this plugin reads formats up to {FORMAT}",
            hint="upgrade enhancer-postgres",
        )
    found = "pgvector" if row[0] == "vector" else "bytea"
    if options.vectors not in ("auto", found):
        raise StoreError(
            f"{name} stores vectors as {found}, but [store] vectors is {options.vectors!r}",
            hint="choose another [store] table, or remove `vectors`",
        )
    return Layout(SQL("{}.{}").format(Identifier(schema), Identifier(table)), found == "pgvector", _stage(options))


def create(connection: Connection, options: PostgresOptions, name: str) -> Layout:
    """Create the table, unless another process creates it first.

    Raises:
        StoreError: pgvector is configured but not available.
    """
    schema, table = options.place
    connection.execute("BEGIN")
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (_LOCK,))
    if found := find(connection, options, name):
        connection.execute("COMMIT")
        return found
    if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone() is None:
        connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
    where = None if options.vectors == "bytea" else _extension(connection, schema)
    if where is None and options.vectors == "pgvector":
        raise StoreError(
            f"{name}: the server does not have pgvector, or this role may not enable it",
            hint="ask for CREATE EXTENSION vector, or set [store] vectors to auto",
        )
    kind = SQL("bytea") if where is None else SQL("{}.vector").format(Identifier(where))
    # The table of formats may remain from a table of records that was dropped.
    connection.execute(
        SQL(
            """
            CREATE TABLE {table} (
                key bytea PRIMARY KEY,
                kind text NOT NULL, id text NOT NULL, aspect text NOT NULL,
                profile text NOT NULL, tags text[] NOT NULL,
                vector {kind} NOT NULL, dim integer NOT NULL,
                prompt_version text NOT NULL, model text NOT NULL, embedder text NOT NULL,
                generated_at text NOT NULL, input_hash text NOT NULL,
                prompt_tokens bigint, completion_tokens bigint, cost_usd double precision,
                exact text, vector_crc integer NOT NULL, checksum integer NOT NULL, damaged boolean NOT NULL
            ) WITH (toast_tuple_target = {inline});
            ALTER TABLE {table} ALTER COLUMN vector SET STORAGE EXTERNAL;
            COMMENT ON TABLE {table} IS 'Feature store of enhancer. Written by enhancer alone: rows carry checksums.';
            CREATE TABLE IF NOT EXISTS {format_table} (format integer NOT NULL);
            INSERT INTO {format_table} SELECT {format} WHERE NOT EXISTS (SELECT 1 FROM {format_table})
            """
        ).format(
            table=SQL("{}.{}").format(Identifier(schema), Identifier(table)),
            kind=kind,
            inline=Literal(_INLINE_BYTES),
            format_table=_format_table(options),
            format=Literal(FORMAT),
        )
    )
    made = find(connection, options, name)
    assert made is not None
    connection.execute("COMMIT")
    return made


def _extension(connection: Connection, schema: str) -> str | None:
    """Return the schema of pgvector's type, after enabling it if possible; None if it is not available."""
    installed = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
    row = connection.execute(installed).fetchone()
    if row is None:
        offered = "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"
        if connection.execute(offered).fetchone() is None:
            return None
        public = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'public'").fetchone()
        place = Identifier("public" if public else schema)
        connection.execute("SAVEPOINT extension")
        try:
            connection.execute(SQL("CREATE EXTENSION vector SCHEMA {}").format(place))
        except errors.InsufficientPrivilege:
            connection.execute("ROLLBACK TO SAVEPOINT extension")
            return None
        row = connection.execute(installed).fetchone()
    assert row is not None
    return str(row[0]).strip('"')


def _format_table(options: PostgresOptions) -> Composed:
    schema, table = options.place
    return SQL("{}.{}").format(Identifier(schema), Identifier(f"{table}_format"))


def _stage(options: PostgresOptions) -> Identifier:
    """Return the name of the temporary table, unique to the table of records, since connections may be shared."""
    schema, table = options.place
    digest = hashlib.blake2b(f"{schema}.{table}".encode(), digest_size=8).hexdigest()
    return Identifier("pg_temp", f"enhancer_{digest}")
