"""The Netflix Prize and the Last.fm data sets."""

from __future__ import annotations

from native_files import rows, write

from enhancer.data import open_table
from enhancer.data.readers.native import native_format, recognise

ONE, TWO = "0" * 39 + "1", "0" * 39 + "2"


def values(table):
    return [row for _, block in table.blocks(table.columns) for row in zip(*block, strict=True)]


def test_ratings_stand_below_their_film(tmp_path):
    path = write(
        tmp_path / "combined_data_1.txt", "1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n2:\n885013,4,2005-10-19\n"
    )
    assert rows(path)[0] == {"user_id": "1488844", "item_id": "1", "rating": "3", "timestamp": "2005-09-06"}
    assert [row["item_id"] for row in rows(path)] == ["1", "1", "2"]
    assert open_table(path).location(2) == "line 5"


def test_titles_of_films_may_hold_commas(tmp_path):
    path = write(tmp_path / "movie_titles.csv", "1,2003,Rust\n2,NULL,Mûre, the Sequel, and More\n", "latin-1")
    assert rows(path) == [
        {"item_id": "1", "year": "2003", "title": "Rust"},
        {"item_id": "2", "year": "", "title": "Mûre, the Sequel, and More"},
    ]


def test_artists_without_an_id_are_known_by_name(tmp_path):
    text = f"{ONE}\tmb-1\tThe Fog\t12\n{ONE}\t\tNobody\t3\n{TWO}\tmb-1\tthe fog\t 4\n"
    path = write(tmp_path / "usersha1-artmbid-artname-plays.tsv", text)
    assert values(open_table(path)) == [
        (ONE, "mb-1", "The Fog", "12"),
        (ONE, "Nobody", "Nobody", "3"),
        (TWO, "mb-1", "the fog", "4"),
    ]
    assert recognise(path).holds_items
    artists = native_format("lastfm-360k", "items", path).open(path)
    assert values(artists) == [("mb-1", "The Fog"), ("Nobody", "Nobody")]
    assert artists.location(1) == "line 2"


def test_people_of_360k(tmp_path):
    path = write(
        tmp_path / "usersha1-profile.tsv", f"{ONE}\tf\t22\tNowhere\tFeb 1, 2007\n{TWO}\t\t\tNowhere\tDec 4, 2007\n"
    )
    assert recognise(path).role == "users"
    assert rows(path)[1]["country"] == "Nowhere"


def test_listens_of_1k(tmp_path):
    path = write(
        tmp_path / "userid-timestamp-artid-artname-traid-traname.tsv",
        "user_1\t2009-05-04T23:08:57Z\tmb-1\tThe Fog\t\tGrey\nuser_1\t2009-05-04T13:54:10Z\t\tNobody\tt-2\tNothing\n",
    )
    assert values(open_table(path))[1] == ("user_1", "2009-05-04T13:54:10Z", "Nobody", "Nobody", "t-2", "Nothing")
    assert values(native_format("lastfm-1k", "items", path).open(path)) == [("mb-1", "The Fog"), ("Nobody", "Nobody")]
