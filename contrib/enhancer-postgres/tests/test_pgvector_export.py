"""Hold the exporter ``pgvector`` to the conformance suite, on the servers that have the extension."""

from __future__ import annotations

import json
import threading

import pytest

from enhancer.contracts import Context, ExportOrder
from enhancer.contracts.options import build_options
from enhancer.errors import ConfigError
from enhancer.testing.exporter import ExporterConformance, PlantedSource
from enhancer_plugins.exporters.pgvector import PgvectorExporter


class TestPgvector(ExporterConformance):
    exporter_class = PgvectorExporter
    vectors = "pgvector"

    @pytest.fixture
    def target(self, server):
        server.ask("DROP TABLE IF EXISTS films")
        return server.url

    def read(self, target, name):
        import psycopg

        with psycopg.connect(target) as connection:
            if connection.execute("SELECT to_regclass(%s)", (name,)).fetchone() == (None,):
                return None
            tables = connection.execute("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'films%'").fetchone()
            assert tables == (1,)
            rows = connection.execute(f"SELECT id, vector::text, payload FROM {name}").fetchall()
        return {id_: (json.loads(vector), payload) for id_, vector, payload in rows}

    def test_a_table_of_somebody_else_is_never_replaced(self, server, target):
        server.ask("CREATE TABLE films AS SELECT 1 AS one")
        with pytest.raises(ConfigError, match="is no export of enhancer"):
            self.write(target, PlantedSource(), replace=True)
        assert server.ask("SELECT one FROM films")

    def test_an_index_finds_nearly_all_and_is_used(self, server, target):
        self.options = {"index": "hnsw"}
        written = self.write(target, PlantedSource())
        planted = PlantedSource().planted
        found = written.search(planted.matrix[10:20], 10)
        written.close()
        exact = (-(planted.matrix[10:20] @ planted.matrix.T)).argsort(axis=1)[:, :10]
        hits = sum(len({planted.ids[row] for row in rows} & set(ids)) for rows, ids in zip(exact, found, strict=True))
        assert hits >= 95
        assert "vector_ip_ops" in str(server.ask("SELECT indexdef FROM pg_indexes WHERE tablename = 'films'"))

    def test_readers_see_the_earlier_export_until_the_new_one_is_whole(self, target):
        self.write(target, PlantedSource()).close()
        source, reached, go_on = PlantedSource(), threading.Event(), threading.Event()
        source.planted.matrix[:] += 1
        batches = source.planted.batches

        def waiting():
            for batch in batches():
                yield batch
                reached.set()
                go_on.wait(60)

        source.planted.batches = waiting
        writer = threading.Thread(target=lambda: self.write(target, source, replace=True).close())
        writer.start()
        try:
            assert reached.wait(60)
            self.holds_rows(target, PlantedSource().planted)
        finally:
            go_on.set()
            writer.join()
        self.holds(target, source.planted)

    def holds_rows(self, target, planted):
        import psycopg

        with psycopg.connect(target) as connection:
            (vector,) = connection.execute("SELECT vector::text FROM films WHERE id = '007'").fetchone()
        assert json.loads(vector) == pytest.approx(planted.matrix[3].tolist())


def test_a_password_is_in_no_message_and_no_result():
    exporter = PgvectorExporter(build_options(PgvectorExporter.options_class, {}, where="options"), Context())
    target = "postgresql://me:secret@127.0.0.1:1/shop"
    assert exporter.place(target) == "postgresql://127.0.0.1:1/shop"
    order = ExportOrder(what="items", target=target, name="films")
    with pytest.raises(ConfigError, match=r"cannot connect to postgresql://127\.0\.0\.1:1/shop") as caught:
        exporter.write(PlantedSource(), order)
    assert "secret" not in str(caught.value)


def test_without_pgvector_the_extension_is_named(server, without_pgvector):
    exporter = PgvectorExporter(build_options(PgvectorExporter.options_class, {}, where="options"), Context())
    with pytest.raises(ConfigError, match="does not have pgvector"):
        exporter.write(PlantedSource(), ExportOrder(what="items", target=server.url, name="films"))
