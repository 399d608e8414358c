"""What can be set for the store ``postgres``."""

from __future__ import annotations

import re
from typing import Final, Literal

from pydantic import Field, field_validator

from enhancer.contracts import StoreOptions

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,49}"
"""Short enough that what is named after a table keeps its whole name: PostgreSQL cuts after 63 bytes."""


class PostgresOptions(StoreOptions):
    """``[store]`` with ``use = "postgres"``."""

    url_env: str = "ENHANCER_POSTGRES_URL"
    """Environment variable that holds the connection string: a URL, or libpq's ``key=value`` words."""
    table: str = "enhancer.records"
    """Table of the records, ``schema.table``. Both are made where there are none."""
    vectors: Literal["auto", "pgvector", "bytea"] = "auto"
    """Type of the column of vectors when the table is made; ``auto``: pgvector's if the server offers it."""
    connect_timeout: int = Field(10, ge=2)
    """Seconds until a server that does not answer is given up."""
    statement_timeout: float = Field(60.0, gt=0)
    """Seconds that one statement may take on the server."""
    reconnect: float = Field(15.0, ge=0)
    """Seconds during which a dropped connection is made anew, and the call done again."""

    @field_validator("url_env")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        # What was written here may be the connection string itself: it is never shown.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError(
                "this is the name of an environment variable; the connection string is that variable's value, "
                "and does not belong into a file"
            )
        return value

    @field_validator("table")
    @classmethod
    def _is_a_table(cls, value: str) -> str:
        if not re.fullmatch(rf"({_NAME}\.)?{_NAME}", value):
            raise ValueError(f"{value!r} is not schema.table of letters, digits and underscores, 50 at most each")
        return value

    @property
    def place(self) -> tuple[str, str]:
        """Schema and table."""
        schema, _, table = self.table.rpartition(".")
        return schema or "public", table
