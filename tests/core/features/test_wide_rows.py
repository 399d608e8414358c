"""Test the import of rows with a column for each note, and of CSV and TSV files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from generation import HashingEmbedder

from enhancer.contracts import Context, FeatureStore
from enhancer.errors import ConfigError, DataError
from enhancer.features.storing.interchange import export_records, import_records
from enhancer.features.storing.wide_rows import notes_of
from enhancer.testing.store import as_tuple, make_record
from enhancer_plugins.stores.sqlite import SQLiteOptions, SQLiteStore

ASPECTS = {"item": ("profile", "plot", "mood"), "user": ("taste",)}
ROWS = [
    {"id": "1", "plot": "A heist.", "mood": "Dark, slow.", "confidence": "high", "model": "m", "prompt_tokens": 7},
    {"id": "2", "plot": "A wedding.", "mood": "", "confidence": "low"},
    {"id": "u1", "kind": "user", "taste": "Likes heists."},
    {"id": "3", "profile": "A short one.", "tags": ["short"], "mood": "Bright.", "cost_usd": 1.0},
]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return SQLiteStore(SQLiteOptions(), Context(tmp_path))


def written(path: Path, rows: list[dict]) -> Path:
    """Write rows as JSON lines, Parquet or CSV, with lists joined by commas in text columns."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([{**dict.fromkeys(columns(rows)), **row} for row in rows]), path)
    else:
        mark = "," if path.suffix == ".csv" else "\t"
        lines = [mark.join(columns(rows))]
        for row in rows:
            cells = [row.get(name, "") for name in columns(rows)]
            cells = [", ".join(cell) if isinstance(cell, list) else str(cell) for cell in cells]
            lines.append(mark.join(f'"{cell}"' if mark in cell else cell for cell in cells))
        path.write_text("\n".join(lines) + "\n")
    return path


def columns(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv", "tsv"])
def test_every_column_of_a_note_becomes_a_record(store, tmp_path, ending):
    report = import_records(store, written(tmp_path / f"x.{ending}", ROWS), HashingEmbedder(), aspects=ASPECTS)
    assert (report.records, report.embedded, report.rejected) == (6, 6, 0)
    (plot,), (mood, missing) = store.get(["1"], aspect="plot"), store.get(["1", "2"], aspect="mood")
    assert (plot.profile, plot.confidence, plot.model, plot.tags) == ("A heist.", "high", "m", ())
    assert (mood.profile, mood.confidence) == ("Dark, slow.", "high")
    assert missing is None
    assert (plot.prompt_tokens, mood.prompt_tokens) == (4, 3)
    np.testing.assert_array_equal(mood.vector, HashingEmbedder().encode(["Dark, slow."])[0])
    (taste,) = store.get(["u1"], kind="user", aspect="taste")
    assert taste.profile == "Likes heists."
    (short,), (bright,) = store.get(["3"]), store.get(["3"], aspect="mood")
    assert (short.profile, short.tags, short.cost_usd) == ("A short one.", ("short",), 0.5)
    assert (bright.profile, bright.tags, bright.cost_usd) == ("Bright.", (), 0.5)


def test_the_hash_of_each_note_is_asked_for(store, tmp_path):
    seen = []

    def complete(row):
        seen.append((row["id"], row.get("aspect"), row.get("confidence")))
        return {"input_hash": f"{row['id']} {row.get('aspect')}"}

    file = written(tmp_path / "x.jsonl", ROWS[:2])
    import_records(store, file, HashingEmbedder(), aspects=ASPECTS, complete=complete, strict=False)
    assert seen == [("1", "plot", "high"), ("1", "mood", "high"), ("2", "plot", "low")]
    assert store.get(["2"], aspect="plot")[0].input_hash == "2 plot"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "1", "plot": "A heist.", "moood": "Dark."}, "column 'moood' is neither a field of records nor a note"),
        ({"id": "1", "plot": "", "mood": None}, "no text in any of the columns plot, mood"),
        ({"id": "1", "plot": "A heist.", "vector": [1.0]}, "one vector for several notes"),
        ({"id": "1", "plot": "A heist.", "mood": 3}, "mood: profile must be text"),
        ({"id": "1", "sound": "Loud."}, r"unknown field 'sound'; to import it as a note, name it in \[prompts.item\]"),
        ({"plot": "A heist."}, "'id' is missing"),
    ],
)
def test_a_bad_row_is_named_with_its_note(store, tmp_path, row, message):
    file = written(tmp_path / "x.jsonl", [ROWS[0], row])
    with pytest.raises(DataError, match=f"row 2: .*{message}"):
        import_records(store, file, HashingEmbedder(), aspects=ASPECTS)
    assert not list(store.scan())
    report = import_records(store, file, HashingEmbedder(), aspects=ASPECTS, strict=False)
    assert report.rejected == 1
    assert store.get(["1"], aspect="mood")[0].profile == "Dark, slow."


def test_rows_with_an_aspect_and_profiles_alone_are_records_as_they_are():
    for row in ({"id": "1", "aspect": "plot", "profile": "x"}, {"id": "1", "profile": "x", "tags": []}):
        assert notes_of(row, ASPECTS) == [row]


def test_all_aspects_are_exported_and_come_back(store, tmp_path):
    other = SQLiteStore(SQLiteOptions(), Context(tmp_path / "other"))
    store.put([make_record("1"), make_record("1", aspect="mood", confidence="low"), make_record("1", aspect="mood#2")])
    store.put([make_record("1", aspect="text", profile=""), make_record("1", aspect="plot+mood", profile="")])
    assert export_records(store, tmp_path / "all.jsonl") == 5
    assert import_records(other, tmp_path / "all.jsonl").records == 5
    assert [as_tuple(record) for record in other.scan()] == [as_tuple(record) for record in store.scan()]
    assert export_records(store, tmp_path / "moods.parquet", aspect="mood") == 1


def test_a_format_of_one_vector_an_id_asks_which_note(store, tmp_path):
    store.put([make_record("1", aspect="mood"), make_record("1", aspect="plot")])
    with pytest.raises(ConfigError, match=r"neither profiles nor raw texts; choose an aspect, such as --aspect .mood."):
        export_records(store, tmp_path / "x.itememb")
    assert export_records(store, tmp_path / "x.itememb", aspect="plot") == 1


def test_a_joint_text_of_another_embedder_is_made_by_generate(store, tmp_path):
    row = {"id": "1", "aspect": "plot+mood", "vector": [1.0, 0.0], "embedder": "another"}
    with pytest.raises(DataError, match=r"'plot\+mood' has no text to embed; run `enhancer generate`"):
        import_records(store, written(tmp_path / "x.jsonl", [row]), HashingEmbedder())


def test_vectors_are_not_read_from_text_columns(store, tmp_path):
    file = written(tmp_path / "x.csv", [{"id": "1", "profile": "p", "vector": "1 2"}])
    with pytest.raises(DataError, match="vectors cannot be read from text columns"):
        import_records(store, file, HashingEmbedder())
