from __future__ import annotations

import numpy as np
import pytest

from enhancer.config import ColumnsConfig
from enhancer.config.evaluation import EvaluationConfig
from enhancer.data import read_interactions, split_interactions
from enhancer.errors import ConfigError, DataError

RATINGS = "user_id,item_id,rating,click\nu,a,5,1\nu,b,3,0\nv,a,4,true\nv,b,1,FALSE\n"


@pytest.fixture
def read(tmp_path):
    def read(label, content=RATINGS, name="ratings.csv", **more):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return read_interactions(path, ColumnsConfig(label=label), item_ids=None, **more)

    return read


@pytest.mark.parametrize("label", ["click", "rating >= 4", "rating>=4", "rating > 3", " rating >  3.5 "])
def test_a_column_or_a_bound(read, label):
    found = read(label)
    assert found.labels.dtype == np.float32
    assert found.labels.tolist() == [1, 0, 1, 0]
    assert found.ratings.tolist() == [5, 3, 4, 1]


def test_without_one_there_are_none(read):
    assert read(None).labels is None


def test_of_a_pair_that_comes_again_the_last_label_counts(read):
    found = read("click", "user_id,item_id,click\nu,a,1\nu,b,1\nu,a,0\n")
    assert dict(zip(found.items.tolist(), found.labels.tolist(), strict=True)) == {0: 0.0, 1: 1.0}


def test_a_column_that_is_called_like_a_bound_comes_first(read):
    assert read("rating >= 4", "user_id,item_id,rating >= 4\nu,a,0\n").labels.tolist() == [0]


@pytest.mark.parametrize(
    ("label", "error", "says"),
    [
        ("clicks", ConfigError, "did you mean 'click'"),
        ("stars >= 4", ConfigError, "no column 'stars'"),
        ("rating = 4", ConfigError, "a bound is written 'rating >= 4'"),
        ("rating < 4", ConfigError, "a bound is written"),
        ("rating >= 4..5", ConfigError, "'4..5' is not a number"),
        ("rating", DataError, "line 2, column 'rating': '5' is not a label"),
        ("", ConfigError, "label is empty"),
    ],
)
def test_what_is_no_label_is_refused_in_words(read, label, error, says):
    with pytest.raises(error, match=says):
        read(label)


def test_labels_go_with_their_pairs_through_a_split(tmp_path):
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(20) for i in range(30) if rng.random() < 0.5]
    stars = {pair: int(rng.integers(1, 6)) for pair in pairs}
    rows = "".join(f"u{u},i{i},{stars[u, i]}\n" for u, i in pairs)
    (tmp_path / "ratings.csv").write_text(f"user_id,item_id,rating\n{rows}")
    columns = ColumnsConfig(label="rating >= 4")
    whole = read_interactions(tmp_path / "ratings.csv", columns, item_ids=None)
    split = split_interactions(whole, EvaluationConfig(cold_items=0.1, cold_users=0.1), tmp_path, columns)
    for part in (split.train, split.validation, split.test):
        assert part.labels.tolist() == (part.ratings >= 4).tolist()
    assert sum(len(part) for part in (split.train, split.validation, split.test)) == len(pairs)


def test_labels_go_with_their_pairs_through_files(tmp_path):
    head = "user_id,item_id,rating\n"
    (tmp_path / "ratings.csv").write_text(head + "u,a,5\nu,b,2\nv,a,1\nv,c,5\nv,d,4\n")
    (tmp_path / "test.csv").write_text(head + "u,c,4\nv,b,3\n")
    columns = ColumnsConfig(label="rating >= 4")
    whole = read_interactions(tmp_path / "ratings.csv", columns, item_ids=None)
    config = EvaluationConfig(split="files", test="test.csv", validation_size=0)
    split = split_interactions(whole, config, tmp_path, columns)
    assert split.test.labels.tolist() == [1, 0]
