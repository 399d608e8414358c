"""Data sets with one object per line: Amazon, Steam, Goodreads and Yelp, in JSON and as Python literals."""

from __future__ import annotations

import json

import pytest
from native_files import native_rows, rows, rows_of, write

from enhancer.config import ColumnsConfig
from enhancer.data import read_interactions
from enhancer.data.readers.native import recognise
from enhancer.errors import ConfigError, DataError


def lines(*objects, literal=False):
    return "".join(f"{each!r}\n" if literal else json.dumps(each) + "\n" for each in objects)


def test_products_of_2014_are_python_literals(tmp_path):
    product = {
        "asin": "B000000001",
        "title": 'The Fisher\'s "Net", Blue & Green',
        "price": 3.17,
        "imUrl": "http://x/1.jpg",
        "related": {"also_bought": ["B000000002"]},
        "categories": [["Sports & Outdoors", "Nets, Lines & Hooks"], ["Sports & Outdoors", "Fishing"]],
        "description": "Holds\twater, not.",
    }
    path = write(tmp_path / "meta_Sports.json.gz", lines(product, {"asin": "B000000002"}, literal=True))
    assert (
        rows(path)
        == native_rows(path, "items")
        == [
            {
                "asin": "B000000001",
                "title": 'The Fisher\'s "Net", Blue & Green',
                "price": "3.17",
                "imUrl": "http://x/1.jpg",
                "related": '{"also_bought":["B000000002"]}',
                "categories": "Sports & Outdoors, Nets, Lines & Hooks, Fishing",
                "description": "Holds\twater, not.",
            },
            {
                "asin": "B000000002",
                "title": "",
                "price": "",
                "imUrl": "",
                "related": "",
                "categories": "",
                "description": "",
            },
        ]
    )
    assert recognise(path).name == "amazon-2014"


def test_reviews_of_2014_and_2018(tmp_path):
    review = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "reviewText": "Fine.", "unixReviewTime": 1252800000}
    old = write(tmp_path / "reviews_Sports_5.json.gz", lines({**review, "helpful": [2, 3]}))
    assert (
        native_rows(old, "interactions")[0] | {"helpful": "2", "helpful_of": "3"} == native_rows(old, "interactions")[0]
    )
    assert recognise(old).name == "amazon-2014"
    new = write(tmp_path / "Sports_5.json.gz", lines({**review, "vote": "1,024", "verified": True}))
    assert native_rows(new, "interactions") == [
        {
            "reviewerID": "A1",
            "asin": "B1",
            "overall": "5",
            "reviewText": "Fine.",
            "unixReviewTime": "1252800000",
            "vote": "1024",
            "verified": "true",
        }
    ]
    assert recognise(new).name == "amazon-2018"
    found = read_interactions(new, ColumnsConfig(**recognise(new).columns), item_ids=None)
    assert (found.user_ids, found.item_ids, found.ratings.tolist(), found.timestamps.tolist()) == (
        ["A1"],
        ["B1"],
        [5.0],
        [1252800000],
    )


def test_products_of_2018_and_2023(tmp_path):
    old = {"asin": "B1", "title": "Net", "category": ["Sports", "Fishing, Boats"], "description": ["One.", "Two."]}
    path = write(tmp_path / "meta_Sports.json.gz", lines(old))
    assert native_rows(path, "items") == [
        {"asin": "B1", "title": "Net", "category": "Sports, Fishing, Boats", "description": "One. Two."}
    ]
    assert recognise(path).name == "amazon-2018"
    new = {"main_category": "Sports", "title": "Net", "features": ["Light, small"], "parent_asin": "B1", "store": None}
    path = write(tmp_path / "meta_Sports.jsonl.gz", lines(new, {**new, "parent_asin": "B2", "description": ["One."]}))
    assert recognise(path).name == "amazon-2023"
    assert native_rows(path, "items")[1]["description"] == "One."
    review = {"rating": 4.0, "title": "Ok", "text": "So.", "asin": "B3", "parent_asin": "B1", "user_id": "A1"}
    path = write(tmp_path / "Sports.jsonl.gz", lines({**review, "timestamp": 1588687728923}))
    assert native_rows(path, "interactions")[0]["timestamp"] == "1588687728923"
    assert recognise(path).columns == {"item_id": "parent_asin"}


def test_ratings_alone_have_no_header_and_two_orders(tmp_path):
    old = write(tmp_path / "ratings_Sports.csv", "A2SUAM1J3GNN3B,B000000001,5.0,1252800000\n")
    new = write(tmp_path / "Sports.csv", "B000000001,A2SUAM1J3GNN3B,5.0,1252800000\n")
    assert rows(old) == [
        {"user_id": "A2SUAM1J3GNN3B", "asin": "B000000001", "rating": "5.0", "timestamp": "1252800000"}
    ]
    assert rows(new) == [
        {"asin": "B000000001", "user_id": "A2SUAM1J3GNN3B", "rating": "5.0", "timestamp": "1252800000"}
    ]
    assert (recognise(old).name, recognise(new).name) == ("amazon-2014", "amazon-2018")


def test_games_of_steam(tmp_path):
    text = (
        "{u'app_name': u'Fog Simulator', u'genres': [u'Casual', u'Free to Play'], u'id': u'10', u'price': 4.99,"
        " u'specs': [u'Single-player'], u'early_access': False, u'developer': u'Nobody\\'s Caf\\xe9'}\n"
        "{u'app_name': u'', u'specs': [u'Steam Cloud'], u'reviews_url': u'http://x'}\n"
    )
    path = write(tmp_path / "steam_games.json.gz", text)
    assert native_rows(path, "items") == [
        {
            "app_name": "Fog Simulator",
            "genres": "Casual, Free to Play",
            "id": "10",
            "price": "4.99",
            "specs": "Single-player",
            "early_access": "false",
            "developer": "Nobody's Café",
        }
    ]


def test_reviews_of_steam(tmp_path):
    text = (
        "{u'username': u'Some One', u'product_id': u'10', u'date': u'2017-12-17', u'text': u'Grey.', u'hours': 0.1}\n"
    )
    path = write(tmp_path / "steam_reviews.json.gz", text)
    assert native_rows(path, "interactions")[0]["username"] == "Some One"
    found = read_interactions(path, ColumnsConfig(**recognise(path).columns), item_ids=None)
    assert found.timestamps.tolist() == [1513468800]


def test_libraries_of_steam_users_make_a_row_for_each_game(tmp_path):
    text = (
        "{'user_id': 'u1', 'items_count': 2, 'steam_id': '7', 'user_url': 'http://x', 'items': ["
        "{'item_id': '10', 'item_name': 'Fog', 'playtime_forever': 6}, {'item_id': '20', 'item_name': 'Rust'}]}\n"
        "{'user_id': 'u2', 'items_count': 0, 'steam_id': '8', 'user_url': 'http://y', 'items': []}\n"
        "{'user_id': 'u3', 'items_count': 1, 'steam_id': '9', 'user_url': 'http://z', 'items': [{'item_id': '10'}]}\n"
    )
    path = write(tmp_path / "australian_users_items.json", text)
    assert native_rows(path, "interactions") == [
        {"user_id": "u1", "item_id": "10", "item_name": "Fog", "playtime_forever": "6"},
        {"user_id": "u1", "item_id": "20", "item_name": "Rust", "playtime_forever": ""},
        {"user_id": "u3", "item_id": "10", "item_name": "", "playtime_forever": ""},
    ]
    table = recognise(path).open(path)
    numbers, _ = next(table.blocks(["user_id"]))
    assert [table.location(n) for n in numbers] == ["line 1", "line 1", "line 3"]


def test_books_and_shelves_of_goodreads(tmp_path):
    book = {
        "book_id": "5",
        "title": "The Fog",
        "popular_shelves": [{"count": "9", "name": "to-read"}, {"count": "2", "name": "poetry, modern"}],
        "authors": [{"author_id": "604031", "role": ""}],
        "average_rating": "4.00",
    }
    path = write(tmp_path / "goodreads_books_poetry.json.gz", lines(book))
    assert native_rows(path, "items") == [
        {
            "book_id": "5",
            "title": "The Fog",
            "popular_shelves": "to-read, poetry, modern",
            "authors": "604031",
            "average_rating": "4.00",
        }
    ]
    touch = {"user_id": "u", "book_id": "5", "rating": 0, "date_added": "Wed Mar 22 10:25:22 -0700 2017", "read_at": ""}
    path = write(tmp_path / "goodreads_interactions_poetry.json.gz", lines(touch))
    assert native_rows(path, "interactions")[0] == {
        "user_id": "u",
        "book_id": "5",
        "rating": "0",
        "date_added": "2017-03-22T10:25:22-07:00",
        "read_at": "",
    }
    found = read_interactions(path, ColumnsConfig(**recognise(path).columns), item_ids=None)
    assert (found.ratings, found.timestamps.tolist()) == (None, [1490203522])


def test_books_of_the_csv_of_goodreads_are_numbers_of_a_map(tmp_path):
    path = write(
        tmp_path / "goodreads_interactions.csv", "user_id,book_id,is_read,rating,is_reviewed\n0,1,1,5,0\n7,0,0,0,0\n"
    )
    with pytest.raises(ConfigError, match=r"numbers that book_id_map\.csv beside it translates.*there is no such file"):
        recognise(path).open(path)
    assert [row["book_id"] for row in rows(path)] == ["1", "0"]  # unless the format is named
    listing = write(tmp_path / "book_id_map.csv", "book_id_csv,book_id\n0,34684622\n1,34536488\n")
    assert [tuple(row.values()) for row in native_rows(path, "interactions")] == [
        ("0", "34536488", "1", "5", "0"),
        ("7", "34684622", "0", "0", "0"),
    ]
    write(path, path.read_text() + "7,2,0,0,0\n")
    with pytest.raises(DataError, match=r"book_id_map\.csv has no book '2'"):
        rows_of(recognise(path).open(path))
    write(listing, "book_id_csv,book_id\n1,34684622\n")
    with pytest.raises(DataError, match=r"book_id_map\.csv, line 2: expected the number 0 and an id"):
        recognise(path).open(path)


def test_businesses_reviews_and_users_of_yelp(tmp_path):
    business = {
        "business_id": "b1",
        "name": "Fog & Sons",
        "city": "Nowhere",
        "stars": 4.5,
        "attributes": {"WiFi": "u'free'"},
        "categories": "Bakeries, Food, Coffee & Tea",
    }
    path = write(tmp_path / "yelp_academic_dataset_business.json", lines(business, {**business, "categories": None}))
    found = native_rows(path, "items")
    assert found[0] == {**business, "stars": "4.5", "attributes": '{"WiFi":"u\'free\'"}'}
    assert found[1]["categories"] == ""
    assert recognise(path).open(path).column_kinds() == {"categories": "list"}
    review = {"review_id": "r", "user_id": "u", "business_id": "b1", "stars": 3.0, "date": "2018-07-07 22:09:11"}
    path = write(tmp_path / "yelp_academic_dataset_review.json", lines(review))
    read = read_interactions(path, ColumnsConfig(**recognise(path).columns), item_ids=None)
    assert (read.ratings.tolist(), read.timestamps.tolist()) == ([3.0], [1531001351])
    user = {
        "user_id": "u",
        "name": "N",
        "yelping_since": "2007-01-25 16:47:26",
        "elite": "2007,2008",
        "friends": "None",
    }
    path = write(tmp_path / "yelp_academic_dataset_user.json", lines(user))
    assert native_rows(path, "users")[0] | {"elite": "2007, 2008", "friends": ""} == native_rows(path, "users")[0]
    assert recognise(write(tmp_path / "checkin.json", lines({"business_id": "b1", "date": "2016-04-26"}))) is None


def test_a_damaged_line_is_named(tmp_path):
    path = write(tmp_path / "meta.json", "{'asin': 'B1', 'salesRank': {}}\n{'asin': 'B2', 'title': 'Net\n")
    with pytest.raises(DataError, match=r"meta\.json, line 2: neither JSON nor a Python literal"):
        rows_of(recognise(path).open(path))


def test_nothing_is_evaluated(tmp_path):
    path = write(tmp_path / "meta.json", "{'asin': 'B1', 'imUrl': __import__('os').getcwd()}\n")
    with pytest.raises(DataError, match="neither JSON nor a Python literal"):
        rows_of(recognise(path).open(path))
