"""MovieLens 100K, 1M and 10M in the form in which they are published."""

from __future__ import annotations

import pytest
from native_files import rows, write

from enhancer.data import open_table
from enhancer.data.readers.native import recognise
from enhancer.errors import ConfigError, DataError


def flags(*places):
    return "|".join("1" if place in places else "0" for place in range(19))


def test_films_of_1m_are_latin_1_and_their_genres_are_a_list(tmp_path):
    path = write(
        tmp_path / "movies.dat",
        "1::Mûre: Sauvage (1995)::Animation|Children's\n2::Nine::Lives (1996)::Drama\n3::Rust (1997)::(no genres listed)\n",
        "latin-1",
    )
    assert rows(path) == [
        {"item_id": "1", "title": "Mûre: Sauvage (1995)", "genres": "Animation, Children's"},
        {"item_id": "2", "title": "Nine::Lives (1996)", "genres": "Drama"},
        {"item_id": "3", "title": "Rust (1997)", "genres": ""},
    ]
    assert open_table(path).column_kinds() == {"genres": "list"}


def test_films_of_10m_are_utf_8(tmp_path):
    path = write(tmp_path / "movies.dat", "1::Mûre (1995)::Drama\n")
    assert rows(path) == [{"item_id": "1", "title": "Mûre (1995)", "genres": "Drama"}]


def test_ratings_and_people_of_1m(tmp_path):
    ratings = write(tmp_path / "ratings.dat", "1::1193::5::978300760\r\n\r\n2::661::3.5::978302109\r\n")
    assert rows(ratings) == [
        {"user_id": "1", "item_id": "1193", "rating": "5", "timestamp": "978300760"},
        {"user_id": "2", "item_id": "661", "rating": "3.5", "timestamp": "978302109"},
    ]
    people = write(tmp_path / "users.dat", "1::F::1::10::48067\n2::M::56::16::70072-1234\n")
    assert rows(people)[1] == {
        "user_id": "2",
        "gender": "M",
        "age": "56",
        "occupation": "16",
        "zip_code": "70072-1234",
    }


def test_ratings_of_100k_and_their_published_splits(tmp_path):
    for name in ("u.data", "u1.base", "ua.test"):
        assert rows(write(tmp_path / name, "196\t242\t3\t881250949\n")) == [
            {"user_id": "196", "item_id": "242", "rating": "3", "timestamp": "881250949"}
        ]


def test_flags_of_films_of_100k_are_genres(tmp_path):
    path = write(
        tmp_path / "u.item",
        f"1|Mûre (1995)|01-Jan-1995||http://films/1|{flags(3, 5)}\n2|Rust (1996)|||http://films/2|{flags()}\n",
        "latin-1",
    )
    assert rows(path) == [
        {
            "item_id": "1",
            "title": "Mûre (1995)",
            "release_date": "01-Jan-1995",
            "video_release_date": "",
            "imdb_url": "http://films/1",
            "genres": "Animation, Comedy",
        },
        {
            "item_id": "2",
            "title": "Rust (1996)",
            "release_date": "",
            "video_release_date": "",
            "imdb_url": "http://films/2",
            "genres": "",
        },
    ]


def test_names_of_the_flags_are_those_of_the_listing_beside_them(tmp_path):
    path = write(tmp_path / "u.item", f"1|Mûre (1995)|||http://films/1|{flags(0, 18)}\n")
    write(tmp_path / "u.genre", "".join(f"kind {n}|{n}\n" for n in range(19)) + "\n")
    assert rows(path)[0]["genres"] == "kind 0, kind 18"


def test_people_of_100k_are_not_taken_for_an_atomic_file(tmp_path):
    path = write(tmp_path / "u.user", "1|24|M|technician|85711\n2|53|F|other|94043\n")
    assert rows(path)[0] == {
        "user_id": "1",
        "age": "24",
        "gender": "M",
        "occupation": "technician",
        "zip_code": "85711",
    }


def test_a_damaged_line_is_named(tmp_path):
    path = write(tmp_path / "ratings.dat", "1::1::5::978300760\n" * 60 + "\n1::2::5\n")
    with pytest.raises(DataError, match=r"ratings\.dat, line 62: 3 fields instead of 4"):
        rows(path)


def test_a_row_is_located_by_its_line(tmp_path):
    table = open_table(write(tmp_path / "ratings.dat", "1::1::5::978300760\n\n1::2::5::978300761\n"))
    assert [table.location(0), table.location(1)] == ["line 1", "line 3"]


def test_the_name_alone_makes_no_format(tmp_path):
    for name, text in (
        ("movies.dat", "film\ttitle\n1\tRust\n"),
        ("tags.dat", "15::4973::excellent::1215184630\n"),
        ("u.item", "item_id:token\ttitle:token_seq\n1\tRust\n"),
    ):
        assert recognise(write(tmp_path / name, text)) is None, name
    with pytest.raises(ConfigError, match=r"unknown ending '\.dat', and not in the form of a known data set"):
        open_table(tmp_path / "tags.dat")


def test_compressed_files_are_read_alike(tmp_path):
    import pyarrow as pa

    path = write(tmp_path / "ratings.dat.gz", "1::1::5::978300760\n")
    wanted = [{"user_id": "1", "item_id": "1", "rating": "5", "timestamp": "978300760"}]
    assert rows(path) == wanted
    with pa.output_stream(str(tmp_path / "ratings.dat.zst"), compression="zstd") as file:
        file.write(b"1::1::5::978300760\n")
    assert rows(tmp_path / "ratings.dat.zst") == wanted


def test_a_damaged_gzip_file_is_told(tmp_path):
    path = write(tmp_path / "ratings.dat.gz", "".join(f"1::{n * 7919}::5::978300760\n" for n in range(60_000)))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"ratings\.dat\.gz: damaged"):
        rows(path)
