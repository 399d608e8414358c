"""One text without a vector goes to quarantine by its id; all others are stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from generation import GenerationProject, HashingEmbedder, answer, entities
from loopback import LoopbackServer, Script, returns

from enhancer.errors import EmbedderError
from enhancer.features.refresh import refresh
from enhancer.features.storing.interchange import import_records
from enhancer.harness import Journal

CURSED = "number 7,"


class Fragile(HashingEmbedder):
    """Embedder that makes no vector of some texts.

    Attributes:
        fault: ``nan``, ``zero`` or ``raise``; empty for none.
        cursed: Part of these texts.
    """

    fault = "nan"
    cursed = CURSED

    def encode(self, texts: Any) -> Any:
        bad = [row for row, text in enumerate(texts) if self.cursed in text] if self.fault else []
        if bad and self.fault == "raise":
            raise RuntimeError("no token of the text is known")
        table = super().encode(texts)
        table[bad] = np.nan if self.fault == "nan" else 0
        return table


@pytest.fixture
def project(tmp_path) -> Iterator[GenerationProject]:
    with LoopbackServer(Script(default=returns(answer))) as server:
        made = GenerationProject(tmp_path, server.url, entities(20))
        made.embedder = Fragile()
        made.server = server
        yield made


def quarantined(project: GenerationProject) -> dict[str, str]:
    with Journal(project.store.directory) as journal:
        return {one.id: one.reason for one in journal.all_quarantined()}


@pytest.mark.parametrize(
    ("fault", "words"), [("nan", "not finite"), ("zero", "zero"), ("raise", "no token of the text is known")]
)
def test_a_note_without_a_vector_is_quarantined_alone_and_never_paid_for_again(project, fault, words):
    project.embedder.fault = fault
    report = project.generate()
    assert (report.entities, report.generated, report.quarantined, report.cached) == (20, 19, 1, 0)
    assert sorted(project.stored()) == sorted(str(n) for n in range(20) if n != 7)
    reasons = quarantined(project)
    assert list(reasons) == ["7"]
    assert words in reasons["7"]
    assert project.server.count == 20

    again = project.generate()
    assert (again.generated, again.quarantined, again.cached) == (0, 1, 19)
    project.embedder.fault = ""
    assert project.generate().quarantined == 0
    assert len(project.stored()) == 20
    assert quarantined(project) == {}
    assert project.server.count == 20


def test_a_raw_text_without_a_vector_is_quarantined_alone(project):
    project.prompts = {"item": {"source": "text"}}
    project.inputs = ["text"]
    project.embedder.cursed = "film 7"
    report = project.generate()
    assert (report.entities, report.generated, report.quarantined, report.cached) == (20, 19, 1, 0)
    assert list(quarantined(project)) == ["7"]
    project.embedder.fault = ""
    report = project.generate()
    assert (report.generated, report.quarantined, report.cached) == (1, 0, 19)
    assert quarantined(project) == {}


def test_a_stored_note_keeps_its_vector_if_a_new_embedder_makes_none(project):
    project.embedder.fault = ""
    project.generate()
    project.embedder = Fragile(name="other")
    report = project.generate()
    assert (report.generated, report.quarantined, report.cached, report.embedded) == (0, 1, 19, 19)
    assert [id_ for id_, one in project.stored().items() if one.embedder == "hashing/16"] == ["7"]
    project.embedder.fault = ""
    assert project.generate().embedded == 1
    assert quarantined(project) == {}


def test_an_embedder_that_makes_no_vector_at_all_stops_the_run(project):
    project.embedder.cursed = ""
    with pytest.raises(EmbedderError, match=r"no vector of any of the first 10 texts.*not finite"):
        project.generate()
    assert project.stored() == {}


def test_a_broken_embedder_is_named_and_not_asked_for_each_text(project):
    calls = []

    def broken(texts: Any) -> Any:
        calls.append(len(texts))
        raise OSError("cannot open model.safetensors")

    project.embedder.encode = broken
    project.embedding = {"use": "fragile"}
    with pytest.raises(EmbedderError, match=r"the embedder 'fragile' failed: OSError: cannot open model.safetensors"):
        project.generate()
    assert len(calls) <= 4


def test_a_joint_text_without_a_vector_is_quarantined_alone(project):
    project.inputs = ["profile+text"]
    project.embedder.cursed = "film 7"
    report = project.generate()
    assert (report.generated, report.quarantined) == (19, 1)
    assert list(quarantined(project)) == ["7"]
    project.embedder.fault = ""
    report = project.generate()
    assert (report.cached, report.quarantined) == (20, 0)
    assert quarantined(project) == {}


def test_an_import_leaves_out_a_row_without_a_vector(project, tmp_path):
    rows = [{"id": str(n), "profile": f"about number {n}, told well"} for n in range(20)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for strict in (True, False):
        report = import_records(project.store, tmp_path / "x.jsonl", project.embedder, strict=strict)
        assert (report.records, report.embedded, report.rejected) == (19, 19, 1)
        assert report.rejected_rows[0].id == "7"
        assert report.rejected_rows[0].row == 8
        assert "not finite" in report.rejected_rows[0].reason
    assert len(project.stored()) == 19


def test_vectors_of_another_length_are_mended_by_refresh(project):
    project.embedder.fault = ""
    project.generate()
    wrong = [record for record in project.stored().values() if record.id in ("3", "11")]
    for record in wrong:
        record.vector = np.ones(5, np.float32)
    project.store.put(wrong)
    assert project.store.stats().dims == {5: 2, 16: 18}

    pipeline = project.pipeline()
    stale = {one.name: one.stale for one in pipeline.differences()}
    assert sum(stale["item"].values()) == 2
    chats = project.server.count
    pipeline = project.pipeline()
    report = refresh(pipeline, project.store)
    assert report.changes.plan.to_embed == 2
    assert report.generated.embedded == 2
    assert project.store.stats().dims == {16: 20}
    assert project.server.count == chats
    assert refresh(project.pipeline(), project.store).generated is None
