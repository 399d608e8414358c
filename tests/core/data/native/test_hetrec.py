"""HetRec 2011: tabs, a header, ``\\N`` and dates in several columns."""

from __future__ import annotations

import pytest
from native_files import rows, write

from enhancer.config import ColumnsConfig
from enhancer.data import open_table, read_interactions
from enhancer.data.readers.native import recognise
from enhancer.errors import DataError

FILMS = "id\ttitle\timdbID\tspanishTitle\tyear\trtAudienceRating\n"


def test_films_have_the_genres_beside_them(tmp_path):
    path = write(
        tmp_path / "movies.dat", FILMS + "1\tMûre\t01\tMora\t1995\t\\N\n2\tRust\t02\tÓxido\t1996\t3.7\n", "latin-1"
    )
    write(tmp_path / "movie_genres.dat", "movieID\tgenre\n1\tDrama\n1\tWar\n3\tComedy\n")
    assert rows(path) == [
        {
            "id": "1",
            "title": "Mûre",
            "imdbID": "01",
            "spanishTitle": "Mora",
            "year": "1995",
            "rtAudienceRating": "",
            "genres": "Drama, War",
        },
        {
            "id": "2",
            "title": "Rust",
            "imdbID": "02",
            "spanishTitle": "Óxido",
            "year": "1996",
            "rtAudienceRating": "3.7",
            "genres": "",
        },
    ]
    assert open_table(path).column_kinds() == {"genres": "list"}
    (tmp_path / "movie_genres.dat").unlink()
    assert "genres" not in open_table(path).columns


def test_artists(tmp_path):
    path = write(tmp_path / "artists.dat", "id\tname\turl\tpictureURL\n7\tThe Ünknown\thttp://x/7\thttp://y/7\n")
    assert rows(path)[0]["name"] == "The Ünknown"
    assert recognise(path).columns["items_id"] == "id"


def test_dates_in_columns_become_times(tmp_path):
    names = "userID\tmovieID\trating\tdate_day\tdate_month\tdate_year\tdate_hour\tdate_minute\tdate_second\n"
    path = write(
        tmp_path / "user_ratedmovies.dat",
        names + "75\t3\t1\t29\t10\t2006\t23\t17\t16\n75\t32\t4.5\t2\t1\t2007\t0\t5\t9\n",
    )
    assert [row["timestamp"] for row in rows(path)] == ["2006-10-29T23:17:16", "2007-01-02T00:05:09"]
    found = read_interactions(path, ColumnsConfig(user_id="userID", item_id="movieID"), item_ids=None)
    assert found.timestamps.tolist() == [1162163836, 1167696309]


def test_milliseconds_keep_their_order(tmp_path):
    text = "userID\tmovieID\trating\ttimestamp\n75\t3\t1\t1162160236001\n75\t32\t4.5\t1162160236000\n"
    path = write(tmp_path / "user_ratedmovies-timestamps.dat", text)
    assert recognise(path).columns == {"user_id": "userID", "item_id": "movieID"}
    found = read_interactions(path, ColumnsConfig(user_id="userID", item_id="movieID"), item_ids=None)
    assert found.timestamps.tolist() == [1162160236001, 1162160236000]


@pytest.mark.parametrize(("name", "thing"), [("user_artists", "artistID"), ("user_taggedbookmarks", "bookmarkID")])
def test_other_things_are_touched_alike(tmp_path, name, thing):
    path = write(tmp_path / f"{name}.dat", f"userID\t{thing}\tweight\n2\t51\t13883\n")
    assert recognise(path).columns["item_id"] == thing


def test_tables_that_are_neither_items_nor_touches_are_not_recognised(tmp_path):
    for text in ("movieID\tgenre\n1\tDrama\n", "id\tvalue\n1\tmetal\n", "userID\tfriendID\n2\t275\n", "title\nRust\n"):
        assert recognise(write(tmp_path / "tags.dat", text)) is None, text


def test_a_damaged_row_is_named(tmp_path):
    path = write(tmp_path / "artists.dat", "id\tname\turl\tpictureURL\n7\tX\t\t\n8\tY\n")
    with pytest.raises(DataError, match=r"line 3: 2 fields instead of 4"):
        rows(path)
