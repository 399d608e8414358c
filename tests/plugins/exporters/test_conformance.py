"""Hold the bundled exporters to the conformance suite, each read back by its own library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from enhancer.errors import ConfigError
from enhancer.testing.exporter import ExporterConformance, PlantedSource

PAYLOAD = ("title", "profile", "tags", "generated_at", "new")


class TestDuckDB(ExporterConformance):
    @property
    def exporter_class(self):
        pytest.importorskip("duckdb")
        from enhancer_plugins.exporters.duckdb import DuckDBExporter

        return DuckDBExporter

    @pytest.fixture
    def target(self, tmp_path):
        return str(tmp_path / "films.duckdb")

    def read(self, target, name):
        import duckdb

        if not Path(target).exists():
            return None
        with duckdb.connect(target, read_only=True) as connection:
            if not connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [name]).fetchone():
                return None
            rows = connection.execute(f'SELECT id, vector, payload FROM "{name}"').fetchall()
        return {id_: (vector, json.loads(payload)) for id_, vector, payload in rows}

    def test_a_table_of_somebody_else_is_never_replaced(self, target):
        import duckdb

        with duckdb.connect(target) as connection:
            connection.execute("CREATE TABLE Films AS SELECT 1 AS one")
        with pytest.raises(ConfigError, match="is no export of enhancer"):
            self.write(target, PlantedSource(), replace=True)
        with duckdb.connect(target) as connection:
            assert connection.execute("SELECT one FROM films").fetchall() == [(1,)]

    def test_a_file_that_is_no_database_is_named(self, target):
        Path(target).write_text("notes\n" * 1000)
        with pytest.raises(ConfigError, match="cannot be opened by DuckDB"):
            self.write(target, PlantedSource())
        assert Path(target).read_text().startswith("notes")


class TestFaiss(ExporterConformance):
    @property
    def exporter_class(self):
        pytest.importorskip("faiss")
        from enhancer_plugins.exporters.faiss import FaissExporter

        return FaissExporter

    @pytest.fixture
    def target(self, tmp_path):
        return str(tmp_path / "films.faiss")

    def read(self, target, name):
        import faiss

        if not Path(target).exists():
            assert not Path(f"{target}.jsonl").exists()
            return None
        index = faiss.read_index(target)
        assert index.metric_type == faiss.METRIC_INNER_PRODUCT
        vectors = index.reconstruct_n(0, index.ntotal)
        origin, *rows = [json.loads(line) for line in Path(f"{target}.jsonl").read_text().splitlines()]
        assert origin["export"]["rows"] == len(rows) == index.ntotal
        return {row.pop("id"): (vector.tolist(), row) for row, vector in zip(rows, vectors, strict=True)}

    @pytest.mark.parametrize("factory", ["HNSW16", "IVF4,Flat"])
    def test_other_indexes_are_made_by_their_descriptions(self, target, factory):
        self.options = {"factory": factory}
        written = self.write(target, PlantedSource())
        assert written.rows == 300

    def test_a_wrong_description_is_named(self, target):
        self.options = {"factory": "Flatt"}
        with pytest.raises(ConfigError, match="cannot make the index 'Flatt'"):
            self.write(target, PlantedSource())

    def test_a_file_of_somebody_else_is_never_replaced(self, target):
        Path(target).write_text("mine")
        with pytest.raises(ConfigError, match="is no export of enhancer"):
            self.write(target, PlantedSource(), replace=True)
        assert Path(target).read_text() == "mine"


class TestLanceDB(ExporterConformance):
    @property
    def exporter_class(self):
        pytest.importorskip("lancedb")
        from enhancer_plugins.exporters.lancedb import LanceDBExporter

        return LanceDBExporter

    @pytest.fixture
    def target(self, tmp_path):
        return str(tmp_path / "lance")

    def read(self, target, name):
        import lancedb

        try:
            table = lancedb.connect(target).open_table(name)
        except ValueError:
            return None
        return {
            row["id"]: (row["vector"], {key: row[key] for key in PAYLOAD if row[key] is not None})
            for row in table.to_arrow().to_pylist()
        }

    def test_a_table_of_somebody_else_is_never_replaced(self, target):
        import lancedb

        lancedb.connect(target).create_table("films", data=[{"one": 1}])
        with pytest.raises(ConfigError, match="is no export of enhancer"):
            self.write(target, PlantedSource(), replace=True)
        assert lancedb.connect(target).open_table("films").to_arrow().to_pylist() == [{"one": 1}]


class TestQdrant(ExporterConformance):
    """In the library's local mode."""

    @property
    def exporter_class(self):
        pytest.importorskip("qdrant_client")
        from enhancer_plugins.exporters.qdrant import QdrantExporter

        return QdrantExporter

    @pytest.fixture
    def target(self, tmp_path):
        return str(tmp_path / "qdrant")

    def read(self, target, name):
        from qdrant_client import QdrantClient

        client = QdrantClient(path=target)
        try:
            assert len(client.get_collections().collections) == len(client.get_aliases().aliases)
            if not client.collection_exists(name):
                return None
            assert client.get_collection(name).config.params.vectors.distance == "Dot"
            points, _ = client.scroll(name, limit=1000, with_vectors=True)
        finally:
            client.close()
        return {point.payload.pop("id"): (point.vector, point.payload) for point in points}

    def test_a_collection_of_somebody_else_is_never_replaced(self, target):
        from qdrant_client import QdrantClient, models

        client = QdrantClient(path=target)
        client.create_collection("films", models.VectorParams(size=2, distance=models.Distance.COSINE))
        client.close()
        with pytest.raises(ConfigError, match="is no export of enhancer"):
            self.write(target, PlantedSource(), replace=True)

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("http://me:secret@127.0.0.1:1", "holds a key"),
            ("http://qdrant.example:6333", "would be sent to qdrant.example unencrypted"),
        ],
    )
    def test_keys_stay_out_of_urls_and_of_open_lines(self, monkeypatch, url, message):
        monkeypatch.setenv("QDRANT_API_KEY", "secret")
        with pytest.raises(ConfigError, match=message) as caught:
            self.write(url, PlantedSource())
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["films; DROP", 'a"b', "", "7up", "ü"])
def test_a_name_that_needs_quoting_is_refused(tmp_path, name):
    suite = TestDuckDB()
    with pytest.raises(ConfigError, match="is no name for a table"):
        suite.write(str(tmp_path / "x.duckdb"), PlantedSource(), name=name)
    assert np.array_equal(list(tmp_path.iterdir()), [])
