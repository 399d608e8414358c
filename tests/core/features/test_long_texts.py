"""A run counts the texts that the embedder cuts off."""

from __future__ import annotations

from collections.abc import Sequence

from generation import GenerationProject, HashingEmbedder, answer, entities
from loopback import LoopbackServer, Script, returns


class Short(HashingEmbedder):
    """Embedder for which profiles of films 1, 10 and 11 are too long; raises ``fault`` when it is asked."""

    fault: Exception | None = None

    def truncates(self, texts: Sequence[str]) -> list[bool]:
        if self.fault is not None:
            raise self.fault
        return ["number 1" in text for text in texts]


def run(folder, embedder, inputs=("profile",)):
    with LoopbackServer(Script(default=returns(answer))) as server:
        project = GenerationProject(folder, server.url, entities(12))
        project.inputs = list(inputs)
        project.embedder = embedder
        return project.generate()


def test_the_report_counts_texts_that_are_cut_off(tmp_path):
    report = run(tmp_path / "one", Short())
    assert report.truncated == report.to_json()["truncated"] == 3
    assert "truncated" not in run(tmp_path / "two", HashingEmbedder()).to_json()


def test_joint_texts_count_too(tmp_path):
    report = run(tmp_path, Short(), ["profile", "text+profile"])
    assert report.truncated == 3 + 3


def test_a_fault_in_counting_stops_no_run(tmp_path):
    embedder = Short()
    embedder.fault = RuntimeError("a plugin's fault")
    report = run(tmp_path, embedder)
    assert (report.generated, report.truncated) == (12, 0)
