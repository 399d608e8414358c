"""Tests of ``spend`` over a catalogue with planted tastes and a local LLM server."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from dists import ROOT
from loopback import approximate_tokens, returns
from planted_catalogue import INPUT_PRICE, OUTPUT_PRICE, PlantedCatalogue
from processes import COMMAND_LINE, start
from terminal import on_a_terminal

BUDGET = ("--budget", "1000", "--yes", "--json", "--least-gain", "0.02")


@pytest.fixture(scope="module")
def catalogue():
    """Two hundred items that interactions know well, and as many new ones."""
    return PlantedCatalogue.make(0, users=150, items=400, new=200, each=40, skew=0.2)


@pytest.fixture
def shop(tmp_path, hashing, llm_server, monkeypatch, catalogue):
    """A project over the catalogue, whose LLM knows all items."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    catalogue.write(tmp_path, llm_server.url)
    llm_server.script.default = returns(catalogue.answer(lambda _: True))
    return tmp_path


def charged(server):
    """Return what the server has charged, in USD."""
    total = 0.0
    for request in server.requests:
        prompt = sum(approximate_tokens(message["content"]) for message in request.body["messages"])
        answer = approximate_tokens(server.script.default.answer(request.body))
        total += (prompt * INPUT_PRICE + answer * OUTPUT_PRICE) / 1e6
    return total


def by_stratum(report):
    return {one["stratum"]: one for one in report["strata"]}


def test_it_finds_where_profiles_gain_and_spends_less_than_half(invoke, shop, llm_server):
    """Interactions know most of the catalogue well enough. Profiles know all of it, so new items gain most."""
    budget = (*BUDGET[:-1], "0.1")
    wider = PlantedCatalogue.make(0, users=200, items=700, new=200, each=60, skew=0.2)
    wider.write(shop, llm_server.url)
    llm_server.script.default = returns(wider.answer(lambda _: True))
    done = invoke("spend", *budget)
    assert done.code == 0, done.err
    report = done.json()
    strata = by_stratum(report)
    assert report["stopped"] == "complete"
    assert {name: one["worth"] for name, one in strata.items()} == {
        "head": [],
        "middle": [],
        "tail": [],
        "new": [["profile"]],
    }
    assert report["spent_usd"] < 0.5 * (report["spent_usd"] + report["everything_usd"])
    assert strata["new"]["bought"]["profile"] == strata["new"]["items"]
    assert report["spent_usd"] == pytest.approx(charged(llm_server))
    first, *others = report["rounds"]
    assert [order["items"] for order in first["orders"]] == [40, 40, 40]
    assert {gain["stratum"] for gain in first["gains"]} == {"head", "middle", "tail", "new"}
    for gain in first["gains"]:
        assert set(gain["controls"]) == {"ids", "text", "text twice", "placebo"}
        assert gain["decision"] == ("buy" if gain["stratum"] == "new" else "wait")
        assert gain["bound"] < gain["gain"] == min(one["gain"] for one in gain["controls"].values())
    assert others
    assert llm_server.count == sum(order["bought"] for one in report["rounds"] for order in one["orders"])
    again = invoke("spend", *budget)
    assert again.json() == report
    assert llm_server.count < 450


def test_only_the_aspect_that_knows_the_items_is_bought(invoke, shop, llm_server, catalogue):
    catalogue.write(shop, llm_server.url, aspects='[prompts.item]\ntemplate = "item/films"\naspects = ["mood", "plot"]')
    knows = {"mood": lambda _: True, "plot": lambda _: False}
    llm_server.script.default = returns(catalogue.answer(knows))
    done = invoke("spend", *BUDGET)
    assert done.code == 0, done.err
    new = by_stratum(done.json())["new"]
    assert new["worth"] == [["mood"]]
    assert new["bought"] == {"mood": new["items"]}
    pilot = done.json()["rounds"][0]
    assert [order["aspects"] for order in pilot["orders"]] == [["mood", "plot"]] * 3
    assert {tuple(gain["aspects"]) for gain in pilot["gains"]} == {("mood",), ("plot",), ("mood", "plot")}


def test_where_nothing_gains_it_stops_after_the_pilot(invoke, shop, llm_server, catalogue):
    llm_server.script.default = returns(catalogue.answer(lambda _: False))
    done = invoke("spend", "--budget", "1000", "--yes")
    assert done.code == 0, done.err
    assert "round 1, the pilot: 120 items" in done.out
    assert "Nothing proved worth buying." in done.out
    assert "round 2" not in done.out
    assert llm_server.count == 120


def test_a_dry_run_pays_and_writes_nothing(invoke, shop, llm_server):
    before = sorted(shop.rglob("*"))
    done = invoke("spend", "--budget", "20", "--dry-run", "--json")
    assert done.code == 0, done.err
    plan = done.json()
    assert plan["pilot_usd"] == pytest.approx(sum(one["pilot_usd"] for one in plan["strata"]))
    assert 0 < plan["pilot_usd"] < plan["everything_usd"]
    assert by_stratum(plan)["new"]["pilot"] == 0
    assert sorted(shop.rglob("*")) == before
    assert "cost of pilot" in invoke("spend", "--budget", "20", "--dry-run").out
    assert llm_server.count == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--budget", "20"), "no terminal to ask"),
        (("--yes",), "there is no budget"),
        (("--budget", "0", "--yes"), "buys nothing"),
        (("--budget", "0.01", "--yes"), "too small"),
        (("--budget", "20", "--yes", "--set", "prompts.item.source=text"), "no profiles of items to buy"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_first_call(invoke, shop, llm_server, flags, message):
    done = invoke("spend", *flags)
    assert done.code == 2
    assert message in done.err
    assert llm_server.count == 0


def test_a_person_at_a_terminal_is_shown_the_plan_and_asked(shop, llm_server):
    code, shown = on_a_terminal(shop, ["spend", "--budget", "20"], [("Spend up to $20.00?", "n")])
    assert code == 1
    assert "cost of pilot" in shown
    assert "nothing was bought" in shown
    assert llm_server.count == 0


def test_an_unknown_price_is_refused_before_the_first_call(invoke, shop, llm_server):
    path = shop / "enhancer.toml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith("price")))
    for flags in (("--dry-run",), ("--yes",)):
        done = invoke("spend", "--budget", "20", *flags)
        assert done.code == 2
        assert "[llm.price]" in done.err
    assert llm_server.count == 0


def test_the_budget_is_never_passed_and_a_larger_one_continues(invoke, shop, llm_server):
    flags = ("--yes", "--json", "--set", "llm.concurrency=32")
    done = invoke("spend", "--budget", "7", *flags)
    assert done.code == 4, done.err
    assert "stopped at the budget of 7 USD" in done.err
    report = done.json()
    assert report["stopped"] == "budget"
    assert charged(llm_server) <= 7
    assert 6 < report["spent_usd"] <= 7
    assert not report["rounds"][-1]["finished"]
    asked = llm_server.count
    assert invoke("spend", "--budget", "7", *flags).code == 4
    assert llm_server.count == asked
    done = invoke("spend", "--budget", "100", *flags)
    assert done.code == 0, done.err
    report = done.json()
    assert all(one["finished"] for one in report["rounds"])
    assert report["rounds"][0]["round"] == 1
    assert report["spent_usd"] == pytest.approx(charged(llm_server))
    prompts = [request.body["messages"][1]["content"] for request in llm_server.requests]
    assert len(prompts) == len(set(prompts))


@pytest.mark.parametrize(("budget", "concurrency"), [(4.5, 64), (6.0, 7)])
def test_no_budget_is_passed_whatever_the_order_of_answers(invoke, shop, llm_server, catalogue, budget, concurrency):
    answer, draw = catalogue.answer(lambda _: True), random.Random(concurrency)
    llm_server.script.choose = lambda *_: returns(answer, latency=0.02 * draw.random())
    done = invoke("spend", "--budget", budget, "--yes", "--json", "--set", f"llm.concurrency={concurrency}")
    assert done.code == 4, done.err
    assert 0.8 * budget < charged(llm_server) <= budget
    assert done.json()["spent_usd"] == pytest.approx(charged(llm_server))


def test_a_killed_run_continues_with_what_it_had_decided(invoke, shop, llm_server, catalogue):
    llm_server.script.default = returns(catalogue.answer(lambda _: True), latency=0.01)
    paths = os.pathsep.join([str(shop / ".site"), str(ROOT / "contrib" / "enhancer-example" / "src")])
    command = [sys.executable, "-c", COMMAND_LINE, "spend", *BUDGET]
    with start(
        command, cwd=shop, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while llm_server.count < 170:  # in the second round
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(20)
    state = json.loads((shop / "features" / "spend.json").read_text())
    assert len(state["rounds"]) == 1
    assert state["orders/1"]
    done = invoke("spend", *BUDGET)
    assert done.code == 0, done.err
    report = done.json()
    assert report["rounds"][0] == state["rounds"][0]
    assert [order["items"] for order in report["rounds"][1]["orders"]] == [
        order["stop"] - order["start"] for order in state["orders/1"]
    ]
    # The calls in flight may have been charged: they count at their largest cost, and are made again.
    assert report["lost_usd"] > 0
    with sqlite3.connect(shop / "features" / "journal.sqlite") as journal:
        answered = journal.execute("SELECT count(*) FROM completions").fetchone()[0]
    journal.close()
    assert answered <= llm_server.count <= answered + 32
    assert charged(llm_server) <= report["spent_usd"]


def test_calls_that_are_answered_after_an_interruption_are_not_lost(invoke, shop, llm_server, catalogue):
    llm_server.script.default = returns(catalogue.answer(lambda _: True), latency=0.3)
    paths = os.pathsep.join([str(shop / ".site"), str(ROOT / "contrib" / "enhancer-example" / "src")])
    command = [sys.executable, "-c", COMMAND_LINE, "spend", *BUDGET]
    with start(
        command, cwd=shop, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while not llm_server.count:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    state = json.loads((shop / "features" / "spend.json").read_text())
    assert (state["lost_usd"], state["in_flight_usd"]) == (0, 0)
    report = invoke("spend", *BUDGET).json()
    assert report["lost_usd"] == 0
    assert report["spent_usd"] == pytest.approx(charged(llm_server))


def test_one_process_at_a_time(invoke, shop, llm_server):
    folder = shop / "features"
    folder.mkdir()
    (folder / "spend.lock").write_text("elsewhere:1:2:abc")
    done = invoke("spend", *BUDGET)
    assert done.code == 2
    assert "another `enhancer spend` is running" in done.err
    assert llm_server.count == 0


def test_a_campaign_over_other_data_is_not_continued(invoke, shop, llm_server, catalogue):
    llm_server.script.default = returns(catalogue.answer(lambda _: False))
    assert invoke("spend", *BUDGET).code == 0
    done = invoke("spend", *BUDGET, "--set", "evaluation.split_seed=1")
    assert done.code == 2
    assert "another split" in done.err
    assert "--restart" in done.err
    (shop / "features" / "spend.json").write_text("{}")
    done = invoke("spend", *BUDGET)
    assert done.code == 1
    assert "spend.json is damaged" in done.err
    done = invoke("spend", *BUDGET, "--restart")
    assert done.code == 0
    assert done.json()["spent_usd"] == 0  # all that the pilot orders was bought before
    assert llm_server.count == 120


def test_a_warning_is_given_once(invoke, shop, llm_server):
    (shop / "reviews.csv").write_text("user_id,item_id,review\n0,0,a fine thing\n")
    found = shop / "enhancer.toml"
    found.write_text(found.read_text().replace("[data]", '[data]\nreviews = "reviews.csv"'))
    done = invoke("spend", "--budget", "1000", "--dry-run")
    assert done.code == 0, done.err
    assert done.err.count("profiles are written without them") == 1


def test_a_campaign_in_vain_ends_and_names_no_option_that_it_lacks(invoke, shop, llm_server):
    llm_server.script.default = returns("no")
    done = invoke("spend", *BUDGET)
    assert done.code == 1
    assert "have no valid one" in done.err
    assert "keep-going" not in done.err
    assert llm_server.count < 80
