"""Write and read records as JSONL and safetensors files, and write RecBole's embedding files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import DataError
from enhancer.features.storing.record_fields import one_dim, record_to_json, without_vector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from enhancer.contracts.record import Kind, Record


# --- JSONL --------------------------------------------------------------------------------------------------------


def write_jsonl(path: Path, records: Iterable[Record]) -> int:
    """Write one record a line; return the number of records."""
    done = 0
    with path.open("w", encoding="ascii") as file:
        for record in records:
            file.write(json.dumps(record_to_json(record)) + "\n")
            done += 1
    return done


def read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield rows with the numbers of their lines, from 1; a ``DataError`` for a line that is not UTF-8 or not JSON."""
    with path.open("rb") as file:
        yield from _json_lines(file)


def _json_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                yield number, DataError(f"not UTF-8: {error.reason} at byte {error.start}")
            except (ValueError, RecursionError) as error:
                yield number, DataError(f"not JSON: {error}")


# --- safetensors --------------------------------------------------------------------------------------------------


def write_safetensors(path: Path, records: Iterable[Record]) -> int:
    """Write a tensor of vectors and one of JSON lines; return the number of records.

    The header states sizes that are known at the end only, so both tensors are collected in temporary files.

    Raises:
        StoreMismatchError: The vectors differ in length.
    """
    with tempfile.TemporaryFile(dir=path.parent) as vectors, tempfile.TemporaryFile(dir=path.parent) as lines:
        done, dim = 0, None
        for record in records:
            dim = one_dim(record, dim)
            vectors.write(np.ascontiguousarray(record.vector, dtype="<f4").tobytes())
            lines.write(json.dumps(without_vector(record)).encode("ascii") + b"\n")
            done += 1
        first, second = vectors.tell(), lines.tell()
        header = {
            "vectors": {"dtype": "F32", "shape": [done, dim or 0], "data_offsets": [0, first]},
            "records": {"dtype": "U8", "shape": [second], "data_offsets": [first, first + second]},
        }
        text = json.dumps(header).encode("ascii")
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for part in (vectors, lines):
                part.seek(0)
                shutil.copyfileobj(part, file, 1 << 20)
    return done


def read_safetensors(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield rows with their numbers, from 1.

    Raises:
        DataError: The file is not a safetensors file of records.
    """
    with path.open("rb") as file, path.open("rb") as rows:
        size = os.fstat(file.fileno()).st_size
        count = int.from_bytes(file.read(8), "little")
        try:
            if count > size - 8:
                raise ValueError("its header is longer than the file")  # noqa: TRY301 - one message for all three
            header = json.loads(file.read(count))
            (n, dim), (begin, end) = header["vectors"]["shape"], header["vectors"]["data_offsets"]
            start, stop = header["records"]["data_offsets"]
            if header["vectors"]["dtype"] != "F32" or header["records"]["dtype"] != "U8" or end - begin != 4 * n * dim:
                raise ValueError("its tensors have other types or sizes")  # noqa: TRY301
            if not (0 <= begin <= end <= size - 8 - count and 0 <= start <= stop <= size - 8 - count):
                raise ValueError("a tensor lies outside the file")  # noqa: TRY301
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path} is not a safetensors file of records: {error}") from None
        file.seek(8 + count + begin)
        rows.seek(8 + count + start)
        done = 0
        for number, row in _json_lines(_lines(rows, stop - start)):
            if isinstance(row, DataError):  # which vectors belong to the records after it is not known
                raise DataError(f"{path}, row {number}: {row.message}")
            if not isinstance(row, dict) or number > n:
                raise DataError(f"{path}: more records than its {n} vectors, or a record that is not an object")
            yield number, {**row, "vector": np.frombuffer(file.read(4 * dim), dtype="<f4")}
            done += 1
        if done != n:
            raise DataError(f"{path}: {n} vectors for {done} records")


def _lines(file: IO[bytes], left: int) -> Iterator[bytes]:
    while left > 0:
        line = file.readline(left)
        if not line:
            return
        left -= len(line)
        yield line


# --- RecBole ------------------------------------------------------------------------------------------------------


def write_recbole(kind: Kind, path: Path, records: Iterable[Record]) -> int:
    """Write ids and vectors in RecBole's atomic format: a header with fields and types, then tab-separated columns.

    RecBole requires that the id column is named differently from that of the interactions, and that its configuration
    declares both equal (``alias_of_item_id: [iid]``).

    Raises:
        DataError: An id contains a tab or a line break.
        StoreMismatchError: The vectors differ in length.
    """
    done, dim = 0, None
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{kind[0]}id:token\t{kind}_emb:float_seq\n")
        for record in records:
            dim = one_dim(record, dim)
            if any(mark in record.id for mark in "\t\r\n"):
                raise DataError(f"RecBole's format cannot store the id {record.id!r}", hint="export to .jsonl")
            file.write(f"{record.id}\t{' '.join(map(repr, record.vector.tolist()))}\n")
            done += 1
    return done
