"""A small project whose texts are embedded by offline batch jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation import GenerationProject, answer, entities
from loopback import Script, returns
from loopback_embeddings import EmbeddingBatches, EmbeddingServer, embedding, embedding_server

from enhancer.contracts import Context
from enhancer.harness import Journal
from enhancer_plugins.embedders.openai import OpenAI, OpenAIOptions

KEY = "sk-verysecret-0123456789abcdef"


class EmbeddingProject(GenerationProject):
    """A project whose texts are embedded by batch jobs."""

    server: EmbeddingServer
    batches: EmbeddingBatches
    model = "m"

    def offline(self, **more: Any) -> Any:
        return self.pipeline(embedder=self.make_embedder).generate_offline(**more)

    def plan(self, **more: Any) -> Any:
        return self.pipeline(embedder=self.make_embedder).plan(**more)

    def make_embedder(self) -> OpenAI:
        return OpenAI(OpenAIOptions(model=self.model, api_base=self.url), Context())

    def texts(self) -> dict[str, Any]:
        return {record.id: record for record in self.store.scan(kind="item", aspect="text")}

    def quarantine(self) -> dict[str, str]:
        with Journal(self.store.directory) as journal:
            return {one.id: one.reason for one in journal.all_quarantined()}


@contextlib.contextmanager
def embedding_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingProject]:
    """Provide a project of eight texts, and check that nothing was sent directly and no file or secret is left."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.005)
    with embedding_server() as server:
        server.chat.script = Script(default=returns(answer))
        made = EmbeddingProject(folder, server.url, entities(8), batch_poll=0.02)
        made.prompts, made.inputs = {"item": {"source": "text"}}, ["text"]
        made.embedding = {"use": "openai", "price": 100.0, "batch": True}
        made.server, made.batches = server, server.batches
        yield made
        assert server.bodies == [], "a text was embedded directly"
        assert server.chat.count == 0, "the LLM was asked directly"
        made.store.close()
    for path in folder.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
    assert not list((folder / "batches").glob("*")), "a file of a job was left behind"


def whole(project: EmbeddingProject, report: Any, *, quarantined: int = 0) -> None:
    """Assert that each text is stored with its vector or quarantined, and that the report counts them."""
    there, failed = project.texts(), project.quarantine()
    assert there.keys() | failed.keys() == {row.id for row in project.rows}
    assert len(failed) == report.quarantined == quarantined
    assert report.entities == report.cached + report.generated + report.quarantined == len(project.rows)
    assert report.pending == 0
    for row in project.rows:
        if row.id in there:
            expected = embedding(row.text)
            np.testing.assert_allclose(there[row.id].vector, expected / np.linalg.norm(expected), rtol=1e-5)
