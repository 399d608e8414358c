"""Options of the store ``postgres``."""

from __future__ import annotations

import re
from typing import Final, Literal

from pydantic import Field, field_validator

from enhancer.contracts import StoreOptions

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,49}"
"""Short enough for derived names, which PostgreSQL truncates after 63 bytes."""


class PostgresOptions(StoreOptions):
    """``[store]`` with ``use = "postgres"``."""

    url_env: str = "ENHANCER_POSTGRES_URL"
    """Environment variable with the connection string: a URL, or libpq's ``key=value`` form."""
    table: str = "enhancer.records"
    """Table of the records, ``schema.table``. Both are created by the first write."""
    vectors: Literal["auto", "pgvector", "bytea"] = "auto"
    """Type of the vector column when the table is created; ``auto``: pgvector if the server has it."""
    journal: str = ""
    """Schema for the journal of paid completions in this database, such as ``enhancer_journal``, which is created.
    Empty: the journal is a file in the folder ``path``, on this machine."""
    connect_timeout: int = Field(10, ge=2)
    """Time limit for connecting in seconds."""
    statement_timeout: float = Field(60.0, gt=0)
    """Time limit for one statement in seconds."""
    reconnect: float = Field(15.0, ge=0)
    """Time in seconds during which a dropped connection is reopened and the call repeated."""

    @field_validator("url_env")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        # The value may be the connection string itself, so the message does not contain it.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError(
                "set the name of an environment variable; the connection string itself does not belong in a file"
            )
        return value

    @field_validator("journal")
    @classmethod
    def _is_a_schema(cls, value: str) -> str:
        if value and (not re.fullmatch(_NAME, value) or value.startswith("pg_")):
            raise ValueError(f"{value!r} is not a schema's name of letters, digits and underscores, at most 50")
        return value

    @field_validator("table")
    @classmethod
    def _is_a_table(cls, value: str) -> str:
        if not re.fullmatch(rf"({_NAME}\.)?{_NAME}", value):
            raise ValueError(f"{value!r} is not schema.table of letters, digits and underscores, at most 50 each")
        return value

    @property
    def place(self) -> tuple[str, str]:
        """Names of schema and table."""
        schema, _, table = self.table.rpartition(".")
        return schema or "public", table
