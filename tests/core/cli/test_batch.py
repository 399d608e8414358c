"""Tests of ``--batch``: price, messages about open jobs, and exit codes."""

from __future__ import annotations

import os
import re
import signal
import threading
import time

import pytest
from loopback import LoopbackServer
from loopback_batch import LoopbackBatches, Plan
from loopback_messages import LoopbackMessageBatches

PRICE = ("--set", "llm.price.input=1000.0", "--set", "llm.price.output=1000.0")
QUICK = ("--set", "llm.batch_poll=0.02")


@pytest.fixture
def batches():
    return LoopbackBatches()


@pytest.fixture
def project(invoke, tables, hashing, batches, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    with LoopbackServer(add_routes=batches.add_routes) as server:
        flags = ("--llm", "openai", "--model", "mystery", "--api-base", server.url)
        assert invoke("init", "--yes", *flags, "--embedder", "hashing", "--store", "sqlite").code == 0
        path = tables / "enhancer.toml"
        path.write_text(re.sub(r"\[llm\.price\].*?output = 0\.0\n", "", path.read_text(), flags=re.DOTALL))
        yield tables
        assert server.count == 0


def test_the_plan_of_a_batch_costs_half(invoke, project):
    full = invoke("plan", "--json", *PRICE).json()
    half = invoke("plan", "--batch", "--json", *PRICE).json()
    assert half["cost_usd"] == pytest.approx(full["cost_usd"] / 2)
    free = invoke("plan", "--batch", "--json", *PRICE, "--set", "llm.batch_discount=1").json()
    assert free["cost_usd"] == 0


def test_it_asks_first_at_the_price_of_a_batch(invoke, project, batches):
    done = invoke("generate", "--batch", *PRICE)
    assert done.code == 2
    half = invoke("plan", "--batch", "--json", *PRICE).json()["cost_usd"]
    assert f"{half:.4f}"[:5] in done.err
    assert not batches.jobs


def test_submitted_by_one_run_and_collected_by_another(invoke, project, batches):
    batches.default = Plan(polls=1)
    first = invoke("generate", "--batch", "--no-wait", "--yes", "--json", *PRICE)
    assert first.code == 0
    assert first.json()["pending"] == 6
    assert re.search(
        r"a batch job is still running at the provider \(batch_0; 6 requests\): run `enhancer generate --batch`",
        first.err,
    )
    assert re.search(r"in batch jobs +6", invoke("plan").out)
    direct = invoke("generate", *PRICE)
    assert direct.code == 0
    assert re.search(r"in batch jobs +6", direct.out)
    assert "a batch job is still running" in direct.err
    last = invoke("generate", "--batch", "--json", *PRICE, *QUICK)  # nothing left to pay for, so no confirmation
    assert last.code == 0, last.err
    assert (last.json()["generated"], last.json()["requests"]) == (6, 6)
    assert "pending" not in last.json()
    ledger = invoke("store", "costs", "--json").json()
    assert ledger["total"]["cost_usd"] == pytest.approx(last.json()["cost_usd"])
    assert len(batches.jobs) == 1


def test_a_nightly_refresh_submits_in_one_night_and_collects_in_the_next(invoke, project, batches):
    assert invoke("refresh", "--no-wait").code == 2
    batches.default = Plan(polls=1)
    night = ("refresh", "--batch", "--no-wait", "--yes", "--json", *PRICE)
    first = invoke(*night, "--summary", "summary.json")
    assert first.code == 0, first.err
    assert (first.json()["generate"]["pending"], first.json()["exit_code"]) == (6, 0)
    half = invoke("plan", "--batch", "--json", *PRICE).json()["cost_usd"]
    assert first.json()["plan"]["cost_usd"] > half == 0  # nothing is left to be paid for
    assert "a batch job is still running at the provider (batch_0; 6 requests)" in first.err
    direct = invoke("refresh", "--yes", *PRICE)  # requests in open jobs are not sent again
    assert (direct.code, "a batch job is still running" in direct.err) == (0, True)
    batches.jobs["batch_0"].plan = Plan()
    second = invoke(*night)
    assert second.json()["generate"]["generated"] == 6
    assert "still running" not in second.err
    third = invoke(*night).json()
    assert (third["generate"], third["changes"][0]["fresh"], len(batches.jobs)) == (None, 6, 1)


def test_ctrl_c_says_that_the_job_goes_on_and_the_next_run_collects_it(invoke, project, batches):
    batches.default = Plan(polls=10**6)

    def press():
        while not any(job.polls for job in batches.jobs.values()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    done = invoke("generate", "--batch", "--yes", *PRICE, *QUICK)
    thread.join()
    assert done.code == 130
    assert "a batch job is still running at the provider (batch_0; 6 requests)" in done.err
    assert "enhancer generate --batch" in done.err
    batches.jobs["batch_0"].plan = Plan()
    assert invoke("generate", "--batch", "--json", *PRICE, *QUICK).json()["generated"] == 6
    assert len(batches.jobs) == 1


def test_a_provider_without_batches_is_refused_and_one_that_has_them_is_named(invoke, project):
    toml = project / "enhancer.toml"
    toml.write_text(re.sub(r"\[llm\].*?\n\n", '[llm]\nuse = "replay"\n\n', toml.read_text(), flags=re.DOTALL))
    for command in (("generate", "--batch", "--yes"), ("plan", "--batch")):
        done = invoke(*command)
        assert done.code == 2
        assert "'replay' has no batch API" in done.err
        assert '"openai"' in done.err


def test_a_failed_job_shows_the_providers_words(invoke, project, batches):
    batches.default = Plan(refused=({"code": "x", "line": 2, "message": "The model does not exist."},))
    done = invoke("generate", "--batch", "--yes", *QUICK)
    assert done.code == 1
    assert "line 2: The model does not exist." in done.err


def test_flags_of_batches_alone_are_refused(invoke, project):
    for flag in ("--no-wait", "--abandon"):
        done = invoke("generate", flag)
        assert done.code == 2
        assert "add --batch" in done.err


def test_the_budget_stops_with_4(invoke, project, batches):
    done = invoke("generate", "--batch", "--yes", *PRICE, "--set", "llm.max_cost=0.01", *QUICK)
    assert done.code == 4
    assert not batches.jobs


def test_abandoned(invoke, project, batches):
    batches.default = Plan(polls=10**6)
    assert invoke("generate", "--batch", "--no-wait", "--yes").code == 0
    done = invoke("generate", "--batch", "--abandon", "--json", *QUICK)
    assert done.code == 0, done.err
    assert done.json()["generated"] == 3
    assert "still running" not in done.err


def test_a_limit_bounds_what_is_submitted(invoke, project, batches):
    done = invoke("generate", "--batch", "--limit", "2", "--yes", "--json", *PRICE, *QUICK)
    assert (done.code, done.json()["generated"]) == (0, 2), done.err
    assert sum(len(job.lines) for job in batches.jobs.values()) == 2
    assert "4 entities left for later runs by --limit 2" in done.err
    assert invoke("plan", "--batch", "--limit", "3", "--json").json()["left"] == 1


def test_litellm_takes_batches_for_models_of_anthropic(invoke, tables, hashing, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test-0123456789abcdef")
    batches = LoopbackMessageBatches(default=Plan(polls=1))
    with LoopbackServer(add_routes=batches.add_routes) as server:
        base = server.url.removesuffix("/v1")
        flags = ("--llm", "litellm", "--model", "anthropic/claude-3-5-haiku-latest", "--api-base", base)
        assert invoke("init", "--yes", *flags, "--embedder", "hashing", "--store", "sqlite").code == 0
        done = invoke("generate", "--batch", "--yes", "--json", *PRICE, *QUICK)
        assert done.code == 0, done.err
        assert (done.json()["generated"], len(batches.jobs)) == (6, 1)
        refused = invoke("plan", "--batch", "--set", "llm.model=groq/llama-3.1-8b-instant")
        assert refused.code == 2
        assert "litellm has no batch API for 'groq/llama-3.1-8b-instant'" in refused.err
        assert "anthropic, gemini, mistral" in refused.err
