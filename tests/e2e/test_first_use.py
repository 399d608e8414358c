"""The README's way, as a new user goes it: two CSV files, ``init``, and one verb after the other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from loopback import Behaviour, returns
from processes import COMMAND_LINE, start

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

PLAN = {
    "entities",
    "cached",
    "to_generate",
    "quarantined",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
}
GENERATION = (PLAN - {"to_generate"}) | {"generated", "seconds", "embedded"}
COMPARISON = {"arm", "baseline", "metric", "delta", "t", "df", "p", "p_adjusted", "significant"}
SMALL = (
    'backbone.use="lightgcn"',
    "backbone.epochs=3",
    "backbone.dim=8",
    "evaluation.seeds=2",
    'evaluation.arms=["none", "concat"]',
)
SMALL = tuple(flag for setting in SMALL for flag in ("--set", setting))
PRICED = ("--set", "llm.price.input=1000", "--set", "llm.price.output=1000")


@pytest.fixture
def shop(invoke, tables, llm_server):
    """Two tables, and what ``init`` makes of them for a server on this machine."""
    done = invoke("init", "--yes", "--llm", "openai", "--model", "local", "--api-base", llm_server.url)
    assert done.code == 0, done.err
    assert (tables / "enhancer.toml").is_file()
    return tables


def test_from_two_tables_to_an_answer(invoke, shop, llm_server):
    doctor = invoke("doctor", "--json")
    assert doctor.code == 0, doctor.out
    assert not [check for check in doctor.json() if check["status"] == "fail"]

    plan = invoke("plan", "--json").json()
    assert set(plan) == PLAN | {"columns"}
    assert [each["column"] for each in plan["columns"]] == ["title", "genre"]
    assert (plan["entities"], plan["to_generate"], plan["requests"], plan["cost_usd"]) == (40, 40, 40, 0)
    assert llm_server.count == 0

    done = invoke("generate", "--json")
    assert done.code == 0, done.err
    report = done.json()
    assert set(report) == GENERATION
    assert (report["generated"], report["requests"], report["quarantined"], llm_server.count) == (40, 40, 0, 40)
    assert report["prompt_tokens"] > 0
    assert report["completion_tokens"] > 0

    ablated = invoke("ablate", "--json", *SMALL)
    assert ablated.code == 0, ablated.err
    result = ablated.json()
    assert {"arms", "comparisons", "strata"} <= set(result)
    assert set(result["arms"]["concat"]["ndcg@10"]) == {"mean", "std", "per_seed"}
    assert all(set(comparison) >= COMPARISON for comparison in result["comparisons"])
    assert re.search(r"gain|better|worse|difference|significant", invoke("ablate", *SMALL).out)
    assert "<html" in (shop / "report.html").read_text()

    trained = invoke("train", "--json", *SMALL).json()
    assert {"artifact", "epochs", "seconds", "metrics"} <= set(trained)
    assert (shop / trained["artifact"] / "manifest.json").is_file()

    one = invoke("recommend", "u1", "--json").json()
    assert {"user_id", "items"} <= set(one)
    assert all(set(item) >= {"item_id", "score"} for item in one["items"])
    assert len(one["items"]) == 10
    rated = {line.split(",")[1] for line in (shop / "ratings.csv").read_text().splitlines() if line.startswith("u1,")}
    assert len(rated & {item["item_id"] for item in one["items"]}) <= 4  # those that were kept for tests

    like = invoke("similar", "4", "-k", "3", "--json").json()
    assert like["item_id"] == "4"
    assert len(like["items"]) == 3
    assert all(set(item) >= {"item_id", "score"} for item in like["items"])


def test_what_is_done_stays_done(invoke, shop, llm_server, monkeypatch):
    assert invoke("generate").code == 0
    store = shop / "features" / "store.lmdb"
    before = (store.read_bytes(), llm_server.count)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("enhancer_plugins.embedders.models.load_sentence_transformer", never)
    again = invoke("generate", "--json")
    assert again.code == 0, again.err
    assert (again.json()["cached"], again.json()["requests"], again.json()["generated"]) == (40, 0, 0)
    assert (store.read_bytes(), llm_server.count) == before
    monkeypatch.undo()
    os.chdir(shop)

    with (shop / "items.csv").open("a") as table:
        table.write("41,A heist of 1999,thriller\n")
    more = invoke("generate", "--json").json()
    assert (more["entities"], more["cached"], more["requests"]) == (41, 40, 1)
    assert invoke("generate", "--set", "llm.concurrency=2", "--set", "llm.timeout=5").code == 0
    assert llm_server.count == 41
    assert invoke("plan", "--json", "--set", "llm.temperature=0.5").json()["to_generate"] == 41


def test_the_store_is_looked_after(invoke, shop):
    assert invoke("generate").code == 0
    stats = invoke("store", "stats", "--json").json()
    assert stats["records"] >= 40
    record = invoke("store", "get", "1", "--json").json()
    assert {"id", "kind", "profile", "tags", "model", "embedder", "vector"} <= set(record)
    assert abs(sum(value * value for value in record["vector"]) - 1) < 1e-3
    assert invoke("store", "verify", "--json").json() == {"records": stats["records"], "faults": []}
    assert invoke("store", "export", "all.jsonl").code == 0
    for line in (shop / "all.jsonl").read_text().splitlines():
        assert json.loads(line)["id"]
    other = ("--set", "store.use=sqlite", "--set", "store.path=other")
    assert invoke("store", "import", "all.jsonl", *other).code == 0
    assert invoke("store", "get", "1", "--json", *other).json() == record
    assert invoke("store", "verify", *other).code == 0


def test_one_bad_answer_is_quarantined_and_the_rest_goes_on(invoke, shop, llm_server):
    llm_server.script.choose = lambda _, body: returns("no JSON") if "A musical of 1951" in json.dumps(body) else None
    done = invoke("generate", "--json")
    assert done.code == 3, done.err
    assert (done.json()["generated"], done.json()["quarantined"]) == (39, 1)
    (held,) = invoke("store", "quarantine", "--json").json()
    assert held["id"] == "1"
    asked = llm_server.count
    assert invoke("generate").code == 3  # it is not asked about again, and not forgotten
    assert llm_server.count == asked


def test_the_budget_is_a_wall(invoke, shop, llm_server):
    cost = invoke("plan", "--json", *PRICED).json()["cost_usd"]
    done = invoke("generate", "--yes", "--json", *PRICED, "--set", f"llm.max_cost={cost / 2}")
    assert done.code == 4, done.err
    report = done.json()
    assert 0 < report["generated"] < 40
    assert report["cost_usd"] <= cost / 2
    rest = invoke("generate", "--yes", "--json", *PRICED)
    assert rest.code == 0, rest.err
    assert llm_server.count == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "--set", "llm.temprature=1"], "temperature"),
        (["plan", "--set", "store.use=lmbd"], "did you mean 'lmdb'"),
        (["plan", "--set", "data.itms=x"], "items"),
        (["generate", "--yes", "--set", "embedder.batchsize=4"], "batch_size"),
        (["generte"], "generate"),
        (["plan", "--config", "gone.toml"], "gone.toml"),
        (["train", "--set", "data.interactions=gone.csv"], "gone.csv"),
        (["generate", "--yes", "--set", "llm.api_base=https://llm.example/v1"], "OPENAI_API_KEY"),
        (["generate", "--yes", "--set", "llm.max_cost=1", "--set", "llm.price=none"], "price"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_slip_is_exit_2_and_named(invoke, shop, llm_server, arguments, said):
    done = invoke(*arguments)
    assert done.code == 2, done.err
    assert said in done.err
    assert llm_server.count == 0


def test_ctrl_c_keeps_what_was_paid_for(invoke, shop, llm_server, hashing, monkeypatch):
    """A process of its own is interrupted amid its calls; the next run asks for the rest alone."""
    monkeypatch.setenv("ENHANCER_EMBEDDER__USE", "hashing")  # no model to be loaded once more
    config = shop / "enhancer.toml"
    config.write_text(config.read_text().replace('\ndtype = "mixed"', "\n# dtype"))  # an option of minilm
    llm_server.script.choose = lambda number, _: Behaviour(latency=1.5) if number >= 12 else None
    process = start(
        [sys.executable, "-c", COMMAND_LINE, "generate", "--json", "--set", "llm.concurrency=4"],
        cwd=shop,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while (llm_server.answered < 12 or llm_server.in_flight < 4) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    paid = llm_server.answered
    assert 12 < paid == llm_server.count < 40  # what was out has landed; nothing was begun after that

    llm_server.script.choose = None
    rest = invoke("generate", "--json")
    assert rest.code == 0, rest.err
    assert rest.json()["requests"] == 40 - paid
    assert len({json.dumps(body["messages"]) for body in llm_server.bodies}) == len(llm_server.bodies) == 40
    assert rest.json()["entities"] == 40
    assert invoke("plan", "--json").json()["cached"] == 40


def test_the_same_from_python(shop, llm_server, monkeypatch):
    import enhancer

    monkeypatch.chdir(shop)
    project = enhancer.Project.load("enhancer.toml", overrides=SMALL[1::2])
    try:
        assert project.plan().to_json()["requests"] == 40
        told: list[SimpleNamespace] = []
        assert project.generate(listener=told.append).to_json()["generated"] == 40
        assert {event.stage for event in told} >= {"generate"}
        assert (told[-1].done, told[-1].total) == (80, 80)  # forty profiles, forty raw texts
        assert set(project.train().to_json()) >= {"artifact", "epochs", "seconds", "metrics"}
        assert set(project.ablate().to_json()["arms"]) == {"none", "concat", "prior", "text", "placebo"}
    finally:
        project.close()
    (answer,) = enhancer.Ranker.load("artifact").recommend(["u2"], k=10)
    assert answer.user_id == "u2"
    assert len(answer.items) == 10
