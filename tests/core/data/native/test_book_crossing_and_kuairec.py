r"""Book-Crossing (``;`` and ``\"``) and KuaiRec (lists, carriage returns, a row a day)."""

from __future__ import annotations

import pytest
from native_files import native_rows, rows_of, write

from enhancer.config import ColumnsConfig
from enhancer.data import open_table
from enhancer.data.readers.native import native_format, recognise
from enhancer.errors import DataError

BOOKS = '"ISBN";"Book-Title";"Book-Author";"Year-Of-Publication";"Publisher"\r\n'


def values(path, role):
    return [tuple(row.values()) for row in native_rows(path, role)]


def test_books_have_escaped_quotes_and_are_latin_1(tmp_path):
    path = write(
        tmp_path / "BX-Books.csv",
        BOOKS
        + '"01";"Fog; a Novel &amp; More";"A. Nobody";"1999";"Mûre"\r\n'
        + '"02";"Nets (Level 4)\\"";"B. Nobody";"0";"Rust"\r\n'
        + '"03";"The \\"Grey\\" Sea";"";"2001";"Ru"st"\r\n'
        + '"04X";"A \\\\ B";"C. Nobody";"2002";"Two\r\nlines"\r\n',
        "latin-1",
    )
    assert values(path, "items") == [
        ("01", "Fog; a Novel &amp; More", "A. Nobody", "1999", "Mûre"),
        ("02", 'Nets (Level 4)"', "B. Nobody", "", "Rust"),
        ("03", 'The "Grey" Sea', "", "2001", 'Ru"st'),
        ("04X", "A \\ B", "C. Nobody", "2002", "Two\nlines"),
    ]
    assert recognise(path).columns["title"] == "Book-Title"


def test_ratings_and_people_of_book_crossing(tmp_path):
    path = write(tmp_path / "BX-Book-Ratings.csv", '"User-ID";"ISBN";"Book-Rating"\n"276725";"034545104X";"0"\n')
    assert values(path, "interactions") == [("276725", "034545104X", "0")]
    assert recognise(path).columns["rating"] is False
    path = write(tmp_path / "BX-Users.csv", '"User-ID";"Location";"Age"\n"1";"nowhere, fog, none";NULL\n"2";"";"18"\n')
    assert values(path, "users") == [("1", "nowhere, fog, none", ""), ("2", "", "18")]


@pytest.mark.parametrize(
    ("row", "problem"),
    [('"05";"Fog";"A"\n', "line 3: 3 fields, but the header has 5"), ('"05";"Fog;A\n', "line 3: a quote never ends")],
)
def test_damaged_rows_of_book_crossing(tmp_path, row, problem):
    path = write(tmp_path / "BX-Books.csv", BOOKS + '"01";"Fog";"A";"1999";"M"\n' + row)
    with pytest.raises(DataError, match=problem):
        rows_of(recognise(path).open(path))


def test_watched_videos(tmp_path):
    names = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
    log = names + "0,3649,13838,10867,2020-07-05 00:08:23.438,20200705.0,1593878903.438,1.273\n"
    path = write(
        tmp_path / "big_matrix.csv", log + "0,3649,1,10867,2020-07-05 00:08:23.439,20200705.0,1593878903.439,0.1\n"
    )
    assert len(native_rows(path, "interactions")) == 2
    assert recognise(path).columns == {"item_id": "video_id"}
    small = write(tmp_path / "small_matrix.csv", log + "14,148,4381,6067,,,,0.722\n")
    assert native_rows(small, "interactions")[1]["timestamp"] == ""
    assert recognise(small).columns == {"item_id": "video_id", "timestamp": False}
    assert ColumnsConfig(**recognise(small).columns).timestamp is False


def test_captions(tmp_path):
    names = "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,first_level_category_name\n"
    path = write(
        tmp_path / "kuairec_caption_category.csv",
        names + '0,UNKNOWN,"Fog, grey\n and wet",[],8,Weather\n1,UNKNOWN,Net\r and line,"[Fish,  Sea]",-124,UNKNOWN\n',
    )
    assert values(path, "items") == [
        ("0", "", "Fog, grey\n and wet", "", "8", "Weather"),
        ("1", "", "Net  and line", "Fish, Sea", "", ""),
    ]


def test_categories_are_lists(tmp_path):
    path = write(tmp_path / "item_categories.csv", 'video_id,feat\n0,[8]\n1,"[27, 9]"\n')
    assert values(path, "items") == [("0", "8"), ("1", "27, 9")]


def test_a_video_with_a_row_a_day_comes_once_without_counts(tmp_path):
    names = "video_id,date,author_id,video_type,video_duration,show_cnt,play_user_num,play_progress,video_tag_name\n"
    path = write(
        tmp_path / "item_daily_features.csv",
        names
        + "0,20200705,3309,NORMAL,5966,12,5,0.5,fog\n0,20200706,3309,NORMAL,5966,99,7,0.6,fog\n1,20200705,1,AD,1,1,1,1,\n",
    )
    assert native_rows(path, "items") == [
        {
            "video_id": "0",
            "author_id": "3309",
            "video_type": "NORMAL",
            "video_duration": "5966",
            "video_tag_name": "fog",
        },
        {"video_id": "1", "author_id": "1", "video_type": "AD", "video_duration": "1", "video_tag_name": ""},
    ]


def test_files_that_were_always_readable_are_read_as_before_unless_their_format_is_named(tmp_path):
    path = write(tmp_path / "item_categories.csv", 'video_id,feat\n1,"[27, 9]"\n')
    assert rows_of(open_table(path)) == [{"video_id": "1", "feat": "[27, 9]"}]
    assert rows_of(native_format("kuairec", "items", path).open(path)) == [{"video_id": "1", "feat": "27, 9"}]
