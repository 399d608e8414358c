"""Tests of ``--batch`` with an embedder that has a batch API, and no LLM."""

from __future__ import annotations

import re

import pytest
from loopback_batch import Plan
from loopback_embeddings import embedding_server


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    with embedding_server() as running:
        yield running
        assert running.bodies == []


@pytest.fixture
def project(server, tmp_path):
    rows = "".join(f"{n},a film about {n} friends\n" for n in range(6))
    (tmp_path / "items.csv").write_text(f"item_id,text\n{rows}")
    (tmp_path / "enhancer.toml").write_text(
        '[data]\nitems = "items.csv"\n[data.columns]\nitem_text = ["text"]\n[prompts.item]\nsource = "text"\n'
        "[llm]\nbatch_poll = 0.02\n"
        f'[embedder]\nuse = "openai"\nmodel = "m"\napi_base = "{server.url}"\nprice = 1000.0\nbatch = true\n'
        'input = ["text"]\n[store]\nuse = "sqlite"\npath = "features.sqlite"\n'
    )
    return tmp_path


def test_one_run_submits_and_another_collects(invoke, project, server):
    full, half = (invoke("plan", "--json", *flags).json() for flags in ((), ("--batch",)))
    assert half["cost_usd"] == half["embedding_cost_usd"] == pytest.approx(full["cost_usd"] / 2)
    assert invoke("generate", "--batch").code == 2, "it costs money, and nobody can be asked"
    assert not server.batches.jobs
    server.batches.default = Plan(polls=1)
    first = invoke("generate", "--batch", "--no-wait", "--yes", "--json")
    assert (first.code, first.json()["pending"]) == (0, 6), first.err
    assert re.search(r"a batch job is still running at the provider \(batch_0; 6 requests\)", first.err)
    assert re.search(r"in batch jobs +6", invoke("plan").out)
    direct = invoke("generate", "--json")
    assert (direct.code, direct.json()["pending"]) == (0, 6)
    last = invoke("generate", "--batch", "--json")
    assert last.code == 0, last.err
    assert (last.json()["generated"], last.json()["embedding_requests"]) == (6, 6)
    costs = invoke("store", "costs", "--json").json()["total"]
    assert costs["cost_usd"] == pytest.approx(last.json()["cost_usd"])
    assert len(server.batches.jobs) == 1


def test_a_nightly_refresh_submits_in_one_night_and_collects_in_the_next(invoke, project, server):
    night = ("refresh", "--batch", "--no-wait", "--yes", "--json")
    nights = [invoke(*night) for _ in range(3)]
    assert [one.code for one in nights] == [0, 0, 0]
    assert [one.json()["generate"] and one.json()["generate"]["generated"] for one in nights] == [0, 6, None]
    assert len(server.batches.jobs) == 1


def test_abandon_stores_what_the_job_had(invoke, project, server):
    server.batches.default = Plan(polls=10**6)
    assert invoke("generate", "--batch", "--no-wait", "--yes").code == 0
    done = invoke("generate", "--batch", "--abandon", "--yes", "--json")
    assert (done.code, done.json()["generated"]) == (0, 3), done.err
    assert "pending" not in done.json()


def test_every_command_refuses_a_batch_api_that_is_none(invoke, project, monkeypatch):
    monkeypatch.setenv("VOYAGE_API_KEY", "voyage-key-0123456789")
    for command in (("plan",), ("doctor",), ("generate", "--yes"), ("generate", "--batch", "--yes")):
        done = invoke(*command, "--set", "embedder.use=litellm", "--set", "embedder.model=voyage/voyage-3")
        assert done.code == (1 if command == ("doctor",) else 2), (command, done.out, done.err)
        assert "the embedder 'litellm' has no batch API" in done.out + done.err
