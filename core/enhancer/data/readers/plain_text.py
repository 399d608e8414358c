"""Read plain delimited text as arrays by pyarrow.

Text is plain if its lines end in a line feed, with or without a carriage return, and hold neither quotes nor NUL: then
no reader can disagree about its rows.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from enhancer.data.readers.arrays import CodedColumn, Column, ColumnRole, IrregularTableError, read_ahead
from enhancer.data.readers.text_files import COMPRESSIONS, MAX_LINE, open_binary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import FileIO
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

MIN_BYTES = 1 << 22
"""Size of a file from which on pyarrow is imported to read it."""
_CHUNK_BYTES = 1 << 25


def plain_blocks(
    path: Path, names: Sequence[str], delimiter: str, lines_above: int, roles: Mapping[str, ColumnRole]
) -> Iterator[tuple[Sequence[int], list[Column]]]:
    """Stream columns of a delimited text file as arrays.

    Args:
        path: Path of the file.
        names: Names of all its columns.
        delimiter: Separator of fields.
        lines_above: Lines above the rows.
        roles: Use of each column to read, by name.

    Raises:
        IrregularTableError: The file is too small for the import of pyarrow to pay, its text is not plain UTF-8, a row
            has another length than ``names``, a number cannot be parsed, or pyarrow is missing.
    """
    if path.stat().st_size < MIN_BYTES:
        raise IrregularTableError
    reader = _PlainReader(names, delimiter, roles)
    first = 0
    for count, columns in read_ahead(map(reader.read, _chunks(path, lines_above))):
        yield range(first, first + count), columns
        first += count


def _chunks(path: Path, lines_above: int) -> Iterator[memoryview]:
    """Yield whole lines of plain text."""
    with _open(path) as file:
        rest = b""
        while data := file.read(_CHUNK_BYTES):
            text = rest + data if rest else data
            while lines_above and (end := text.find(b"\n") + 1):
                text, lines_above = text[end:], lines_above - 1
            end = 0 if lines_above else text.rfind(b"\n")
            if end > 0:
                yield _checked(text, end)
            elif len(text) > MAX_LINE:
                raise IrregularTableError
            rest = text[end:].removeprefix(b"\n") if end > 0 else text
        if lines_above:  # the header is the whole file, or lines end otherwise
            raise IrregularTableError
        if rest := rest.rstrip(b"\r\n"):
            yield _checked(rest, len(rest))


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO | FileIO]:
    """Open a file without a buffer of its own, if it is not compressed: each would copy all of it."""
    with path.open("rb", buffering=0) if path.suffix.lower() not in COMPRESSIONS else open_binary(path) as file:
        yield file


def _checked(text: bytes, end: int) -> memoryview:
    """Return the first bytes of a text without carriage returns, after checking that they are plain."""
    if b"\r" in text:
        text = text[:end].replace(b"\r\n", b"\n").removesuffix(b"\r")
        end = len(text)
    if b'"' in text or b"\r" in text or b"\0" in text:
        raise IrregularTableError
    return memoryview(text)[:end]


def _has_hexadecimals(text: object) -> bool:
    assert isinstance(text, bytes)
    one_byte = b"x" in text or b"X" in text  # is found many times as fast as two
    return one_byte and (b"0x" in text or b"0X" in text)


class _PlainReader:
    """Parses chunks of plain text."""

    def __init__(self, names: Sequence[str], delimiter: str, roles: Mapping[str, ColumnRole]) -> None:
        try:
            import pyarrow as pa
            from pyarrow import csv
        except ImportError:
            raise IrregularTableError from None
        self._arrow: Any = pa
        self._csv: Any = csv
        self._roles = dict(roles)
        # Names may be empty, or hold anything: columns are read by their number.
        self._numbers = [str(names.index(name)) for name in roles]
        self._parse = csv.ParseOptions(
            delimiter=delimiter, quote_char=False, double_quote=False, ignore_empty_lines=False
        )
        self._all_numbers = list(map(str, range(len(names))))
        self._times_are_integers = True

    def read(self, text: memoryview) -> tuple[int, list[Column]]:
        """Return the number of rows and the columns."""
        # Arrow takes 0x1F for an integer.
        integers = self._times_are_integers and not _has_hexadecimals(text.obj)
        try:
            table = self._table(text, integer_times=integers)
        except self._arrow.ArrowInvalid:
            if not integers or "time" not in self._roles.values():
                raise IrregularTableError from None
            self._times_are_integers = False
            try:
                table = self._table(text, integer_times=False)
            except self._arrow.ArrowInvalid:
                raise IrregularTableError from None
        return table.num_rows, [self._column(table.column(number)) for number in self._numbers]

    def _table(self, text: memoryview, *, integer_times: bool) -> Any:
        pa = self._arrow
        types = {
            "id": pa.dictionary(pa.int32(), pa.string()),
            "number": pa.float64(),
            "time": pa.int64() if integer_times else pa.string(),
            "text": pa.string(),
        }
        return self._csv.read_csv(
            pa.BufferReader(pa.py_buffer(text)),
            self._csv.ReadOptions(column_names=self._all_numbers, block_size=len(text) + 1),
            self._parse,
            self._csv.ConvertOptions(
                column_types={n: types[role] for n, role in zip(self._numbers, self._roles.values(), strict=True)},
                include_columns=self._numbers,
                null_values=[],
                strings_can_be_null=False,
            ),
        )

    def _column(self, chunked: Any) -> Column:
        pa = self._arrow
        array = chunked.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0)
        if pa.types.is_dictionary(array.type):
            return CodedColumn(array.indices.to_numpy(), array.dictionary.to_pylist())
        if pa.types.is_string(array.type):
            texts: list[str] = array.to_pylist()
            return texts
        numbers: NDArray[np.int64] | NDArray[np.float64] = array.to_numpy()
        return numbers
