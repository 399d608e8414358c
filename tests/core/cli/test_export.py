"""Test ``enhancer export`` over a project: which tables, what is checked, and what is refused."""

from __future__ import annotations

import json

import duckdb
import numpy as np
import pytest

from enhancer import Project, Ranker
from enhancer.contracts import Factors
from enhancer.serving import write_artifact

SETUP = ("--llm", "openai", "--model", "local", "--embedder", "hashing")
PRICE = ("--set", "llm.price.input=1", "--set", "llm.price.output=2")


@pytest.fixture
def project(invoke, tables, hashing, llm_server):
    assert invoke("init", "--yes", *SETUP, "--api-base", llm_server.url).code == 0
    assert invoke("generate", "-q", "--yes", *PRICE).code == 0
    chance = np.random.default_rng(0)
    films = ["Toy Story", "Heat", "Casper", "Alien", "Solaris", "Clue"]
    write_artifact(
        tables / "artifact",
        factors=Factors(chance.normal(size=(12, 4)).astype("f4"), chance.normal(size=(6, 4)).astype("f4")),
        user_ids=[str(user) for user in range(1, 13)],
        item_ids=[str(item) for item in range(1, 7)],
        train_users=np.arange(12),
        train_items=np.arange(12) % 5,
        titles=films,
        manifest={},
    )
    return tables


def test_the_factors_of_items_are_exported_and_checked_with_those_of_users(invoke, project):
    result = invoke("export", "duckdb", "shop.duckdb", "--json").json()
    ranker = Ranker.load(project / "artifact")
    ids, matrix = ranker.item_table()
    assert (result["rows"], result["width"]) == matrix.shape
    assert (result["recall@10"], result["queries"], result["name"]) == (1.0, 12, "items")
    assert result["metric"] == "inner product"
    with duckdb.connect("shop.duckdb") as connection:
        rows = connection.execute("SELECT id, vector, payload FROM items").fetchall()
    found = {id_: (vector, json.loads(payload)) for id_, vector, payload in rows}
    assert set(found) == set(ids)
    for row, id_ in enumerate(ids):
        assert np.array_equal(np.float32(found[id_][0]), matrix[row])
    payload = found["1"][1]
    record = invoke("store", "get", "1", "--json").json()
    assert payload["title"] == "Toy Story"
    assert [id_ for id_ in ids if found[id_][1].get("new")] == ["6"]
    assert (payload["profile"], payload["tags"]) == (record["profile"], record["tags"])


def test_users_and_stored_vectors_are_exported_beside_it(invoke, project):
    assert invoke("export", "duckdb", "shop.duckdb").code == 0
    assert invoke("export", "duckdb", "shop.duckdb", "--table", "users").code == 0
    told = invoke("export", "duckdb", "shop.duckdb", "--table", "item-vectors", "--no-payload")
    assert "6 rows of item-vectors" in told.out
    assert "recall@10 against exact search, over 6 queries: 1.0000" in told.out
    with duckdb.connect("shop.duckdb") as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (12,)
        rows = connection.execute("SELECT id, vector, payload FROM item_vectors").fetchall()
    record = invoke("store", "get", "1", "--json").json()
    vectors = {id_: vector for id_, vector, _ in rows}
    assert np.allclose(vectors["1"], record["vector"])
    assert {payload for _, _, payload in rows} == {"{}"}


def test_python_has_the_same_verb(project):
    shop = Project.load(project / "enhancer.toml")
    report = shop.export("faiss", project / "items.faiss", options={"factory": "Flat"}, sample=5)
    shop.close()
    assert (report.rows, report.recall, report.queries) == (6, 1.0, 5)
    assert (project / "items.faiss.jsonl").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("duckbd", "x"), 2, "unknown exporter 'duckbd'\n  did you mean 'duckdb'?"),
        (("duckdb", "nowhere/x.duckdb"), 2, "there is no folder nowhere"),
        (("duckdb", "x.duckdb", "--table", "itms"), 2, "duckdb exports no table 'itms'\n  did you mean 'items'?"),
        (("duckdb", "x.duckdb", "--table", "user-vectors"), 1, "the store has no vectors of users"),
        (("duckdb", "x.duckdb", "--option", "indx=1"), 2, "export duckdb unknown key 'indx'"),
        (("duckdb", "x.duckdb", "--option", "index"), 2, "--option takes KEY=VALUE, not 'index'"),
        (("duckdb", "x.duckdb", "--artifact", "none"), 1, "there is no artifact in none"),
        (("faiss", "x.faiss", "--option", "factory=IVF4096,Flat"), 2, "faiss cannot make the index"),
    ],
)
def test_mistakes_are_named(invoke, project, arguments, code, message):
    result = invoke("export", *arguments)
    assert result.code == code
    assert message in result.err
    assert not list(project.glob("x.*"))


def test_a_second_export_is_refused_without_force(invoke, project):
    assert invoke("export", "faiss", "items.faiss").code == 0
    again = invoke("export", "faiss", "items.faiss")
    assert again.code == 2
    assert "items.faiss exists\n  --force replaces it" in again.err
    assert invoke("export", "faiss", "items.faiss", "--force").code == 0


def test_a_recall_below_the_bound_is_told(invoke, project, monkeypatch):
    from enhancer_plugins.exporters.duckdb import DuckDBExporter

    whole = DuckDBExporter.write

    def forgetful(self, source, order):
        written = whole(self, source, order)
        object.__setattr__(written, "search", lambda queries, k: [[] for _ in queries])
        return written

    monkeypatch.setattr(DuckDBExporter, "write", forgetful)
    result = invoke("export", "duckdb", "shop.duckdb", "--json")
    assert result.code == 3
    assert result.json()["recall@10"] == 0
    assert "recall@10 is 0.0000, below 0.9" in result.err
