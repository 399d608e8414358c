import contextlib
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from enhancer.contracts import Dense, Factors, Kernel, Placement
from enhancer.errors import ArtifactError, DataError
from enhancer.serving import Ranker, write_artifact
from enhancer.serving.ids import IdTable, pack_ids
from enhancer.serving.topk import top_k

RNG = np.random.default_rng(0)
USERS = [f"u{n}" for n in range(20)]
ITEMS = [f"film-{n}" for n in range(60)]
U = RNG.standard_normal((20, 8)).astype(np.float32)
V = RNG.standard_normal((60, 8)).astype(np.float32)
SEEN = sorted({(int(u), int(i)) for u, i in zip(RNG.integers(0, 20, 100), RNG.integers(0, 60, 100), strict=True)})


def write(folder: Path, **changes: object) -> Path:
    arguments: dict[str, object] = {
        "factors": Factors(U, V),
        "user_ids": USERS,
        "item_ids": ITEMS,
        "train_users": np.array([u for u, _ in SEEN], np.int32),
        "train_items": np.array([i for _, i in SEEN], np.int32),
        "place_items": Placement((Dense(np.eye(3, 8, dtype=np.float32), np.zeros(8, np.float32), "tanh"),), norm=2.0),
        "manifest": {"seed": 7, "metrics": {"ndcg@10": 0.3}, "fuser": "align"},
        "titles": [f"Film №{n}" if n else None for n in range(60)],
    }
    return write_artifact(folder, **{**arguments, **changes})  # type: ignore[arg-type]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write(tmp_path / "artifact")


@pytest.fixture
def ranker(artifact: Path) -> Ranker:
    return Ranker.load(artifact)


def by_hand(user: int, k: int, without: set[int] = frozenset(), among: set[int] | None = None) -> list[str]:  # type: ignore[assignment]
    scores = V @ U[user]
    allowed = [i for i in range(60) if i not in without and (among is None or i in among)]
    return [ITEMS[i] for i in sorted(allowed, key=lambda i: (-scores[i], i))[:k]]


# --- recommending -------------------------------------------------------------------------------------------------


def test_recommendations_are_the_best_inner_products_of_unseen_items(ranker: Ranker) -> None:
    for found, user in zip(ranker.recommend(USERS, k=7), range(20), strict=True):
        assert found.user_id == USERS[user]
        assert [item for item, _ in found.items] == by_hand(user, 7, {i for u, i in SEEN if u == user})
        for item, score in found.items:
            assert score == pytest.approx(float(V[ITEMS.index(item)] @ U[user]), abs=1e-5)


def test_seen_items_candidates_and_exclusions(ranker: Ranker) -> None:
    (found,) = ranker.recommend(["u3"], k=5, exclude_seen=False)
    assert [item for item, _ in found.items] == by_hand(3, 5)
    among = {1, 5, 9, 30, 31, 59}
    (found,) = ranker.recommend(["u3"], k=10, exclude_seen=False, candidates=[ITEMS[i] for i in among])
    assert [item for item, _ in found.items] == by_hand(3, 10, among=among)
    (found,) = ranker.recommend(["u3"], k=10, candidates=[ITEMS[i] for i in among], exclude=["film-5", "film-2"])
    seen = {i for u, i in SEEN if u == 3}
    assert [item for item, _ in found.items] == by_hand(3, 10, seen | {5, 2}, among)
    both = ranker.recommend(["u3", "u4"], k=3, exclude_seen=False, exclude={"u4": by_hand(4, 1)})
    assert [item for item, _ in both[0].items] == by_hand(3, 3)
    assert [item for item, _ in both[1].items] == by_hand(4, 4)[1:]


def test_fewer_than_k_when_there_are_not_as_many(ranker: Ranker) -> None:
    (found,) = ranker.recommend(["u0"], k=1000)
    assert len(found.items) == 60 - len(ranker.seen("u0"))
    # How much memory is taken goes by what there is, not by what is asked for.
    assert ranker.recommend(["u0"], k=10**12)[0].items == found.items
    assert len(ranker.similar("film-1", k=10**12).items) == 59
    assert ranker.recommend(["u0"], candidates=[])[0].items == []
    assert ranker.recommend([], k=3) == []


def test_json_has_the_keys_that_the_command_prints(ranker: Ranker) -> None:
    found = ranker.recommend(["u1"], k=2)[0].to_json()
    assert list(found) == ["user_id", "items"]
    assert [set(item) for item in found["items"]] == [{"item_id", "score"}] * 2
    assert json.loads(json.dumps(found)) == found
    near = ranker.similar("film-1", k=2).to_json()
    assert list(near) == ["item_id", "items"]


def test_similar_is_by_cosine_and_leaves_the_item_out(ranker: Ranker) -> None:
    unit = V / np.linalg.norm(V, axis=1, keepdims=True)
    cosine = unit @ unit[4]
    expected = [i for i in np.argsort(-cosine, kind="stable") if i != 4][:5]
    found = ranker.similar("film-4", k=5)
    assert [item for item, _ in found.items] == [ITEMS[i] for i in expected]
    assert found.items[0][1] == pytest.approx(float(cosine[expected[0]]), abs=1e-5)


def test_scores_titles_and_what_was_seen(ranker: Ranker) -> None:
    np.testing.assert_allclose(ranker.score("u2", ["film-9", "film-0"]), V[[9, 0]] @ U[2], rtol=1e-5)
    assert ranker.title("film-3") == "Film №3"
    assert ranker.title("film-0") is None
    assert ranker.seen("u5") == [ITEMS[i] for u, i in SEEN if u == 5]
    assert (ranker.n_users, ranker.n_items) == (20, 60)
    assert ranker.manifest["seed"] == 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.recommend(["u21"]), "unknown user 'u21'; did you mean 'u2"),
        (lambda r: r.recommend(["u1"], candidates=["film-77"]), "unknown item 'film-77'; did you mean 'film-7'"),
        (lambda r: r.recommend(["u1"], exclude=["zzz"]), "unknown item 'zzz'; known ids look like"),
        (lambda r: r.similar("movie"), "unknown item 'movie'"),
        (lambda r: r.score("nobody", []), "unknown user 'nobody'"),
        (lambda r: r.recommend("u1"), "must be a list"),
        (lambda r: r.recommend(["u1"], k=0), "k must be at least 1"),
    ],
)
def test_an_unknown_id_is_named_with_the_nearest(ranker: Ranker, call: object, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        call(ranker)  # type: ignore[operator]


# --- new items ----------------------------------------------------------------------------------------------------


def test_ids_and_k_of_another_type_are_refused(ranker: Ranker) -> None:
    """Whoever reads ids from a table of numbers must hear of it, also once a dictionary answers."""
    for _ in range(2):
        for call in (
            lambda: ranker.recommend([3]),  # type: ignore[list-item]
            lambda: ranker.similar(3),  # type: ignore[arg-type]
            lambda: ranker.score("u1", [3]),  # type: ignore[list-item]
            lambda: ranker.add_items([3], np.ones((1, 3), np.float32)),  # type: ignore[list-item]
            lambda: ranker.add_users({3: ["film-1"]}),  # type: ignore[dict-item]
            lambda: ranker.add_users({"new": [3]}, skip_unknown=True),  # type: ignore[list-item]
        ):
            with pytest.raises(DataError, match="ids are strings, not 3"):
                call()
        ranker.warm()
    with pytest.raises(DataError, match="histories must be a dictionary"):
        ranker.add_users(["film-1"])  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"k must be a whole number, not 1\.5"):
        ranker.recommend(["u1"], k=1.5)  # type: ignore[arg-type]


def test_new_items_are_placed_and_recommended(ranker: Ranker) -> None:
    vectors = np.array([[3, 0, 0], [0, 0, -1]], np.float32)
    ranker.add_items(["new-a", "new-b"], vectors)
    assert ranker.n_items == 62
    row = np.zeros(8, np.float32)
    row[0] = 2.0  # tanh keeps the direction, the norm is 2
    np.testing.assert_allclose(ranker.score("u1", ["new-a"]), [row @ U[1]], rtol=1e-5)
    (found,) = ranker.recommend(["u1"], k=62, exclude_seen=False)
    assert {"new-a", "new-b"} < {item for item, _ in found.items}
    assert ranker.similar("new-a", k=61).items[0][0] != "new-a"
    ranker.add_items(["new-c"], vectors[:1])
    assert ranker.similar("new-c", k=1).items[0][0] == "new-a"
    with pytest.raises(DataError, match="'new-a' already exists"):
        ranker.add_items(["new-a"], vectors[:1])
    for ids, said in (["new-d", "new-d"], "'new-d' is given twice"), (["new-d", ""], "is empty"):
        with pytest.raises(DataError, match=said):
            ranker.add_items(ids, vectors[:2])
    with pytest.raises(DataError, match=r"expected \[n, 3\]"):
        ranker.add_items(["new-d"], np.ones((1, 4), np.float32))
    with pytest.raises(DataError, match="'new-e' is zero or not finite"):
        ranker.add_items(["new-d", "new-e"], np.array([[1, 0, 0], [0, 0, 0]], np.float32))


def test_landmarks_in_half_precision_are_read_from_the_artifact(tmp_path: Path) -> None:
    marks = np.eye(4, 3, dtype=np.float16)
    kernel = Kernel(marks, np.zeros(3, np.float32), (0, 3), (1.0,), 0.5)
    place = Placement((kernel, Dense(np.eye(4, 8, dtype=np.float32), np.zeros(8, np.float32))))
    ranker = Ranker.load(write(tmp_path / "a", place_items=place))
    vector = np.array([[0, 2, 0]], np.float32)
    ranker.add_items(["new"], vector)
    np.testing.assert_allclose(ranker.score("u1", ["new"]), [place(vector)[0] @ U[1]], rtol=1e-5)


def test_without_a_map_new_items_are_refused(tmp_path: Path) -> None:
    ranker = Ranker.load(write(tmp_path / "a", place_items=None))
    with pytest.raises(ArtifactError, match=r"cannot place new items.*align"):
        ranker.add_items(["x"], np.ones((1, 3), np.float32))


def test_threads_share_a_ranker_while_items_are_added(ranker: Ranker) -> None:
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(50):
                assert len(ranker.recommend(USERS, k=5)[3].items) == 5
                ranker.similar("film-2")
        except BaseException as error:  # noqa: BLE001 - told to the main thread
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(20):
        ranker.add_items([f"new-{n}"], np.ones((1, 3), np.float32))
    for thread in threads:
        thread.join(30)
    assert errors == []


# --- the artifact on disk -----------------------------------------------------------------------------------------


def test_replacing_an_artifact_leaves_readers_of_the_old_one_alone(artifact: Path) -> None:
    old = Ranker.load(artifact)
    before = old.recommend(["u1"], k=5)
    write(artifact, factors=Factors(-U, V))
    assert old.recommend(["u1"], k=5) == before
    assert Ranker.load(artifact).recommend(["u1"], k=5) != before
    assert sorted(path.suffix for path in artifact.iterdir()) == [".json", ".safetensors"]


def test_the_tensors_are_what_safetensors_reads(artifact: Path) -> None:
    from safetensors.numpy import load_file

    (file,) = artifact.glob("*.safetensors")
    tensors = load_file(file)
    np.testing.assert_array_equal(tensors["items"], V)
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert manifest["tensors"]["file"] == file.name
    assert {"format", "enhancer", "created_at", "seed", "metrics"} <= set(manifest)


def test_a_metric_that_could_not_be_measured_is_null(tmp_path: Path) -> None:
    ranker = Ranker.load(write(tmp_path, manifest={"metrics": {"ndcg@10": float("nan")}, "list": [1.5, float("inf")]}))
    assert (ranker.manifest["metrics"], ranker.manifest["list"]) == ({"ndcg@10": None}, [1.5, None])


def test_an_artifact_of_nobody_and_nothing(tmp_path: Path) -> None:
    none = np.empty(0, np.int32)
    empty = {"item_ids": [], "train_users": none, "train_items": none, "titles": []}
    write(tmp_path, **empty, user_ids=[], factors=Factors(U[:0], V[:0]))
    assert Ranker.load(tmp_path, verify=True).recommend([]) == []
    write(tmp_path, **empty, factors=Factors(U, V[:0]))
    assert Ranker.load(tmp_path).recommend(["u1"])[0].items == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_ids": ITEMS[:-1]}, "59 item ids"),
        ({"item_ids": [*ITEMS[:-1], "film-0"]}, "not unique"),
        ({"factors": Factors(U, V[:, :5])}, "no inner product"),
        ({"factors": Factors(np.where(U > 2, np.nan, U), V)}, "not finite"),
        ({"train_items": np.full(len(SEEN), 60)}, "row numbers out of range"),
        ({"titles": ["one"]}, "1 titles"),
        ({"manifest": {"format": 3}}, "is reserved"),
        ({"manifest": {"seed": object()}}, "JSON"),
    ],
)
def test_parts_that_do_not_fit_are_refused(artifact: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        write(artifact, **change)
    assert Ranker.load(artifact, verify=True).n_items == 60  # the old one is whole


def edit(artifact: Path, **changes: object) -> None:
    path = artifact / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_damaged_missing_or_newer_is_told(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no artifact in .*run `enhancer train`"):
        Ranker.load(tmp_path / "nowhere")
    (tensors,) = artifact.glob("*.safetensors")
    whole = tensors.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(V.tobytes())] ^= 1  # the last bit of a factor: nothing but the digest tells
    tensors.write_bytes(flipped)
    Ranker.load(artifact, verify=False)
    with pytest.raises(ArtifactError, match="sha256"):
        Ranker.load(artifact)
    os.truncate(tensors, len(whole) // 2)
    with pytest.raises(ArtifactError, match="damaged"):
        Ranker.load(artifact)
    tensors.unlink()
    with pytest.raises(ArtifactError, match="missing"):
        Ranker.load(artifact)
    edit(artifact, tensors={"file": "../../etc/passwd"})
    with pytest.raises(ArtifactError, match="does not name a tensors file"):
        Ranker.load(artifact)
    edit(artifact, format=99)
    with pytest.raises(ArtifactError, match=r"format 99.*upgrade"):
        Ranker.load(artifact)
    for junk in ("{", "[]", '{"format": 1}', "[" * 100_000):
        (artifact / "manifest.json").write_text(junk)
        with pytest.raises(ArtifactError):
            Ranker.load(artifact)


@pytest.mark.parametrize(
    "call",
    [
        lambda r: r.recommend(["u1"]),
        lambda r: r.similar("film-1"),
        lambda r: r.score("u1", ["film-1"]),
        lambda r: r.seen("u1"),
        lambda r: r.add_items(["new"], np.ones((1, 3), np.float32)),
        lambda r: r.add_users({"new": ["film-1"]}),
        lambda r: r.with_users({"new": ["film-1"]}),
        lambda r: r.knows_user("u1"),
        lambda r: r.warm(),
        lambda r: r.item_table(),
    ],
)
def test_a_file_that_is_cut_while_it_is_mapped_is_told(artifact: Path, call: object) -> None:
    mapped, read = Ranker.load(artifact), Ranker.load(artifact, in_memory=True)
    (tensors,) = artifact.glob("*.safetensors")
    os.truncate(tensors, 64)
    with pytest.raises(ArtifactError, match=r"truncated from .* to 64 bytes while in use.* never in place"):
        call(mapped)  # type: ignore[operator]
    call(read)  # type: ignore[operator]


@given(st.binary(max_size=60), st.integers(0, 700))
@settings(max_examples=60, deadline=None)
def test_no_header_of_tensors_does_more_than_be_refused(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int
) -> None:
    artifact = write(tmp_path_factory.mktemp("a"))
    (tensors,) = artifact.glob("*.safetensors")
    content = bytearray(tensors.read_bytes())
    content[at : at + len(junk)] = junk
    tensors.write_bytes(content[: tensors.stat().st_size])
    with contextlib.suppress(ArtifactError):
        Ranker.load(artifact, verify=False)


def test_serving_imports_numpy_and_safetensors_alone(artifact: Path) -> None:
    program = textwrap.dedent("""
        import sys
        heavy = {"torch", "litellm", "pluggy", "lmdb", "sqlite3", "scipy", "pydantic", "typer", "rich", "jinja2",
                 "jsonschema", "transformers", "sentence_transformers", "pandas", "sklearn", "numba", "pyarrow"}
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in heavy:
                    raise ImportError(name + " is not for serving")
        sys.meta_path.insert(0, Blocker())
        import numpy as np
        import enhancer
        ranker = enhancer.Ranker.load(sys.argv[1], verify=True)
        assert len(ranker.recommend(["u1"], k=5)[0].items) == 5
        ranker.similar("film-1")
        ranker.add_items(["new"], np.ones((1, 3), np.float32))
        from enhancer.serving import write_artifact
    """)
    done = subprocess.run([sys.executable, "-c", program, str(artifact)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# --- ids and top-k ------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=4) | st.sampled_from(["\ud800", "x" * 99]), unique=True, max_size=40), st.text())
def test_ids_are_found_by_row_and_rows_by_id(ids: list[str], other: str) -> None:
    for look_ups in (0, 10**6):  # by binary search, and by dictionary
        table = IdTable("t", pack_ids(ids, "t"))
        table._lookups = look_ups
        assert [table[row] for row in range(len(table))] == ids
        assert [table.row(id_) for id_ in ids] == list(range(len(ids)))
        assert (table.row(other) is None) == (other not in ids)
        table.nearest(other)


def reference(queries, items, k, masked, banned):  # type: ignore[no-untyped-def]
    scores = queries @ items.T
    scores[masked] = -np.inf
    scores[:, banned] = -np.inf
    rows = np.full((len(queries), k), -1)
    for q, row in enumerate(scores):
        best = [i for i in np.lexsort((np.arange(len(row)), -row)) if row[i] > -np.inf][:k]
        rows[q, : len(best)] = best
    return rows


@given(st.integers(1, 40), st.integers(0, 3000), st.integers(1, 30), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_top_k_is_that_of_a_full_sort(n: int, m: int, k: int, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    # Small whole numbers: sums are exact in any order of addition, and ties are many.
    queries, items = (rng.integers(-2, 3, (rows, 3 if ties else 12)).astype(np.float32) for rows in (n, m))
    if not ties:
        items[:, 0] += np.arange(m, dtype=np.float32) % 97
    pairs = (rng.integers(0, n, 2 * n), rng.integers(0, m, 2 * n)) if m else (np.empty(0, int), np.empty(0, int))
    banned = rng.integers(0, m, min(m, 5)) if m else np.empty(0, int)
    rows, scores = top_k(queries, items, k, masked=pairs, banned=banned)
    expected = reference(queries, items, k, pairs, banned)
    np.testing.assert_array_equal(rows, expected)
    for q, row in enumerate(rows):
        np.testing.assert_array_equal(scores[q][row >= 0], (items[row[row >= 0]] @ queries[q]))
        assert (scores[q][row < 0] == -np.inf).all()


def test_top_k_over_many_blocks_and_queries() -> None:
    rng = np.random.default_rng(3)
    queries, items = (
        rng.integers(-9, 10, (1500, 4)).astype(np.float32),
        rng.integers(-9, 10, (9000, 4)).astype(np.float32),
    )
    items[7000:] *= 2  # the best come late, so that every mark is passed
    none = np.empty(0, int)
    rows, _ = top_k(queries, items, 5)
    chosen = rng.integers(0, 1500, 40)
    np.testing.assert_array_equal(rows[chosen], reference(queries[chosen], items, 5, (none, none), none))
