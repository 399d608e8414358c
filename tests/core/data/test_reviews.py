"""Test the index of reviews: whose are kept, in which order, and what is counted."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from enhancer.config import Settings
from enhancer.data import Split, read_interactions, split_interactions
from enhancer.data.reviews.index import MAX_REVIEW, ReviewIndex
from enhancer.errors import ConfigError, DataError

USERS, ITEMS = 12, 6


@pytest.fixture
def split(tmp_path: Path) -> Split:
    rows = [f"u{u},i{i},{100 * u + i}" for u in range(USERS) for i in range(ITEMS) if (u + i) % 3]
    (tmp_path / "touches.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    settings = Settings.model_validate({"evaluation": {"cold_items": 0.2}})
    columns = settings.data.columns
    touches = read_interactions(tmp_path / "touches.csv", columns, item_ids=[f"i{n}" for n in range(ITEMS + 1)])
    return split_interactions(touches, settings.evaluation, tmp_path, columns)


def pairs(split: Split, part: str) -> set[tuple[str, str]]:
    side = getattr(split, part)
    return {(side.user_ids[u], side.item_ids[i]) for u, i in zip(side.users, side.items, strict=True)}


def write(folder: Path, rows: list[dict[str, object]], name: str = "reviews.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def index(path: Path, split: Split, *, allow_leaks: bool = False, **columns: str) -> ReviewIndex:
    settings = Settings.model_validate({"data": {"columns": columns}})
    return ReviewIndex(path, settings.data.columns, split, allow_leaks=allow_leaks)


def test_reviews_of_training_pairs_alone_are_shown_and_all_others_are_counted(tmp_path: Path, split: Split) -> None:
    """Every pair of user and item has a review that names it, as has every item nobody chose."""
    rows = [
        {"user_id": f"u{u}", "item_id": f"i{i}", "text": f"u{u} on i{i}"}
        for u in range(USERS + 2)
        for i in range(ITEMS + 2)
    ]
    found = index(write(tmp_path, [*rows, {"user_id": "u1", "item_id": "i1", "text": "  "}]), split)
    shown = {tuple(review.text.split(" on ")) for i in range(ITEMS + 2) for review in found.best(f"i{i}", 100)}
    assert shown == pairs(split, "train")
    assert len(split.cold_items) == 1
    assert found.best(split.train.item_ids[split.cold_items[0]], 100) == []
    report = found.report
    assert (report.rows, report.training, report.empty) == (len(rows) + 1, len(split.train), 1)
    assert report.held_out == len(split.validation) + len(split.test)
    assert report.unknown_items == 2 * (USERS + 2)  # i6 is known and without interactions, i7 is not known
    assert report.rows == report.training + report.held_out + report.unmatched + report.unknown_items + report.empty
    assert "held out for validation or test" in " ".join(report.lines())


def test_wider_parts_are_available_to_trace_what_a_prompt_has_shown(tmp_path: Path, split: Split) -> None:
    every = pairs(split, "train") | pairs(split, "validation") | pairs(split, "test")
    rows = [{"user_id": u, "item_id": i, "text": f"{u} on {i}"} for u, i in sorted(every)]
    found = index(write(tmp_path, rows), split)

    def shown(*parts: str) -> set[tuple[str, ...]]:
        items = {item for _, item in every}
        return {tuple(review.text.split(" on ")) for item in items for review in found.best(item, 99, parts)}  # type: ignore[arg-type]

    assert shown("train", "validation") == pairs(split, "train") | pairs(split, "validation")
    assert shown("train", "validation", "test") == every


def test_the_most_helpful_come_first_then_the_latest_whatever_the_order_of_the_file(
    tmp_path: Path, split: Split
) -> None:
    item = next(item for _, item in sorted(pairs(split, "train")))
    users = sorted(user for user, one in pairs(split, "train") if one == item)[:4]
    votes = ["[2, 9]", "7/8", "2", ""]
    rows = [
        {"user_id": user, "item_id": item, "reviewText": f"by {user}", "helpful": vote, "unixReviewTime": time}
        for user, vote, time in zip(users, votes, (50, 10, 60, 90), strict=True)
    ]
    expected = [f"by {users[n]}" for n in (1, 2, 0, 3)]
    for ordered in (rows, rows[::-1]):
        found = index(write(tmp_path, ordered), split)
        assert [review.text for review in found.best(item, 10)] == expected
        assert [review.text for review in found.best(item, 2)] == expected[:2]


def test_equal_texts_count_once_and_long_ones_are_cut_off(tmp_path: Path, split: Split) -> None:
    (user, item), *others = sorted(pairs(split, "train"))
    same = [(u, i) for u, i in others if i == item][:2]
    rows = [{"user_id": u, "item_id": item, "text": "Great\nproduct!"} for u, _ in same]
    rows.append({"user_id": user, "item_id": item, "text": "long " * 10_000})
    texts = sorted(review.text for review in index(write(tmp_path, rows), split).best(item, 10))
    assert texts == ["Great product!", ("long " * 10_000)[:MAX_REVIEW]]


def test_a_table_without_users_is_refused_unless_leaks_are_allowed(tmp_path: Path, split: Split) -> None:
    cold = split.train.item_ids[split.cold_items[0]]
    warm = split.train.item_ids[split.train.items[0]]
    path = write(tmp_path, [{"item_id": id_, "text": f"on {id_}"} for id_ in (cold, warm)])
    with pytest.raises(ConfigError, match="has no column 'user_id'") as error:
        index(path, split)
    assert error.value.hint is not None
    assert "review_user" in error.value.hint
    found = index(path, split, allow_leaks=True)
    assert [review.text for review in found.best(warm, 9)] == [f"on {warm}"]
    assert found.best(cold, 9) == []
    assert (found.report.training, found.report.held_out, found.report.has_users) == (1, 1, False)
    assert "may belong to held-out interactions" in found.report.lines()[0]


@pytest.mark.parametrize(
    ("row", "columns", "error", "message"),
    [
        ({"item_id": "i1", "user_id": "u1", "words": "x"}, {}, ConfigError, "no column that is known to hold the text"),
        ({"item_id": "i1", "user_id": "u1", "text": "x"}, {"review_text": "txt"}, ConfigError, "no column 'txt'"),
        ({"asin": "i1", "user_id": "u1", "text": "x"}, {}, ConfigError, "no column 'item_id'"),
        ({"item_id": " ", "user_id": "u1", "text": "x"}, {}, DataError, "line 1, column 'item_id': the id is empty"),
        ({"item_id": "i1", "user_id": "u1", "text": "x", "votes": "many"}, {}, DataError, "'many' is not a number"),
        ({"item_id": "i1", "user_id": "u1", "text": "x", "date": "May"}, {}, DataError, "'May' is not a time"),
    ],
)
def test_what_cannot_be_used_is_named(
    tmp_path: Path, split: Split, row: dict[str, object], columns: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        index(write(tmp_path, [row]), split, **columns)


def test_columns_may_be_named(tmp_path: Path, split: Split) -> None:
    user, item = min(pairs(split, "train"))
    path = tmp_path / "opinions.csv"
    path.write_text(f"who,what,words,when,ups\n{user},{item},liked it,2020-01-02,3\n\n")
    found = index(
        path,
        split,
        review_user="who",
        review_item="what",
        review_text="words",
        review_time="when",
        review_helpful="ups",
    )
    (review,) = found.best(item, 9)
    assert (review.text, review.time, review.helpful) == ("liked it", 1577923200, 3.0)


def test_several_threads_may_read(tmp_path: Path, split: Split) -> None:
    known = sorted(pairs(split, "train"))
    found = index(write(tmp_path, [{"user_id": u, "item_id": i, "text": f"{u} {i}"} for u, i in known]), split)
    items = sorted({item for _, item in known})
    seen: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: seen.append([len(found.best(item, 99)) for item in items * 50]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = np.bincount(split.train.items, minlength=len(split.train.item_ids))
    expected = [int(counts[split.train.item_ids.index(item)]) for item in items] * 50
    assert seen == [expected] * 4


def test_html_in_reviews_is_turned_into_text_on_demand(tmp_path: Path, split: Split) -> None:
    user, item = min(pairs(split, "train"))
    path = write(tmp_path, [{"user_id": user, "item_id": item, "text": "Salt &amp; <b>pepper</b><br />well, 1 < 2"}])
    shown = {
        html: ReviewIndex(path, Settings().data.columns, split, html=html).best(item, 1)[0].text  # type: ignore[arg-type]
        for html in ("keep", "strip")
    }
    assert shown == {"keep": "Salt &amp; <b>pepper</b><br />well, 1 < 2", "strip": "Salt & pepper well, 1 < 2"}


def test_the_latest_of_a_second_comes_first(tmp_path: Path, split: Split) -> None:
    item = split.train.items[0]
    users = split.train.users[split.train.items == item][:3]
    times = ["2020-01-01T00:00:00.25", "2020-01-01T00:00:00.5", "2020-01-01T00:00:00.125"]
    rows: list[dict[str, object]] = [
        {"user_id": split.train.user_ids[u], "item_id": split.train.item_ids[item], "text": when, "timestamp": when}
        for u, when in zip(users, times, strict=True)
    ]
    found = index(write(tmp_path, rows), split)
    assert [review.text for review in found.best(split.train.item_ids[item], 3)] == [times[1], times[0], times[2]]


def test_reviews_that_spell_ids_otherwise_belong_to_the_pairs_of_the_interactions(tmp_path: Path) -> None:
    rows = "".join(f"{u},{i},{u + i}\n" for u in range(1, 9) for i in range(1, 9) if (u + i) % 3)
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n" + rows)
    settings = Settings()
    touches = read_interactions(tmp_path / "log.csv", settings.data.columns, item_ids=[str(n) for n in range(1, 9)])
    small = split_interactions(touches, settings.evaluation, tmp_path, settings.data.columns)
    user, item = min(pairs(small, "train"))
    stranger = str(3 - int(item) % 3)  # whose pair with the item is no interaction
    spelt = [{"user_id": f"{one}.0", "item_id": f"0{item}", "text": f"by {one}"} for one in (user, stranger)]
    found = index(write(tmp_path, spelt), small)
    assert [review.text for review in found.best(item, 9)] == [f"by {user}"]
    assert found.best(f"0{item}", 9) == []
    assert (found.report.training, found.report.unmatched) == (1, 1)
    nobody = write(tmp_path, [{"item_id": f"0{item}", "text": "by nobody"}], "nobody.jsonl")
    assert index(nobody, small, allow_leaks=True).report.unknown_items == 1
