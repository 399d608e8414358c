"""Tests of ``enhancer refresh``, ``store stats``, ``store gc`` and ``store repair``."""

from __future__ import annotations

import json
import re

import pytest
from command_line import hashing, invoke  # noqa: F401 - fixtures
from generation import answer
from loopback import Behaviour, Script, fails

from enhancer.harness import Journal

PRICED = ("--set", "llm.price.input=1000.0", "--set", "llm.price.output=1000.0")
SUMMARY = {"started", "seconds", "changes", "plan", "generate", "quarantined", "vanished", "pruned", "exit_code"} | {
    "attention",
    "error",
}


@pytest.fixture
def project(tmp_path, llm_server, hashing, monkeypatch):  # noqa: F811
    """A project with ten films, a local LLM server, an embedder without a model, and LMDB."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-notforanyone-0123456789abcdef")
    write(tmp_path, {n: f"a story of {n} friends" for n in range(10)})
    (tmp_path / "enhancer.toml").write_text(
        f'[data]\nitems = "items.csv"\n[prompts.user]\nsource = "none"\n[evaluation]\narms = ["none"]\n'
        f'[llm]\nuse = "openai"\nmodel = "loopback-model"\napi_base = "{llm_server.url}"\ntimeout = 5\n'
        f'[embedder]\nuse = "hashing"\n'
    )
    llm_server.script = Script(default=Behaviour(answer=answer))
    return tmp_path


def write(folder, plots):
    rows = "".join(f"{n},film {n},{plot}\n" for n, plot in plots.items())
    (folder / "items.csv").write_text("item_id,title,plot\n" + rows)


def items(result, key="changes"):
    (line,) = result[key]
    return {name: line[name] for name in ("entities", "fresh", "new", "vanished")} | {
        reason: count for reason, count in line["stale"].items() if count
    }


def test_a_nightly_job_over_a_week(project, invoke, llm_server):  # noqa: F811
    first = invoke("refresh", "--yes", "--summary", "summary.json", "--json")
    assert first.code == 0, first.err
    summary = json.loads((project / "summary.json").read_text())
    assert summary == first.json()
    assert set(summary) == SUMMARY
    assert items(summary) == {"entities": 10, "fresh": 0, "new": 10, "vanished": 0}
    assert summary["generate"]["generated"] == 10
    assert summary["attention"] == []
    asked = llm_server.count

    # Nothing changed: no calls, no embedding, and no price needed.
    quiet = invoke("refresh")
    assert quiet.code == 0
    assert "nothing to generate" in quiet.out
    assert llm_server.count == asked

    # One changed, one new, two gone.
    plots = {n: f"a story of {n} friends" for n in range(2, 10)} | {5: "another story", 77: "a new one"}
    write(project, plots)
    third = invoke("refresh", "--yes", "--json", "--summary", "summary.json").json()
    assert items(third) == {"entities": 9, "fresh": 7, "new": 1, "vanished": 2, "text": 1}
    assert third["changes"][0]["examples"] == {"new": ["77"], "text": ["5"], "vanished": ["0", "1"]}
    assert third["generate"]["requests"] == third["generate"]["generated"] == 2
    assert third["pruned"] == 0
    assert llm_server.count == asked + 2

    # Pruning needs --prune.
    fourth = invoke("refresh", "--yes", "--prune")
    assert "2 records of vanished entities removed" in fourth.out
    assert invoke("store", "stats", "--quick", "--json").json()["records"] == 9
    assert llm_server.count == asked + 2


def test_another_embedder_embeds_anew_without_a_call(project, invoke, llm_server):  # noqa: F811
    invoke("generate", "--yes")
    asked = llm_server.count
    done = invoke("refresh", "--json", "--set", "embedder.dim=24").json()
    assert items(done) == {"entities": 10, "fresh": 0, "new": 0, "vanished": 0, "embedder": 10}
    assert done["generate"]["generated"] == done["generate"]["requests"] == 0
    assert done["generate"]["embedded"] == 10
    assert llm_server.count == asked
    stats = invoke("store", "stats", "--json", "--set", "embedder.dim=24").json()
    assert stats["dims"] == {"24": 10}
    assert items(stats, "freshness")["fresh"] == 10
    again = invoke("generate", "--set", "embedder.dim=48")
    assert re.search(r"^generated +0\nembedded +10$", again.out, re.MULTILINE)


def test_stats_tell_fresh_stale_and_orphaned(project, invoke):  # noqa: F811
    invoke("generate", "--yes")
    (project / "mine.toml").write_text('system = "Describe."\nuser = "{{ text }}"\n')
    plots = {n: f"a story of {n} friends" for n in range(3, 10)} | {4: "changed"}
    write(project, plots)
    stats = invoke("store", "stats", "--json").json()
    assert items(stats, "freshness") == {"entities": 7, "fresh": 6, "new": 0, "vanished": 3, "text": 1}
    other = invoke("store", "stats", "--json", "--set", "llm.model=other").json()
    assert items(other, "freshness") == {"entities": 7, "fresh": 0, "new": 0, "vanished": 3, "model": 7}
    template = invoke("store", "stats", "--json", "--set", "prompts.item.template=mine.toml").json()
    assert items(template, "freshness") == {"entities": 7, "fresh": 0, "new": 0, "vanished": 3, "template": 7}
    said = invoke("store", "stats").out
    assert [line.split()[-1] for line in said.splitlines()[-11:-2]] == ["7", "6", "0", "1", "0", "0", "0", "0", "3"]
    assert "item, vanished: 0, 1, 2" in said
    # If the tables cannot be read, records are still counted.
    (project / "items.csv").unlink()
    alone = invoke("store", "stats", "--json")
    assert alone.json()["freshness"] is None
    assert alone.json()["records"] == 10
    assert "cannot compare the store with the tables" in alone.err
    assert invoke("store", "stats", "--quick").err == ""


def test_a_summary_that_cannot_be_written_is_told_before_anything_is_paid(project, invoke, llm_server):  # noqa: F811
    for name, said in (("nowhere/a.json", "there is no folder nowhere"), (".", "is a folder")):
        done = invoke("refresh", "--yes", "--summary", name)
        assert done.code == 2
        assert said in done.err
    assert llm_server.count == 0


def test_quarantine_is_exit_3_each_night_until_somebody_looks(project, invoke, llm_server):  # noqa: F811
    def stubborn(body):
        return "no JSON" if "film 7" in body["messages"][1]["content"] else answer(body)

    llm_server.script = Script(default=Behaviour(answer=stubborn))
    for _ in range(2):
        done = invoke("refresh", "--yes", "--summary", "summary.json")
        assert done.code == 3
        summary = json.loads((project / "summary.json").read_text())
        assert summary["exit_code"] == 3
        assert summary["attention"] == ["1 in quarantine"]
    llm_server.script = Script(default=Behaviour(answer=answer))
    assert invoke("refresh", "--yes", "--retry-quarantined").code == 0


def test_the_budget_is_exit_4_and_the_summary_says_so(project, invoke):  # noqa: F811
    done = invoke("refresh", "--yes", "--summary", "summary.json", *PRICED, "--set", "llm.max_cost=1.5")
    assert done.code == 4
    summary = json.loads((project / "summary.json").read_text())
    assert summary["exit_code"] == 4
    assert summary["error"]["type"] == "BudgetError"
    assert set(summary) == SUMMARY
    assert (summary["quarantined"], summary["vanished"], summary["pruned"]) == (0, 0, 0)
    assert items(summary)["new"] == 10
    assert summary["generate"]["cost_usd"] <= 1.5


def test_failure_is_exit_1_and_the_summary_says_so(project, invoke, llm_server):  # noqa: F811
    llm_server.script = Script(default=fails(500))
    done = invoke("refresh", "--yes", "--summary", "summary.json")
    assert done.code == 1
    assert json.loads((project / "summary.json").read_text())["error"]["message"]
    (project / "items.csv").write_text("item_id,title\n1,a\n1,b\n")
    assert invoke("refresh", "--yes", "--summary", "summary.json").code != 0
    assert "occurs again" in json.loads((project / "summary.json").read_text())["error"]["message"]


def test_as_lines_of_json(project, invoke):  # noqa: F811
    done = invoke("refresh", "--yes", "--log-json", "--summary", "summary.json")
    assert done.code == 0
    events = [json.loads(line) for line in done.err.splitlines()]
    (last,) = [event for event in events if event["event"] == "summary"]
    assert last["command"] == "refresh"


def test_nobody_there_and_no_yes_spends_nothing(project, invoke, llm_server):  # noqa: F811
    done = invoke("refresh")
    assert done.code == 2
    assert "--yes" in done.err
    assert llm_server.count == 0
    assert invoke("refresh", "--summary", "nowhere/summary.json").code == 2


def test_a_table_cut_short_does_not_empty_the_store(project, invoke):  # noqa: F811
    invoke("generate", "--yes")
    write(project, {n: f"a story of {n} friends" for n in range(3)})
    done = invoke("refresh", "--yes", "--prune", "--summary", "summary.json")
    assert done.code == 1
    assert "7 of 10 records of item" in done.err
    assert "--prune-at-most 1" in done.err
    assert invoke("store", "stats", "--quick", "--json").json()["records"] == 10
    assert invoke("refresh", "--yes", "--prune", "--prune-at-most", "1").code == 0
    assert invoke("store", "stats", "--quick", "--json").json()["records"] == 3


def test_gc_looks_before_it_removes(project, invoke):  # noqa: F811
    invoke("generate", "--yes")
    write(project, {n: f"a story of {n} friends" for n in range(2, 10)})
    dry = invoke("store", "gc", "--dry-run", "--json").json()
    assert dry == {"removed": 0, "orphaned": 2, "by_kind": {"item": 2}, "dry_run": True}
    assert invoke("store", "gc", "--dry-run").out == "2 records would be removed (item 2)\n"
    unasked = invoke("store", "gc")
    assert (unasked.code, "this would remove 2 records (item 2)" in unasked.err) == (2, True)
    assert "--yes" in unasked.err
    assert invoke("store", "stats", "--quick", "--json").json()["records"] == 10
    assert invoke("store", "gc", "--yes", "--json").json()["removed"] == 2
    assert invoke("store", "gc").out == "0 records removed\n"


def test_a_repair_needs_a_yes(project, invoke):  # noqa: F811
    invoke("generate", "--yes")
    done = invoke("store", "repair")
    assert (done.code, "--yes" in done.err) == (2, True)


def test_gc_drops_joint_texts_that_no_input_names(project, invoke):  # noqa: F811
    """Those of a mean's part are named; those of a vanished entity are counted once."""
    both = ("--set", 'embedder.input=["text+profile", "mean(profile,profile+text)"]')
    one = ("--set", 'embedder.input=["mean(profile,profile+text)"]')
    invoke("generate", "--yes", *both)
    named = invoke("store", "gc", "--dry-run", "--json", *both).json()
    assert named == {"removed": 0, "orphaned": 0, "by_kind": {}, "dry_run": True}
    write(project, {n: f"a story of {n} friends" for n in range(1, 10)})
    dry = invoke("store", "gc", "--dry-run", "--json", *one).json()
    vanished = {"item": 1, "item/profile+text": 1, "item/text": 1}
    unnamed = {"item/text+profile": 10}
    assert dry == {"removed": 0, "orphaned": 3, "by_kind": vanished, "dry_run": True, "unnamed": unnamed}
    before = invoke("store", "stats", "--quick", "--json").json()["records"]
    said = invoke("store", "gc", "--dry-run", *one).out
    assert said == (
        "13 records would be removed (item 1; item/profile+text 1; item/text 1;"
        " item/text+profile 10, which no input names)\n"
    )
    assert invoke("store", "gc", "--yes", "--json", *one).json()["removed"] == 13
    assert invoke("store", "stats", "--quick", "--json").json()["records"] == before - 13 == 27
    assert invoke("store", "gc", *one).out == "0 records removed\n"
    assert invoke("generate", "--yes", "--json", *both).json()["embedded"] == 9


def test_what_a_snapshot_sees_outlives_gc(project, invoke):  # noqa: F811
    import enhancer

    invoke("generate", "--yes")
    mine = enhancer.Project.load(project / "enhancer.toml")
    with mine.store.snapshot() as pinned:
        before = pinned.vectors([str(n) for n in range(10)])
        write(project, {1: "a story of 1 friends"})
        assert invoke("store", "gc", "--yes", "--prune-at-most", "1", "--json").json()["removed"] == 9
        assert (pinned.vectors([str(n) for n in range(10)]) == before).all()
    assert mine.store.stats().records == 1
    mine.close()


@pytest.mark.parametrize("repair", [True, False])
def test_a_damaged_record_is_made_again_from_the_journal(project, invoke, llm_server, repair):  # noqa: F811
    """After damage on disk, verify finds the record, repair drops it, and refresh restores it without a call."""
    invoke("generate", "--yes")
    asked = llm_server.count
    file = project / "features" / "store.lmdb"
    file.write_bytes(file.read_bytes().replace(b"number 7", b"oumber 7"))  # also in freed pages
    found = invoke("store", "verify", "--json")
    assert found.code == 1
    assert [fault["where"] for fault in found.json()["faults"]] == ["item/7"]
    if repair:
        mended = invoke("store", "repair", "--yes", "--json").json()
        assert mended["kept"] == 9
        assert [fault["where"] for fault in mended["lost"]] == ["item/7"]
    done = invoke("refresh", "--json").json()
    assert items(done) == {"entities": 10, "fresh": 9, "new": 1, "vanished": 0}
    assert done["generate"]["requests"] == 0
    assert llm_server.count == asked
    assert invoke("store", "verify").out == "10 records, no faults\n"
    assert "nothing was lost" in invoke("store", "repair", "--yes").out
    with Journal(project / "features") as journal:
        assert sum(line.calls for line in journal.costs()) == 10
