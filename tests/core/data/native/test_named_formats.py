"""``[data] items_format`` and the like: a format may be named, and every command checks the name."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import invoke  # noqa: F401  # a fixture
from native_files import rows_of, write

from enhancer.config import ColumnsConfig, DataConfig
from enhancer.config.evaluation import EvaluationConfig
from enhancer.data import TableOptions, open_table, read_interactions, split_interactions
from enhancer.data.readers.native import FORMATS, NAMES, names_of, recognise
from enhancer.errors import ConfigError


def test_a_named_format_needs_no_recognition(tmp_path):
    path = write(tmp_path / "numbers", "0 5 4\n1 6 3\n")
    assert recognise(path) is None
    table = open_table(path, TableOptions(format="lightgcn", table="interactions"))
    assert [tuple(row.values()) for row in rows_of(table)] == [("0", "5"), ("0", "4"), ("1", "6"), ("1", "3")]


def test_files_of_the_split_have_the_format_of_the_interactions(tmp_path):
    train = write(tmp_path / "numbers", "0 5 4\n1 6 3\n")
    write(tmp_path / "others", "0 6 3\n1 5 4\n")
    options = TableOptions.of(DataConfig(interactions_format="lightgcn"), "interactions")
    whole = read_interactions(train, ColumnsConfig(), item_ids=None, also=[tmp_path / "others"], options=options)
    config = EvaluationConfig(split="files", test="others", validation_size=0)
    split = split_interactions(whole, config, tmp_path, ColumnsConfig(), options=options)
    assert (len(split.train), len(split.test)) == (4, 4)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("items_format='movilens'", r"[data] items_format = 'movilens' is not known did you mean 'movielens'?"),
        ("users_format='lightgcn'", r"[data] users_format = 'lightgcn' has no table of users"),
        ("reviews_format='json'", r"[data] reviews_format = 'json' is not known"),
    ],
)
def test_every_command_checks_the_names_of_formats(tmp_path, invoke, setting, told):  # noqa: F811
    write(tmp_path / "items.csv", "item_id,title\n1,Fog\n")
    write(tmp_path / "enhancer.toml", '[data]\nitems = "items.csv"\n')
    done = invoke("plan", "--set", f"data.{setting}")
    assert done.code == 2
    assert told in " ".join(done.err.split())


def test_a_folder_has_no_named_format(tmp_path):
    with pytest.raises(ConfigError, match=r"is a folder, and .* is of files"):
        open_table(tmp_path, TableOptions(format="mind", table="items"))


def test_the_documentation_lists_every_format():
    text = (Path(__file__).parents[4] / "docs" / "reference" / "formats.md").read_text(encoding="utf-8")
    listed = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")} - {"items_format"}
    assert listed == {*NAMES}
    named = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `") and "**named**" in line}
    assert named == {each.name for each in FORMATS if not each.automatic} | {"amazon-2023"}


def test_every_name_has_a_role_and_reviews_are_interactions():
    assert {*NAMES} == {name for role in ("items", "users", "interactions") for name in names_of(role)}
    assert TableOptions(table="reviews").role == "interactions"
    for each in FORMATS:
        ColumnsConfig(**each.columns)  # raises for a key that does not exist
