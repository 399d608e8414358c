"""Tests of ``store costs``; an unknown cost is never shown as 0."""

from __future__ import annotations

import pytest
from command_line import project_file
from generation import answer
from loopback import Script, fails, returns


@pytest.fixture
def project(tables, hashing, llm_server):
    llm_server.script = Script(default=returns(answer))

    def write(model, *more):
        text = project_file(llm_server.url, model=model, llm="".join(more))
        (tables / "enhancer.toml").write_text(text)

    write("loopback-model")
    return write


def test_nothing_was_paid_for(invoke, project):
    assert invoke("store", "costs").out == "no calls have been paid for\n"
    nothing = invoke("store", "costs", "--json").json()
    assert (nothing["lines"], nothing["total"]["calls"], nothing["total"]["cost_usd"]) == ([], 0, 0)


def test_a_known_price_is_summed_by_day_model_and_template(invoke, project):
    project("one", "[llm.price]\ninput = 1.0\noutput = 2.0\n")
    first = invoke("generate", "--yes", "--json").json()
    project("two", "[llm.price]\ninput = 1.0\noutput = 2.0\n")
    second = invoke("generate", "--yes", "--json").json()
    whole = invoke("store", "costs", "--by", "model", "--json").json()
    assert [line["group"] for line in whole["lines"]] == ["one", "two"]
    assert whole["lines"][0]["cost_usd"] == pytest.approx(first["cost_usd"])
    total = whole["total"]
    assert total["cost_usd"] == pytest.approx(first["cost_usd"] + second["cost_usd"])
    assert (total["calls"], total["entities"]) == (12, 12)
    assert total["prompt_tokens"] == first["prompt_tokens"] + second["prompt_tokens"]
    for by, groups in (("day", 1), ("template", 1)):
        assert len(invoke("store", "costs", "--by", by, "--json").json()["lines"]) == groups
    lines = invoke("store", "costs").out.splitlines()
    assert lines[0].split()[:2] == ["day", "calls"]
    assert lines[-1].split()[:2] == ["total", "12"]


def test_an_unknown_cost_is_unknown_and_never_nothing(invoke, project):
    invoke("generate", "--yes")
    unknown = invoke("store", "costs", "--by", "model", "--json").json()
    assert unknown["lines"][0]["cost_usd"] is None
    assert unknown["total"]["cost_usd"] is None
    assert invoke("store", "costs").out.splitlines()[-1].endswith("unknown")
    project("priced", "[llm.price]\ninput = 1.0\noutput = 2.0\n")
    priced = invoke("generate", "--yes", "--json").json()["cost_usd"]
    mixed = invoke("store", "costs", "--by", "model", "--json").json()
    assert mixed["total"]["cost_usd"] is None
    assert mixed["total"]["known_cost_usd"] == pytest.approx(priced)
    assert mixed["total"]["unknown"] == 6
    assert "unknown (6 calls; the others $" in invoke("store", "costs").out.splitlines()[-1]


def test_requests_without_an_answer_are_counted_beside_the_calls(invoke, project, llm_server, monkeypatch):
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.001)
    llm_server.script.sequence = [fails(502), fails(502)]
    invoke("generate", "--yes")
    whole = invoke("store", "costs", "--by", "model", "--json").json()
    assert [(line["calls"], line["failed"]) for line in whole["lines"]] == [(6, 2)]
    assert (whole["total"]["calls"], whole["total"]["failed"]) == (6, 2)
    lines = invoke("store", "costs").out.splitlines()
    assert lines[0].split()[:4] == ["day", "calls", "without", "answer"]
    assert lines[-1].split()[:3] == ["total", "6", "2"]


def test_a_run_without_any_answer_is_in_the_costs(invoke, project, llm_server):
    llm_server.script.default = fails(401)
    assert invoke("generate", "--yes").code == 2
    line = invoke("store", "costs", "--json").json()["lines"][0]
    assert (line["calls"], line["entities"], line["cost_usd"]) == (0, 0, 0.0)
    assert line["failed"] > 0


def test_another_grouping_is_refused(invoke, project):
    assert invoke("store", "costs", "--by", "moon").code == 2
