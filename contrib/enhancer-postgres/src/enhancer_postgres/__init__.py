"""Plugin for enhancer: the feature store ``postgres``, one table on a PostgreSQL server that a team shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer import hookimpl

if TYPE_CHECKING:
    from enhancer.hookspecs import Register


@hookimpl
def register_feature_stores(register: Register) -> None:
    """Register the store. Neither it nor psycopg is imported before it is used."""
    register("postgres", "enhancer_postgres.store:PostgresStore", requires=("psycopg",))
