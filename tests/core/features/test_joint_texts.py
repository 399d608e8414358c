"""Test joint texts: embedded after their parts, again when a part changes, and known to plan, refresh and diagnosis."""

from __future__ import annotations

import numpy as np
import pytest
from generation import PROFILE, GenerationProject, answer, entities, entity
from loopback import Behaviour, LoopbackServer, Script

from enhancer.features.refresh import refresh

JOINT = "text+profile"


@pytest.fixture
def bench(tmp_path, llm_server: LoopbackServer) -> GenerationProject:
    llm_server.script = Script(default=Behaviour(answer=answer))
    made = GenerationProject(tmp_path, llm_server.url, entities(3))
    made.inputs = [JOINT]
    return made


def joint_records(bench: GenerationProject, kind: str = "item") -> dict:
    return {record.id: record for record in bench.store.scan(kind=kind, aspect=JOINT)}


def expected_text(id_: str) -> str:
    return f"title: film {id_}\n{PROFILE.format(f'number {id_}')} warm, witty, gentle, wonder"


def test_a_joint_text_is_embedded_once_its_parts_are_stored(bench, llm_server):
    report = bench.generate()
    assert llm_server.count == report.generated == 3
    records = joint_records(bench)
    assert sorted(records) == ["0", "1", "2"]
    (vector,) = bench.embedder.encode([expected_text("1")])
    np.testing.assert_array_equal(records["1"].vector, vector)
    assert (records["1"].profile, records["1"].model, records["1"].cost_usd) == ("", "", None)
    assert report.embedded == 9  # texts, profiles, and both as one
    again = bench.generate()
    assert (again.embedded, again.generated, llm_server.count) == (0, 0, 3)


def test_only_what_has_changed_is_embedded_again(bench):
    bench.generate()
    before = joint_records(bench)
    (profile,) = bench.store.get(["2"])
    profile.profile = "Rewritten by hand, and shorter."
    bench.store.put([profile])
    bench.embedder.texts.clear()
    assert (bench.plan().to_embed, bench.plan().to_json()["joint_texts"]) == (1, 1)
    bench.generate()
    assert bench.embedder.texts == ["title: film 2\nRewritten by hand, and shorter. warm, witty, gentle, wonder"]
    after = joint_records(bench)
    assert {id_ for id_ in after if after[id_].input_hash != before[id_].input_hash} == {"2"}


def test_a_part_that_an_entity_lacks_is_left_out(bench):
    bench.generate()
    bench.rows.append(entity("3"))
    bench.generate(limit=0)  # asks nothing: film 3 has no profile
    assert sorted(joint_records(bench)) == ["0", "1", "2", "3"]
    (vector,) = bench.embedder.encode(["title: film 3"])
    np.testing.assert_array_equal(joint_records(bench)["3"].vector, vector)
    bench.generate()
    (vector,) = bench.embedder.encode([expected_text("3")])
    np.testing.assert_array_equal(joint_records(bench)["3"].vector, vector)


def test_a_new_embedder_makes_the_vectors_again(bench, llm_server):
    bench.generate()
    bench.embedder.name = "another"
    assert bench.generate().embedded == 9
    assert {record.embedder for record in joint_records(bench).values()} == {"another/16"}
    assert llm_server.count == 3


def test_refresh_and_vanished_records_know_joint_texts(bench):
    bench.generate()
    del bench.rows[2]
    bench.rows.append(entity("3"))
    (found,) = [one for one in bench.pipeline().differences() if one.aspect == JOINT]
    assert (found.name, found.entities, found.fresh, found.new, found.vanished) == (f"item/{JOINT}", 3, 2, 1, 1)
    assert found.examples == {"new": ["3"], "vanished": ["2"]}
    report = refresh(bench.pipeline(), bench.store, prune=True, max_pruned_share=1)
    assert report.pruned == 3  # profile, text and both as one
    assert sorted(joint_records(bench)) == ["0", "1", "3"]
    assert all(not one.new and not one.vanished for one in bench.pipeline().differences())


def test_users_have_joint_texts_of_their_own_notes_alone(bench):
    bench.users = [entity("u0", "title: a lover of film u0", kind="user")]
    bench.generate()
    assert not joint_records(bench, "user")  # they are pooled
    bench.prompts = {"user": {"source": "llm"}}
    bench.generate()
    assert sorted(joint_records(bench, "user")) == ["u0"]
