"""Items as an index of another library, and a ranker over one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from dists import cli, cli_json

from enhancer.contracts import Dense, Factors, Placement
from enhancer.errors import ArtifactError, ConfigError, DataError
from enhancer.serving import ApproximateRanker, Ranker, write_artifact

USERS, ITEMS, WIDTH = 60, 3000, 16
KINDS = ("usearch", "hnswlib", "faiss")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    items = rng.standard_normal((ITEMS, WIDTH)).astype(np.float32) * rng.gamma(4, 0.25, (ITEMS, 1)).astype(np.float32)
    return write_artifact(
        tmp_path_factory.mktemp("artifact"),
        factors=Factors(rng.standard_normal((USERS, WIDTH)).astype(np.float32), items),
        user_ids=[f"u{n}" for n in range(USERS)],
        item_ids=[f"i{n}" for n in range(ITEMS)],
        train_users=np.repeat(np.arange(USERS), 30),
        train_items=rng.integers(0, ITEMS, USERS * 30),
        place_items=Placement((Dense(np.eye(2, WIDTH, dtype=np.float32), np.zeros(WIDTH, np.float32)),)),
        manifest={},
    )


@pytest.fixture
def ranker(folder):
    return Ranker.load(folder)


@pytest.fixture(scope="module", params=KINDS)
def written(request, folder, tmp_path_factory):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    path = tmp_path_factory.mktemp("index") / f"items.{request.param}"
    return Ranker.load(folder).export_index(path, kind=request.param)


def test_nearly_all_of_the_exact_answer_is_found(ranker, written):
    near = ApproximateRanker(ranker, written)
    users = ranker.user_sample(USERS)
    assert near.recall(users, 10) > 0.98
    found, exact = near.recommend(users, 10), ranker.recommend(users, 10)
    for one, true in zip(found, exact, strict=True):
        assert one.user_id == true.user_id
        assert len(one.items) == 10
        assert not {item for item, _ in one.items} & set(ranker.seen(one.user_id))
        scores = dict(true.items)
        for item, score in one.items:  # the scores are exact
            assert item not in scores or score == pytest.approx(scores[item], rel=1e-5)


def test_users_and_items_that_came_later_are_found_too(ranker, written):
    ranker.add_items(["late"], np.array([[100, 100]], np.float32))
    ranker.add_users({"new": ["i1", "i2"]})
    near = ApproximateRanker(ranker, written)
    best = [user for user in ranker.user_sample(USERS) if ranker.recommend([user], 1)[0].items[0][0] == "late"]
    assert best
    assert all(one.items[0][0] == "late" for one in near.recommend(best, 1))
    assert near.recall(["new"], 10) > 0.7


def test_more_than_there_are(ranker, written):
    near = ApproximateRanker(ranker, written)
    assert near.recommend([], 5) == []
    assert len(near.recommend(["u1"], ITEMS, exclude_seen=False)[0].items) > 0.9 * ITEMS
    with pytest.raises(DataError, match="k must be"):
        near.recommend(["u1"], 0)


def test_the_note_gives_ids_by_row(ranker, written):
    note = json.loads(written.with_name(f"{written.name}.json").read_text())
    assert note["ids"] == [f"i{n}" for n in range(ITEMS)]
    assert (note["items"], note["width"], note["metric"]) == (ITEMS, WIDTH, "ip")


def test_what_the_library_itself_reads_answers_inner_products(ranker, tmp_path):
    usearch = pytest.importorskip("usearch.index", reason="usearch is not installed")
    path = ranker.export_index(tmp_path / "items.usearch", metric="ip")
    queries, _ = ranker.user_table(["u3"])
    found = usearch.Index.restore(str(path)).search(queries[0], 3)
    _, items = ranker.item_table()
    np.testing.assert_array_equal(found.keys, np.argsort(-(items @ queries[0]))[:3])
    np.testing.assert_allclose(1 - found.distances, np.sort(items @ queries[0])[::-1][:3], rtol=1e-4)


def test_by_cosine_the_neighbours_are_those_of_similar(ranker, tmp_path):
    usearch = pytest.importorskip("usearch.index", reason="usearch is not installed")
    path = ranker.export_index(tmp_path / "cosine", metric="cosine")
    _, items = ranker.item_table()
    unit = items[5] / np.linalg.norm(items[5])
    found = usearch.Index.restore(str(path)).search(unit, 6)
    assert [f"i{key}" for key in found.keys] == ["i5", *(item for item, _ in ranker.similar("i5", 5).items)]
    with pytest.raises(ArtifactError, match="not an inner-product index"):
        ApproximateRanker(ranker, path)


def test_a_file_goes_into_a_folder_that_is_there(ranker, tmp_path):
    pytest.importorskip("usearch", reason="usearch is not installed")
    with pytest.raises(ConfigError, match=r"there is no folder .*deep"):
        ranker.export_index(tmp_path / "deep" / "items.usearch")
    with pytest.raises(ConfigError, match="is a folder"):
        ranker.export_index(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_fails_half_way_leaves_the_old_one_with_its_ids(ranker, tmp_path, monkeypatch):
    usearch = pytest.importorskip("usearch.index", reason="usearch is not installed")
    path = ranker.export_index(tmp_path / "items.usearch")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fails(index, to):
        Path(to).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(usearch.Index, "save", fails)
    with pytest.raises(ArtifactError, match="No space left"):
        ranker.export_index(path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_kill_between_index_and_note_leaves_no_index_that_passes_for_another(ranker, tmp_path, monkeypatch):
    pytest.importorskip("usearch.index", reason="usearch is not installed")
    path, order = tmp_path / "items.usearch", []
    replace = Path.replace

    def noted(self, target):
        order.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    ranker.export_index(path)
    assert order == ["items.usearch", "items.usearch.json"]  # a note that is left behind names the artifact before


def test_what_is_no_index_of_this_artifact_is_refused(ranker, tmp_path):
    pytest.importorskip("usearch", reason="usearch is not installed")
    with pytest.raises(ArtifactError, match="no index in"):
        ApproximateRanker(ranker, tmp_path / "nothing")
    path = ranker.export_index(tmp_path / "index")
    note = tmp_path / "index.json"
    good = json.loads(note.read_text())
    for change in ({"artifact": "of another"}, {"kind": "annoy"}, {"metric": "cosine"}):
        note.write_text(json.dumps({**good, **change}))
        with pytest.raises(ArtifactError, match="rebuild it"):
            ApproximateRanker(ranker, path)
    note.write_text("{")
    with pytest.raises(ArtifactError, match="does not describe"):
        ApproximateRanker(ranker, path)
    note.write_text(json.dumps({**good, "items": ITEMS - 1}))
    with pytest.raises(ArtifactError, match="cannot be read"):
        ApproximateRanker(ranker, path)
    note.write_text(json.dumps(good))
    path.write_bytes(b"not an index at all")
    with pytest.raises(ArtifactError, match="cannot be read"):
        ApproximateRanker(ranker, path)


def test_the_command_writes_it_and_says_how_good_it_is(folder, tmp_path):
    pytest.importorskip("usearch", reason="usearch is not installed")
    made = cli_json("index", str(tmp_path / "items"), str(folder))
    assert (made["items"], made["kind"], made["metric"]) == (ITEMS, "usearch", "ip")
    assert made["recall@10"] > 0.98
    assert (tmp_path / "items.json").exists()
    done = cli("index", str(tmp_path / "x"), str(folder), "--kind", "annoy")
    assert (done.returncode, "usearch, hnswlib, faiss" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("x.faiss", "faiss"), ("x.FAISS", "faiss"), ("x.hnsw", "hnswlib"), ("x.hnswlib", "hnswlib"), ("x.bin", "usearch")],
)
def test_the_ending_names_the_library(folder, tmp_path, name, kind):
    pytest.importorskip(kind, reason=f"{kind} is not installed")
    path = Ranker.load(folder).export_index(tmp_path / name)
    assert json.loads((tmp_path / f"{name}.json").read_text())["kind"] == kind
    assert ApproximateRanker(Ranker.load(folder), path).recommend(["u1"], 5)


def test_the_command_writes_what_the_ending_names(folder, tmp_path):
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    path = tmp_path / "x.faiss"
    made = cli_json("index", str(path), str(folder))
    assert (made["kind"], made["recall@10"] > 0.95) == ("faiss", True)
    assert faiss.read_index(str(path)).ntotal == ITEMS


def test_an_ending_of_another_library_is_refused(folder, ranker, tmp_path):
    done = cli("index", str(tmp_path / "x.foo"), str(folder))
    assert done.returncode == 2
    assert "the ending .foo names no library" in done.stderr
    assert ".faiss is of faiss" in done.stderr
    assert not (tmp_path / "x.foo").exists()
    with pytest.raises(ConfigError, match=r"its ending names faiss; .*\.faiss is of faiss"):
        ranker.export_index(tmp_path / "x.faiss", kind="usearch")
    done = cli("index", str(tmp_path / "x.usearch"), str(folder), "--kind", "faiss")
    assert (done.returncode, ".usearch is of usearch" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_unknown_kinds_and_missing_libraries_are_told(ranker, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"kind 'annoy'.*usearch"):
        ranker.export_index(tmp_path / "x", kind="annoy")
    monkeypatch.setitem(__import__("sys").modules, "hnswlib", None)
    with pytest.raises(ConfigError, match=r"needs hnswlib; pip install hnswlib"):
        ranker.export_index(tmp_path / "x", kind="hnswlib")
    assert os.listdir(tmp_path) == []
