"""Test which stored vectors training reads, by the sources of items and users."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from generation import GenerationProject, answer, entity
from loopback import Behaviour, LoopbackServer, Script

from enhancer.features import Semantics, inputs_wanted, pool


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
    users, items = semantics.tables(semantics.settings.inputs)
    np.testing.assert_array_equal(items, stored(bench, "item", "text"))
    np.testing.assert_array_equal(users, stored(bench, "user", ""))


def test_the_control_on_raw_text_pools_profiled_users(bench):
    bench.prompts = {"item": {"source": "text"}, "user": {"source": "llm"}}
    semantics = generated(bench)
    users, items = semantics.tables(("text",))
    np.testing.assert_array_equal(items, stored(bench, "item", "text"))
    np.testing.assert_array_equal(users, pool(items, semantics.train.users, semantics.train.items, 3))


def test_without_profiles_of_users_raw_text_is_the_only_input(bench, llm_server):
    bench.prompts, bench.inputs = {"item": {"source": "text"}, "user": {"source": "text"}}, ["profile", "text"]
    semantics = generated(bench)
    assert (semantics.settings.inputs, llm_server.count) == (("text",), 0)
    users, items = semantics.tables(semantics.settings.inputs)
    np.testing.assert_array_equal(items, stored(bench, "item", "text"))
    np.testing.assert_array_equal(users, stored(bench, "user", "text"))
