"""Test that every command that calls a server says first which environment variables it sends there."""

from __future__ import annotations

import random

import pytest
from loopback import LoopbackServer
from loopback_batch import LoopbackBatches, Plan

PRICE = ("--set", "llm.price.input=1000.0", "--set", "llm.price.output=1000.0")
CONFIG = """
[data]
items = "items.csv"
interactions = "ratings.csv"
[prompts.user]
source = "pool"
[llm]
use = "openai"
model = "loopback-model"
api_base = "{url}"
api_key_env = "SOME_SECRET"
[embedder]
{embedder}
[store]
use = "sqlite"
path = "features"
[backbone]
use = "als"
[fuser]
use = "prior"
"""
REMOTE = 'use = "openai"\nmodel = "m"\napi_base = "{url}"\napi_key_env = "OTHER_SECRET"\nprice = 1000.0'


@pytest.fixture
def project(invoke, tmp_path, hashing, llm_server, monkeypatch):
    """Sixty films, and thirty users who took some of them."""
    monkeypatch.setenv("SOME_SECRET", "sk-test-0123456789abcdef")
    monkeypatch.setenv("OTHER_SECRET", "sk-else-0123456789abcdef")
    chance = random.Random(0)
    (tmp_path / "items.csv").write_text(
        "item_id,title,year\n" + "".join(f"{n},Film {n},{1980 + n}\n" for n in range(60))
    )
    pairs = [f"u{user},{item}\n" for user in range(30) for item in sorted(chance.sample(range(60), 20))]
    (tmp_path / "ratings.csv").write_text("user_id,item_id\n" + "".join(pairs))
    (tmp_path / "enhancer.toml").write_text(CONFIG.format(url=llm_server.url, embedder='use = "hashing"'))
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ("generate",),
        ("refresh",),
        ("run",),
        ("spend", "--budget", "9000", "--pilot", "12"),
        ("diagnose", "--memory"),
    ],
    ids=lambda command: command[0],
)
def test_the_variable_and_its_server_are_told_before_the_question(invoke, project, llm_server, command):
    done = invoke(*command, *PRICE)
    assert (done.code, "--yes" in done.err) == (2, True), done.err
    assert done.err.count(f"sends SOME_SECRET to {llm_server.url}") == 1
    assert "OTHER_SECRET" not in done.err
    assert "SOME_SECRET" not in invoke(*command, *PRICE, "--quiet").err
    assert llm_server.count == 0


@pytest.mark.parametrize("command", [("generate",), ("refresh",), ("spend", "--budget", "9000", "--pilot", "12")])
def test_so_is_that_of_a_remote_embedder(invoke, project, llm_server, command):
    embedder = REMOTE.format(url=llm_server.url.replace("127.0.0.1", "localhost"))
    (project / "enhancer.toml").write_text(CONFIG.format(url=llm_server.url, embedder=embedder))
    done = invoke(*command, *PRICE)
    assert done.code == 2
    assert f"sends SOME_SECRET to {llm_server.url}" in done.err
    assert "sends OTHER_SECRET to http://localhost" in done.err


def test_questions_are_told_and_what_calls_nothing_tells_nothing(invoke, project, llm_server):
    assert invoke("generate", "--yes", "--quiet").code == 0
    told = f"sends SOME_SECRET to {llm_server.url}"
    assert told in invoke("diagnose", "--judge", *PRICE).err
    for command in (("generate",), ("refresh",), ("diagnose",), ("train",), ("plan",), ("store", "stats")):
        assert "SOME_SECRET" not in invoke(*command, *PRICE).err, command


def test_a_run_that_only_collects_jobs_tells_it(invoke, project):
    batches = LoopbackBatches(default=Plan(polls=1))
    with LoopbackServer(add_routes=batches.add_routes) as server:
        (project / "enhancer.toml").write_text(CONFIG.format(url=server.url, embedder='use = "hashing"'))
        told = f"sends SOME_SECRET to {server.url}"
        first = invoke("generate", "--batch", "--no-wait", "--yes", *PRICE)
        assert (first.code, told in first.err) == (0, True)
        assert told in invoke("generate", "--batch", "--abandon").err
        assert told in invoke("generate", "--batch", "--no-wait", *PRICE).err or not batches.jobs
