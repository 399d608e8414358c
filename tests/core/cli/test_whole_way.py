"""Tests of all commands in the order in which a new user runs them, on two CSV files and a local server."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("torch")

COSTS_NOTHING = ("--set", "llm.price.input=0", "--set", "llm.price.output=0")
SMALL = (
    *("--set", 'backbone={use="lightgcn", epochs=2, dim=8}'),
    *("--set", "evaluation.seeds=2"),
)


@pytest.fixture
def project(invoke, tables, hashing, llm_server):
    flags = ("--llm", "openai", "--model", "local", "--api-base", llm_server.url, "--embedder", "hashing")
    assert invoke("init", "--yes", *flags).code == 0
    return tables


@pytest.mark.filterwarnings("ignore")  # warnings of libraries
def test_what_is_left_out_of_the_interactions_is_told(invoke, project):
    assert invoke("generate", "-q").code == 0
    with (project / "ratings.csv").open("a") as file:
        file.write("1,777,5,2000\n1,888,5,2000\n")
    trained = invoke("train", *SMALL)
    assert trained.code == 0, trained.err
    assert "2 of 50 interactions left out: their item is not in the items table (such as '777', '888')" in trained.err
    assert "left out" not in trained.out
    assert "left out" not in invoke("train", "-q", *SMALL).err
    on_purpose = invoke("train", *SMALL, "--set", "evaluation.min_rating=2")
    assert "min_rating" not in on_purpose.err


@pytest.mark.filterwarnings("ignore")  # warnings of libraries
def test_a_metric_that_nothing_measures_is_null_and_not_zero(invoke, project):
    assert invoke("generate", "-q").code == 0
    rows = (project / "ratings.csv").read_text().splitlines()
    (project / "test.csv").write_text("\n".join(rows))  # the test file repeats the training interactions
    flags = ("--set", "evaluation.split=files", "--set", "evaluation.test=test.csv")
    trained = invoke("train", "--json", *SMALL, *flags, "--set", "evaluation.cold_items=0.2")
    assert trained.code == 0, trained.err
    assert set(trained.json()["metrics"].values()) == {None}
    assert "interactions left out: train also holds them" in trained.err


@pytest.mark.filterwarnings("ignore")  # warnings of libraries
def test_from_two_tables_to_recommendations(invoke, project, llm_server):
    assert invoke("generate").code == 0
    record = invoke("store", "get", "1", "--json").json()
    assert (record["id"], record["kind"], record["model"]) == ("1", "item", "local")
    assert record["profile"]
    assert len(record["vector"]) == 256
    assert "Toy Story" not in invoke("store", "get", "1").out  # the profile is the LLM's text, not the title
    gone = invoke("store", "get", "77")
    assert gone.code == 1
    assert "no record of item '77'" in gone.err

    stats = invoke("store", "stats", "--json").json()
    assert stats["records"] == sum(stats["by_kind"].values())

    trained = invoke("train", "--json", *SMALL)
    assert trained.code == 0, trained.err
    assert {"artifact", "epochs", "seconds", "metrics"} <= set(trained.json())

    one = invoke("recommend", "3", "-k", "2", "--json").json()
    assert one["user_id"] == "3"
    assert len(one["items"]) <= 2
    assert all({"item_id", "score"} <= set(item) for item in one["items"])
    both = invoke("recommend", "3", "4", "--json").json()
    assert [each["user_id"] for each in both] == ["3", "4"]
    assert "for user 3" in invoke("recommend", "3").out
    explained = invoke("recommend", "3", "-k", "2", "--explain", "--json").json()
    assert all(item["beside"]["by"] == "profile" for item in explained["items"])
    assert [item["item_id"] for item in explained["items"]] == [item["item_id"] for item in one["items"]]
    assert "beside" in invoke("recommend", "3", "--explain").out

    history = one["history"]
    assert history["count"] >= len(history["items"]) > 0
    assert {item["item_id"] for item in one["items"]}.isdisjoint(item["item_id"] for item in history["items"])
    assert history["items"][0]["title"] in invoke("recommend", "3").out

    somebody = invoke("recommend", "--liked", "toy story", "--liked", "3", "--json").json()
    assert {item["item_id"] for item in somebody["history"]["items"]} == {"1", "3"}
    assert {item["item_id"] for item in somebody["items"]}.isdisjoint({"1", "3"})
    assert "did you mean 'Toy Story' (1)?" in invoke("recommend", "--liked", "toy sory").err
    assert "--liked ITEM" in invoke("recommend").err
    assert "--liked ITEM" in invoke("recommend", "3", "--liked", "1").err

    assert invoke("similar", "Toy Story", "--json").json()["item_id"] == "1"
    like = invoke("similar", "1", "--json", "-k", "3").json()
    assert like["item_id"] == "1"
    assert "1" not in {item["item_id"] for item in like["items"]}
    assert "Heat" in invoke("similar", "1").out
    by_text = invoke("similar", "1", "--by", "text", "--json").json()
    assert (by_text["by"], "by" in like) == ("text", False)
    assert "no vectors of items by mood" in invoke("similar", "1", "--by", "mood").err
    for command in (("recommend", "nobody"), ("similar", "nothing")):
        unknown = invoke(*command)
        assert unknown.code in (1, 2)
        assert command[1] in unknown.err

    ablated = invoke("ablate", "--json", *SMALL, "--set", 'evaluation.arms=["none", "concat"]')
    assert ablated.code == 0, ablated.err
    result = ablated.json()
    assert set(result["arms"]) == {"none", "concat", "prior", "text", "placebo"}
    assert len(result["arms"]["none"]["ndcg@10"]["per_seed"]) == 2
    assert {"arm", "baseline", "metric", "delta", "t", "df", "p", "p_adjusted", "significant"} <= set(
        result["comparisons"][0]
    )
    assert (project / "report.html").is_file()

    whole = invoke("run", "--json", *SMALL, "--set", 'evaluation.arms=["none", "concat"]')
    assert whole.code == 0, whole.err
    assert set(whole.json()) == {"generate", "train", "ablate"}
    assert whole.json()["generate"]["requests"] == 0
    assert llm_server.count == 6


def test_out_to_a_file_and_back_without_what_is_gone(invoke, project):
    assert invoke("generate").code == 0
    before = invoke("store", "get", "2", "--json").json()
    count = invoke("store", "stats", "--json").json()["records"]
    assert invoke("store", "verify", "--json").json() == {"records": count, "faults": []}
    assert invoke("store", "export", "all.jsonl", "--json").json() == {"file": "all.jsonl", "records": count}

    other = ("--set", "store.path=other")
    assert invoke("store", "import", "all.jsonl", "--json", *other).json()["records"] == count
    assert invoke("store", "get", "2", "--json", *other).json() == before
    with (project / "all.jsonl").open("a") as file:
        file.write(json.dumps({"id": "9"}) + "\n")
    bad = invoke("store", "import", "all.jsonl", *other)
    assert bad.code == 3
    assert f"row {count + 1}" in bad.err or f"line {count + 1}" in bad.err
    assert invoke("store", "export", "all.xls").code == 2
    assert invoke("store", "import", "gone.jsonl").code == 2

    table = project / "movies.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    removed = invoke("store", "gc", "--yes", "--json").json()["removed"]
    assert removed >= 1
    assert invoke("store", "stats", "--json").json()["records"] == count - removed
    assert invoke("store", "get", "6").code == 1
    assert invoke("store", "gc").out == "0 records removed\n"


def test_before_anything_was_made_each_verb_says_what_to_run(invoke, project):
    for command, said in ((("recommend", "1"), "enhancer train"), (("train",), "enhancer generate")):
        done = invoke(*command)
        assert done.code in (1, 2)
        assert said in done.err


@pytest.mark.filterwarnings("ignore")  # warnings of libraries
def test_the_backbone_that_init_writes_is_chosen_and_shown(invoke, project):
    assert invoke("generate", "-q").code == 0
    few = ("--set", 'backbone.candidates=["als", "popularity"]', "--set", "backbone.trials=2")
    doctor = {check["name"]: check for check in invoke("doctor", "--json", *few).json()}
    assert doctor["backbone and fuser"]["detail"] == (
        "auto tries als, als-half_life-0.2, popularity; prior works with als, als-half_life-0.2, popularity"
    )
    trained = invoke("train", *few, "--set", "evaluation.validation_size=0.3")
    assert trained.code == 0, trained.err
    table = trained.out.partition("\n\n")[2]
    assert re.match(r"backbone, by auto +options +validation ndcg@10 +trials +time\n", table)
    assert re.search(r"^als ", table, re.MULTILINE)
    assert re.search(r"^popularity ", table, re.MULTILINE)
    ablated = invoke("ablate", *few, "--set", "evaluation.validation_size=0.3", "--set", "evaluation.seeds=2")
    assert ablated.code == 0, ablated.err
    assert "choose" in trained.err
    assert "choose" not in ablated.err  # nothing is tried again
    (placed,) = re.findall(r"^on .*", ablated.out, re.MULTILINE)
    # Arms with vectors may do best on another backbone than those without.
    assert re.findall(r"on (?:als|popularity): ([^;]+)", placed)
    assert {"none", "prior", "text", "placebo"} <= set(re.findall(r"[a-z]+(?=,|;|$)", placed))


def test_options_of_one_backbone_need_its_name(invoke, project):
    done = invoke("train", "--set", "backbone.dim=8")
    assert done.code == 2
    assert "[backbone] unknown key 'dim'" in done.err
    assert "options of one backbone, such as dim, need its name in [backbone] use" in done.err


def test_what_auto_takes_is_shown_like_the_options_of_a_plugin(invoke, project):
    shown = invoke("plugins", "show", "auto", "--json").json()
    assert (shown["name"], shown["kind"]) == ("auto", "backbone")
    assert [option["name"] for option in shown["options"]] == ["candidates", "trials"]
    assert "candidates: list[str], optional" in invoke("plugins", "show", "auto").out
    assert "half_life: float | 'none', default 'none'" in invoke("plugins", "show", "als").out
