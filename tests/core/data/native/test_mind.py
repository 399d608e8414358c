"""MIND: clicks are taken out of impressions, and histories come before them."""

from __future__ import annotations

import pytest
from native_files import rows, write

from enhancer.config import ColumnsConfig
from enhancer.data import open_table, read_interactions
from enhancer.data.readers.native import native_format, recognise
from enhancer.errors import DataError

LOG = (
    "1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN55689-1 N35729-0\n"
    "2\tU91836\t11/12/2019 6:11:30 PM\t\tN20678-0 N39317-1 N58114-1\n"
    "3\tU13740\t11/12/2019 12:00:01 AM\tN55189 N42782\tN35729-1 N58114-0\n"
)


def test_clicks_and_the_history_before_them(tmp_path):
    path = write(tmp_path / "behaviors.tsv", LOG)
    assert [tuple(row.values()) for row in rows(path)] == [
        ("U13740", "N55189", "1"),
        ("U13740", "N42782", "2"),
        ("U13740", "N55689", "1573463158"),
        ("U91836", "N39317", "1573582290"),
        ("U91836", "N58114", "1573582290"),
        ("U13740", "N35729", "1573516801"),
    ]
    table = open_table(path)
    assert [table.location(n) for n in (0, 2, 3, 5)] == ["line 1", "line 1", "line 2", "line 3"]
    found = read_interactions(path, ColumnsConfig(), item_ids=None)
    assert (len(found), found.ratings, found.report.duplicates) == (6, None, 0)


def test_what_was_shown_and_not_clicked_is_labelled_where_it_is_asked_for(tmp_path):
    path = write(tmp_path / "behaviors.tsv", LOG)
    table = native_format("mind-impressions", "interactions", path).open(path)
    found = [row for _, block in table.blocks(["item_id", "clicked"]) for row in zip(*block, strict=True)]
    assert found == [
        *[("N55189", "1"), ("N42782", "1"), ("N55689", "1"), ("N35729", "0"), ("N20678", "0")],
        *[("N39317", "1"), ("N58114", "1"), ("N35729", "1"), ("N58114", "0")],
    ]


def test_impressions_of_the_test_set_have_no_labels(tmp_path):
    path = write(tmp_path / "behaviors.tsv", "1\tU1\t11/16/2019 9:05:58 AM\tN1 N2\tN3 N4\n")
    assert [row["item_id"] for row in rows(path)] == ["N1", "N2"]


def test_news_have_names_of_entities(tmp_path):
    entities = '[{"Label": "A lake, in the north", "Type": "G", "WikidataId": "Q1"}, {"Label": "A town", "Type": "G"}]'
    path = write(
        tmp_path / "news.tsv",
        f'N1\tsports\trowing\t"Calm" waters\tNobody rowed.\thttps://news/1\t{entities}\t[]\nN2\tnews\tlocal\tFog\t\t\t\t\n',
    )
    found = rows(path)
    assert found[0] == {
        "item_id": "N1",
        "category": "sports",
        "subcategory": "rowing",
        "title": '"Calm" waters',
        "abstract": "Nobody rowed.",
        "url": "https://news/1",
        "title_entities": "A lake, in the north, A town",
        "abstract_entities": "",
    }
    assert found[1]["title"] == "Fog"
    assert recognise(path).role == "items"


def test_an_impossible_time_is_told(tmp_path):
    path = write(tmp_path / "behaviors.tsv", LOG + "4\tU1\t13/40/2019 9:05:58 AM\t\tN3-1\n")
    with pytest.raises(DataError, match=r"line 4: '13/40/2019 9:05:58 AM' is not a time"):
        rows(path)


def test_a_tsv_with_a_header_is_no_log(tmp_path):
    path = write(tmp_path / "behaviors.tsv", "user_id\titem_id\nU1\tN1\n")
    assert recognise(path) is None
    assert rows(path) == [{"user_id": "U1", "item_id": "N1"}]
