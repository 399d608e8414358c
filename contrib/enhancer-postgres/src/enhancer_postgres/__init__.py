"""A plugin for enhancer: the feature store ``postgres``, one table of a PostgreSQL server that a team shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer import hookimpl

if TYPE_CHECKING:
    from enhancer.hookspecs import Register


@hookimpl
def register_feature_stores(register: Register) -> None:
    """Offer the store. Nothing of it, nor psycopg, is imported until somebody uses it."""
    register("postgres", "enhancer_postgres.store:PostgresStore", requires=("psycopg",))
