"""Tests of ``enhancer init``."""

from __future__ import annotations

import tomllib

import pytest
from terminal import on_a_terminal

from enhancer.config import load_settings


def written(folder):
    return tomllib.loads((folder / "enhancer.toml").read_text(encoding="utf-8"))


def table(folder, name, text):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_the_file_says_what_differs_and_is_read_back(invoke, tables):
    done = invoke("init", "--json")
    assert done.code == 0, done.err
    made = done.json()
    assert made["columns"] == {"item_id": "movieId", "user_id": "userId"}
    config = written(tables)
    assert config["data"] == {
        "items": "movies.csv",
        "interactions": "ratings.csv",
        "columns": {"item_id": "movieId", "user_id": "userId", "item_text": ["title", "genre"]},
    }
    settings, root = load_settings(tables / "enhancer.toml", environ={})
    assert (root / settings.data.items).is_file()


def test_it_never_overwrites_by_itself(invoke, tables):
    (tables / "enhancer.toml").write_text("# mine\n")
    done = invoke("init", "--yes")
    assert done.code == 2
    assert "--force" in done.err
    assert (tables / "enhancer.toml").read_text() == "# mine\n"
    assert invoke("init", "--yes", "--force").code == 0
    assert "movies.csv" in (tables / "enhancer.toml").read_text()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"items.csv": "item_id,title\n1,a\n", "interactions.csv": "user_id,item_id\n1,1\n"},
            {"items": "items.csv", "interactions": "interactions.csv"},
        ),
        (
            {
                "meta.jsonl": '{"asin": "B1", "title": "Tea", "price": 3}\n',
                "reviews.jsonl": '{"reviewerID": "r", "asin": "B1", "overall": 5.0, "unixReviewTime": 1}\n',
            },
            {
                "items": "meta.jsonl",
                "interactions": "reviews.jsonl",
                "columns": {
                    "item_id": "asin",
                    "user_id": "reviewerID",
                    "rating": "overall",
                    "timestamp": "unixReviewTime",
                },
            },
        ),
        (
            {
                "ml.item": "item_id:token\tmovie_title:token_seq\n1\tHeat\n",
                "ml.user": "user_id:token\tage:float\n9\t30\n",
                "ml.inter": "user_id:token\titem_id:token\trating:float\n9\t1\t4\n",
            },
            {"items": "ml.item", "users": "ml.user", "interactions": "ml.inter", "columns": {"title": "movie_title"}},
        ),
        (
            {
                "data/books.tsv": "book_id\tname\n1\tEmma\n",
                "data/loans.tsv": "reader_id\tbook_id\tdate\n1\t1\t2024-01-01\n",
            },
            {
                "items": "data/books.tsv",
                "interactions": "data/loans.tsv",
                "columns": {"item_id": "book_id", "user_id": "reader_id", "timestamp": "date"},
            },
        ),
        (
            {"products.csv": "id,name\n1,Tea\n", "notes.txt": "x", "config.csv": "key,value\na,b\n"},
            {"items": "products.csv", "columns": {"item_id": "id"}},
        ),
        (
            {
                "items.csv": "item_id,title\n1,Tea\n",
                "ratings.csv": "user_id,item_id,rating\n1,1,4\n",
                "reviews.csv": "user_id,item_id,rating,text\n" + "1,1,4,a long review\n" * 50,
            },
            {"items": "items.csv", "interactions": "ratings.csv"},
        ),
        (
            {
                "items.csv": "item_id,text\n1,a\n",
                "train.csv": "user_id,item_id\n1,1\n",
                "test.csv": "user_id,item_id\n" + "1,1\n" * 50,
            },
            {"items": "items.csv", "interactions": "train.csv"},
        ),
    ],
)
def test_tables_and_columns_are_guessed(invoke, tmp_path, files, expected):
    for name, text in files.items():
        table(tmp_path, name, text)
    done = invoke("init", "--yes")
    assert done.code == 0, done.err
    data = written(tmp_path)["data"]
    assert (data.pop("columns", {}) or {}) == expected.pop("columns", {})
    assert data == expected


def test_parquet_is_looked_into(invoke, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"item_id": [1, 2], "title": ["a", "b"]}), tmp_path / "items.parquet")
    assert invoke("init").code == 0
    assert written(tmp_path)["data"]["items"] == "items.parquet"


def test_tables_are_read_as_every_other_command_reads_them(invoke, tmp_path):
    table(tmp_path, "items.csv", "item_id;title;url\n1;Lamp;http://x/1\n2;Chair;http://x/2\n")
    table(tmp_path, "events.ndjson", '{"user_id": "u", "item_id": "1", "rating": 4, "note": null}\n')
    assert invoke("init", "--yes").code == 0
    assert written(tmp_path)["data"] == {
        "items": "items.csv",
        "interactions": "events.ndjson",
        "columns": {"item_text": ["title"]},
    }


def test_a_table_with_a_damaged_row_is_proposed_and_the_row_is_told(invoke, tmp_path):
    table(tmp_path, "items.csv", "item_id,title\n1,Lamp\n2,Chair,red\n")
    done = invoke("init", "--yes", "--json")
    assert done.code == 0, done.err
    assert written(tmp_path)["data"]["items"] == "items.csv"
    assert "note: items.csv, line 3: 3 fields, but the header has 2" in done.err
    assert len(done.json()["notes"]) == 1


def test_names_that_toml_would_trip_over(invoke, tmp_path):
    table(tmp_path, 'films "2024" ü\\.csv', 'item_id,"a ""b"" \\c",title\n1,x,y\n')
    done = invoke("init", "--yes")
    assert done.code == 0, done.err
    assert written(tmp_path)["data"]["items"] == 'films "2024" ü\\.csv'


@pytest.mark.parametrize(
    ("files", "flags", "said"),
    [
        ({}, [], "found no table of items"),
        ({"a.csv": "x\n1\n"}, [], "a.csv is passed over: it has one column alone, 'x'"),
        ({"items.csv": "item_id,t\n1,a\n"}, ["--text", "u"], "--text: no column 'u' in items.csv"),
        ({"items.csv": "item_id,t\n1,a\n"}, ["--user-id", "u"], "--user-id u: found no table that may have this"),
        ({}, ["--items", "gone.csv"], "no such file: gone.csv"),
        ({"items.csv": "item_id,t\n1,a\n"}, ["--embedder", "minilmm"], "did you mean 'minilm'?"),
        ({"items.csv": "item_id,t\n1,a\n"}, ["--llm", "opena"], "did you mean 'openai'?"),
        ({}, ["nowhere"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_and_leaves_no_file(invoke, tmp_path, files, flags, said):
    for name, text in files.items():
        table(tmp_path, name, text)
    done = invoke("init", *flags)
    assert done.code == 2
    assert said in done.err
    assert {path.name for path in tmp_path.iterdir()} == set(files)


@pytest.mark.parametrize(
    ("flags", "comments"),
    [
        ([], ['# items = "a.csv"   # init could not tell which table holds the items']),
        (["--items", "a.csv"], ['# item_id = "x"   # or "y"; init could not tell which column holds the ids of items']),
        (
            ["--interactions", "a.csv"],
            [
                '# item_id = "x"   # or "y"; init could not tell which column holds the ids of items',
                '# user_id = "x"   # or "y"; init could not tell which column holds the ids of users',
            ],
        ),
    ],
)
def test_what_cannot_be_told_is_a_comment_with_the_candidates(invoke, tmp_path, flags, comments):
    table(tmp_path, "a.csv", "x,y\n1,2\n")
    done = invoke("init", *flags, "--json")
    assert done.code == 0, done.err
    lines = (tmp_path / "enhancer.toml").read_text().splitlines()
    assert [line for line in lines if "could not tell" in line and "# interactions" not in line] == comments
    assert "note: cannot tell" in done.err
    assert done.json()["undecided"]


def test_interactions_alone_are_a_beginning(invoke, tmp_path):
    table(tmp_path, "log.csv", "user_id,item_id\n1,1\n2,1\n")
    done = invoke("init", "--yes")
    assert done.code == 0, done.err
    assert written(tmp_path)["data"] == {"interactions": "log.csv", "columns": {}}
    assert "found no table of items, which profiles need; pass --items" in done.err


def test_flags_say_outright_what_would_be_guessed(invoke, tmp_path):
    table(tmp_path, "a.csv", "nr,words,colour\n1,Lamp,red\n")
    table(tmp_path, "b.csv", "who,nr\nann,1\n")
    flags = ("--item-id", "nr", "--user-id", "who", "--text", "colour", "--text", "words", "--items", "a.csv")
    assert invoke("init", "--yes", *flags).code == 0
    assert written(tmp_path)["data"] == {
        "items": "a.csv",
        "interactions": "b.csv",
        "columns": {"item_id": "nr", "user_id": "who", "item_text": ["colour", "words"]},
    }


def test_columns_that_do_harm_are_left_out_of_texts_and_named_with_the_reason(invoke, tmp_path):
    """The columns of Goodbooks, of Amazon's pictures, and of a table that a data frame wrote."""
    counts = [50 - n for n in range(30)]
    head = "Unnamed: 0,book_id,isbn13,title,year,average_rating,ratings_count,ratings_1,image_url,pictures,loved,price"
    picture = "\"[{'large': 'https://m.example/1.jpg', 'variant': 'MAIN'}]\""
    rows = [
        f"{n},{n + 7},97800{n},Book {n},{1950 + n},3.{n},{3 * c},{c},https://x.example/{n}.jpg,{picture},{c * 1.5},{n % 7}.5"
        for n, c in enumerate(counts)
    ]
    table(tmp_path, "books.csv", "\n".join([head, *rows]) + "\n")
    log = [f"u{u},{n + 7}" for n, c in enumerate(counts) for u in range(c)]
    table(tmp_path, "ratings.csv", "\n".join(["user_id,book_id", *log]) + "\n")
    people = [f"u{u},{20 + u * 7 % 40},{u}" for u in range(50)]
    table(tmp_path, "users.csv", "\n".join(["user_id,age,review_count", *people]) + "\n")
    done = invoke("init", "--yes", "--json")
    assert done.code == 0, done.err
    columns = written(tmp_path)["data"]["columns"]
    assert columns["item_text"] == ["title", "year", "price"]
    assert columns["user_text"] == ["age"]
    reasons = {each["column"]: each["reason"] for each in done.json()["left_out"]}
    assert reasons["Unnamed: 0"] == "row numbers, by its name"
    assert reasons["isbn13"] == "identifiers, by its name"
    assert reasons["ratings_1"].startswith(
        "a number of interactions, by its name and by its values, with a rank correlation of 1.00"
    )
    assert reasons["loved"].startswith("follows the number of interactions, with a rank correlation of 1.00")
    assert reasons["pictures"] == reasons["image_url"] == "URLs"
    text = (tmp_path / "enhancer.toml").read_text()
    assert '#   "ratings_count"   a number of interactions' in text
    done = invoke("init", "--yes", "--force")
    assert "left out of item_text:" in done.err
    assert "identifiers, by its name: isbn13\n" in done.err
    assert "URLs: image_url, pictures\n" in done.err


def test_html_is_stripped_where_the_text_has_some(invoke, tmp_path):
    table(tmp_path, "items.csv", 'item_id,title,about\n1,Lamp,"<p>Bright &amp; <b>warm</b></p>"\n2,Desk,a < b\n')
    assert invoke("init", "--yes").code == 0
    assert written(tmp_path)["data"]["html"] == "strip"


def test_dates_offer_the_temporal_split(invoke, tmp_path):
    table(tmp_path, "items.csv", "item_id,title\n1,a\n")
    table(tmp_path, "log.csv", "user_id,item_id,when_date\n1,1,2024-01-01T10:00:00.5+02:00\n")
    assert invoke("init", "--yes").code == 0
    assert written(tmp_path)["data"]["columns"] == {"timestamp": "when_date"}
    assert "files | temporal | temporal-global" in (tmp_path / "enhancer.toml").read_text()


def test_ratings_and_times_that_cannot_be_read_are_left_out(invoke, tmp_path):
    table(tmp_path, "items.csv", "item_id,title\n1,a\n")
    table(tmp_path, "log.csv", "user_id,item_id,rating,timestamp\n1,1,good,yesterday\n2,1,,\n")
    assert invoke("init", "--yes").code == 0
    assert written(tmp_path)["data"]["columns"] == {"rating": False, "timestamp": False}
    assert "| temporal" not in (tmp_path / "enhancer.toml").read_text()


def test_ids_are_those_that_the_interactions_name(invoke, tmp_path):
    """Old copies of Goodbooks have the ids of another catalogue under the name of the interactions' column."""
    table(tmp_path, "books.csv", "id,book_id,title\n" + "".join(f"{n},{n + 900},T{n}\n" for n in range(1, 30)))
    table(tmp_path, "ratings.csv", "user_id,book_id\n" + "".join(f"u,{n}\n" for n in range(1, 30)))
    done = invoke("init", "--yes")
    assert written(tmp_path)["data"]["columns"]["items_id"] == "id"
    assert "the ids of books.csv are its column 'id', which 100% of the interactions name" in done.err


def test_bad_files_are_passed_over(invoke, tmp_path):
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "broken.jsonl").write_text("[1, 2\n")
    (tmp_path / "odd.jsonl").write_text("3\n")
    (tmp_path / "fake.parquet").write_text("no parquet")
    table(tmp_path, "items.csv", "item_id,title\n1,a\n")
    done = invoke("init")
    assert done.code == 0, done.err
    assert written(tmp_path)["data"]["items"] == "items.csv"
    for name in ("binary.csv", "empty.csv", "broken.jsonl", "odd.jsonl", "fake.parquet"):
        assert f"note: not a table: {name}" in done.err


def test_flags_choose_plugins_and_a_local_server_costs_nothing(invoke, tables):
    flags = ("--llm", "openai", "--model", "qwen", "--api-base", "http://localhost:8000/v1", "--embedder", "bge")
    assert invoke("init", *flags, "--store", "sqlite").code == 0
    config = written(tables)
    assert config["llm"]["model"] == "qwen"
    assert config["llm"]["price"] == {"input": 0.0, "output": 0.0}
    assert config["embedder"]["use"] == "bge"
    assert config["store"]["use"] == "sqlite"


def test_a_person_at_a_terminal_may_correct_the_tables(tables):
    table(tables, "films.csv", "movieId,name\n1,Heat\n")
    answers = [("table of items", "films.csv"), ("table of interactions", "-")]
    code, shown = on_a_terminal(tables, ["init"], answers)
    assert code == 0, shown
    assert written(tables)["data"] == {"items": "films.csv", "columns": {"item_id": "movieId"}}
    code, shown = on_a_terminal(tables, ["init", "--force"], [("table of items", ""), ("table of interactions", "")])
    assert code == 0, shown
    assert written(tables)["data"]["interactions"] == "ratings.csv"


def test_two_tables_may_call_the_item_differently(invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, "products.csv", "id,title\n7,Lamp\n8,Chair\n")
    table(tmp_path, "orders.csv", "user_id,product_id,rating\n1,7,5\n1,8,3\n2,7,4\n")
    done = invoke("init", "--yes", "--json")
    assert done.code == 0, done.err
    assert written(tmp_path)["data"]["columns"] == {"item_id": "product_id", "items_id": "id"}
    planned = invoke("plan", "--json", "--set", "llm.price.input=0", "--set", "llm.price.output=0")
    assert planned.code == 0, planned.err
    assert planned.json()["entities"] == 2
