"""Tests of which tables and columns are found, by the columns of data sets that people use."""

from __future__ import annotations

import pytest

from enhancer.errors import ConfigError
from enhancer.guessing.roles import Given, guess, rating_column, time_column, title_column
from enhancer.guessing.tables import find_tables


def tables(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return find_tables(folder).tables


def seen(found):
    named = {key: table.path.name for key in ("items", "users", "interactions") if (table := getattr(found, key))}
    ids = {key: column for key in ("item_id", "user_id", "items_id", "users_id") if (column := getattr(found, key))}
    return {**named, **ids}


LAYOUTS = {
    "steam": (
        {
            "games.csv": "app_id,title,date_release\n1,Portal,2007-10-09\n2,Braid,2009-04-10\n",
            "recommendations.csv": "app_id,helpful,date,is_recommended,hours,user_id,review_id\n1,0,2020-01-01,true,3,7,0\n",
            "users.csv": "user_id,products,reviews\n7,3,1\n8,2,0\n",
        },
        {"items": "games.csv", "users": "users.csv", "interactions": "recommendations.csv", "item_id": "app_id"},
    ),
    "courses": (
        {
            "courses.csv": "course_id,course_name\nc1,Algebra\nc2,Logic\n",
            "enrolments.csv": "learner_id,course_id,enrolled_at\nu,c1,2024-01-01\n",
        },
        {"items": "courses.csv", "interactions": "enrolments.csv", "item_id": "course_id", "user_id": "learner_id"},
    ),
    "hetrec": (
        {
            "artists.tsv": "id\tname\turl\n1\tBlur\thttp://x/1\n2\tPulp\thttp://x/2\n",
            "user_artists.tsv": "userID\tartistID\tweight\n2\t1\t13883\n2\t2\t11690\n",
        },
        {"items": "artists.tsv", "interactions": "user_artists.tsv", "item_id": "artistID", "items_id": "id"},
    ),
    "movielens": (
        {
            "movies.csv": "movieId,title,genres\n1,Heat,Crime\n2,Jumanji,Adventure\n",
            "links.csv": "movieId,imdbId,tmdbId\n1,0113277,949\n2,0113497,8844\n",
            "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n",
            "tags.csv": "userId,movieId,tag,timestamp\n2,1,crime,1445714994\n",
        },
        {"items": "movies.csv", "interactions": "ratings.csv", "item_id": "movieId", "user_id": "userId"},
    ),
    "amazon-2023": (
        {
            "meta_Toys.jsonl": '{"title": "Ball", "parent_asin": "B01", "store": "X"}\n{"title": "Kite", "parent_asin": "B02"}\n',
            "Toys.jsonl": '{"rating": 5.0, "title": "Fine", "text": "Nice.", "asin": "B09", "parent_asin": "B01",'
            ' "user_id": "AE", "timestamp": 1588687728923, "helpful_vote": 0}\n',
        },
        {"items": "meta_Toys.jsonl", "interactions": "Toys.jsonl", "item_id": "parent_asin", "user_id": "user_id"},
    ),
    "amazon-2018": (
        {
            "meta.jsonl": '{"asin": "B1", "title": "Tea"}\n{"asin": "B2", "title": "Cup"}\n',
            "reviews.jsonl": '{"reviewerID": "r", "asin": "B1", "reviewerName": "Ann", "overall": 5.0, "unixReviewTime": 1}\n',
        },
        {"items": "meta.jsonl", "interactions": "reviews.jsonl", "item_id": "asin", "user_id": "reviewerID"},
    ),
    "google-local": (
        {
            "meta-Vermont.jsonl": '{"name": "Inn", "gmap_id": "0x4c"}\n{"name": "Cafe", "gmap_id": "0x4d"}\n',
            "review-Vermont.jsonl": '{"user_id": "1", "name": "Ann", "time": 1, "rating": 5, "gmap_id": "0x4c"}\n',
        },
        {
            "items": "meta-Vermont.jsonl",
            "interactions": "review-Vermont.jsonl",
            "item_id": "gmap_id",
            "user_id": "user_id",
        },
    ),
    "yelp": (
        {
            "business.jsonl": '{"business_id": "b1", "name": "Inn"}\n{"business_id": "b2", "name": "Bar"}\n',
            "user.jsonl": '{"user_id": "u1", "name": "Ann", "review_count": 3}\n{"user_id": "u2", "name": "Bob"}\n',
            "review.jsonl": '{"review_id": "r", "user_id": "u1", "business_id": "b1", "stars": 4.0, "date": "2018-07-07"}\n',
        },
        {"items": "business.jsonl", "users": "user.jsonl", "interactions": "review.jsonl", "item_id": "business_id"},
    ),
    "deskdrop": (
        {
            "shared_articles.csv": "timestamp,contentId,authorPersonId,title\n1,a1,p9,Go\n2,a2,p9,Rust\n",
            "users_interactions.csv": "timestamp,eventType,contentId,personId,sessionId\n3,VIEW,a1,p1,s1\n4,VIEW,a1,p2,s2\n",
        },
        {
            "items": "shared_articles.csv",
            "interactions": "users_interactions.csv",
            "item_id": "contentId",
            "user_id": "personId",
        },
    ),
    "sessions": (
        {
            "items.csv": "item_id,title\n1,Lamp\n2,Desk\n",
            "clicks.csv": "session_id,timestamp,item_id\ns1,1,1\ns1,2,2\n",
        },
        {"items": "items.csv", "interactions": "clicks.csv", "item_id": "item_id", "user_id": "session_id"},
    ),
    "tracks": (
        {
            "tracks.csv": "track,artist\nt1,Blur\nt2,Pulp\n",
            "plays.csv": "username,track,ts\nann,t1,5\nann,t2,6\n",
        },
        {"items": "tracks.csv", "interactions": "plays.csv", "item_id": "track", "user_id": "username"},
    ),
    "a word that nobody foresaw": (
        {
            "zorks.csv": "zorkId,label\nz1,Red\nz2,Blue\n",
            "uses.csv": "member_no_id,zorkId\nm,z1\nm,z2\n",
        },
        {"items": "zorks.csv", "interactions": "uses.csv", "item_id": "zorkId"},
    ),
    "users with their own id": (
        {
            "items.csv": "item_id,title\n1,Lamp\n2,Desk\n",
            "users.csv": "id,town\n7,Rome\n8,Oslo\n",
            "log.csv": "user_id,item_id\n7,1\n",
        },
        {"items": "items.csv", "users": "users.csv", "interactions": "log.csv", "users_id": "id"},
    ),
    "MovieLens as published": (
        {
            "movies.dat": "1::Heat (1995)::Action|Crime\n2::Babe (1995)::Drama\n",
            "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
            "ratings.dat": "1::1::5::978300760\n2::2::3::978302109\n",
            "README": "Of no table.\nNot at all.\n",
        },
        {"items": "movies.dat", "users": "users.dat", "interactions": "ratings.dat", "item_id": "item_id"},
    ),
    "a table of links beside the one with words": (
        {
            "movies_metadata.csv": "adult,id,imdb_id,title\nFalse,862,tt01,Toys\nFalse,8844,tt02,Games\n",
            "links.csv": "movieId,imdbId,tmdbId\n862,01,862\n8844,02,8844\n",
            "ratings_small.csv": "userId,movieId,rating,timestamp\n1,862,2.5,1260759144\n1,8844,3,1260759179\n",
        },
        {"items": "movies_metadata.csv", "interactions": "ratings_small.csv", "item_id": "movieId", "items_id": "id"},
    ),
    "originals": (
        {
            "catalogue.csv": "original_id,title\n10,Lamp\n11,Desk\n",
            "ratings.csv": "user_id,original_id,rating\n7,10,3\n7,11,4\n",
        },
        {"items": "catalogue.csv", "interactions": "ratings.csv", "item_id": "original_id"},
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_tables_and_ids_are_those_a_person_would_name(tmp_path, name):
    files, expected = LAYOUTS[name]
    found = guess(tables(tmp_path, files))
    assert found.undecided == {}
    assert {key: seen(found)[key] for key in expected} == expected
    if "items_id" not in expected:
        assert found.items_id is None


def test_of_the_parts_of_a_data_set_the_training_part_is_taken_with_its_items(tmp_path):
    log, news = "{n}\tU1\t11/11/2019 9:05:58 AM\t\tN1-1\n", "N1\tnews\tlocal\tFog\t\t\t[]\t[]\n"
    files = {
        "MIND_dev/behaviors.tsv": log * 9,
        "MIND_dev/news.tsv": news * 9,
        "MIND_train/behaviors.tsv": log,
        "MIND_train/news.tsv": news,
    }
    found = guess(tables(tmp_path, files))
    assert found.interactions.path == tmp_path / "MIND_train" / "behaviors.tsv"
    assert found.items.path == tmp_path / "MIND_train" / "news.tsv"


def test_what_cannot_be_told_is_left_open_with_candidates(tmp_path):
    files = {"items.csv": "item_id,title\n1,Lamp\n", "log.csv": "user_id,left_id,right_id\n7,1,2\n7,1,3\n"}
    found = guess(tables(tmp_path, files))
    assert found.interactions.path.name == "log.csv"
    assert found.user_id == "user_id"
    assert found.undecided == {"item_id": ["left_id", "right_id"]}


def test_given_columns_settle_what_cannot_be_told(tmp_path):
    files = {"items.csv": "nr,words\n1,Lamp\n2,Desk\n", "log.csv": "who,what,how_much\na,1,2\nb,2,3\n"}
    found = guess(tables(tmp_path, files), Given(item_id="what", user_id="who"))
    assert seen(found)["interactions"] == "log.csv"
    assert (found.item_id, found.user_id) == ("what", "who")
    items = tmp_path / "items.csv"
    both = guess(
        tables(tmp_path, files), Given(items=items, interactions=tmp_path / "log.csv", item_id="nr", user_id="who")
    )
    assert both.items_id == "nr"
    assert "item_id" in both.undecided


def test_given_columns_must_exist(tmp_path):
    files = {"items.csv": "item_id,title\n1,Lamp\n"}
    with pytest.raises(ConfigError, match="--text: no column 'titel'") as caught:
        guess(tables(tmp_path, files), Given(text=("titel",)))
    assert "did you mean 'title'" in caught.value.hint


def test_ratings_times_and_titles(tmp_path):
    text = "user_id,course_id,user_rating,created_at\nu,1,4.5,2024-01-01T10:00:00.5Z\nu,2,3,2024-01-02\n"
    (log, courses) = tables(tmp_path, {"a.csv": text, "courses.csv": "course_id,course_name\n1,Logic\n"})
    assert (rating_column(log), time_column(log)) == ("user_rating", "created_at")
    assert title_column(courses, "course_id") == "course_name"


def test_files_that_are_no_tables_are_named_with_the_reason(tmp_path):
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "odd.jsonl").write_text("[1, 2\n")
    (tmp_path / "one.csv").write_text("a b c\n1 2 3\n")
    (tmp_path / "items.csv").write_text("item_id,title\n1,a\n")
    found = find_tables(tmp_path)
    assert [table.path.name for table in found.tables] == ["items.csv"]
    assert len(found.notes) == 3
    for name, note in zip(["empty.csv", "odd.jsonl", "one.csv"], found.notes, strict=True):
        assert str(tmp_path / name) in note
    assert "one column alone, 'a b c'" in found.notes[2]
