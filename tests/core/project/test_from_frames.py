"""A project over data frames is that over files with the same rows."""

from __future__ import annotations

import gc

import pytest

from enhancer import Project
from enhancer.data.readers.frames import _FRAMES
from enhancer.errors import ConfigError, DataError

pa = pytest.importorskip("pyarrow")

ITEMS = {
    "item_id": [1, 2, 3, 4, 5, 6],
    "title": ["Toy, Story", "Heat", None, "Fargo", "Babe", "Big"],
    "genres": [["Comedy", "Drama, dark"], ["Crime"], [], ["Crime", "Comedy"], ["Comedy"], None],
    "year": [1995, 1995, 1996, 1996, 1995, 1988],
}
PAIRS = [(user, 1 + (user * 5 + step * 7) % 6) for user in range(1, 9) for step in range(5)]
INTERACTIONS = {
    "user_id": [f"u{user}" for user, _ in PAIRS],
    "item_id": [item for _, item in PAIRS],
    "rating": [float(1 + (user + item) % 5) for user, item in PAIRS],
    "timestamp": [1_000_000_000_123 + 1000 * number for number in range(len(PAIRS))],
}
SETTINGS = {
    "prompts": {"item": {"source": "text"}},
    "data": {"features": {"item": ["genres"]}},
    "store": {"use": "sqlite"},
    "backbone": {"use": "popularity"},
    "fuser": {"use": "none"},
    "evaluation": {"split": "temporal", "metrics": ["ndcg@3"]},
}


def of_pandas(columns):
    return pytest.importorskip("pandas").DataFrame(columns)


def of_polars(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def of_polars_lazy(columns):
    return pytest.importorskip("polars").LazyFrame(columns)


def of_duckdb(columns):
    duckdb = pytest.importorskip("duckdb")
    films = pa.table(columns)  # noqa: F841 - DuckDB finds it by its name
    return duckdb.sql("select * from films")


def of_datasets(columns):
    return pytest.importorskip("datasets").Dataset.from_dict(columns)


MAKERS = [pa.table, of_pandas, of_polars, of_polars_lazy, of_duckdb, of_datasets]


def contents(project):
    """What the project reads of its tables."""
    split, parts = project.parts.split, project.parts
    texts = {one.id: one.text for one in parts.sources.of("item")()}
    rows = [
        (part.user_ids[user], part.item_ids[item], int(time))
        for part in (split.train, split.validation, split.test)
        for user, item, time in zip(part.users, part.items, part.timestamps, strict=True)
    ]
    return texts, rows, parts.titles, {kind: read.columns for kind, read in parts.side_features.items()}


@pytest.fixture(scope="module")
def by_files(tmp_path_factory):
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("files")
    parquet.write_table(pa.table(ITEMS), folder / "items.parquet")
    parquet.write_table(pa.table(INTERACTIONS), folder / "ratings.parquet")
    data = {**SETTINGS["data"], "items": "items.parquet", "interactions": "ratings.parquet"}
    from enhancer.config.load import settings_of

    return contents(Project(settings_of({**SETTINGS, "data": data}), folder))


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_any_frame_reads_like_a_file(make, by_files, tmp_path):
    project = Project.from_frames(items=make(ITEMS), interactions=make(INTERACTIONS), settings=SETTINGS, root=tmp_path)
    found = contents(project)
    assert found[1:3] == by_files[1:3]
    assert str(found[3]) == str(by_files[3])
    if make is not of_pandas:  # pandas makes floats of integers beside missing values, not here
        assert found[0] == by_files[0]
    assert "Drama, dark" in found[0]["1"]


def test_the_whole_way_writes_no_copy_of_the_tables(tmp_path):
    project = Project.from_frames(
        interactions=of_pandas(INTERACTIONS), settings={**SETTINGS, "data": {}}, root=tmp_path
    )
    assert project.train().interactions == len({*PAIRS})
    assert {path.name for path in tmp_path.iterdir()} <= {"artifact", "runs"}
    assert project.recommend(["u1"], k=1)[0].user_id == "u1"


def test_frames_stand_for_the_files_of_a_split(tmp_path):
    is_test = [number % 4 == 0 for number in range(len(PAIRS))]
    train, test = (
        {
            name: [v for v, held in zip(values, is_test, strict=True) if held == wanted]
            for name, values in INTERACTIONS.items()
        }
        for wanted in (False, True)
    )
    settings = {**SETTINGS, "data": {}, "evaluation": {"split": "files", "metrics": ["ndcg@3"]}}
    project = Project.from_frames(interactions=of_pandas(train), test=pa.table(test), settings=settings, root=tmp_path)
    assert len(project.parts.split.train.users) + len(project.parts.split.validation.users) <= 30
    assert len(project.parts.split.test.users) > 0


def test_settings_of_a_file_keep_all_but_the_tables(tmp_path):
    (tmp_path / "enhancer.toml").write_text('[data]\ninteractions = "gone.csv"\n[backbone]\nuse = "popularity"\n')
    project = Project.from_frames(interactions=of_pandas(INTERACTIONS), settings=tmp_path / "enhancer.toml")
    assert (project.root, project.settings.backbone.use) == (tmp_path, "popularity")
    assert len(project.parts.interactions) == len({*PAIRS})


def test_an_index_of_pandas_is_no_column(tmp_path):
    frame = of_pandas(INTERACTIONS).set_index("user_id", drop=False)
    frame.index.name = None
    project = Project.from_frames(interactions=frame, settings={**SETTINGS, "data": {}}, root=tmp_path)
    assert len(project.parts.interactions) == len({*PAIRS})


def test_mistakes_are_told(tmp_path):
    with pytest.raises(ConfigError, match=r"interactions \(builtins.int\) is no data frame"):
        Project.from_frames(interactions=3, root=tmp_path)
    with pytest.raises(DataError, match=r"items \(pandas.DataFrame\)"):
        Project.from_frames(items=of_pandas({"item_id": [1, "a"]}), root=tmp_path)
    with pytest.raises(ConfigError, match="did you mean"):
        Project.from_frames(settings={"backbon": {}}, root=tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        Project.from_frames(root=tmp_path / "gone")
    lacking = Project.from_frames(interactions=of_pandas({"user": ["a"], "item_id": ["b"]}), root=tmp_path)
    with pytest.raises(ConfigError, match=r"interactions \(pandas.DataFrame\) has no column 'user_id'"):
        _ = lacking.parts.interactions
    bad = of_pandas({"user_id": ["a", "b"], "item_id": ["x", "y"], "rating": ["1", "good"]})
    wrong = Project.from_frames(interactions=bad, root=tmp_path)
    with pytest.raises(DataError, match=r"interactions \(pandas.DataFrame\), row 2, column 'rating'"):
        _ = wrong.parts.interactions


def test_frames_are_forgotten_with_their_project(tmp_path):
    gc.collect()
    before = len(_FRAMES)
    project = Project.from_frames(interactions=of_pandas(INTERACTIONS), root=tmp_path)
    assert len(_FRAMES) == before + 1
    del project
    gc.collect()
    assert len(_FRAMES) == before
