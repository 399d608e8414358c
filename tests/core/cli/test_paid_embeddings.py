"""What pays for embeddings asks first, keeps to the budget, and is in the ledger."""

from __future__ import annotations

import json
import re

import pytest
from loopback_embeddings import embedding_server
from terminal import on_a_terminal

GOOD = {
    "profile": "A slow, warm drama for viewers who like small towns and long silences between old friends.",
    "tags": ["slow", "warm", "drama", "small town"],
}


@pytest.fixture
def server():
    with embedding_server() as running:
        yield running


@pytest.fixture
def project(invoke, tables, server):
    """Six films, with an embedder at a loopback server that charges 1,000 USD per million tokens."""
    configure(tables, server.url)
    rows = [{"id": str(n), **GOOD, "profile": f"{GOOD['profile']} Film number {n}."} for n in range(1, 7)]
    (tables / "theirs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tables


def configure(folder, url, price="1000.0", llm=""):
    (folder / "enhancer.toml").write_text(
        '[data]\nitems = "movies.csv"\ninteractions = "ratings.csv"\n[data.columns]\nitem_id = "movieId"\n'
        'user_id = "userId"\n[prompts.user]\nsource = "none"\n'
        f'[llm]\nuse = "openai"\nmodel = "m"\napi_base = "{url}"\nprice = "free"\n{llm}'
        f'[embedder]\nuse = "openai"\nmodel = "m"\napi_base = "{url}"\nprice = {price}\n'
    )


def live(done):
    return {check["name"]: check for check in done.json()}["embedder, live"]


@pytest.mark.parametrize("verb", ["generate", "refresh", "run"])
@pytest.mark.parametrize(
    ("flags", "said"),
    [((), "OPENAI_API_KEY is not set"), (("--set", "llm.api_base=http://8.8.8.8/v1"), "plain http")],
    ids=["no key", "plain http"],
)
def test_nothing_is_embedded_if_the_llm_cannot_be_called(invoke, project, server, monkeypatch, verb, flags, said):
    config = project / "enhancer.toml"
    url = server.url
    config.write_text(
        config.read_text().replace(
            f'model = "m"\napi_base = "{url}"\nprice = "free"\n', 'model = "m"\nprice = "free"\n'
        )
    )
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x" if flags else "")
    done = invoke(verb, "--yes", *flags)
    assert done.code == 2
    assert said in done.err
    assert server.texts == []


def test_an_import_that_costs_is_refused_without_a_terminal(invoke, project, server):
    done = invoke("store", "import", "theirs.jsonl")
    assert (done.code, server.bodies) == (2, [])
    assert re.search(r"texts to embed +6", done.err)
    assert re.search(r"tokens embedded +\d+ \(estimated\)", done.err)
    assert "this would make 1 call for about $" in done.err
    assert "--yes" in done.err
    assert invoke("store", "stats", "--json").json()["records"] == 0


@pytest.mark.parametrize("strict", [(), ("--strict",)])
def test_an_import_with_yes_pays_and_tells_what(invoke, project, server, strict):
    done = invoke("store", "import", "theirs.jsonl", "--yes", "--json", *strict)
    report = done.json()
    tokens = sum(len(text.split()) for text in server.texts)
    assert (done.code, report["records"], report["embedded"]) == (0, 6, 6)
    assert (report["embedding_requests"], report["embedding_failed_requests"]) == (1, 0)
    assert (report["embedding_tokens"], report["embedding_cost_usd"]) == (tokens, pytest.approx(tokens / 1000))
    ledger = invoke("store", "costs", "--by", "template", "--json").json()
    assert ledger["total"]["cost_usd"] == pytest.approx(tokens / 1000)
    # All is paid for: there is nothing to ask about.
    again = invoke("store", "import", "theirs.jsonl")
    assert (again.code, len(server.bodies)) == (0, 1)
    assert again.out == "6 records read from theirs.jsonl, 6 of them embedded here by 0 requests ($0.00)\n"


def test_an_import_counts_requests_without_an_answer(invoke, project, server, monkeypatch):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    server.sequence = [(429, {"Retry-After": "0"}, {"error": "slow down"})]
    done = invoke("store", "import", "theirs.jsonl", "--yes")
    assert "embedded here by 1 request, and 1 without an answer ($" in done.out


@pytest.mark.parametrize("price", ['"free"', "0"])
def test_an_import_that_costs_nothing_asks_nothing(invoke, project, server, price):
    configure(project, server.url, price)
    assert invoke("store", "import", "theirs.jsonl").code == 0
    assert server.bodies


def test_an_import_of_rows_with_vectors_asks_no_server(invoke, project, server):
    assert invoke("store", "import", "theirs.jsonl", "--yes").code == 0
    assert invoke("store", "export", "made.jsonl").code == 0
    paid = len(server.bodies)
    other = ("--set", "store.path=other")
    assert invoke("store", "import", "made.jsonl", *other).code == 0
    rows = [json.loads(line) for line in (project / "made.jsonl").read_text().splitlines()]
    rows[0]["vector"] = rows[0]["vector"][:3]
    (project / "made.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = invoke("store", "import", "made.jsonl", *other)
    assert (done.code, "its vector has 3 numbers, and those of its embedder have 16" in done.err) == (3, True)
    assert len(server.bodies) == paid, "not even for the length of its vectors"


def test_an_import_says_which_variable_goes_where(invoke, project, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    done = invoke("store", "import", "theirs.jsonl", "--yes")
    assert f"sends OPENAI_API_KEY to {server.url}" in done.err


def test_a_person_at_a_terminal_is_asked_before_an_import_pays(project, server):
    code, shown = on_a_terminal(project, ["store", "import", "theirs.jsonl"], [("Continue?", "n")])
    assert (code, server.bodies) == (1, [])
    assert "texts to embed" in shown
    assert "nothing was imported" in shown
    code, shown = on_a_terminal(project, ["store", "import", "theirs.jsonl"], [("Continue?", "y")])
    assert (code, len(server.bodies)) == (0, 1)


def test_live_asks_before_it_pays_for_vectors(invoke, project, server):
    done = invoke("doctor", "--live", "--json")
    assert done.code == 1
    assert "for at most $" in live(done)["detail"]
    assert "--yes" in live(done)["mend"]
    assert server.bodies == []


def test_live_embeds_within_the_budget_and_the_ledger(invoke, project, server):
    measured = live(invoke("doctor", "--live", "--yes", "--json"))["measured"]
    tokens = sum(len(text.split()) for text in server.texts)
    assert (len(server.texts), measured["dim"]) == (2, 16)
    assert (measured["tokens"], measured["cost_usd"]) == (tokens, pytest.approx(tokens / 1000))
    lines = invoke("store", "costs", "--by", "template", "--json").json()["lines"]
    assert {line["group"]: line["texts"] for line in lines}["embedding"] == 2
    invoke("doctor", "--live", "--yes")
    assert len(server.texts) == 4, "a vector in the journal tells nothing about the server"


def test_live_stops_at_the_budget(invoke, project, server):
    configure(project, server.url, llm="max_cost = 0.02\n")
    found = live(invoke("doctor", "--live", "--yes", "--json"))
    assert found["status"] == "fail"
    assert "max_cost = 0.02" in found["detail"]
    assert server.bodies == []


def test_live_tells_a_broken_embedder(invoke, project, server, monkeypatch):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    server.choose = lambda *_: (500, {}, {"error": "out of memory"})
    found = live(invoke("doctor", "--live", "--yes", "--json"))
    assert found["status"] == "fail"
    assert "answered 500: out of memory" in found["detail"]
    assert len(server.bodies) <= 8
