"""Small made-up data sets in their published forms, over one plan: who touched what, and when.

User ``u`` touches the items ``u``, ``u + 1``, ``u + 2`` and ``u + 3`` modulo :data:`ITEMS`, in this order, an hour apart.
Files hold the touches in the reverse order, so that a split by time depends on the times that are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from native_files import write

USERS, ITEMS, TOUCHES = 8, 6, 4
START = 1_500_000_000
TITLES = ("Fog", "Nets, Lines & Hooks", 'The "Grey" Sea', "Mûre", "It's Rust", "Two: A Sequel")
TAGS = (("Grey, Wet", "Calm"), ("Fishing",), ("Calm", "Fishing"), (), ("Grey, Wet",), ("Calm", "Sequels"))
"""Tags of each item; one holds a comma."""
PLAIN_TAGS = tuple(tuple(tag.partition(",")[0] for tag in tags) for tags in TAGS)
"""Tags without commas, for forms that separate them by one."""


@dataclass(frozen=True)
class NativeSet:
    """A data set, and what a person reads in its files."""

    make: Callable[[Path], None]
    data: dict[str, object]
    """What ``enhancer init`` writes into ``[data]``."""
    user: Callable[[int], str] = lambda u: str(u + 1)
    """Id of a user."""
    item: Callable[[int], str] = lambda i: str(i + 1)
    """Id of an item."""
    text: Callable[[int], str] = lambda i: f"title: {TITLES[i]}"
    """Text of an item."""
    tags: str | None = None
    """Column of tags."""
    tags_of: tuple[tuple[str, ...], ...] = TAGS
    split: str = "leave-one-out"
    """Split to use; with ``files`` that of the data set, in which a user's last touch is in a file of its own."""
    duplicates: int = 0
    """Rows of a pair that occurs again."""
    evaluation: dict[str, object] = field(default_factory=dict)


def touches() -> Iterator[tuple[int, int, int]]:
    """Yield user, item and time in seconds of each touch, the last first."""
    for step in reversed(range(TOUCHES)):
        for u in range(USERS):
            yield u, (u + step) % ITEMS, START + 3600 * step + u


def _iso(seconds: int, form: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def _rows(form: Callable[[int, int, int], str]) -> str:
    return "".join(form(*touch) + "\n" for touch in touches())


def _lines(*objects: object, literal: bool = False) -> str:
    return "".join(f"{each!r}\n" if literal else json.dumps(each) + "\n" for each in objects)


def _with_lines(text: str, line: str) -> str:
    return f"{text}\n{line}" if line else text


def _tagged(name: str, tags: tuple[tuple[str, ...], ...] = TAGS) -> Callable[[int], str]:
    return lambda i: f"{name}: {', '.join(tags[i])}" if tags[i] else ""


# --- films ------------------------------------------------------------------------------------------------------------


def _movielens(folder: Path) -> None:
    films = [f"{i + 1}::{TITLES[i]}::{'|'.join(PLAIN_TAGS[i]) or '(no genres listed)'}\n" for i in range(ITEMS)]
    write(folder / "movies.dat", "".join(films), "latin-1")
    write(folder / "users.dat", "".join(f"{u + 1}::F::25::{7 * u % 5}::0000{u}\n" for u in range(USERS)))
    write(folder / "ratings.dat", _rows(lambda u, i, t: f"{u + 1}::{i + 1}::4::{t}"))
    write(folder / "README", "Of no table.\n")


def _sorted(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(tags))


def _flags(i: int) -> str:
    names = ("Calm", "Fishing", "Grey", "Sequels")
    return "|".join(str(int(n < len(names) and names[n] in PLAIN_TAGS[i])) for n in range(19))


def _ml_100k(folder: Path) -> None:
    films = [f"{i + 1}|{TITLES[i]}|01-Jan-199{i}||http://films/{i}|{_flags(i)}\n" for i in range(ITEMS)]
    write(folder / "u.item", "".join(films), "latin-1")
    kinds = ["Calm", "Fishing", "Grey", "Sequels", *(f"kind {n}" for n in range(4, 19))]
    write(folder / "u.genre", "".join(f"{kind}|{n}\n" for n, kind in enumerate(kinds)) + "\n")
    write(folder / "u.user", "".join(f"{u + 1}|2{u}|F|other|0000{u}\n" for u in range(USERS)))
    write(folder / "u.data", _rows(lambda u, i, t: f"{u + 1}\t{i + 1}\t4\t{t}"))
    for name, part in (("ua.base", slice(USERS, None)), ("ua.test", slice(USERS))):
        rows = _rows(lambda u, i, t: f"{u + 1}\t{i + 1}\t4\t{t}").splitlines(keepends=True)[part]
        write(folder / name, "".join(rows))


def _netflix(folder: Path) -> None:
    titles = [f"{i + 1},{f'199{i}' if i else 'NULL'},{TITLES[i]}\n" for i in range(ITEMS)]
    write(folder / "movie_titles.csv", "".join(titles), "latin-1")
    blocks = []
    for i in range(ITEMS):
        days = [(u, t) for u, item, t in touches() if item == i]
        days = [(u, _iso(START + 24 * (t - START), "%Y-%m-%d")) for u, t in days]
        blocks.append(f"{i + 1}:\n" + "".join(f"{u + 1},4,{day}\n" for u, day in days))
    write(folder / "combined_data_1.txt", "".join(blocks))


def _hetrec(folder: Path) -> None:
    films = [f"{i + 1}\t{TITLES[i]}\t00{i}\tEs {i}\t199{i}\thttp://x/{i}\t\\N\n" for i in range(ITEMS)]
    header = "id\ttitle\timdbID\tspanishTitle\tyear\timdbPictureURL\trtAllCriticsRating\n"
    write(folder / "movies.dat", header + "".join(films), "latin-1")
    genres = [f"{i + 1}\t{tag}\n" for i in range(ITEMS) for tag in TAGS[i]]
    write(folder / "movie_genres.dat", "movieID\tgenre\n" + "".join(genres))
    rated = _rows(lambda u, i, t: f"{u + 1}\t{i + 1}\t4.5\t{_iso(t, '%d	%m	%Y	%H	%M	%S')}")
    days = "\t".join(f"date_{part}" for part in ("day", "month", "year", "hour", "minute", "second"))
    write(folder / "user_ratedmovies.dat", f"userID\tmovieID\trating\t{days}\n{rated}")


# --- products, games, books, places -----------------------------------------------------------------------------------


def _asin(i: int) -> str:
    return f"B00000000{i}"


def _reviewer(u: int) -> str:
    return f"A00000000000{u}"


def _amazon_2014(folder: Path) -> None:
    products = [
        {
            "asin": _asin(i),
            "title": TITLES[i],
            "imUrl": f"http://x/{i}.jpg",
            "related": {"also_bought": [_asin(5 - i)]},
            "salesRank": {"Toys & Games": 100 - i},
            **({"categories": [["Toys", *TAGS[i]]]} if TAGS[i] else {}),
        }
        for i in range(ITEMS)
    ]
    write(folder / "meta_Toys.json.gz", _lines(*products, literal=True))
    reviews = [
        {
            "reviewerID": _reviewer(u),
            "asin": _asin(i),
            "reviewerName": "Nobody",
            "helpful": [0, 1],
            "reviewText": "Fine.",
            "overall": 5.0,
            "summary": "Fine",
            "unixReviewTime": t,
            "reviewTime": _iso(t, "%m %d, %Y"),
        }
        for u, i, t in touches()
    ]
    write(folder / "reviews_Toys_5.json.gz", _lines(*reviews))


def _amazon_2018(folder: Path) -> None:
    products = [
        {
            "category": ["Toys", *TAGS[i]],
            "description": ["One part.", "And another."],
            "title": TITLES[i],
            "also_buy": [_asin(5 - i)],
            "rank": f"{100 - i} in Toys & Games (",
            "asin": _asin(i),
            "imageURL": [f"http://x/{i}.jpg"],
        }
        for i in range(ITEMS)
    ]
    write(folder / "meta_Toys.json.gz", _lines(*products, products[0]))
    reviews = [
        {
            "overall": 5.0,
            "verified": True,
            "reviewerID": _reviewer(u),
            "asin": _asin(i),
            "unixReviewTime": t,
            "vote": "2",
        }
        for u, i, t in touches()
    ]
    write(folder / "Toys_5.json.gz", _lines(*reviews, reviews[0]))


def _amazon_2023(folder: Path) -> None:
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
            "parent_asin": _asin(i),
            "bought_together": None,
        }
        for i in range(ITEMS)
    ]
    write(folder / "meta_Toys.jsonl.gz", _lines(*products))
    reviews = [
        {
            "rating": 5.0,
            "title": "Fine",
            "text": "Fine.",
            "images": [],
            "asin": f"C00000000{i}",
            "parent_asin": _asin(i),
            "user_id": f"AE{u}",
            "timestamp": 1000 * t + 7,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        for u, i, t in touches()
    ]
    write(folder / "Toys.jsonl.gz", _lines(*reviews))


def _steam(folder: Path) -> None:
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
    text = _lines(*games, games[5], {"app_name": None, "specs": [], "reviews_url": "http://x"}, literal=True)
    write(folder / "steam_games.json.gz", text.replace("'", "u'", 1))
    reviews = [
        {
            "username": f"Player {u}",
            "hours": 0.1,
            "products": 4,
            "product_id": f"{10 * (i + 1)}",
            "date": _iso(START + 24 * (t - START), "%Y-%m-%d"),
            "text": "Grey.",
            "page": 1,
        }
        for u, i, t in touches()
    ]
    write(folder / "steam_reviews.json.gz", _lines(*reviews, literal=True))


def _goodreads(folder: Path) -> None:
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
    write(folder / "goodreads_books_poetry.json.gz", _lines(*books))
    shelved = [
        {
            "user_id": f"{u:032x}",
            "book_id": f"{i + 1}",
            "review_id": f"r{u}{i}",
            "is_read": False,
            "rating": 0,
            "date_added": _iso(t - 7 * 3600, "%a %b %d %H:%M:%S -0700 %Y"),
            "read_at": "",
        }
        for u, i, t in touches()
    ]
    write(folder / "goodreads_interactions_poetry.json.gz", _lines(*shelved))


def _yelp(folder: Path) -> None:
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
    write(folder / "yelp_academic_dataset_business.json", _lines(*places))
    reviews = [
        {
            "review_id": f"r{u}{i}",
            "user_id": f"u{u}",
            "business_id": f"b{i}",
            "stars": 4.0,
            "useful": 0,
            "text": "Fine.",
            "date": _iso(t, "%Y-%m-%d %H:%M:%S"),
        }
        for u, i, t in touches()
    ]
    write(folder / "yelp_academic_dataset_review.json", _lines(*reviews))
    people = [{"user_id": f"u{u}", "name": "N", "yelping_since": "2007-01-25", "friends": "None"} for u in range(USERS)]
    write(folder / "yelp_academic_dataset_user.json", _lines(*people))


def _isbn(i: int) -> str:
    return f"00000000{i}X"


def _quoted(*fields: str) -> str:
    return ";".join('"' + field.replace('"', '\\"') + '"' for field in fields) + "\r\n"


def _book_crossing(folder: Path) -> None:
    names = ("ISBN", "Book-Title", "Book-Author", "Year-Of-Publication", "Publisher", "Image-URL-S")
    books = [_quoted(_isbn(i), TITLES[i], "Nobody", "0", "Rust; Sons", f"http://x/{i}") for i in range(ITEMS)]
    write(folder / "BX-Books.csv", _quoted(*names) + "".join(books), "latin-1")
    rated = [_quoted(str(u + 1), _isbn(i), "0") for u, i, _ in reversed(list(touches()))]
    write(folder / "BX-Book-Ratings.csv", _quoted("User-ID", "ISBN", "Book-Rating") + "".join(rated), "latin-1")
    people = [f'"{u + 1}";"nowhere, fog, none";NULL\r\n' for u in range(USERS)]
    write(folder / "BX-Users.csv", _quoted("User-ID", "Location", "Age") + "".join(people), "latin-1")


# --- news, videos, music ----------------------------------------------------------------------------------------------


def _mind(folder: Path) -> None:
    entities = [json.dumps([{"Label": tag, "Type": "X", "WikidataId": "Q1"} for tag in TAGS[i]]) for i in range(ITEMS)]
    news = [f"N{i}\tnews\tlocal\t{TITLES[i]}\t\thttps://x/{i}\t{entities[i]}\t[]\n" for i in range(ITEMS)]
    write(folder / "news.tsv", "".join(news))
    log = []
    for u in range(USERS):
        read = [(u + step) % ITEMS for step in range(TOUCHES)]
        history = " ".join(f"N{i}" for i in read[:2])
        other = next(i for i in range(ITEMS) if i not in read)
        for step in (3, 2):
            moment = _iso(START + 3600 * step, "%m/%d/%Y %I:%M:%S %p")
            log.append(f"{len(log) + 1}\tU{u}\t{moment}\t{history}\tN{other}-0 N{read[step]}-1\n")
    write(folder / "behaviors.tsv", "".join(log))


def _kuairec(folder: Path) -> None:
    names = "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,first_level_category_name\n"
    videos = []
    for i in range(ITEMS):
        caption = TITLES[i].replace('"', '""')
        videos.append(f'{i},UNKNOWN,"{caption}","[{", ".join(PLAIN_TAGS[i])}]",8,Weather\n')
    write(folder / "kuairec_caption_category.csv", names + "".join(videos))
    names = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
    form = "%Y-%m-%d %H:%M:%S.008"
    watched = _rows(lambda u, i, t: f"{u},{i},9,3,{_iso(t, form)},20170714.0,{t}.00{8 - i % 2},3.0")
    again = _rows(lambda u, i, t: f"{u},{i},1,3,{_iso(t, form)},20170714.0,{t}.001,0.3").splitlines(keepends=True)
    write(folder / "big_matrix.csv", names + watched + "".join(again[:5]))


def _lastfm(folder: Path) -> None:
    artists = [(f"mb-{i}" if i % 2 else "", TITLES[i]) for i in range(ITEMS)]
    listened = []
    for u, i, t in touches():
        mbid, name = artists[i]
        listened.append(f"user_{u}\t{_iso(t, '%Y-%m-%dT%H:%M:%SZ')}\t{mbid}\t{name}\t\tA track\n")
    write(folder / "userid-timestamp-artid-artname-traid-traname.tsv", "".join(listened))


# --- numbers alone ----------------------------------------------------------------------------------------------------


def _lightgcn(folder: Path) -> None:
    touched = [[(u + step) % ITEMS for step in range(TOUCHES)] for u in range(USERS)]
    train = [f"{u} {' '.join(map(str, items[:3]))}\n" for u, items in enumerate(touched)]
    write(folder / "train.txt", "".join(train) + f"{USERS}\n")
    test = [f"{u} {items[3]} \n" for u, items in enumerate(touched)]
    write(folder / "test.txt", "".join(test) + f"{USERS} \n")
    write(folder / "item_list.txt", "org_id remap_id\n" + "".join(f"B{i} {i}\n" for i in range(ITEMS)))
    write(folder / "items.csv", "item_id,title\n" + "".join(f'{i},"{_csv(TITLES[i])}"\n' for i in range(ITEMS)))


def _csv(text: str) -> str:
    return text.replace('"', '""')


def _recbole(folder: Path) -> None:
    films = "item_id:token\ttitle:token_seq\ttags:token_seq\n"
    for i in range(ITEMS):
        title = f'"{_csv(TITLES[i])}"' if '"' in TITLES[i] else TITLES[i]
        films += f"{i + 1}\t{title}\t{' '.join(PLAIN_TAGS[i])}\n"
    write(folder / "made-up.item", films)
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    write(folder / "made-up.inter", header + _rows(lambda u, i, t: f"{u + 1}\t{i + 1}\t4.0\t{t}.0"))


SETS = {
    "movielens": NativeSet(
        _movielens,
        {
            "items": "movies.dat",
            "items_format": "movielens",
            "users": "users.dat",
            "users_format": "movielens",
            "interactions": "ratings.dat",
            "interactions_format": "movielens",
        },
        text=lambda i: _with_lines(f"title: {TITLES[i]}", _tagged("genres", PLAIN_TAGS)(i)),
        tags="genres",
        tags_of=PLAIN_TAGS,
    ),
    "ml-100k": NativeSet(
        _ml_100k,
        {
            "items": "u.item",
            "items_format": "ml-100k",
            "users": "u.user",
            "users_format": "ml-100k",
            "interactions": "u.data",
            "interactions_format": "ml-100k",
            "columns": {"item_text": ["title", "release_date", "genres"]},
        },
        text=lambda i: _with_lines(
            f"title: {TITLES[i]}\nrelease_date: 01-Jan-199{i}", _tagged("genres", tuple(map(_sorted, PLAIN_TAGS)))(i)
        ),
        tags="genres",
        tags_of=PLAIN_TAGS,
    ),
    "netflix": NativeSet(
        _netflix,
        {
            "items": "movie_titles.csv",
            "items_format": "netflix",
            "interactions": "combined_data_1.txt",
            "interactions_format": "netflix",
        },
        text=lambda i: (f"year: 199{i}\n" if i else "") + f"title: {TITLES[i]}",
    ),
    "hetrec": NativeSet(
        _hetrec,
        {
            "items": "movies.dat",
            "items_format": "hetrec",
            "interactions": "user_ratedmovies.dat",
            "interactions_format": "hetrec",
            "columns": {
                "user_id": "userID",
                "item_id": "movieID",
                "items_id": "id",
                "item_text": ["title", "year", "genres"],
            },
        },
        text=lambda i: _with_lines(f"title: {TITLES[i]}\nyear: 199{i}", _tagged("genres")(i)),
        tags="genres",
    ),
    "amazon-2014": NativeSet(
        _amazon_2014,
        {
            "items": "meta_Toys.json.gz",
            "items_format": "amazon-2014",
            "interactions": "reviews_Toys_5.json.gz",
            "interactions_format": "amazon-2014",
            "columns": {
                "user_id": "reviewerID",
                "item_id": "asin",
                "rating": "overall",
                "timestamp": "unixReviewTime",
                "item_text": ["title", "categories"],
            },
        },
        user=_reviewer,
        item=_asin,
        text=lambda i: _with_lines(
            f"title: {TITLES[i]}", f"categories: {', '.join(('Toys', *TAGS[i]))}" if TAGS[i] else ""
        ),
        tags="categories",
        tags_of=tuple(("Toys", *tags) if tags else () for tags in TAGS),
    ),
    "amazon-2018": NativeSet(
        _amazon_2018,
        {
            "items": "meta_Toys.json.gz",
            "items_format": "amazon-2018",
            "interactions": "Toys_5.json.gz",
            "interactions_format": "amazon-2018",
            "columns": {
                "user_id": "reviewerID",
                "item_id": "asin",
                "rating": "overall",
                "timestamp": "unixReviewTime",
                "item_text": ["title", "category", "description"],
            },
        },
        user=_reviewer,
        item=_asin,
        text=lambda i: (
            f"title: {TITLES[i]}\ncategory: {', '.join(('Toys', *TAGS[i]))}\ndescription: One part. And another."
        ),
        tags="category",
        tags_of=tuple(("Toys", *tags) for tags in TAGS),
        duplicates=1,
    ),
    "amazon-2023": NativeSet(
        _amazon_2023,
        {
            "items": "meta_Toys.jsonl.gz",
            "items_format": "amazon-2023",
            "interactions": "Toys.jsonl.gz",
            "interactions_format": "amazon-2023",
            "columns": {
                "item_id": "parent_asin",
                "item_text": ["title", "main_category", "categories", "store", "features", "description"],
            },
        },
        user=lambda u: f"AE{u}",
        item=_asin,
        text=lambda i: (
            _with_lines(f"title: {TITLES[i]}\nmain_category: Toys & Games", _tagged("categories")(i))
            + "\nfeatures: Light, small\ndescription: One part. And another."
        ),
        tags="categories",
    ),
    "steam": NativeSet(
        _steam,
        {
            "items": "steam_games.json.gz",
            "items_format": "steam",
            "interactions": "steam_reviews.json.gz",
            "interactions_format": "steam",
            "columns": {
                "user_id": "username",
                "item_id": "product_id",
                "items_id": "id",
                "timestamp": "date",
                "title": "app_name",
                "item_text": ["app_name", "publisher", "genres", "specs"],
            },
        },
        user=lambda u: f"Player {u}",
        item=lambda i: f"{10 * (i + 1)}",
        text=lambda i: (
            _with_lines(f"app_name: {TITLES[i]}\npublisher: Nobody", _tagged("genres")(i)) + "\nspecs: Single-player"
        ),
        tags="genres",
    ),
    "goodreads": NativeSet(
        _goodreads,
        {
            "items": "goodreads_books_poetry.json.gz",
            "items_format": "goodreads",
            "interactions": "goodreads_interactions_poetry.json.gz",
            "interactions_format": "goodreads",
            "columns": {
                "item_id": "book_id",
                "rating": False,
                "timestamp": "date_added",
                "item_text": ["title", "publisher", "publication_year", "description", "popular_shelves"],
            },
        },
        user=lambda u: f"{u:032x}",
        text=lambda i: _with_lines(
            f"title: {TITLES[i]}\npublisher: Nobody\npublication_year: 2001", _tagged("popular_shelves")(i)
        ),
        tags="popular_shelves",
    ),
    "yelp": NativeSet(
        _yelp,
        {
            "items": "yelp_academic_dataset_business.json",
            "items_format": "yelp",
            "users": "yelp_academic_dataset_user.json",
            "users_format": "yelp",
            "interactions": "yelp_academic_dataset_review.json",
            "interactions_format": "yelp",
            "columns": {
                "item_id": "business_id",
                "rating": "stars",
                "timestamp": "date",
                "item_text": ["name", "categories", "city", "state"],
                "user_text": ["yelping_since"],
            },
        },
        user=lambda u: f"u{u}",
        item=lambda i: f"b{i}",
        text=lambda i: (
            _with_lines(f"name: {TITLES[i]}", _tagged("categories", PLAIN_TAGS)(i)) + "\ncity: Nowhere\nstate: NN"
        ),
        tags="categories",
        tags_of=PLAIN_TAGS,
    ),
    "book-crossing": NativeSet(
        _book_crossing,
        {
            "items": "BX-Books.csv",
            "items_format": "book-crossing",
            "users": "BX-Users.csv",
            "users_format": "book-crossing",
            "interactions": "BX-Book-Ratings.csv",
            "interactions_format": "book-crossing",
            "columns": {
                "user_id": "User-ID",
                "item_id": "ISBN",
                "rating": False,
                "title": "Book-Title",
                "item_text": ["Book-Title", "Book-Author", "Year-Of-Publication", "Publisher"],
            },
        },
        item=_isbn,
        text=lambda i: f"Book-Title: {TITLES[i]}\nBook-Author: Nobody\nPublisher: Rust; Sons",
        split="random",
    ),
    "mind": NativeSet(
        _mind,
        {
            "items": "news.tsv",
            "items_format": "mind",
            "interactions": "behaviors.tsv",
            "interactions_format": "mind",
            "columns": {"item_text": ["category", "subcategory", "title", "abstract"]},
        },
        user=lambda u: f"U{u}",
        item=lambda i: f"N{i}",
        text=lambda i: f"category: news\nsubcategory: local\ntitle: {TITLES[i]}",
        tags="title_entities",
    ),
    "kuairec": NativeSet(
        _kuairec,
        {
            "items": "kuairec_caption_category.csv",
            "items_format": "kuairec",
            "interactions": "big_matrix.csv",
            "interactions_format": "kuairec",
            "columns": {
                "item_id": "video_id",
                "title": "caption",
                "item_text": ["caption", "manual_cover_text", "topic_tag", "first_level_category_name"],
            },
        },
        user=str,
        item=str,
        text=lambda i: (
            _with_lines(f"caption: {TITLES[i]}", _tagged("topic_tag", PLAIN_TAGS)(i))
            + "\nfirst_level_category_name: Weather"
        ),
        tags="topic_tag",
        tags_of=PLAIN_TAGS,
        duplicates=5,
    ),
    "lastfm-1k": NativeSet(
        _lastfm,
        {
            "items": "userid-timestamp-artid-artname-traid-traname.tsv",
            "items_format": "lastfm-1k",
            "interactions": "userid-timestamp-artid-artname-traid-traname.tsv",
            "interactions_format": "lastfm-1k",
            "columns": {"title": "artist"},
        },
        user=lambda u: f"user_{u}",
        item=lambda i: f"mb-{i}" if i % 2 else TITLES[i],
        text=lambda i: f"artist: {TITLES[i]}",
    ),
    "lightgcn": NativeSet(
        _lightgcn,
        {"items": "items.csv", "interactions": "train.txt", "interactions_format": "lightgcn"},
        user=str,
        item=str,
        split="files",
        evaluation={"split": "files", "test": "test.txt"},
    ),
    "recbole": NativeSet(
        _recbole,
        {"items": "made-up.item", "interactions": "made-up.inter"},
        text=lambda i: _with_lines(f"title: {TITLES[i]}", f"tags: {' '.join(PLAIN_TAGS[i])}" if PLAIN_TAGS[i] else ""),
        tags="tags",
        tags_of=PLAIN_TAGS,
    ),
}
