"""Small made-up data sets in their published forms, and what a person reads in them."""

from __future__ import annotations

import native_lines
import native_objects
from native_plan import (
    PLAIN_TAGS,
    TAGS,
    TITLES,
    NativeSet,
    tagged,
    with_lines,
)

SETS = {
    "movielens": NativeSet(
        native_lines.movielens,
        {
            "items": "movies.dat",
            "items_format": "movielens",
            "users": "users.dat",
            "users_format": "movielens",
            "interactions": "ratings.dat",
            "interactions_format": "movielens",
        },
        text=lambda i: with_lines(f"title: {TITLES[i]}", tagged("genres", PLAIN_TAGS)(i)),
        tags="genres",
        tags_of=PLAIN_TAGS,
    ),
    "ml-100k": NativeSet(
        native_lines.ml_100k,
        {
            "items": "u.item",
            "items_format": "ml-100k",
            "users": "u.user",
            "users_format": "ml-100k",
            "interactions": "u.data",
            "interactions_format": "ml-100k",
            "columns": {"item_text": ["title", "release_date", "genres"]},
        },
        text=lambda i: with_lines(
            f"title: {TITLES[i]}\nrelease_date: 01-Jan-199{i}",
            tagged("genres", tuple(map(native_lines.in_order, PLAIN_TAGS)))(i),
        ),
        tags="genres",
        tags_of=PLAIN_TAGS,
    ),
    "netflix": NativeSet(
        native_lines.netflix,
        {
            "items": "movie_titles.csv",
            "items_format": "netflix",
            "interactions": "combined_data_1.txt",
            "interactions_format": "netflix",
        },
        text=lambda i: (f"year: 199{i}\n" if i else "") + f"title: {TITLES[i]}",
    ),
    "hetrec": NativeSet(
        native_lines.hetrec,
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
        text=lambda i: with_lines(f"title: {TITLES[i]}\nyear: 199{i}", tagged("genres")(i)),
        tags="genres",
    ),
    "amazon-2014": NativeSet(
        native_objects.amazon_2014,
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
        user=native_objects.reviewer,
        item=native_objects.asin,
        text=lambda i: with_lines(
            f"title: {TITLES[i]}", f"categories: {', '.join(('Toys', *TAGS[i]))}" if TAGS[i] else ""
        ),
        tags="categories",
        tags_of=tuple(("Toys", *tags) if tags else () for tags in TAGS),
    ),
    "amazon-2018": NativeSet(
        native_objects.amazon_2018,
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
        user=native_objects.reviewer,
        item=native_objects.asin,
        text=lambda i: (
            f"title: {TITLES[i]}\ncategory: {', '.join(('Toys', *TAGS[i]))}\ndescription: One part. And another."
        ),
        tags="category",
        tags_of=tuple(("Toys", *tags) for tags in TAGS),
        duplicates=1,
    ),
    "amazon-2023": NativeSet(
        native_objects.amazon_2023,
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
        item=native_objects.asin,
        text=lambda i: (
            with_lines(f"title: {TITLES[i]}\nmain_category: Toys & Games", tagged("categories")(i))
            + "\nfeatures: Light, small\ndescription: One part. And another."
        ),
        tags="categories",
    ),
    "steam": NativeSet(
        native_objects.steam,
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
            with_lines(f"app_name: {TITLES[i]}\npublisher: Nobody", tagged("genres")(i)) + "\nspecs: Single-player"
        ),
        tags="genres",
    ),
    "goodreads": NativeSet(
        native_objects.goodreads,
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
        text=lambda i: with_lines(
            f"title: {TITLES[i]}\npublisher: Nobody\npublication_year: 2001", tagged("popular_shelves")(i)
        ),
        tags="popular_shelves",
    ),
    "yelp": NativeSet(
        native_objects.yelp,
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
            with_lines(f"name: {TITLES[i]}", tagged("categories", PLAIN_TAGS)(i)) + "\ncity: Nowhere\nstate: NN"
        ),
        tags="categories",
        tags_of=PLAIN_TAGS,
    ),
    "book-crossing": NativeSet(
        native_lines.book_crossing,
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
        item=native_lines.isbn,
        text=lambda i: f"Book-Title: {TITLES[i]}\nBook-Author: Nobody\nPublisher: Rust; Sons",
        split="random",
    ),
    "mind": NativeSet(
        native_lines.mind,
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
        native_lines.kuairec,
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
            with_lines(f"caption: {TITLES[i]}", tagged("topic_tag", PLAIN_TAGS)(i))
            + "\nfirst_level_category_name: Weather"
        ),
        tags="topic_tag",
        tags_of=PLAIN_TAGS,
        duplicates=5,
    ),
    "lastfm-1k": NativeSet(
        native_lines.lastfm,
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
        native_lines.lightgcn,
        {"items": "items.csv", "interactions": "train.txt", "interactions_format": "lightgcn"},
        user=str,
        item=str,
        split="files",
        evaluation={"split": "files", "test": "test.txt"},
    ),
    "recbole": NativeSet(
        native_lines.recbole,
        {"items": "made-up.item", "interactions": "made-up.inter"},
        text=lambda i: with_lines(f"title: {TITLES[i]}", f"tags: {' '.join(PLAIN_TAGS[i])}" if PLAIN_TAGS[i] else ""),
        tags="tags",
        tags_of=PLAIN_TAGS,
    ),
}
