"""Made-up data sets whose files have an object a line."""

from __future__ import annotations

from pathlib import Path

from native_files import write
from native_plan import (
    ITEMS,
    PLAIN_TAGS,
    START,
    TAGS,
    TITLES,
    USERS,
    iso,
    lines,
    touches,
)

# --- products, games, books, places -----------------------------------------------------------------------------------


def asin(i: int) -> str:
    return f"B00000000{i}"


def reviewer(u: int) -> str:
    return f"A00000000000{u}"


def amazon_2014(folder: Path) -> None:
    products = [
        {
            "asin": asin(i),
            "title": TITLES[i],
            "imUrl": f"http://x/{i}.jpg",
            "related": {"also_bought": [asin(5 - i)]},
            "salesRank": {"Toys & Games": 100 - i},
            **({"categories": [["Toys", *TAGS[i]]]} if TAGS[i] else {}),
        }
        for i in range(ITEMS)
    ]
    write(folder / "meta_Toys.json.gz", lines(*products, literal=True))
    reviews = [
        {
            "reviewerID": reviewer(u),
            "asin": asin(i),
            "reviewerName": "Nobody",
            "helpful": [0, 1],
            "reviewText": "Fine.",
            "overall": 5.0,
            "summary": "Fine",
            "unixReviewTime": t,
            "reviewTime": iso(t, "%m %d, %Y"),
        }
        for u, i, t in touches()
    ]
    write(folder / "reviews_Toys_5.json.gz", lines(*reviews))


def amazon_2018(folder: Path) -> None:
    products = [
        {
            "category": ["Toys", *TAGS[i]],
            "description": ["One part.", "And another."],
            "title": TITLES[i],
            "also_buy": [asin(5 - i)],
            "rank": f"{100 - i} in Toys & Games (",
            "asin": asin(i),
            "imageURL": [f"http://x/{i}.jpg"],
        }
        for i in range(ITEMS)
    ]
    write(folder / "meta_Toys.json.gz", lines(*products, products[0]))
    reviews = [
        {
            "overall": 5.0,
            "verified": True,
            "reviewerID": reviewer(u),
            "asin": asin(i),
            "unixReviewTime": t,
            "vote": "2",
        }
        for u, i, t in touches()
    ]
    write(folder / "Toys_5.json.gz", lines(*reviews, reviews[0]))


def amazon_2023(folder: Path) -> None:
    products = [
        {
            "main_category": "Toys & Games",
            "title": TITLES[i],
            "average_rating": 4.0 + i / 10,
            "rating_number": 10 + i,
            "features": ["Light, small"],
            "description": ["One part.", "And another."],
            "price": 3.5,
            "images": [{"hi_res": f"http://x/{i}.jpg"}],
            "store": None,
            "categories": list(TAGS[i]),
            "details": {"Weight": "1"},
            "parent_asin": asin(i),
            "bought_together": None,
        }
        for i in range(ITEMS)
    ]
    write(folder / "meta_Toys.jsonl.gz", lines(*products))
    reviews = [
        {
            "rating": 5.0,
            "title": "Fine",
            "text": "Fine.",
            "images": [],
            "asin": f"C00000000{i}",
            "parent_asin": asin(i),
            "user_id": f"AE{u}",
            "timestamp": 1000 * t + 7,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        for u, i, t in touches()
    ]
    write(folder / "Toys.jsonl.gz", lines(*reviews))


def steam(folder: Path) -> None:
    games = [
        {
            "publisher": "Nobody",
            "genres": list(TAGS[i]),
            "app_name": TITLES[i],
            "url": f"http://x/{i}",
            "reviews_url": f"http://x/{i}",
            "specs": ["Single-player"],
            "price": "Free To Play",
            "early_access": False,
            "id": f"{10 * (i + 1)}",
        }
        for i in range(ITEMS)
    ]
    text = lines(*games, games[5], {"app_name": None, "specs": [], "reviews_url": "http://x"}, literal=True)
    write(folder / "steam_games.json.gz", text.replace("'", "u'", 1))
    reviews = [
        {
            "username": f"Player {u}",
            "hours": 0.1,
            "products": 4,
            "product_id": f"{10 * (i + 1)}",
            "date": iso(START + 24 * (t - START), "%Y-%m-%d"),
            "text": "Grey.",
            "page": 1,
        }
        for u, i, t in touches()
    ]
    write(folder / "steam_reviews.json.gz", lines(*reviews, literal=True))


def goodreads(folder: Path) -> None:
    books = [
        {
            "isbn": f"00000000{i}",
            "text_reviews_count": "3",
            "popular_shelves": [{"count": "3", "name": tag} for tag in TAGS[i]],
            "average_rating": "4.00",
            "similar_books": [],
            "description": "",
            "link": f"http://x/{i}",
            "authors": [{"author_id": "7", "role": ""}],
            "publisher": "Nobody",
            "publication_year": "2001",
            "book_id": f"{i + 1}",
            "ratings_count": "9",
            "title": TITLES[i],
        }
        for i in range(ITEMS)
    ]
    write(folder / "goodreads_books_poetry.json.gz", lines(*books))
    shelved = [
        {
            "user_id": f"{u:032x}",
            "book_id": f"{i + 1}",
            "review_id": f"r{u}{i}",
            "is_read": False,
            "rating": 0,
            "date_added": iso(t - 7 * 3600, "%a %b %d %H:%M:%S -0700 %Y"),
            "read_at": "",
        }
        for u, i, t in touches()
    ]
    write(folder / "goodreads_interactions_poetry.json.gz", lines(*shelved))


def yelp(folder: Path) -> None:
    places = [
        {
            "business_id": f"b{i}",
            "name": TITLES[i],
            "city": "Nowhere",
            "state": "NN",
            "stars": 4.5,
            "review_count": 9,
            "attributes": None,
            "categories": ", ".join(PLAIN_TAGS[i]) or None,
        }
        for i in range(ITEMS)
    ]
    write(folder / "yelp_academic_dataset_business.json", lines(*places))
    reviews = [
        {
            "review_id": f"r{u}{i}",
            "user_id": f"u{u}",
            "business_id": f"b{i}",
            "stars": 4.0,
            "useful": 0,
            "text": "Fine.",
            "date": iso(t, "%Y-%m-%d %H:%M:%S"),
        }
        for u, i, t in touches()
    ]
    write(folder / "yelp_academic_dataset_review.json", lines(*reviews))
    people = [{"user_id": f"u{u}", "name": "N", "yelping_since": "2007-01-25", "friends": "None"} for u in range(USERS)]
    write(folder / "yelp_academic_dataset_user.json", lines(*people))
