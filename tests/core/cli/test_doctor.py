"""Tests of ``enhancer doctor``."""

from __future__ import annotations

import json
import re

import pytest
from dists import cli, make_dist
from loopback import Behaviour, fails, returns


def checks(done):
    return {check["name"]: check for check in done.json()}


def test_without_a_configuration_it_checks_what_there_is(invoke):
    done = invoke("doctor", "--json")
    assert done.code == 0, done.err
    found = checks(done)
    assert found["python"]["status"] == found["libraries"]["status"] == "ok"
    assert found["configuration"]["status"] == "warn"
    assert "enhancer init" in found["configuration"]["mend"]


def test_a_sound_project_is_ok_and_nothing_is_made(invoke, tables, hashing):
    assert invoke("init", "--embedder", "hashing", "--api-base", "http://127.0.0.1:9/v1").code == 0
    done = invoke("doctor", "--json")
    assert done.code == 0, done.out
    found = checks(done)
    for name in ("configuration", "data.items", "data.interactions", "llm", "embedder", "store"):
        assert found[name]["status"] == "ok", found[name]
    assert not (tables / "features").exists()


@pytest.mark.parametrize(
    ("setting", "name", "detail"),
    [
        ("data.items=gone.csv", "data.items", "no file"),
        ("data.columns.title=nmae", "data.items", "has no column nmae; its columns: movieId, title"),
        ("data.columns.user_id=who", "data.interactions", "has no column who"),
        ("embedder.use=hashin", "embedder", "unknown embedder 'hashin'"),
        ("embedder.dims=3", "embedder", "unknown key 'dims'"),
        ("embedder.dim=1", "embedder", "dim"),
        ("store.path=movies.csv", "store", "movies.csv"),
        ("llm.api_base=", "llm", "OPENAI_API_KEY"),
        (
            ('data.features.item=["genre:category"]', "backbone.use=als"),
            "backbone and fuser",
            "cannot use side features, but [data.features] names genre",
        ),
        (
            'backbone={use="fm", loss="log"}',
            "backbone and fuser",
            "'fm' learns from labels, but the interactions have none",
        ),
        ("fuser.use=aling", "backbone and fuser", "unknown fuser 'aling'"),
        (
            'evaluation.metrics=["ndcg@10", "auc"]',
            "backbone and fuser",
            "metric 'auc' needs labels, but the interactions have noneset [data.columns] label",
        ),
        ('evaluation.arms=["none", "pirr"]', "arms", "'pirr' is neither a fuser nor defined"),
        ('evaluation={arms=["none"], arm={a={fuser="pirr"}}}', "arms", "unknown fuser 'pirr'did you mean 'prior'?"),
        ("evaluation.search.fuser.pirr={weight={low=1, high=2}}", "arms", "'pirr' is neither an arm nor the fuser"),
        ("artifact=movies.csv", "artifact", "is a file, not a folder"),
        ("artifact=/etc/passwd", "artifact", "/etc/passwd"),
        ("seed=-1", "configuration", "seed: input should be greater than or equal to 0, not -1"),
        ("evaluation.workers=100000", "configuration", "workers: input should be less than or equal to 1024"),
        ("data.reviews=opinions.csv", "data.reviews", "there is no file"),
        ("data.reviews=movies.csv", "data.reviews", "userId"),
        (
            ("backbone.use=als", 'evaluation.metrics=["auc", "logloss"]', 'data.columns.label="rating >= 4"'),
            "backbone and fuser",
            "metric 'logloss' needs probabilities, but backbone 'als' does not predict them",
        ),
        (
            (
                'backbone={use="auto", candidates=["als", "popularity"]}',
                'evaluation.metrics=["logloss"]',
                'data.columns.label="rating >= 4"',
            ),
            "backbone and fuser",
            "auto can try no backbone; not als (metric 'logloss' needs probabilities",
        ),
    ],
)
def test_what_is_wrong_fails_under_its_own_name_and_the_rest_is_checked(invoke, tables, hashing, setting, name, detail):
    assert invoke("init", "--embedder", "hashing", "--llm", "openai", "--api-base", "http://127.0.0.1:9/v1").code == 0
    if setting == "llm.api_base=":
        text = (tables / "enhancer.toml").read_text()
        (tables / "enhancer.toml").write_text(text.replace("api_base =", "# api_base ="))
        setting = "llm.model=gpt-4o-mini"
    settings = (setting,) if isinstance(setting, str) else setting
    done = invoke("doctor", "--json", *(part for each in settings for part in ("--set", each)))
    assert done.code == 1
    found = checks(done)
    assert found[name]["status"] == "fail"
    assert detail in found[name]["detail"] + (found[name]["mend"] or "")
    assert sum(check["status"] == "fail" for check in found.values()) == 1


def test_every_misspelt_name_is_told_at_once(invoke, tables, hashing):
    assert invoke("init", "--embedder", "hashing", "--api-base", "http://127.0.0.1:9/v1").code == 0
    wrong = ("store.use=lmbd", 'evaluation.metrics=["ndcg10"]', 'evaluation.arms=["pirr"]', "artifact=movies.csv")
    done = invoke("doctor", "--json", *(part for each in wrong for part in ("--set", each)))
    assert done.code == 1
    failed = [name for name, check in checks(done).items() if check["status"] == "fail"]
    assert failed == ["store", "backbone and fuser", "arms", "artifact"]


def test_the_embedders_input_is_the_text_that_stands_for_profiles(invoke, tables, hashing):
    assert invoke("init", "--embedder", "hashing", "--api-base", "http://127.0.0.1:9/v1").code == 0
    assert checks(invoke("doctor", "--json"))["embedder"]["detail"] == "hashing, input profile"
    done = invoke("doctor", "--json", "--set", "prompts.item.source=text")
    assert checks(done)["embedder"]["detail"] == "hashing, input text"


TRACKING = """
from enhancer.contracts import Observer, Options


class TrackerOptions(Options):
    uri: str = "here"


class Tracker(Observer):
    options_class = TrackerOptions

    def __init__(self, options, context):
        raise RuntimeError("doctor must not construct an observer")


@hookimpl
def register_observers(register):
    register("tracker", Tracker)
"""


@pytest.mark.parametrize(
    ("table", "status", "detail"),
    [
        ("", "ok", "tracker"),
        ('uri = "there"', "ok", "tracker"),
        ('url = "there"', "fail", "[observers.tracker] unknown key 'url'; did you mean 'uri'?"),
        ('use = "traker"', "fail", "unknown observer 'traker'; did you mean 'tracker'?"),
        ('use = "traker"\nenabled = false', "ok", "traker, not enabled"),
    ],
)
def test_tables_of_observers_are_checked(tmp_path, table, status, detail):
    make_dist(tmp_path / "dists", "tracking", TRACKING)
    (tmp_path / "enhancer.toml").write_text(f"[observers.tracker]\n{table}\n")
    done = cli("doctor", "--json", paths=(tmp_path / "dists",), cwd=tmp_path)
    found = {check["name"]: check for check in json.loads(done.stdout)}["observers.tracker"]
    assert (found["status"], "; ".join(filter(None, (found["detail"], found["mend"])))) == (status, detail)


def test_a_broken_configuration_fails(invoke, tmp_path):
    (tmp_path / "enhancer.toml").write_text("[dta]\n")
    done = invoke("doctor")
    assert done.code == 1
    assert "fail  configuration" in done.out
    assert "did you mean 'data'?" in done.out
    assert invoke("doctor", "-c", "gone.toml").code == 1


@pytest.mark.parametrize("text", ["", "movieId,title,genre,url\n"])
def test_an_empty_table_fails(invoke, tables, hashing, text):
    assert invoke("init", "--embedder", "hashing", "--api-base", "http://127.0.0.1:9/v1").code == 0
    (tables / "movies.csv").write_text(text)
    done = invoke("doctor", "--json")
    assert done.code == 1
    assert checks(done)["data.items"]["status"] == "fail"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("items.csv", "item_id;title\n1;Lamp\n"),
        ("items.csv", "item_id|title\n1|Lamp\n"),
        ("items.ndjson", '{"item_id": 1, "title": "Lamp"}\n'),
        ("items.tsv", '"item_id"\t"title"\n1\tLamp\n'),
        ("items.jsonl", '{"item_id": 1}\n' * 200 + '{"item_id": 2, "title": "Lamp"}\n'),
    ],
)
def test_a_table_is_read_as_every_other_command_reads_it(invoke, tmp_path, name, text):
    (tmp_path / "enhancer.toml").write_text(f'[data]\nitems = "{name}"\n[data.columns]\ntitle = "title"\n')
    (tmp_path / name).write_text(text)
    found = checks(invoke("doctor", "--json"))["data.items"]
    assert (found["status"], found["detail"]) == ("ok", f"{name}: item_id, title")


def test_a_key_that_comes_late_is_no_column_of_interactions(invoke, tmp_path):
    (tmp_path / "enhancer.toml").write_text('[data]\ninteractions = "seen.jsonl"\n[data.columns]\nrating = "stars"\n')
    line = '{"user_id": 1, "item_id": 1}\n'
    (tmp_path / "seen.jsonl").write_text(line * 200 + line.replace("}", ', "stars": 4}'))
    found = checks(invoke("doctor", "--json"))["data.interactions"]
    assert found["status"] == "fail"
    assert "has no column stars" in found["detail"]


def test_a_damaged_row_fails_and_is_named(invoke, tmp_path):
    (tmp_path / "enhancer.toml").write_text('[data]\nitems = "items.csv"\n')
    (tmp_path / "items.csv").write_text("item_id,title\n1,Lamp\n2,Chair,red\n")
    found = checks(invoke("doctor", "--json"))["data.items"]
    assert (found["status"], found["detail"]) == ("fail", "items.csv, line 3: 3 fields, but the header has 2")


PRICE = ("--set", "llm.price.input=1000.0", "--set", "llm.price.output=1000.0")


@pytest.fixture
def project(invoke, tables, hashing, llm_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    flags = ("--llm", "openai", "--model", "loopback-model", "--api-base", llm_server.url)
    assert invoke("init", "--yes", *flags, "--embedder", "hashing", "--store", "sqlite").code == 0
    return tables


def test_live_asks_first_where_the_call_costs(invoke, project, llm_server):
    done = invoke("doctor", "--live", "--json", *PRICE)
    assert done.code == 1
    live = checks(done)["llm, live"]
    assert "for at most $" in live["detail"]
    assert "--yes" in live["mend"]
    assert llm_server.count == 0
    assert checks(invoke("doctor", "--json"))["embedder"]["status"] == "ok"
    assert llm_server.count == 0


def test_live_reports_one_call_whose_answer_generate_uses(invoke, project, llm_server):
    llm_server.script.default = Behaviour(latency=0.05, usage_override={"completion_tokens": 90})
    done = invoke("doctor", "--live", "--yes", "--json", *PRICE)
    assert done.code == 0, done.out
    seen = checks(done)["llm, live"]["measured"]
    assert (seen["id"], seen["keeps_schema"], seen["valid"]) == ("1", True, True)
    assert seen["completion_tokens"] == 90
    assert seen["seconds"] >= 0.05
    assert seen["cost_usd"] == pytest.approx((seen["prompt_tokens"] + 90) / 1000)
    assert checks(done)["embedder, live"]["measured"]["dim"] > 1
    assert llm_server.count == 1
    ledger = invoke("store", "costs", "--json").json()
    assert ledger["total"]["cost_usd"] == pytest.approx(seen["cost_usd"])
    assert invoke("generate", "--yes", "--json", *PRICE).json()["requests"] == 5
    assert invoke("doctor", "--live", "--yes").code == 0  # all is paid for: it asks about the first again
    assert llm_server.count == 7


def test_live_says_what_is_wrong_with_an_answer(invoke, project, llm_server):
    llm_server.script.sequence = [returns('Sure! ```json\n{"profile": "x"}\n```'), fails(401, "bad key")]
    done = invoke("doctor", "--live", "--yes", "--json", *PRICE)
    assert done.code == 1
    live = checks(done)["llm, live"]
    assert (live["measured"]["keeps_schema"], live["measured"]["valid"]) == (False, False)
    assert "tags" in live["mend"]
    refused = checks(invoke("doctor", "--live", "--yes", "--json", *PRICE))["llm, live"]
    assert refused["status"] == "fail"
    assert "401" in refused["detail"]
    assert "measured" not in refused


def test_live_says_that_a_cut_off_answer_is_asked_for_again(invoke, project, llm_server):
    usage = {"completion_tokens": 400, "completion_tokens_details": {"reasoning_tokens": 400}}
    llm_server.script.sequence = [returns("", finish_reason="length", usage_override=usage)]
    done = invoke("doctor", "--live", "--yes", "--json", *PRICE)
    assert done.code == 0, done.out
    live = checks(done)["llm, live"]
    assert live["status"] == "warn"
    assert "400 of them thought" in live["detail"]
    assert "asks again with more room" in live["mend"]
    made = invoke("generate", "--yes", "--json", *PRICE).json()
    assert (made["generated"], made["quarantined"]) == (6, 0)


def test_a_limit_without_a_price_fails_and_a_free_model_is_told(invoke, project):
    file = project / "enhancer.toml"
    file.write_text(re.sub(r"\[llm\.price\][^\[]*", "", file.read_text()))
    limit = ("--set", "llm.max_cost=1")
    found = checks(invoke("doctor", "--json", *limit))
    assert (found["llm"]["status"], "price" in found["llm"]["mend"]) == ("fail", True)
    for verb in (("plan",), ("generate", "--yes")):
        done = invoke(*verb, *limit)
        assert (done.code, "[llm.price]" in done.err) == (2, True)
    found = checks(invoke("doctor", "--json", "--set", "llm.price=free"))
    assert found["llm"]["status"] == "ok"
    assert "cost nothing" in found["llm"]["detail"]
