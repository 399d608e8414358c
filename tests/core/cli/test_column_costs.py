"""Tests of what ``plan`` says of the tokens of columns, and ``doctor`` of columns that do harm."""

from __future__ import annotations

FREE = ("--set", "llm.price=free")
CONFIG = """
[data]
items = "items.csv"
interactions = "log.csv"
[data.columns]
{columns}
[store]
use = "sqlite"
path = "features"
[backbone]
use = "popularity"
[fuser]
use = "none"
"""


def write(folder, columns="", features=()):
    rows = "".join(f'{n},Film {n},"{"a long story of war and love, " * 6}",{90 - 3 * n},{n}\n' for n in range(30))
    (folder / "items.csv").write_text("item_id,title,plot,fame,row\n" + rows)
    log = "".join(f"u{u},{n}\n" for n in range(30) for u in range(40 - n))
    (folder / "log.csv").write_text("user_id,item_id\n" + log)
    named = f"[data.features]\nitem = {list(features)}\n" if features else ""
    (folder / "enhancer.toml").write_text(CONFIG.format(columns=columns) + named.replace("'", '"'))


def test_plan_shows_the_share_of_tokens_that_each_column_costs(invoke, tmp_path):
    write(tmp_path, 'item_text = ["title", "plot", "fame"]')
    done = invoke("plan", "--json", *FREE)
    assert done.code == 0, done.err
    whole, columns = done.json(), {each["column"]: each for each in done.json()["columns"]}
    assert list(columns) == ["plot", "title", "fame"]
    assert columns["plot"]["kind"] == "item"
    write(tmp_path, 'item_text = ["title", "fame"]')
    without = invoke("plan", "--json", *FREE).json()
    saved = whole["prompt_tokens"] - without["prompt_tokens"]
    assert abs(30 * columns["plot"]["tokens"] - saved) <= 1
    assert abs(columns["plot"]["share"] - saved / whole["prompt_tokens"]) < 0.001
    shown = invoke("plan", *FREE).out
    assert "tokens of items" in shown
    assert "title " in shown
    assert "instructions and frame" in shown


def test_plan_shows_no_columns_where_no_llm_is_asked(invoke, tmp_path):
    write(tmp_path)
    done = invoke("plan", "--json", "--set", "prompts.item.source=text")
    assert done.code == 0, done.err
    assert "columns" not in done.json()


def test_doctor_warns_of_columns_that_follow_interactions_or_count_rows(invoke, tmp_path):
    write(tmp_path, features=["fame:number", "title"])
    found = [check for check in invoke("doctor", "--json").json() if check["name"] == "columns"]
    assert [check["status"] for check in found] == ["warn", "warn"]
    text, features = (check["detail"] for check in found)
    assert text.startswith("[data.columns] item_text takes fame (follows the number of interactions")
    assert "row (row numbers, by its name)" in text
    assert features.startswith("[data.features] item takes fame (follows")
    assert "title" not in features
    write(tmp_path, 'item_text = ["title", "plot"]')
    assert not [check for check in invoke("doctor", "--json").json() if check["name"] == "columns"]
