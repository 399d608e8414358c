"""Tests of importing profiles from another source; they are validated like generated ones."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def project(invoke, tables, hashing, llm_server):
    flags = ("--llm", "openai", "--model", "local", "--api-base", llm_server.url, "--embedder", "hashing")
    assert invoke("init", "--yes", *flags).code == 0
    return tables


def written(folder, *rows):
    (folder / "theirs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "theirs.jsonl"


GOOD = {
    "profile": "A slow, warm drama for viewers who like small towns and long silences between old friends.",
    "tags": ["slow", "warm", "drama", "small town"],
}


def test_id_profile_and_tags_are_enough(invoke, project, llm_server):
    file = written(project, {"id": "1", **GOOD}, {"id": "2", **GOOD})
    assert invoke("store", "import", file, "--json").json() == {
        "file": file,
        "records": 2,
        "embedded": 2,
        "rejected": 0,
        "rejected_rows": [],
    }
    record = invoke("store", "get", "1", "--json").json()
    assert (record["profile"], record["tags"], record["cost_usd"]) == (GOOD["profile"], GOOD["tags"], None)
    assert len(record["vector"]) > 1
    plan = invoke("plan", "--json").json()
    assert plan["cached"] >= 2  # imported profiles are fresh
    assert llm_server.count == 0


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": "2", "profile": GOOD["profile"], "tags": []}, "tags"),
        ({"id": "2", "profile": GOOD["profile"], "tags": "slow"}, "tags must be a list"),
        ({"id": "2", "profile": "x", "tags": GOOD["tags"]}, "profile"),
        ({"id": "2", "tags": GOOD["tags"]}, "'profile' is missing"),
        ({"id": 2, **GOOD}, "id must be text"),
    ],
)
def test_what_the_template_would_refuse_is_refused_by_its_row(invoke, project, row, said):
    file = written(project, {"id": "1", **GOOD}, row, {"id": "3", **GOOD})
    refused = invoke("store", "import", file, "--strict")
    assert refused.code == 1
    assert "row 2" in refused.err
    assert said in refused.err
    assert invoke("store", "stats", "--json").json()["records"] == 0
    done = invoke("store", "import", file)
    assert (done.code, done.out) == (3, f"2 records read from {file}, 2 of them embedded here\n")
    assert "row 2" in done.err
    assert said in done.err
    assert "1 row left out as not valid" in done.err
    assert invoke("store", "stats", "--json").json()["records"] == 2


def test_many_bad_rows_are_counted_and_the_first_are_listed(invoke, project):
    (project / "made.jsonl").write_text(
        json.dumps({"id": "1", **GOOD})
        + "\n\nno JSON\n"
        + '{"id": "x"}\n' * 30
        + json.dumps({"id": "2", **GOOD})
        + "\n"
    )
    done = invoke("store", "import", "made.jsonl", "--json")
    report = done.json()
    assert (done.code, report["records"], report["rejected"]) == (3, 2, 31)
    assert [row["row"] for row in report["rejected_rows"]] == list(range(3, 23))
    assert report["rejected_rows"][0]["id"] is None
    assert report["rejected_rows"][0]["reason"].startswith("not JSON")
    assert report["rejected_rows"][1] == {"row": 4, "id": "x", "reason": "field 'profile' is missing or empty"}
    assert "31 rows left out as not valid; 11 more are not listed" in done.err


def test_a_file_without_a_valid_row_fails(invoke, project):
    done = invoke("store", "import", written(project, {"id": "1"}), "--json")
    assert (done.code, done.json()["records"], done.json()["rejected"]) == (1, 0, 1)
