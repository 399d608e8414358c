"""Tests of what names of columns say."""

from __future__ import annotations

import pytest

from enhancer.guessing.names import aggregate_of, is_event, is_identifier, is_person, is_row_number, words_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("movieId", "movie id"),
        ("Movie-ID", "movie id"),
        ("movieid", "movie id"),
        ("artistID", "artist id"),
        ("parent_asin", "parent asin"),
        ("ISBN13", "isbn 13"),
        ("username", "user name"),
        ("playcount", "play count"),
        ("zorkid", "zork id"),
        ("genreIDs", "genre ids"),
        ("paid", "paid"),
        ("grid", "grid"),
        ("Título_ID", "título id"),
    ],
)
def test_a_name_is_read_by_its_words(name, expected):
    assert " ".join(words_of(name)) == expected


@pytest.mark.parametrize(
    "name", ["imdbId", "tmdb_id", "ISBN", "isbn13", "genre_ids", "best_book_id", "parent_asin", "uuid"]
)
def test_identifiers(name):
    assert is_identifier(name)


@pytest.mark.parametrize(
    "name", ["paid", "grid", "android", "title", "language_code", "postal_code", "number_of_pages"]
)
def test_no_identifiers(name):
    assert not is_identifier(name)


def test_people_and_events():
    people = ["userId", "username", "User-ID", "Customer ID", "reviewerID", "personId", "uid", "memberid"]
    assert all(map(is_person, people))
    assert not any(map(is_person, ["authorPersonId", "seller_id", "user_review_id", "movieId", "artist", "user_age"]))
    assert all(map(is_event, ["review_id", "orderId", "transaction_id"]))
    assert not is_event("book_id")


@pytest.mark.parametrize("name", ["Unnamed: 0", "Unnamed: 0.1", "index", "", "level_0", "row_id", "#"])
def test_row_numbers(name):
    assert is_row_number(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "ratings_count",
            "work_text_reviews_count",
            "ratings_1",
            "ratings_5",
            "5_star",
            "average_rating",
            "vote_average",
        ),
        *(
            "averageRating",
            "num_reviews",
            "n_ratings",
            "rating_number",
            "popularity",
            "track_popularity",
            "sold",
            "sales",
        ),
        *("salesRank", "rank", "scored_by", "members", "favorites", "usersrated", "bayesaverage", "playcount", "views"),
        *("positive_ratio", "positive_ratings", "estimated_owners", "also_bought", "bought_together", "similar_item"),
        *("listeners", "num_subscribers", "wishlist_count", "helpful_votes", "rating", "stars", "enrolled"),
    ],
)
def test_aggregates(name):
    assert aggregate_of(name) is not None


@pytest.mark.parametrize(
    "name",
    [
        *("books_count", "num_pages", "minplayers", "runtime", "budget", "price", "year", "release_date", "title"),
        *(
            "original_publication_year",
            "num_lectures",
            "content_duration",
            "metascore",
            "weight",
            "episodes",
            "interest_rate",
        ),
        *("number_of_seasons", "age_rating", "director", "language_code", "user_age"),
    ],
)
def test_no_aggregates(name):
    assert aggregate_of(name) is None
