"""Read plain delimited text as arrays by pyarrow.

Text is plain if its lines end in a line feed, with or without a carriage return, and hold neither quotes nor NUL: then
no reader can disagree about its rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.data.readers.arrays import CodedColumn, Column, ColumnRole, IrregularTableError
from enhancer.data.readers.text_files import open_binary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

MIN_BYTES = 1 << 22
"""Size of a file from which on pyarrow is imported to read it."""
_CHUNK_BYTES = 1 << 24


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
    for chunk in _chunks(path, lines_above):
        count, columns = reader.read(chunk)
        yield range(first, first + count), columns
        first += count


def _chunks(path: Path, lines_above: int) -> Iterator[bytes]:
    """Yield whole lines of plain text."""
    with open_binary(path) as file:
        above = b"".join(file.readline() for _ in range(lines_above))
        if above.count(b"\n") != lines_above:  # the header is the whole file, or lines end otherwise
            raise IrregularTableError
        rest = b""
        while data := file.read(_CHUNK_BYTES):
            whole, end, after = data.rpartition(b"\n")
            if not end:
                rest += data
                continue
            yield _checked(rest + whole)
            rest = after
        if rest := rest.rstrip(b"\r\n"):
            yield _checked(rest)


def _checked(text: bytes) -> bytes:
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").removesuffix(b"\r")
    if b'"' in text or b"\r" in text or b"\0" in text:
        raise IrregularTableError
    return text


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

    def read(self, text: bytes) -> tuple[int, list[Column]]:
        """Return the number of rows and the columns."""
        # Arrow takes 0x1F for an integer.
        integers = self._times_are_integers and not (
            (b"x" in text or b"X" in text) and (b"0x" in text or b"0X" in text)  # one byte is found much faster
        )
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

    def _table(self, text: bytes, *, integer_times: bool) -> Any:
        pa = self._arrow
        types = {
            "id": pa.dictionary(pa.int32(), pa.string()),
            "number": pa.float64(),
            "time": pa.int64() if integer_times else pa.string(),
            "text": pa.string(),
        }
        return self._csv.read_csv(
            pa.BufferReader(text),
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
