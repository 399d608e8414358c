"""Test that memory and tasks do not grow with the catalogue, and that embedding overlaps with calls."""

from __future__ import annotations

import _thread
import asyncio
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation import HashingEmbedder, entity
from loopback import Behaviour, LoopbackServer, Script

from enhancer.config import Settings
from enhancer.contracts import Completion, Context, Embedder, LLMProvider, Options, Price, Request
from enhancer.data import Entity
from enhancer.features import Pipeline, Sources
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions
from enhancer_plugins.stores.sqlite import SQLiteStore

ANSWER = '{"profile": "A warm and curious story, told with wit and without haste.", "tags": ["warm"]}'
CONCURRENCY = 8


class Instant(LLMProvider):
    """Provider that answers at once and counts the tasks of its event loop."""

    def __init__(self, options: Options | None = None, context: Context | None = None) -> None:
        self.most_tasks = 0
        self.calls = 0

    @property
    def endpoint(self) -> str:
        return "instant"

    async def complete(self, request: Request) -> Completion:
        self.calls += 1
        if self.calls % 50 == 0:
            self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
        await asyncio.sleep(0)
        return Completion(text=ANSWER, prompt_tokens=10, completion_tokens=10)

    def price(self, model: str) -> Price | None:
        return None


class Constant(Embedder):
    """Embedder that returns one constant vector."""

    def __init__(self, options: Options | None = None, context: Context | None = None) -> None:
        pass

    @property
    def fingerprint(self) -> str:
        return "constant"

    @property
    def dim(self) -> int:
        return 4

    def encode(self, texts: Iterable[str]) -> Any:
        return np.full((len(list(texts)), 4), 0.5, np.float32)


def pipeline(folder: Path, n: int, **more: Any) -> Pipeline:
    def stream() -> Iterator[Entity]:
        return (entity(f"{number}", f"title: film {number}\nplot: {'a long story ' * 40}") for number in range(n))

    settings = Settings.model_validate({"llm": {"use": "openai", "model": "m", "concurrency": CONCURRENCY}})
    store = SQLiteStore(SQLiteStore.options_class(path=Path(f"features-{n}.sqlite")), Context(folder))
    return Pipeline(settings, folder, store=store, sources=Sources(stream), **more)


def peak_of(folder: Path, n: int) -> tuple[int, int]:
    """Return the peak memory of a run over ``n`` rows in bytes, and the largest number of tasks."""
    provider = Instant()
    run = pipeline(folder, n, provider=lambda: provider, embedder=Constant)
    tracemalloc.start()
    try:
        assert run.generate().generated == n
        return tracemalloc.get_traced_memory()[1], provider.most_tasks
    finally:
        tracemalloc.stop()


def test_memory_and_tasks_do_not_grow_with_the_rows(tmp_path: Path) -> None:
    # Both runs survey more than two full chunks. The texts of the additional rows alone take a megabyte.
    peak_of(tmp_path, 64)  # allocates what is allocated once
    small, tasks = peak_of(tmp_path, 2100)
    large, tasks_of_many = peak_of(tmp_path, 3200)
    assert large < small + 600_000
    assert max(tasks, tasks_of_many) <= CONCURRENCY * 5 // 4 + 8


def test_embedding_and_storing_go_on_while_calls_are_out(tmp_path: Path, llm_server: LoopbackServer) -> None:
    llm_server.script = Script(default=Behaviour(answer=ANSWER, latency=0.05))
    calls_when_stored: list[int] = []
    in_flight_when_embedded: list[int] = []

    class Watching(HashingEmbedder):
        def encode(self, texts: Iterable[str]) -> Any:
            in_flight_when_embedded.append(llm_server.in_flight)
            time.sleep(0.1)  # a slow model delays no call
            return super().encode(texts)

    run = pipeline(
        tmp_path,
        160,
        provider=lambda: OpenAI(OpenAIOptions(api_base=llm_server.url), Context(tmp_path)),
        embedder=Watching,
        on_record=lambda _: calls_when_stored.append(llm_server.count),
    )
    assert run.generate().generated == 160
    assert calls_when_stored[0] < 160  # stored long before the last call
    assert max(in_flight_when_embedded) >= CONCURRENCY // 2


@pytest.mark.parametrize("concurrency", [4, 16])
def test_no_more_calls_are_out_than_allowed_and_hardly_fewer(
    tmp_path: Path, llm_server: LoopbackServer, concurrency: int
) -> None:
    llm_server.script = Script(default=Behaviour(answer=ANSWER, latency=0.03))
    settings = Settings.model_validate({"llm": {"use": "openai", "model": "m", "concurrency": concurrency}})
    store = SQLiteStore(SQLiteStore.options_class(path=Path("features.sqlite")), Context(tmp_path))
    Pipeline(
        settings,
        tmp_path,
        store=store,
        sources=Sources(lambda: (entity(str(n)) for n in range(8 * concurrency))),
        provider=lambda: OpenAI(OpenAIOptions(api_base=llm_server.url), Context(tmp_path)),
        embedder=Constant,
    ).generate()
    assert llm_server.max_in_flight == concurrency


class Slow(Constant):
    """Embedder that takes a while for each text."""

    seconds = 0.01

    def encode(self, texts: Any) -> Any:
        time.sleep(self.seconds * len(texts))
        return super().encode(texts)


def slow_project(tmp_path: Path, count: int) -> Pipeline:
    settings = Settings.model_validate({"prompts": {"item": {"source": "text"}}, "embedder": {"input": ["text"]}})
    store = SQLiteStore(SQLiteStore.options_class(path=Path("features")), Context(tmp_path))
    rows = [entity(str(n)) for n in range(count)]
    return Pipeline(settings, tmp_path, store=store, provider=Instant, embedder=Slow, sources=Sources(lambda: rows))


def test_embedding_tells_its_progress_within_a_second_and_its_total_once_it_is_known(tmp_path):
    events: list[tuple[float, int, int | None, bool]] = []
    began = time.monotonic()

    def listen(event: Any) -> None:
        if event.stage == "embed":
            events.append((time.monotonic() - began, event.done, event.total, event.growing))

    pipeline = slow_project(tmp_path, 150)
    pipeline.generate(listen)
    done = [event[1] for event in events]
    assert events[0][0] < 1
    assert sorted(done) == done
    assert len(set(done)) >= 4
    assert done[-1] == 150
    assert not events[-1][3]
    plan = slow_project(tmp_path / "other", 100)
    plan.plan()
    events.clear()
    plan.generate(listen)
    assert {(total, growing) for _, _, total, growing in events} == {(100, False)}


def test_ctrl_c_keeps_every_batch_that_is_embedded(tmp_path):
    pipeline = slow_project(tmp_path, 400)

    def listen(event: Any) -> None:
        if event.stage == "embed" and event.done >= 60:
            _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt) as stopped:
        pipeline.generate(listen)
    report = stopped.value.report
    stored = len(list(pipeline._store.keys()))
    assert 60 <= stored < 400
    assert report.embedded == stored
