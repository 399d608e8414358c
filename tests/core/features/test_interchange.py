"""Test export and import of records."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from enhancer.contracts import Context, Embedder, Options
from enhancer.errors import ConfigError, DataError, EnhancerError, StoreMismatchError
from enhancer.features.storing.arrow import to_arrow, to_pandas, to_polars
from enhancer.features.storing.interchange import export_records, import_records, record_to_json
from enhancer.testing.store import as_tuple, make_record
from enhancer_plugins.stores.sqlite import SQLiteOptions, SQLiteStore


class Letters(Embedder):
    """Embedder with known vectors: it counts letters."""

    fingerprint = "letters@1"
    dim = 3

    def __init__(self) -> None:
        super().__init__(Options(), Context())

    def encode(self, texts):  # type: ignore[no-untyped-def]
        rows = np.array([[text.count(letter) + 1 for letter in "abc"] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def store(folder: Path) -> SQLiteStore:
    return SQLiteStore(SQLiteOptions(), Context(folder))


RECORDS = [
    make_record("1"),
    make_record("ünï — 映画\n\t", tags=(), cost_usd=None, prompt_tokens=None, completion_tokens=None),
    make_record("3", kind="user", aspect="mood", model="", confidence="medium"),
    make_record("4", aspect="text", profile=""),
]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".safetensors"])
def test_records_come_back_whole(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"out{ending}"
    with store(tmp_path / "a") as a, store(tmp_path / "b") as b:
        a.put(RECORDS)
        assert export_records(a, file) == 4
        report = import_records(b, file)
        assert report.to_json() == {"records": 4, "embedded": 0, "rejected": 0, "rejected_rows": ()}
        assert [as_tuple(r) for r in b.scan()] == [as_tuple(r) for r in a.scan()]
        assert export_records(a, file, kind="user") == 1
        assert export_records(a, file, kind="item", aspect="text") == 1
        a.delete([r.id for r in a.scan(kind="item")], kind="item")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", f"out{ending}"]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".safetensors"])
def test_an_empty_store_and_many_chunks(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"out{ending}"
    with store(tmp_path / "a") as a, store(tmp_path / "b") as b:
        assert export_records(a, file) == 0
        assert import_records(b, file).records == 0
        a.put([make_record(str(n), seed=n) for n in range(1200)])
        assert export_records(a, file) == 1200
        assert import_records(b, file).records == 1200
        ids = [str(n) for n in range(1200)]
        np.testing.assert_array_equal(a.vectors(ids), b.vectors(ids))


def test_parquet_vectors_are_fixed_size_lists(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    with store(tmp_path) as a:
        a.put(RECORDS[:2])
        export_records(a, tmp_path / "out.parquet")
    column = pq.read_table(tmp_path / "out.parquet")["vector"].combine_chunks()
    assert column.type.list_size == 4
    matrix = column.flatten().to_numpy(zero_copy_only=True).reshape(-1, 4)
    np.testing.assert_array_equal(matrix[0], RECORDS[0].vector)


def test_a_million_rows_are_few_row_groups(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    with store(tmp_path) as a:
        a.put([make_record(str(n), seed=n, dim=3) for n in range(9000)])
        assert export_records(a, tmp_path / "out.parquet") == 9000
        groups = pq.ParquetFile(tmp_path / "out.parquet").metadata
        assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [8192, 808]
        assert groups.row_group(0).column(groups.num_columns - 1).compression == "UNCOMPRESSED"


def test_a_table_is_a_matrix_without_a_copy(tmp_path: Path) -> None:
    with store(tmp_path) as a:
        a.put([make_record(str(n), seed=n) for n in range(1200)])
        a.put([make_record("1", kind="user", dim=9)])
        with pytest.raises(StoreMismatchError):
            to_arrow(a)
        table = to_arrow(a, kind="item")
        assert to_arrow(a, aspect="none").num_rows == 0
        ids = table["id"].to_pylist()
        expected = a.vectors(ids)
    (chunk,) = table["vector"].chunks
    numbers = chunk.flatten()
    matrix = numbers.to_numpy(zero_copy_only=True).reshape(-1, 4)
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.__array_interface__["data"][0] == numbers.buffers()[1].address


def test_torch_shares_the_memory_of_vectors(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    with store(tmp_path) as a:
        a.put([make_record(str(n), seed=n) for n in range(5)])
        vectors = a.vectors(["3", "1"])
        export_records(a, tmp_path / "out.safetensors")
    tensor = torch.from_numpy(vectors)
    assert tensor.data_ptr() == vectors.ctypes.data
    from safetensors.torch import load_file

    np.testing.assert_array_equal(load_file(tmp_path / "out.safetensors")["vectors"][3].numpy(), vectors[0])


def test_pandas_reads_exports_and_writes_imports(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    with store(tmp_path / "a") as a, store(tmp_path / "b") as b:
        a.put(RECORDS[:2])
        export_records(a, tmp_path / "out.parquet")
        export_records(a, tmp_path / "out.jsonl")
        frame = pandas.read_parquet(tmp_path / "out.parquet")
        np.testing.assert_array_equal(np.stack(frame["vector"].to_list()), a.vectors(frame["id"].to_list()))
        assert pandas.read_json(tmp_path / "out.jsonl", lines=True, dtype={"id": str})["profile"].to_list() == list(
            frame["profile"]
        )
        frame.to_parquet(tmp_path / "theirs.parquet")  # lists of variable length, maybe other floats, maybe an index
        report = import_records(b, tmp_path / "theirs.parquet")
        assert (report.records, report.embedded) == (2, 0)
        assert [as_tuple(r) for r in b.scan()] == [as_tuple(r) for r in a.scan()]
        made = pandas.DataFrame({"id": ["7"], "profile": ["A quiet one."], "tags": [["quiet"]], "cost_usd": [None]})
        made.to_parquet(tmp_path / "made.parquet")
        assert import_records(b, tmp_path / "made.parquet", Letters()).embedded == 1
        assert b.get(["7"])[0].tags == ("quiet",)  # type: ignore[union-attr]


def test_records_are_a_frame_of_pandas_and_a_table_of_duckdb(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    with store(tmp_path) as a:
        a.put(RECORDS[:2])
        frame = to_pandas(a)
        np.testing.assert_array_equal(np.stack(list(frame["vector"])), a.vectors(list(frame["id"])))
        export_records(a, tmp_path / "out.parquet")
        found = duckdb.sql(f"select id, len(vector) from '{tmp_path / 'out.parquet'}' order by id").fetchall()
    assert found == [(id_, 4) for id_ in sorted(frame["id"])]


def test_polars_reads_the_table(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    with store(tmp_path) as a:
        a.put(RECORDS[:2])
        frame = to_polars(a)
        assert frame["vector"].dtype == polars.Array(polars.Float32, 4)
        np.testing.assert_array_equal(frame["vector"].to_numpy(), a.vectors(frame["id"].to_list()))


@pytest.mark.parametrize(
    "vectors", [[[1.0, 2.0], None], [[1.0, None], [1.0, 2.0]], [[1, 2], [3, 4]]], ids=["row", "number", "integers"]
)
def test_odd_columns_of_vectors_are_read_one_by_one(tmp_path: Path, vectors: list[object]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    integers = isinstance(vectors[0][0], int)  # type: ignore[index]
    column = pa.array(vectors, pa.list_(pa.int32() if integers else pa.float32(), 2))
    pq.write_table(
        pa.table({"id": ["1", "2"], "profile": ["p", "q"], "embedder": ["e", "e"], "vector": column}),
        tmp_path / "x.parquet",
    )
    with store(tmp_path) as a:
        if integers:
            assert import_records(a, tmp_path / "x.parquet").records == 2
        else:
            with pytest.raises(DataError, match=r"x\.parquet, row [12]: "):
                import_records(a, tmp_path / "x.parquet")


def test_the_safetensors_library_reads_exports(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    with store(tmp_path) as a:
        a.put(RECORDS[:2])
        export_records(a, tmp_path / "out.safetensors")
    tensors = load_file(tmp_path / "out.safetensors")
    np.testing.assert_array_equal(tensors["vectors"][0], RECORDS[0].vector)
    lines = tensors["records"].tobytes().decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [record.id for record in RECORDS[:2]]


def test_recbole_gets_ids_and_vectors(tmp_path: Path) -> None:
    with store(tmp_path) as a:
        a.put([make_record("1"), make_record("2", kind="user")])
        assert export_records(a, tmp_path / "x.itememb") == 1
        assert export_records(a, tmp_path / "x.useremb") == 1
        lines = (tmp_path / "x.itememb").read_text().splitlines()
        assert lines[0] == "iid:token\titem_emb:float_seq"
        assert (tmp_path / "x.useremb").read_text().startswith("uid:token\tuser_emb:float_seq\n2\t")
        id_, vector = lines[1].split("\t")
        assert id_ == "1"
        np.testing.assert_array_equal(np.array(vector.split(), np.float32), make_record("1").vector)
        a.put([make_record("a\tb")])
        with pytest.raises(DataError, match="cannot store the id"):
            export_records(a, tmp_path / "x.itememb")
        with pytest.raises(ConfigError, match=r"unknown format '\.itememb'"):
            import_records(a, tmp_path / "x.itememb")
        assert (tmp_path / "x.itememb").read_text().splitlines() == lines  # the old file is unchanged


def test_recbole_gets_one_vector_an_id(tmp_path: Path) -> None:
    def ids(name: str) -> list[str]:
        return [line.split("\t")[0] for line in (tmp_path / name).read_text().splitlines()[1:]]

    with store(tmp_path) as a:
        a.put([make_record("1", aspect="text"), make_record("2", aspect="text")])
        assert export_records(a, tmp_path / "x.itememb") == 2  # without profiles, the raw texts
        a.put([make_record("1")])
        assert export_records(a, tmp_path / "x.itememb") == 1
        assert ids("x.itememb") == ["1"]
        assert export_records(a, tmp_path / "x.itememb", aspect="text") == 2
        assert export_records(a, tmp_path / "x.jsonl") == 3


@pytest.mark.parametrize("ending", [".parquet", ".safetensors", ".itememb"])
def test_vectors_of_two_lengths_need_jsonl(tmp_path: Path, ending: str) -> None:
    with store(tmp_path) as a:
        a.put([make_record("1"), make_record("2", dim=5)])
        with pytest.raises(StoreMismatchError, match="the vector of record item/2 has length 5"):
            export_records(a, tmp_path / f"x{ending}")
        assert not (tmp_path / f"x{ending}").exists()
        assert export_records(a, tmp_path / "x.jsonl") == 2


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_profiles_made_elsewhere_are_embedded_judged_and_completed(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "x.jsonl",
        {"id": "1", "profile": "aab", "tags": ["c"]},
        {"id": "2", "profile": "b", "vector": [9, 9], "embedder": "other"},
        {"id": "3", "profile": "c", "vector": [1, 0, 0], "embedder": "letters@1"},
    )
    judged = []
    with store(tmp_path) as a:
        report = import_records(
            a, file, Letters(), validate=judged.append, complete=lambda row: {"input_hash": f"made for {row['id']}"}
        )
        assert (report.records, report.embedded) == (3, 2)
        one, two, three = a.get(["1", "2", "3"])
    assert judged[0] == {"kind": "item", "aspect": "", "profile": "aab", "tags": ["c"]}
    assert one is not None
    assert two is not None
    assert three is not None
    np.testing.assert_array_equal(one.vector, Letters().encode(["aab c"])[0])
    assert (one.embedder, one.input_hash, one.cost_usd) == ("letters@1", "made for 1", None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one.generated_at), "as generated records have it"
    assert two.embedder == "letters@1"
    np.testing.assert_array_equal(three.vector, [1, 0, 0])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], "not a record"),
        ({"profile": "p"}, "'id' is missing"),
        ({"id": 1, "profile": "p"}, "id must be text"),
        ({"id": "1"}, "'profile' is missing"),
        ({"id": "1", "profile": "p", "profle": 1}, "unknown field 'profle'; did you mean 'profile'"),
        ({"id": "1", "profile": "p", "kind": "film"}, "kind must be"),
        ({"id": "1", "profile": "p", "tags": "warm"}, "tags must be"),
        ({"id": "1", "profile": "p", "cost_usd": "free"}, "cost_usd must be"),
        ({"id": "1", "profile": "p", "prompt_tokens": 1.5}, "prompt_tokens must be"),
        ({"id": "1", "profile": "p"}, "no embedder is given to make one"),
        ({"id": "1", "profile": "p", "vector": [1, 2]}, "a vector but no field 'embedder'"),
        ({"id": "1", "profile": "p", "vector": [0, 0], "embedder": "e"}, "zero"),
        ({"id": "1", "profile": "p", "vector": ["a"], "embedder": "e"}, "not numeric"),
        ({"id": "1", "aspect": "text", "vector": None}, "no text to embed"),
        ({"id": "1", "profile": "p", "vector": [1], "embedder": "e" * 70_000}, "65,535 bytes"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: object, message: str) -> None:
    good = record_to_json(make_record("good"))
    file = lines(tmp_path / "x.jsonl", good, row)
    with store(tmp_path) as a:
        with pytest.raises(DataError, match=rf"x.jsonl, row 2: .*{message}"):
            import_records(a, file)
        assert a.get(["good"]) == [None]  # the whole file is refused
        report = import_records(a, file, strict=False)
        assert (report.records, report.rejected, report.rejected_rows[0].row) == (1, 1, 2)
        assert re.search(message, report.rejected_rows[0].reason)
        assert a.get(["good"]) != [None]


def test_a_vector_of_another_length_than_its_embedder_makes_is_refused(tmp_path: Path) -> None:
    row = {"id": "1", "profile": "p", "vector": [1.0, 2.0], "embedder": Letters.fingerprint}
    file = lines(tmp_path / "x.jsonl", row)
    with (
        store(tmp_path) as a,
        pytest.raises(DataError, match=r"row 1: its vector has 2 numbers, and those of its embedder have 3"),
    ):
        import_records(a, file, Letters())


def test_an_empty_selection_replaces_no_file(tmp_path: Path) -> None:
    file = tmp_path / "users.jsonl"
    file.write_text("of yesterday")
    with store(tmp_path / "a") as a:
        a.put([make_record("1")])
        with pytest.raises(DataError, match="no records of kind 'user'"):
            export_records(a, file, kind="user")
    assert file.read_text() == "of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "users.jsonl"]


def test_a_profile_that_is_not_valid_is_named(tmp_path: Path) -> None:
    def refuse(profile: object) -> None:
        raise EnhancerError("too short")

    with store(tmp_path) as a, pytest.raises(DataError, match="row 1: too short"):
        import_records(a, lines(tmp_path / "x.jsonl", {"id": "1", "profile": "p"}), Letters(), validate=refuse)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"id": "1"\n', "row 1: not JSON"),
        ("x.jsonl", b"\xff\xfe", "row 1: not UTF-8"),
        ("x.jsonl", b"[" * 100_000, "row 1: not JSON"),
        ("x.parquet", b"PAR1 no", "Parquet"),
        ("x.safetensors", b"", "is not a safetensors file"),
        ("x.safetensors", b"\xff" * 100, "is not a safetensors file"),
        ("x.safetensors", (2).to_bytes(8, "little") + b"{}", "is not a safetensors file"),
        ("x.safetensors", (2).to_bytes(8, "little") + b"[]", "is not a safetensors file"),
    ],
)
def test_a_file_of_another_format_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with store(tmp_path) as a, pytest.raises(DataError, match=message):
        import_records(a, tmp_path / name)


def test_safetensors_with_fewer_records_than_vectors(tmp_path: Path) -> None:
    with store(tmp_path) as a:
        a.put(RECORDS[:2])
        export_records(a, tmp_path / "x.safetensors")
        content = (tmp_path / "x.safetensors").read_bytes()
        (tmp_path / "x.safetensors").write_bytes(content[:-20].ljust(len(content), b" "))
        with pytest.raises(DataError, match=r"x\.safetensors"):
            import_records(a, tmp_path / "x.safetensors")


def test_an_unknown_extension_and_a_missing_file(tmp_path: Path) -> None:
    with store(tmp_path) as a:
        for call in (export_records, import_records):
            with pytest.raises(ConfigError, match=r"unknown format '.pickle'; known extensions: .jsonl"):
                call(a, tmp_path / "x.pickle")
        with pytest.raises(ConfigError, match="no file"):
            import_records(a, tmp_path / "x.jsonl")
        with pytest.raises(ConfigError, match=r"there is no folder .*nowhere"):
            export_records(a, tmp_path / "nowhere" / "x.jsonl")
        (tmp_path / "x.parquet").mkdir()
        with pytest.raises(ConfigError, match=r"x\.parquet is a folder"):
            export_records(a, tmp_path / "x.parquet")
