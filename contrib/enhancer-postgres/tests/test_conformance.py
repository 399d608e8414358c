"""Conformance suite for stores, with a real server and both types of vector columns."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import pytest
from enhancer_postgres.store import PostgresStore
from postgres_server import PATIENT

from enhancer.testing.store import StoreConformance


class OnPostgres(StoreConformance):
    store_class = PostgresStore
    vectors: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _server(self, url):
        """Return a server; one with pgvector if the test needs it."""

    def options_for(self, root):
        digest = hashlib.blake2b(str(root).encode(), digest_size=6).hexdigest()
        return {"table": f"t{digest}.records", "vectors": self.vectors, **PATIENT}


class TestPgvector(OnPostgres):
    vectors = "pgvector"


class TestBytea(OnPostgres):
    vectors = "bytea"
