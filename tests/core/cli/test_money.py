"""Tests of the confirmation before money is spent, of the budget, and of quarantine."""

from __future__ import annotations

import json
import re

import pytest
from loopback import Behaviour, returns
from terminal import CTRL_C, on_a_terminal

PRICE = ("--set", "llm.price.input=1000.0", "--set", "llm.price.output=1000.0")


@pytest.fixture
def project(invoke, tables, hashing, llm_server, monkeypatch):
    """A project whose LLM is a local server without a known price."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    flags = (
        "--llm",
        "openai",
        "--model",
        "mystery",
        "--api-base",
        llm_server.url,
        "--embedder",
        "hashing",
        "--store",
        "sqlite",
    )
    assert invoke("init", "--yes", *flags).code == 0
    path = tables / "enhancer.toml"
    path.write_text(re.sub(r"\[llm\.price\].*?output = 0\.0\n", "", path.read_text(), flags=re.DOTALL))
    return tables


def test_without_a_terminal_and_without_yes_nothing_is_spent(invoke, project, llm_server):
    done = invoke("generate")
    assert done.code == 2
    assert "6 calls at an unknown price" in done.err
    assert "--yes" in done.err
    done = invoke("run", *PRICE)
    assert done.code == 2
    assert re.search(r"6 calls for about \$\d", done.err)
    assert llm_server.count == 0


def test_the_plan_then_generate_then_nothing_left(invoke, project, llm_server):
    plan = invoke("plan", "--json", *PRICE).json()
    assert plan["to_generate"] == plan["requests"] == 6
    assert plan["cost_usd"] > 0
    done = invoke("generate", "--yes", "--json", *PRICE)
    assert done.code == 0, done.err
    report = done.json()
    assert (report["entities"], report["generated"], report["quarantined"]) == (6, 6, 0)
    assert "generate  6/6 (100%)" in done.err
    again = invoke("generate", "--json", *PRICE)  # free, so no confirmation
    assert again.code == 0
    assert again.json()["cached"] == 6
    assert llm_server.count == 6


def test_quiet_leaves_stderr_empty(invoke, project):
    done = invoke("generate", "--yes", "--quiet", "--set", "llm.price.input=0", "--set", "llm.price.output=0")
    assert done.code == 0
    assert done.err == ""


def test_a_part_in_quarantine_is_exit_3_and_is_listed(invoke, project, llm_server):
    llm_server.script.choose = lambda number, body: returns("not JSON") if "Heat" in json.dumps(body) else None
    done = invoke("generate", "--yes", "--json")
    assert done.code == 3, done.err
    assert done.json()["quarantined"] == 1
    assert "--retry-quarantined" in done.err
    (line,) = invoke("store", "quarantine", "--json").json()
    assert (line["kind"], line["id"]) == ("item", "2")
    assert line["reason"]
    assert line["id"] in invoke("store", "quarantine").out
    llm_server.script.choose = None
    done = invoke("generate", "--yes", "--json", "--retry-quarantined")
    assert done.code == 0, done.err
    assert invoke("store", "quarantine").out == "nothing is in quarantine\n"


def test_stopping_at_the_budget_is_exit_4_and_tells_what_was_done(invoke, project):
    cost = invoke("plan", "--json", *PRICE).json()["cost_usd"]
    done = invoke("generate", "--yes", "--json", *PRICE, "--set", f"llm.max_cost={cost}", "--set", "llm.concurrency=1")
    assert done.code == 4, done.err
    assert 0 < done.json()["generated"] < 6
    assert "error:" in done.err


def test_a_refused_key_is_exit_2_and_not_shown(invoke, project, llm_server):
    llm_server.script.default = Behaviour(status=401)
    done = invoke("generate", "--yes")
    assert done.code == 2, done.err
    assert "0123456789abcdef" not in done.err + done.out


def test_a_missing_key_is_named(invoke, project, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    path = project / "enhancer.toml"
    path.write_text(re.sub(r"^api_base.*\n", "", path.read_text(), flags=re.MULTILINE))
    done = invoke("generate", "--yes")
    assert done.code == 2
    assert "OPENAI_API_KEY" in done.err


def test_a_person_at_a_terminal_is_shown_the_plan_and_asked(project, llm_server):
    code, shown = on_a_terminal(project, ["generate"], [("Continue?", "n")])
    assert code == 1
    assert "calls" in shown
    assert "unknown" in shown
    assert "nothing was generated" in shown
    assert llm_server.count == 0
    code, shown = on_a_terminal(project, ["generate"], [("Continue?", "y")])
    assert code == 0, shown
    assert llm_server.count == 6
    assert "6/6 (100%)" in shown


def test_ctrl_c_at_the_question(project, llm_server):
    code, shown = on_a_terminal(project, ["generate"], [("Continue?", CTRL_C)])
    assert code == 130
    assert "interrupted" in shown
    assert "Traceback" not in shown
    assert llm_server.count == 0


def test_a_limit_bounds_what_is_planned_and_paid_for(invoke, project, llm_server):
    plan = invoke("plan", "--limit", "2", "--json", *PRICE).json()
    whole = invoke("plan", "--json", *PRICE).json()
    assert (plan["to_generate"], plan["requests"], plan["left"], plan["cached"]) == (2, 2, 4, 0)
    assert plan["cost_usd"] < whole["cost_usd"] / 2
    assert re.search(r"left for later runs +4", invoke("plan", "--limit", "2", *PRICE).out)
    assert "2 calls for about $" in invoke("generate", "--limit", "2", *PRICE).err
    done = invoke("generate", "--limit", "2", "--yes", "--json", *PRICE)
    assert (done.code, done.json()["generated"], llm_server.count) == (0, 2, 2)
    assert "4 entities left for later runs by --limit 2" in done.err
    assert "generate  2/2 (100%)" in done.err
    rest = invoke("generate", "--limit", "9", "--yes", *PRICE)
    assert (rest.code, llm_server.count) == (0, 6)
    assert "left for later" not in rest.err
    assert invoke("generate", "--limit", "0").code == 2


def test_a_limit_leaves_the_others_in_quarantine(invoke, project, llm_server):
    llm_server.script.choose = lambda number, body: returns("not JSON")
    assert invoke("generate", "--yes").code == 3
    llm_server.script.choose = None
    done = invoke("generate", "--yes", "--retry-quarantined", "--limit", "1", "--json")
    assert (done.code, done.json()["generated"]) == (3, 1)
    assert len(invoke("store", "quarantine", "--json").json()) == 5
    paid = llm_server.count
    assert invoke("generate", "--yes").code == 3
    assert llm_server.count == paid
