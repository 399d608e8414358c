"""Test which stored vectors training reads, by the sources of items and users."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from generation import GenerationProject, answer, entity
from loopback import Behaviour, LoopbackServer, Script

from enhancer.config import Settings
from enhancer.contracts import Context, Record, View
from enhancer.errors import StoreError, StoreMismatchError
from enhancer.features import Semantics, inputs_wanted, pool
from enhancer_plugins.stores.sqlite import SQLiteStore


@pytest.fixture
def bench(tmp_path, llm_server: LoopbackServer) -> GenerationProject:
    llm_server.script = Script(default=Behaviour(answer=answer))
    made = GenerationProject(tmp_path, llm_server.url, [entity(str(n)) for n in range(4)])
    made.users = [entity(f"u{n}", f"title: film {n} lover", kind="user") for n in range(3)]
    return made


def generated(bench: GenerationProject) -> Semantics:
    settings = bench.settings()
    bench.pipeline(inputs=inputs_wanted(settings)).generate()
    train = SimpleNamespace(
        user_ids=["u0", "u1", "u2"],
        item_ids=["0", "1", "2", "3"],
        users=np.array([0, 0, 1, 2], np.int32),
        items=np.array([0, 1, 2, 3], np.int32),
    )
    return Semantics(settings, bench.store, bench.embedder.fingerprint, train)


def stored(bench: GenerationProject, kind: str, aspect: str) -> np.ndarray:
    ids = ["0", "1", "2", "3"] if kind == "item" else ["u0", "u1", "u2"]
    return bench.store.vectors(ids, kind=kind, aspect=aspect)


@pytest.mark.parametrize("inputs", [["profile"], ["profile", "text"]])
def test_profiles_of_users_stand_beside_raw_text_of_items(bench, llm_server, inputs):
    bench.prompts, bench.inputs = {"item": {"source": "text"}, "user": {"source": "llm"}}, inputs
    semantics = generated(bench)
    assert llm_server.count == 3
    users, items, _ = semantics.tables(semantics.settings.inputs)
    np.testing.assert_array_equal(items, stored(bench, "item", "text"))
    np.testing.assert_array_equal(users, stored(bench, "user", ""))


def test_the_control_on_raw_text_pools_profiled_users(bench):
    bench.prompts = {"item": {"source": "text"}, "user": {"source": "llm"}}
    semantics = generated(bench)
    users, items, _ = semantics.tables(("text",))
    np.testing.assert_array_equal(items, stored(bench, "item", "text"))
    np.testing.assert_array_equal(users, pool(items, semantics.train.users, semantics.train.items, 3))


def test_without_profiles_of_users_raw_text_is_the_only_input(bench, llm_server):
    bench.prompts, bench.inputs = {"item": {"source": "text"}, "user": {"source": "text"}}, ["profile", "text"]
    semantics = generated(bench)
    assert (semantics.settings.inputs, llm_server.count) == (("text",), 0)
    users, items, _ = semantics.tables(semantics.settings.inputs)
    np.testing.assert_array_equal(items, stored(bench, "item", "text"))
    np.testing.assert_array_equal(users, stored(bench, "user", "text"))


ITEMS, USERS = ["0", "1", "2"], ["u0", "u1"]
TRAIN = SimpleNamespace(
    user_ids=USERS, item_ids=ITEMS, users=np.array([0, 0, 1], np.int32), items=np.array([0, 1, 2], np.int32)
)


def unit(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32) / np.linalg.norm(numbers)


def notes(store, kind: str, ids: list[str], **aspects: list[np.ndarray]) -> None:
    """Store a vector of each id for each aspect; None leaves one out."""
    fields = {"profile": "p", "embedder": "e", "generated_at": "2026-01-01T00:00:00Z", "input_hash": "h"}
    store.put(
        [
            Record(id=id_, kind=kind, aspect="" if aspect == "profile" else aspect, vector=vector, **fields)
            for aspect, vectors in aspects.items()
            for id_, vector in zip(ids, vectors, strict=True)
            if vector is not None
        ]
    )


@pytest.fixture
def store(tmp_path) -> SQLiteStore:
    made = SQLiteStore(SQLiteStore.options_class(), Context(tmp_path))
    plot, mood = [unit(1, 0), unit(0, 1), None], [unit(1, 1), unit(1, -1), unit(0, 1)]
    notes(made, "item", ITEMS, plot=plot, mood=mood, text=[unit(1, 2)] * 3)
    return made


def read(store, inputs, *, item=None, user=None, llm=None):
    """Return the vectors of these inputs, of items with the aspects plot and mood."""
    prompts = {"item": {"aspects": ["plot", "mood"], **(item or {})}} | ({"user": user} if user else {})
    settings = Settings.model_validate({"prompts": prompts, "embedder": {"input": inputs}, "llm": llm or {}})
    return Semantics(settings, store, "e", TRAIN).tables(settings.inputs)


def test_aspects_stand_side_by_side_and_views_name_their_columns(store):
    users, items, views = read(store, ["*"])
    assert users is None
    assert views == (View("text", 0, 2), View("plot", 2, 4), View("mood", 4, 6))
    np.testing.assert_array_equal(items[:, views[1].columns], [[1, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(items[2, views[2].columns], [0, 1])


def test_inputs_of_other_widths_and_missing_ones_stand_side_by_side(store):
    notes(store, "item", ITEMS, kin=[unit(1, 2, 2)] * 3)
    aspects = {"aspects": ["profile", "plot", "kin", "mood"]}
    _, items, views = read(store, ["profile", "plot", "kin", "mood"], item=aspects)  # no item has a profile
    assert views == (View("plot", 0, 2), View("kin", 2, 5), View("mood", 5, 7))
    np.testing.assert_allclose(items[0], [1, 0, 1 / 3, 2 / 3, 2 / 3, 2**-0.5, 2**-0.5], atol=1e-6)
    assert items.flags.c_contiguous


def test_a_mean_leaves_out_what_an_entity_lacks(store):
    _, items, views = read(store, ["mean(plot,mood)"])
    assert views == (View("mean(plot,mood)", 0, 2),)
    expected = [unit(1 + 2**-0.5, 2**-0.5), unit(2**-0.5, 1 - 2**-0.5), [0, 1]]
    np.testing.assert_allclose(items, expected, atol=1e-6)


def test_samples_are_averaged_as_far_as_there_are_any(store):
    notes(store, "item", ITEMS, **{"mood#2": [unit(1, -1), None, unit(0, 1)], "mood#3": [unit(1, 0), None, None]})
    _, items, _ = read(store, ["mood"], item={"samples": 3}, llm={"temperature": 1.0})
    np.testing.assert_allclose(items, [[1, 0], unit(1, -1), [0, 1]], atol=1e-6)
    _, items, _ = read(store, ["mood"])
    np.testing.assert_allclose(items, [unit(1, 1), unit(1, -1), [0, 1]], atol=1e-6)


def test_users_have_own_notes_where_they_exist_and_the_others_from_their_items(store):
    notes(store, "user", USERS, taste=[unit(0, -1), unit(-1, 0)], mood=[unit(3, 4), None])
    user = {"source": "llm", "aspects": ["taste", "mood"]}
    users, items, views = read(store, ["plot", "mood", "taste"], user=user)
    assert [view.name for view in views] == ["plot", "mood", "taste"]
    np.testing.assert_allclose(users[0], [*unit(1, 1), *unit(3, 4), 0, -1], atol=1e-6)
    # The second user took the third item alone, which has no plot, and lacks a mood of its own.
    np.testing.assert_allclose(users[1], [0, 0, 0, 1, -1, 0], atol=1e-6)
    np.testing.assert_array_equal(items[:, views[2].columns], 0)


def test_a_mean_for_users_takes_the_parts_they_have_and_pools_the_rest(store):
    notes(store, "user", USERS, taste=[unit(0, -1), unit(-1, 0)])
    users, _, views = read(store, ["mean(mood,taste)"], user={"source": "llm", "aspects": ["taste"]})
    assert len(views) == 1
    np.testing.assert_allclose(users, [unit(1, -1), unit(-1, 1)], atol=1e-6)


@pytest.mark.parametrize(
    ("join", "wanted"),
    [
        ("side", ["text", "plot", "mood"]),
        ("mean", ["text", "plot", "mood"]),
        ("text", ["text+plot+mood", "text", "plot+mood", "text+mood", "text+plot"]),
    ],
)
def test_what_arms_without_an_input_need_is_stored(join, wanted):
    prompts = {"item": {"aspects": ["plot", "mood"]}}
    evaluation = {"aspects": "leave-one-out", "arms": ["none", "align"]}
    settings = Settings.model_validate({"prompts": prompts, "embedder": {"join": join}, "evaluation": evaluation})
    assert inputs_wanted(settings) == wanted


def test_an_aspect_that_is_not_stored_is_an_error_that_names_it(store):
    with pytest.raises(StoreError, match=r"no vectors of items for input kin; run `enhancer generate`"):
        read(store, ["plot", "kin"], item={"aspects": ["plot", "kin"]})
    with pytest.raises(StoreError, match="no vectors of users"):
        read(store, ["mood", "taste"], user={"source": "llm", "aspects": ["taste", "mood"]})


def test_vectors_of_different_widths_have_no_mean(store):
    notes(store, "item", ITEMS, kin=[unit(1, 0, 0)] * 3)
    with pytest.raises(StoreMismatchError, match="vectors of 2 and 3 numbers have no mean"):
        read(store, ["mean(plot,kin)"], item={"aspects": ["plot", "kin"]})
