"""A project whose LLM writes notes on films, for tests of generation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from generation import GenerationProject, entities
from loopback import Behaviour, LoopbackServer, Script
from notes import TEMPLATE, answer_notes

N = 6
"""Number of films."""


def opened_bench(tmp_path: Path, llm_server: LoopbackServer) -> Iterator[GenerationProject]:
    """Yield a project on six films, and close its store."""
    llm_server.script = Script(default=Behaviour(answer=answer_notes))
    (tmp_path / "films.toml").write_text(TEMPLATE)
    made = GenerationProject(tmp_path, llm_server.url, entities(N))
    choose(made, "plot", "mood")
    yield made
    made.store.close()


def choose(bench: GenerationProject, *aspects: str, **more: Any) -> None:
    bench.prompts = {"item": {"template": "films.toml", "aspects": list(aspects), **more}}
    bench.inputs = list(aspects)


def stored(bench: GenerationProject) -> dict[tuple[str, str], Any]:
    return {(record.id, record.aspect): record for record in bench.store.scan()}


def replies(server: LoopbackServer, text: Callable[[dict[str, Any]], str]) -> None:
    server.script = Script(default=Behaviour(answer=text))
