"""Texts embedded by offline batch jobs: paid for once, at the price of jobs, one bad text at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedding_project import EmbeddingProject, embedding_project, whole
from generation import HashingEmbedder, entities, entity
from loopback_batch import Plan

from enhancer.config.schema import EmbedderConfig
from enhancer.contracts import Context
from enhancer.errors import BudgetError, ConfigError, RequestError
from enhancer.harness import Journal
from enhancer.harness.embedding.connections import embedding_batches
from enhancer_plugins.embedders.litellm import LiteLLM, LiteLLMOptions
from enhancer_plugins.embedders.openai import OpenAI, OpenAIOptions
from enhancer_plugins.stores.lmdb import LMDBStore


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Iterator[EmbeddingProject]:
    with embedding_project(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def notes(bench) -> EmbeddingProject:
    bench.prompts, bench.inputs = {}, ["profile"]
    bench.llm["price"] = {"input": 1.0, "output": 2.0}
    return bench


def test_texts_are_embedded_by_one_job_at_half_the_price(bench):
    report = bench.offline()
    whole(bench, report)
    assert sorted(bench.batches.texts) == sorted(row.text for row in bench.rows)
    tokens = sum(len(row.text.split()) for row in bench.rows)
    assert (report.generated, report.embedded, report.embedding_requests) == (8, 8, 8)
    assert report.embedding_tokens == tokens
    assert report.embedding_cost_usd == report.cost_usd == pytest.approx(tokens * 50e-6)
    with Journal(bench.store.directory) as journal:
        (line,) = journal.costs("template")
        assert (line.group, line.texts, line.prompt_tokens) == ("embedding", 8, tokens)
        assert line.cost_usd == pytest.approx(tokens * 50e-6)
        assert journal.vectors.count() == 8


def test_a_plan_tells_the_price_of_jobs_and_leaves_out_what_is_in_one(bench):
    direct, plan = bench.plan(), bench.plan(batch=True)
    assert (plan.embedding_texts, plan.embedding_requests) == (8, 8)
    assert plan.embedding_cost_usd == plan.cost_usd == pytest.approx(direct.embedding_cost_usd / 2)
    bench.batches.default = Plan(polls=3)
    bench.offline(wait=False)
    for plan in (bench.plan(batch=True), bench.plan()):
        assert (plan.embedding_texts, plan.pending, plan.to_generate, plan.cached) == (0, 8, 0, 0)
    whole(bench, bench.offline())


def test_equal_texts_are_sent_once(bench):
    bench.rows = [entity(str(n), "one and the same" if n % 2 else "two and the same") for n in range(600)]
    assert bench.offline().embedded == 600
    assert sorted(bench.batches.texts) == ["one and the same", "two and the same"]


def test_another_store_finds_the_vectors_that_were_paid_for(bench):
    bench.offline()
    bench.store.close()
    bench.store = LMDBStore(LMDBStore.options_class(path=Path("features.sqlite")), Context(bench.folder))
    report = bench.offline()
    assert (report.embedded, report.embedding_requests, report.cost_usd) == (8, 0, 0.0)
    assert len(bench.batches.jobs) == 1


def test_without_waiting_texts_are_pending_until_a_later_run_collects_them(bench):
    bench.batches.default = Plan(polls=1)
    first = bench.offline(wait=False)
    assert (first.pending, first.generated, first.embedded, first.embedding_requests) == (8, 0, 0, 0)
    bench.rows += entities(10)[8:]
    second = bench.offline(wait=False)
    assert (second.pending, second.generated) == (10, 0)
    third = bench.offline(wait=False)
    assert (third.pending, third.generated, third.embedding_requests) == (2, 8, 8)
    whole(bench, bench.offline(wait=False))
    assert [len(job.lines) for job in bench.batches.jobs.values()] == [8, 2]


def test_a_direct_run_leaves_texts_in_jobs_alone(bench):
    for price in (100.0, None):
        bench.embedding["price"] = price
        bench.rows = [entity(f"{price}-{n}") for n in range(8)]
        bench.batches.default = Plan(polls=1)
        assert bench.offline(wait=False).pending == 8
        report = bench.pipeline(embedder=bench.make_embedder).generate()
        assert (report.pending, report.generated, report.embedding_requests) == (8, 0, 0)
        assert bench.offline().generated == 8


def test_without_an_llm_and_jobs_texts_are_embedded_directly(bench):
    bench.embedding["batch"] = False
    assert bench.offline().embedded == 8
    assert not bench.batches.jobs
    bench.server.bodies.clear()


def test_texts_that_are_out_are_not_forgotten_without_an_llm(bench):
    bench.batches.default = Plan(polls=1)
    bench.offline(wait=False)
    bench.embedding["batch"] = False
    with pytest.raises(ConfigError, match="texts are in open batch jobs"):
        bench.offline()


def test_jobs_that_are_out_are_not_forgotten_when_the_configuration_embeds_directly(notes):
    notes.offline(wait=False)
    notes.batches.default = Plan(polls=1)
    notes.offline(wait=False)
    notes.embedding["batch"] = False
    with pytest.raises(ConfigError, match=r"texts are in open batch jobs of .* \(1\).*batch = true"):
        notes.offline()
    notes.embedding["batch"] = True
    assert notes.offline().embedded == 8


# -- single texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason"), [("refuse", "the input is not valid"), ("flag", "flagged"), ("nan", "zero or not finite")]
)
def test_a_text_without_a_vector_is_quarantined_alone(bench, fault, reason):
    bench.server.bad["film 5"] = fault
    report = bench.offline()
    whole(bench, report, quarantined=1)
    assert "the embedder 'openai' made no vector of its text" in bench.quarantine()["5"]
    assert reason in bench.quarantine()["5"]
    assert [len(job.lines) for job in bench.batches.jobs.values()] == [8]
    # It is paid for if it was answered.
    assert report.embedding_requests == (8 if fault == "nan" else 7)
    assert bench.offline().quarantined == 1
    bench.server.bad.clear()
    whole(bench, bench.offline())
    assert [len(job.lines) for job in bench.batches.jobs.values()] == [8, 1, 1]


def test_equal_texts_without_a_vector_are_asked_for_once_in_a_run(bench):
    bench.rows = [*entities(3), entity("a", "bad bad"), entity("b", "bad bad")]
    bench.server.bad["bad"] = "zero"
    whole(bench, bench.offline(), quarantined=2)
    assert len(bench.batches.jobs) == 1


def test_missing_and_expired_texts_alone_are_submitted_again(bench):
    bench.batches.plans = [Plan(missing={1, 5}), Plan(expires_from=1)]
    whole(bench, bench.offline())
    assert [len(job.lines) for job in bench.batches.jobs.values()] == [8, 2, 1]


def test_what_never_has_its_turn_is_set_aside_and_asked_by_the_next_run(bench):
    bench.llm["batch_rounds"] = 2
    bench.batches.plans = [Plan(expires_from=7), Plan(expires_from=0)]
    whole(bench, bench.offline(), quarantined=1)
    assert "2 batch jobs brought no answer" in bench.quarantine()["7"]
    whole(bench, bench.offline())
    assert [len(job.lines) for job in bench.batches.jobs.values()] == [8, 1, 1]


@pytest.mark.parametrize("plan", [Plan(shuffled=True), Plan(junk=True), Plan(doubled={0, 3}), Plan(truncated=True)])
def test_odd_files_of_results_cost_nothing_twice(bench, plan):
    bench.batches.plans = [plan]
    report = bench.offline()
    whole(bench, report)
    assert report.embedding_requests == 8
    assert len(bench.batches.texts) == 8 + plan.truncated


def test_a_model_that_refuses_everything_is_named_and_nothing_is_quarantined(bench):
    bench.server.bad[""] = "refuse"
    with pytest.raises(RequestError, match=r"refused all 8 requests.*") as caught:
        bench.offline()
    assert "check [embedder]" in str(caught.value)
    assert bench.quarantine() == {}
    bench.server.bad.clear()
    whole(bench, bench.offline())


# -- jobs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [429, 500, "reset", "lost", "half"])
@pytest.mark.parametrize("where", ["upload", "create", "poll", "content"])
def test_no_trouble_of_the_network_submits_twice(bench, where, trouble):
    bench.batches.failures[where] = [trouble] * 2
    whole(bench, bench.offline())
    assert len(bench.batches.jobs) == 1


def test_a_job_refused_as_a_whole_shows_the_providers_words(bench):
    bench.batches.plans = [Plan(refused=({"code": "x", "line": 3, "message": "The model `m` does not exist."},))]
    with pytest.raises(RequestError, match=r"line 3: The model `m` does not exist"):
        bench.offline()
    assert not bench.quarantine()
    whole(bench, bench.offline())


def test_a_server_without_a_batch_api_says_what_to_do(bench):
    bench.batches.failures["upload"] = [404]
    with pytest.raises(RequestError) as caught:
        bench.offline()
    assert "[embedder] batch = false" in str(caught.value)
    whole(bench, bench.offline())


def test_a_job_cancelled_at_the_provider_keeps_what_it_had(bench):
    bench.batches.plans = [Plan(cancelled_from=5)]
    with pytest.raises(RequestError, match="was cancelled at the provider"):
        bench.offline()
    whole(bench, bench.offline())
    assert [len(job.lines) for job in bench.batches.jobs.values()] == [8, 3]


def test_abandon_ends_what_is_out_and_keeps_what_it_had(bench):
    bench.batches.default = Plan(polls=10**6)
    assert bench.offline(wait=False).pending == 8
    report = bench.offline(abandon=True)
    assert (report.generated, report.pending) == (4, 0)
    bench.batches.default = Plan()
    whole(bench, bench.offline())
    assert [len(job.lines) for job in bench.batches.jobs.values()] == [8, 4]


def test_a_full_queue_is_waited_for(bench):
    bench.llm["batch_requests"] = 3
    bench.batches.max_running = 1
    bench.batches.default = Plan(polls=1)
    whole(bench, bench.offline())
    assert bench.batches.submitted == 8


def test_requests_and_bytes_of_a_job_are_bounded(bench):
    bench.llm["batch_requests"] = 3
    whole(bench, bench.offline())
    assert [len(job.lines) for job in bench.batches.jobs.values()] == [3, 3, 2]
    bench.rows = [entity("long", "x" * 2000), *(entity(f"short-{n}") for n in range(8))]
    bench.llm |= {"batch_requests": 50, "batch_bytes": 600}
    report = bench.offline()
    assert (report.generated, report.quarantined) == (8, 1)
    assert "larger than the file of a batch job" in bench.quarantine()["long"]
    assert all(size <= 600 for size in bench.batches.uploads[3:])


def test_the_name_of_the_endpoint_is_an_option(bench, monkeypatch):
    bench.batches.embedding_endpoint = "/embeddings"
    azure = OpenAIOptions(model="m", api_base=bench.url, batch_endpoint="/embeddings", dimensions=8)
    monkeypatch.setattr(bench, "make_embedder", lambda: OpenAI(azure, Context()))
    assert bench.offline().embedded == 8
    (job,) = bench.batches.jobs.values()
    assert {line["url"] for line in job.lines} == {"/embeddings"}
    assert all(line["body"]["dimensions"] == 8 for line in job.lines)


# -- money ---------------------------------------------------------------------------------------------------------


def test_the_budget_is_never_passed(bench):
    bench.rows = entities(40)
    bench.llm["max_cost"] = 0.01
    bench.embedding["price"] = 200.0  # three words a text, at half the price: 0.0003 USD, and at most 0.0022 USD
    with pytest.raises(BudgetError) as caught:
        bench.offline()
    with Journal(bench.store.directory) as journal:
        assert 0.007 < journal.spending_after(0).cost_usd <= 0.01
    assert len(bench.batches.jobs) > 1, "what does not fit waits for what is out to cost less than it could"
    assert caught.value.report.generated == len(bench.texts()) == len(bench.batches.texts)


def test_without_money_for_one_text_the_run_stops(bench):
    bench.llm["max_cost"] = 0.0001
    with pytest.raises(BudgetError):
        bench.offline()
    assert not bench.batches.jobs


def test_what_is_out_counts_against_the_cap_of_the_next_run(bench):
    bench.llm["max_cost"] = 0.005
    bench.batches.default = Plan(polls=10**6)
    first = bench.offline(wait=False)
    assert 0 < first.pending < 8
    assert bench.offline(wait=False).pending == first.pending
    assert len(bench.batches.jobs) == 1
    bench.offline(abandon=True)


def test_an_unknown_price_is_unknown(bench):
    del bench.embedding["price"]
    assert bench.offline().cost_usd is None
    bench.llm["max_cost"] = 1.0
    bench.rows.append(entity("new"))
    with pytest.raises(ConfigError, match="the price of the embedder's model 'm' is unknown"):
        bench.offline()


# -- notes ---------------------------------------------------------------------------------------------------------


def test_notes_are_written_by_one_job_and_embedded_by_another(notes):
    notes.batches.default = Plan(polls=1)
    report = notes.offline()
    assert (report.generated, report.embedded, report.pending, report.quarantined) == (8, 8, 0, 0)
    assert [job.body["endpoint"] for job in notes.batches.jobs.values()] == ["/v1/chat/completions", "/v1/embeddings"]
    assert (report.requests, report.embedding_requests) == (8, 8)
    assert report.cost_usd == pytest.approx(
        (report.prompt_tokens * 1e-6 + report.completion_tokens * 2e-6 + report.embedding_tokens * 100e-6) / 2
    )
    assert notes.offline().cached == 8


def test_notes_without_waiting_take_one_run_more(notes):
    plans, reports = [notes.plan(batch=True)], []
    for _ in range(3):
        reports.append(notes.offline(wait=False))
        plans.append(notes.plan(batch=True))
    assert [(one.pending, one.generated, one.cached) for one in reports] == [(8, 0, 0), (8, 0, 0), (0, 0, 8)]
    assert [one.requests for one in reports] == [0, 8, 0]
    assert [(one.pending, one.cached) for one in plans] == [(0, 0), (8, 0), (8, 0), (0, 8)]
    assert len(notes.stored()) == 8


def test_a_note_without_a_vector_is_quarantined_and_not_asked_for_again(notes):
    notes.server.bad["number 3,"] = "refuse"
    report = notes.offline()
    assert (report.generated, report.quarantined, report.pending) == (7, 1, 0)
    notes.server.bad.clear()
    report = notes.offline()
    assert (report.cached, report.quarantined, report.requests) == (8, 0, 0)
    assert [len(job.lines) for job in notes.batches.jobs.values()] == [8, 8, 1]


def test_another_embedder_makes_all_vectors_anew_by_a_job(notes, monkeypatch):
    notes.offline()
    other = OpenAIOptions(model="other", api_base=notes.url)
    monkeypatch.setattr(notes, "make_embedder", lambda: OpenAI(other, Context()))
    notes.batches.default = Plan(polls=1)
    first = notes.offline(wait=False)
    assert (first.cached, first.embedded) == (8, 0)
    report = notes.offline()
    assert (report.cached, report.embedded, report.embedding_requests) == (8, 8, 8)
    assert {record.embedder for record in notes.stored().values()} == {notes.make_embedder().fingerprint}


def test_text_and_notes_and_joint_texts_are_embedded_by_jobs(notes):
    notes.inputs = ["profile", "text", "profile+text"]
    notes.batches.default = Plan(polls=1)
    report = notes.offline()
    assert (report.generated, report.embedded, report.pending) == (8, 24, 0)
    assert (report.embedding_requests, len(notes.batches.texts)) == (24, 24)
    joint = {one.id for one in notes.store.scan() if one.aspect not in ("", "text")}
    assert joint == {row.id for row in notes.rows}
    assert notes.offline().embedded == 0


def test_a_joint_text_waits_for_all_its_parts(notes):
    notes.inputs = ["profile", "text", "profile+text"]
    notes.batches.default = Plan(polls=1)
    while not (report := notes.offline(wait=False)).cached:
        pass
    assert report.pending == 0
    notes.offline()
    assert len(set(notes.batches.texts)) == len(notes.batches.texts) == 24


def test_a_joint_text_without_a_vector_is_quarantined_alone(notes):
    notes.inputs = ["profile", "text", "profile+text"]
    notes.server.bad["\ntitle: film 3"] = "refuse"
    report = notes.offline()
    assert (report.generated, report.quarantined, report.embedded) == (7, 1, 23)
    notes.server.bad.clear()
    report = notes.offline()
    assert (report.cached, report.quarantined, report.embedded) == (8, 0, 1)


# -- whether -------------------------------------------------------------------------------------------------------


def test_an_embedder_without_a_batch_api_cannot_be_told_to_use_one(bench):
    for embedder, why in (
        (HashingEmbedder(), "calls no server"),
        (LiteLLM(LiteLLMOptions(model="voyage/voyage-3"), Context()), "has no batch API"),
    ):
        with pytest.raises(ConfigError, match=why):
            bench.pipeline(embedder=lambda one=embedder: one).generate_offline()


def test_a_free_embedder_cannot_be_told_to_use_jobs(bench):
    bench.embedding["price"] = "free"
    with pytest.raises(ConfigError, match="would save nothing"):
        bench.offline()
    with pytest.raises(ConfigError, match="would save nothing"):
        bench.plan()


@pytest.mark.parametrize(
    ("base", "wanted", "price", "expected"),
    [
        ("https://api.openai.com/v1", None, None, True),
        ("https://api.openai.com/v1", False, None, False),
        ("https://api.openai.com/v1", None, "free", False),
        ("http://127.0.0.1:9/v1", None, 1.0, False),
        ("http://127.0.0.1:9/v1", True, 1.0, True),
    ],
)
def test_jobs_are_used_where_they_are_known_to_exist_unless_told(base, wanted, price, expected):
    config = EmbedderConfig(use="openai", batch=wanted, price=price)
    embedder = OpenAI(OpenAIOptions(api_base=base), Context())
    assert (embedding_batches(embedder, config) is not None) == expected


# -- whatever the jobs do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_every_text_is_stored_or_quarantined_and_paid_for_once(notes, seed):
    chance = random.Random(seed)
    notes.inputs = chance.choice([["profile"], ["profile", "text"], ["profile", "text", "profile+text"]])
    notes.rows = [*entities(9), entity("twin", "title: film 3"), entity("empty", " ")]
    notes.llm |= {"batch_requests": chance.choice([3, 50]), "batch_rounds": 2}
    lost = [Plan(), Plan(missing={1}), Plan(expires_from=2), Plan(doubled={0}), Plan(shuffled=True, polls=1)]
    notes.batches.plans = chance.choices(lost, k=6)
    fault = chance.choice(["refuse", "nan"])
    notes.server.bad = {"film 7": fault}
    for _ in range(10):
        report = notes.offline(wait=chance.random() < 0.5)
        counted = report.cached + report.generated + report.quarantined + report.without_text + report.pending
        assert report.entities == counted == len(notes.rows)
        assert report.quarantined == len(notes.quarantine())
    notes.server.bad.clear()
    notes.batches.plans, notes.batches.default = [], Plan()
    report = notes.offline()
    assert (report.cached, report.quarantined, report.pending) == (len(notes.rows) - 1, 0, 0)
    stored = list(notes.store.scan())
    assert len(stored) == (len(notes.rows) - 1) * len(notes.inputs)
    with Journal(notes.store.directory) as journal:
        kept = journal.vectors.count()
        paid = {line.group: line.texts for line in journal.costs("template")}["embedding"]
    # A vector that is not finite was paid for; a text that was refused or lost was not.
    assert kept == len(set(notes.batches.texts))
    assert paid == kept if fault == "refuse" else paid >= kept
