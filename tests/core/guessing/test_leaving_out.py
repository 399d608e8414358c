"""Tests of the columns that are left out of texts."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.guessing.leaving_out import left_out
from enhancer.guessing.popularity import Interacted, column_facts, count_interactions, rank_correlation
from enhancer.guessing.tables import read_head
from enhancer.guessing.values import hold_codes, hold_quantities, holds_urls

N = 60


@pytest.fixture
def judged(tmp_path):
    """Return the faults of columns, given their values, of items of which the first are the most popular."""

    def judge(**columns):
        names = ["item_id", "title", *columns]
        path = tmp_path / "items.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for n in range(N):
                writer.writerow([f"i{n}", f"Title {n % 7}", *(values[n] for values in columns.values())])
        log = [f"u{u},i{n}" for n in range(N) for u in range(2 * (N - n))]
        (tmp_path / "log.csv").write_text("user_id,item_id\n" + "\n".join(log) + "\n")
        counted = count_interactions(tmp_path / "log.csv", ["item_id"])["item_id"]
        return {each.column: each.fault for each in left_out(read_head(path), "item_id", counted)}

    return judge


def test_what_follows_the_interactions_is_left_out_whatever_its_name(judged):
    rng = np.random.default_rng(0)
    found = judged(
        secret=[f"{1000 * (N - n) ** 2:,}" for n in range(N)],
        place=[n + 100 for n in range(N)],
        noise=rng.permutation(N).tolist(),
        half=[n if n % 2 else 99 for n in range(N)],
        constant=[3] * N,
    )
    assert found == {"secret": "aggregate", "place": "aggregate"}


def test_years_and_dates_never_are(judged):
    years = [1950 + n for n in range(N)]
    days = [20_040_101 + 100 * (n // 10) + n % 10 for n in range(N)]
    assert judged(
        premiered=days, added=[1_200_000_000 + 9999 * n for n in range(N)], rate=[n / 7 for n in range(N)][::-1]
    ) == {
        "rate": "aggregate"  # not by its name
    }
    found = judged(
        year=years, made_in=years, release_date=[20_000_000 + n for n in range(N)], published_ts=range(N, 2 * N)
    )
    assert found == {}


def test_rows_are_numbered_from_naught_or_one(judged):
    found = judged(
        **{"no": range(N), "line": range(1, N + 1), "Unnamed: 0": range(5, N + 5), "from_two": [2, *range(3, N + 2)]}
    )
    assert {name: fault for name, fault in found.items() if name != "from_two"} == {
        "no": "row number",
        "line": "row number",
        "Unnamed: 0": "row number",
    }


def test_identifiers_are_known_by_name_or_by_shape(judged):
    found = judged(
        imdb_id=[f"tt{n:07d}" for n in range(N)],
        code=[f"B00{n:03d}XY{n}" for n in range(N)],
        handle=[f"{n:08x}-aa{n}c-4d{n}" for n in range(N)],
        product_name=[f"WH-{n}XM{n}" for n in range(N)],
        language=["en", "de"] * (N // 2),
        isbn_note=["see back"] * N,
        day=[f"2024-01-{1 + n % 28:02d}" for n in range(N)],
        word=[f"word{'abcdefgh'[n % 8]}{n}" if n else "plain words" for n in range(N)],
    )
    assert {name for name, fault in found.items() if fault == "identifier"} >= {"imdb_id", "code", "handle"}
    assert not {"product_name", "language", "isbn_note", "day"} & set(found)


def test_ratings_that_could_be_the_stars_of_a_hotel_stay(judged):
    rng = np.random.default_rng(1)
    found = judged(
        stars=rng.integers(1, 6, N).tolist(),
        average_rating=(3 + rng.random(N)).round(2).tolist(),
        rating=["PG", "R"] * (N // 2),
        reviews=[f"A fine thing, said {n}" for n in range(N)],
        installs=["10,000+", "5K"] * (N // 2),
        empty=[""] * N,
    )
    assert found == {"average_rating": "aggregate", "installs": "aggregate", "empty": "empty"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["https://a.example/1.jpg", ""], True),
        (["covers/12.jpg", "covers/13.png"], True),
        (["[{'thumb': 'https://m.example/a.jpg', 'hi_res': None, 'variant': 'MAIN'}]"], True),
        (['{"a": {"b": ["//cdn.example/x.png"]}}'], True),
        (["Bought at https://a.example in the old town, and liked it a lot"], False),
        (["A lamp"], False),
    ],
)
def test_urls_are_found_however_nested(values, expected):
    assert holds_urls(values) == expected


def test_shapes():
    assert hold_quantities(["1,234", "10K+", "~5", "20000 - 50000", "12%", "#3"])
    assert not hold_quantities(["4 doors"])
    assert not hold_codes([str(n) for n in range(50)])
    assert not hold_codes([f"A{n:03d}" for n in range(10)])


def test_only_a_beginning_of_long_tables_is_read(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,n\n" + "".join(f"{n},{n}\n" for n in range(5000)))
    (tmp_path / "log.csv").write_text("user_id,item_id\n" + "".join(f"u,{n % 10}\n" for n in range(5000)))
    counted = count_interactions(tmp_path / "log.csv", ["item_id"], limit=3000)["item_id"]
    assert (counted.rows, counted.whole, counted.counts["3"]) == (3000, False, 300)
    facts = column_facts(tmp_path / "items.csv", "item_id", ["n"], counted=counted, limit=2500)
    assert (facts.rows, facts.row_numbers) == (2500, {"n"})
    whole = Interacted(counted.counts, 5000, whole=True)
    assert column_facts(tmp_path / "items.csv", "item_id", [], ids=["item_id", "n"], counted=whole).joined["n"] == 0.6


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=20, max_size=60))
def test_rank_correlation_is_that_of_scipy(pairs):
    spearmanr = pytest.importorskip("scipy.stats").spearmanr
    one, other = np.array(pairs, np.float64).T
    found = rank_correlation(one, other)
    if len({*one}) < 2 or len({*other}) < 2:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(one, other).statistic, abs=1e-9)
