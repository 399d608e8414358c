"""Remote embedders under the harness: paid for once, within the budget, with retries, one bad text at a time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation import GenerationProject, HashingEmbedder, answer, entities, entity
from loopback import Script, fails, returns
from loopback_embeddings import EmbeddingServer, embedding_server

from enhancer.contracts import Context
from enhancer.errors import AuthenticationError, BudgetError, ConfigError, EmbedderError
from enhancer.features.storing.interchange import import_records
from enhancer.features.storing.unused_vectors import remove_unused_vectors
from enhancer.harness import Journal
from enhancer_plugins.embedders.openai import OpenAI, OpenAIOptions
from enhancer_plugins.stores.lmdb import LMDBStore

CURSED = "number 7,"


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        running.chat.script = Script(default=returns(answer))
        yield running


@pytest.fixture
def project(tmp_path, server) -> GenerationProject:
    made = GenerationProject(tmp_path, server.url, entities(20))
    made.llm["price"] = {"input": 1.0, "output": 2.0}
    made.embedding = {"use": "openai", "price": 100.0, "concurrency": 4}
    made.embedder = OpenAI(OpenAIOptions(model="m", api_base=server.url, batch_size=4), Context())
    return made


def quarantined(project: GenerationProject) -> dict[str, str]:
    with Journal(project.store.directory) as journal:
        return {one.id: one.reason for one in journal.all_quarantined()}


def with_another_store(project: GenerationProject) -> None:
    project.store = LMDBStore(LMDBStore.options_class(path=Path("features.sqlite")), Context(project.folder))


def test_the_report_and_the_ledger_tell_what_embeddings_cost(project, server):
    report = project.generate()
    assert (report.generated, report.embedded) == (20, 20)
    tokens = sum(len(text.split()) for text in server.texts)
    assert report.embedding_requests == len(server.bodies)
    assert report.embedding_tokens == tokens
    assert report.embedding_cost_usd == pytest.approx(tokens * 100e-6)
    assert report.cost_usd == pytest.approx(
        report.prompt_tokens * 1e-6 + report.completion_tokens * 2e-6 + tokens * 100e-6
    )
    assert report.to_json()["embedding_tokens"] == tokens
    with Journal(project.store.directory) as journal:
        lines = {line.group: line for line in journal.costs("template")}
        assert lines["embedding"].calls == len(server.bodies)
        assert lines["embedding"].prompt_tokens == tokens
        assert lines["embedding"].cost_usd == pytest.approx(tokens * 100e-6)
        assert journal.spending_after(0).cost_usd == pytest.approx(report.cost_usd)
        assert journal.vectors.count() == 20


def test_a_vector_that_was_paid_for_is_never_paid_for_again(project, server):
    project.generate()
    before, paid = project.stored(), len(server.bodies)
    with_another_store(project)
    report = project.generate()
    assert report.embedded == 20
    assert (report.embedding_requests, report.embedding_cost_usd) == (0, 0.0)
    assert len(server.bodies) == paid
    for id_, record in project.stored().items():
        np.testing.assert_array_equal(record.vector, before[id_].vector)


def test_a_free_embedder_leaves_no_copies_in_the_journal(project, server):
    project.embedding["price"] = "free"
    assert project.generate().embedding_cost_usd == 0
    with Journal(project.store.directory) as journal:
        assert journal.vectors.count() == 0


def test_an_unknown_price_is_never_zero(project, server):
    del project.embedding["price"]
    report = project.generate()
    assert report.cost_usd is None
    assert report.embedding_cost_usd is None
    with Journal(project.store.directory) as journal:
        assert journal.vectors.count() == 20  # it may have cost something
    project.llm["max_cost"] = 5.0
    with pytest.raises(ConfigError, match=r"price of the embedder's model 'm' is unknown"):
        project.generate()


def test_equal_texts_are_sent_once(project, server):
    project.prompts = {"item": {"source": "text"}}
    project.inputs = ["text"]
    project.rows = [entity(str(n), "one and the same") for n in range(20)]
    assert project.generate().embedded == 20
    assert server.texts == ["one and the same"]


@pytest.mark.parametrize("fault", ["refuse", "crash", "nan", "flag"])
def test_a_text_that_the_server_cannot_embed_is_quarantined_alone(project, server, fault, monkeypatch):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    server.bad[CURSED] = fault
    report = project.generate()
    assert (report.generated, report.quarantined) == (19, 1)
    assert list(quarantined(project)) == ["7"]
    assert "the embedder 'openai'" in quarantined(project)["7"]
    chats = server.chat.count
    server.bad.clear()
    assert project.generate().quarantined == 0
    assert len(project.stored()) == 20
    assert server.chat.count == chats


def test_a_batch_that_is_too_large_is_halved(project, server):
    server.max_batch = 3
    assert project.generate().generated == 20
    assert max(len(body["input"]) for body in server.bodies) == 4


def test_transient_errors_are_retried(project, server, monkeypatch):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    slow_down = (429, {"Retry-After": "0.05"}, {"error": {"message": "slow down"}})
    server.sequence = [slow_down, (503, {}, {"error": "busy"}), (502, {}, {"error": "bad gateway"})]
    assert project.generate().embedded == 20


@pytest.mark.parametrize(("fault", "status"), [("refuse", 400), ("crash", 500)])
def test_a_server_that_fails_at_everything_is_told_as_such_after_few_requests(
    project, server, fault, status, monkeypatch
):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    project.rows = entities(300)
    project.prompts, project.inputs = {"item": {"source": "text"}}, ["text"]
    project.embedder = OpenAI(OpenAIOptions(model="m", api_base=server.url, batch_size=32), Context())
    server.bad[""] = fault
    with pytest.raises(EmbedderError) as stopped:
        project.generate()
    words = f"the embedder 'openai' failed at .* requests in a row, .* one plain text .*{server.url} answered {status}"
    assert re.search(words, stopped.value.message), stopped.value.message
    assert "check the log of the server, and [embedder] model and api_base" in stopped.value.hint
    assert len(server.bodies) <= 4 + 6  # those in flight, and attempts at the plain text
    assert quarantined(project) == {}


@pytest.mark.parametrize("fault", ["refuse", "crash"])
def test_bad_texts_in_the_first_requests_are_found_by_a_server_that_answers_nothing_else(
    project, server, fault, monkeypatch
):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    project.prompts, project.inputs = {"item": {"source": "text"}}, ["text"]
    project.rows = [entity(str(n), f"{'cursed ' * (n % 4 == 1)}number {n}") for n in range(20)]
    server.bad["cursed"] = fault
    report = project.generate()
    assert (report.generated, report.quarantined) == (15, 5)
    assert sorted(map(int, quarantined(project))) == [1, 5, 9, 13, 17]
    assert sum(text == "a film about friendship" for text in server.texts) <= 5
    assert report.embedding_requests + report.embedding_failed_requests == len(server.bodies)


def test_a_server_that_breaks_in_the_middle_is_told_as_such(project, server, monkeypatch):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    project.rows = entities(80)
    project.prompts, project.inputs = {"item": {"source": "text"}}, ["text"]
    server.choose = lambda number, _: (500, {}, {"error": "out of memory"}) if number >= 8 else None
    with pytest.raises(EmbedderError, match="answered 500: out of memory") as stopped:
        project.generate()
    assert len(server.bodies) <= 8 + 2 * 4 + 6
    assert stopped.value.report.embedding_requests == 8
    assert len(list(project.store.scan(kind="item", aspect="text"))) == 32


def test_a_server_that_restarts_is_waited_for(project, server, monkeypatch):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    server.choose = lambda number, _: (500, {}, {"error": "starting"}) if 2 <= number < 7 else None
    assert project.generate().embedded == 20
    assert quarantined(project) == {}


def test_requests_without_an_answer_are_in_report_and_ledger(project, server, monkeypatch):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    project.llm["max_cost"] = 5.0
    server.sequence = [(429, {"Retry-After": "0"}, {"error": "slow down"}), None, (502, {}, {"error": "bad gateway"})]
    server.bad[CURSED] = "refuse"
    report = project.generate()
    assert report.embedding_requests + report.embedding_failed_requests == len(server.bodies)
    assert report.embedding_failed_requests >= 4
    assert report.to_json()["embedding_failed_requests"] == report.embedding_failed_requests
    assert report.unanswered_usd == 0.0  # each was refused with a status
    with Journal(project.store.directory) as journal:
        lines = {line.group: line for line in journal.costs("template")}
        assert lines["embedding"].failed == report.embedding_failed_requests
        assert {line.group: line.failed for line in journal.costs("model")} == {
            "loopback-model": 0,
            "m": report.embedding_failed_requests,
        }


def test_a_request_that_runs_out_of_time_counts_and_may_have_been_charged(project, server, monkeypatch):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    project.prompts, project.inputs = {"item": {"source": "text"}}, ["text"]
    project.rows = entities(4)
    project.llm["max_cost"] = 5.0
    project.embedding["timeout"] = 0.25

    server.choose = lambda number, _: None if number else time.sleep(0.35)
    report = project.generate()
    assert (report.embedded, report.embedding_failed_requests) == (4, 1)
    assert report.unanswered_usd > 0


def test_requests_to_the_model_without_an_answer_are_in_the_ledger(project, server, monkeypatch):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    server.chat.script = Script(sequence=[fails(500), fails(500)], default=returns(answer))
    report = project.generate()
    assert report.failed_requests == 2
    with Journal(project.store.directory) as journal:
        lines = journal.costs("model")
    assert {line.group: (line.calls, line.failed) for line in lines}["loopback-model"] == (20, 2)


def test_a_wrong_model_stops_the_run_at_once(project, server):
    server.choose = lambda *_: (404, {}, {"error": {"message": "no such model"}})
    with pytest.raises(EmbedderError, match=r"the embedder 'openai' failed.*no such model"):
        project.generate()
    assert len(server.bodies) <= 5


def test_a_rejected_key_stops_the_run_at_once(project, server):
    server.choose = lambda *_: (401, {}, {"error": {"message": "bad key"}})
    with pytest.raises(AuthenticationError, match=r"the embedder 'openai' failed.*bad key"):
        project.generate()


def test_a_dead_embedder_is_named_and_paid_answers_are_kept(project, server, monkeypatch):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    with embedding_server() as other:
        dead = other.url
    project.embedder = OpenAI(OpenAIOptions(model="m", api_base=dead), Context())
    with pytest.raises(EmbedderError, match=r"the embedder 'openai'.*127\.0\.0\.1.*"):
        project.generate()
    chats = server.chat.count
    project.embedder = OpenAI(OpenAIOptions(model="m", api_base=server.url), Context())
    project.generate()
    assert len(project.stored()) == 20
    assert server.chat.count <= max(chats, 20)


def test_the_budget_is_shared_and_never_passed(project, server):
    project.prompts = {"item": {"source": "text"}}
    project.inputs = ["text"]
    project.rows = entities(200)
    project.llm["max_cost"] = 0.02
    project.embedding["price"] = 50.0
    with pytest.raises(BudgetError):
        project.generate()
    with Journal(project.store.directory) as journal:
        spent = journal.spending_after(0).cost_usd
    assert 0 < spent <= 0.02
    assert 0 < len(list(project.store.scan(kind="item", aspect="text"))) < 200


def test_the_limit_of_requests_in_flight_is_kept(project, server):
    project.prompts = {"item": {"source": "text"}}
    project.inputs = ["text"]
    project.rows = entities(80)
    server.latency = 0.01
    project.generate()
    assert server.max_in_flight == 4


def test_an_exchanged_model_is_noticed(project, server):
    project.rows = entities(60)

    def wider(number: int, body: dict[str, Any]) -> None:
        server.dim = 16 if number < 3 else 24

    server.choose = wider
    with pytest.raises(EmbedderError, match="sent vectors of 16 numbers, and then of 24"):
        project.generate()


def test_options_of_servers_are_refused_for_other_embedders(project):
    project.embedder = HashingEmbedder()
    project.embedding = {"use": "hashing", "concurrency": 4}
    with pytest.raises(ConfigError, match=r"\[embedder\] concurrency is set, but 'hashing' calls no server"):
        project.generate()


def test_joint_texts_and_imports_are_paid_for_once_too(project, server, tmp_path):
    project.inputs = ["profile", "profile+text"]
    assert project.generate().embedding_requests == len(server.bodies)
    paid = len(server.bodies)
    with_another_store(project)
    assert project.generate().embedding_requests == 0
    rows = "".join(
        f'{{"id": "x{n}", "profile": "{one.profile}", "tags": ["a"]}}\n'
        for n, one in enumerate(project.stored().values())
    )
    (tmp_path / "x.jsonl").write_text(rows)
    config = project.settings().embedder
    for _ in range(2):
        assert import_records(project.store, tmp_path / "x.jsonl", project.embedder, config=config).embedded == 20
        texts = server.texts[sum(len(body["input"]) for body in server.bodies[:paid]) :]
        assert sorted(texts) == sorted(f"{one.profile} a" for one in project.stored().values() if one.id[0] != "x")


def test_a_plan_tells_what_is_to_be_embedded_and_what_that_costs(project, server):
    plan = project.plan()
    assert (plan.to_embed, plan.embedding_texts, plan.embedding_requests) == (20, 20, 5)
    assert plan.embedding_cost_usd == pytest.approx(plan.embedding_tokens * 100e-6)
    llm = plan.prompt_tokens * 1e-6 + plan.completion_tokens * 2e-6
    assert plan.cost_usd == pytest.approx(llm + plan.embedding_cost_usd)
    assert plan.to_json()["embedding_texts"] == 20
    assert server.bodies == []
    # Profile and tags are most of the JSON that the LLM is expected to write.
    assert 0.5 * plan.completion_tokens < plan.embedding_tokens < plan.completion_tokens
    project.generate()
    assert project.plan().embedding_texts == 0


def test_a_plan_knows_which_vectors_are_paid_for(project, server):
    project.generate()
    with_another_store(project)
    plan = project.plan()
    assert (plan.to_embed, plan.embedding_texts, plan.embedding_cost_usd, plan.cost_usd) == (20, 0, 0.0, 0.0)
    project.embedder = OpenAI(OpenAIOptions(model="another", api_base=server.url), Context())
    assert project.plan().embedding_texts == 20
    project.generate()
    project.embedder = OpenAI(OpenAIOptions(model="third", api_base=server.url), Context())
    plan = project.plan()
    texts = [f"{one.profile} {', '.join(one.tags)}" for one in project.stored().values()]
    assert (plan.to_embed, plan.embedding_texts) == (20, 20)
    assert plan.embedding_tokens == pytest.approx(sum(len(text.split()) for text in texts), rel=0.35)


def test_a_plan_refuses_a_limit_without_a_price(project):
    del project.embedding["price"]
    project.llm["max_cost"] = 5.0
    with pytest.raises(ConfigError, match=r"set \[embedder\] price"):
        project.plan()


def test_vectors_of_no_record_can_be_removed(project, server):
    project.generate()
    paid = len(server.bodies)
    project.embedder = OpenAI(OpenAIOptions(model="another", api_base=server.url), Context())
    project.generate()
    found = remove_unused_vectors(project.store, max_share=0.4)
    assert found == (40, 20, 0)
    assert remove_unused_vectors(project.store, max_share=0.5, dry_run=True) == (40, 20, 20)
    assert remove_unused_vectors(project.store, max_share=0.5) == (40, 20, 20)
    with_another_store(project)
    count = len(server.bodies)
    assert count > paid
    assert project.generate().embedding_requests == 0
    with_another_store(project)
    assert remove_unused_vectors(project.store, max_share=0.5) == (20, 0, 0)


def test_vectors_of_an_empty_store_are_kept(project, server):
    project.generate()
    with_another_store(project)
    assert remove_unused_vectors(project.store, max_share=0.5) == (20, 20, 0)


def test_two_runs_at_once_pay_for_each_text_once(project, server):
    project.prompts = {"item": {"source": "text"}}
    project.inputs = ["text"]
    project.rows = entities(60)
    server.latency = 0.05
    embedders = [OpenAI(OpenAIOptions(model="m", api_base=server.url, batch_size=4), Context()) for _ in range(2)]
    pipelines = [project.pipeline(embedder=lambda one=one: one) for one in embedders]
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda one: one.generate(), pipelines))
    assert sorted(server.texts) == sorted(row.text for row in project.rows)
    assert sum(report.embedding_requests for report in reports) == len(server.bodies)
    assert len(list(project.store.scan(kind="item", aspect="text"))) == 60


def test_an_import_keeps_to_the_limit_and_what_it_has_embedded(project, server, tmp_path):
    rows = "".join(f'{{"id": "x{n}", "profile": "a film about {n} friends and a dog"}}\n' for n in range(400))
    (tmp_path / "x.jsonl").write_text(rows)
    config = project.settings().embedder
    with pytest.raises(BudgetError):
        import_records(project.store, tmp_path / "x.jsonl", project.embedder, config=config, max_cost=0.2)
    with Journal(project.store.directory) as journal:
        assert 0 < journal.spending_after(0).cost_usd <= 0.2
