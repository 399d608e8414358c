"""Open text files: plain or compressed, of any encoding, with bounded lines."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from enhancer.errors import DataError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPRESSIONS = (".gz", ".zst")
"""Endings of compressed text files."""
MAX_LINE = 1 << 26
"""Bytes of the longest line."""
_SAMPLE_BYTES = 1 << 16
"""Bytes read to detect the line ending of a file."""
_GUESSED_BYTES = 1 << 20
_UTF8 = ("utf-8", "ascii")


def table_ending(path: Path) -> str:
    """Return the ending that names the format of a table, in lower case and without that of a compression.

    >>> table_ending(Path("ratings.CSV.gz")), table_ending(Path("items.parquet"))
    ('.csv', '.parquet')
    """
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() if ending in COMPRESSIONS else ending


def guess_encoding(path: Path) -> str:
    """Return an encoding that the beginning of a text file may have: UTF-8 if it can be that."""
    with open_binary(path) as file:
        sample = file.read(_GUESSED_BYTES)
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in sample:  # no text, which reading as UTF-8 will tell
        return "utf-8"
    for encoding in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(sample)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


@contextmanager
def open_text(path: Path, encoding: str = "utf-8") -> Iterator[IO[str]]:
    """Open a text file, decompressed if its ending says so.

    Args:
        path: Path of the file.
        encoding: Name of its encoding. UTF-8 is read in any case where one byte is one character in this encoding: only
            bytes that are not UTF-8 are read as characters of it.

    Raises:
        DataError: The text is not of this encoding, a line is longer than :data:`MAX_LINE` bytes, or the compressed
            data is damaged. The message names the line.
        PluginError: A library is missing.
    """
    with open_binary(path) as file:
        # Detecting every kind of line ending takes three times as long; files that use CR alone are rare.
        newline = "\n" if b"\n" in file.read(_SAMPLE_BYTES) else ""
    codec, errors = _codec(encoding)
    with open_binary(path) as file, io.TextIOWrapper(file, codec, errors, newline) as lines:
        try:
            yield lines
        except UnicodeError:
            raise _undecodable(path, encoding) from None


@contextmanager
def open_binary(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is compressed if its ending says so; lines longer than :data:`MAX_LINE` are refused.

    Raises:
        DataError: A line is too long, or the compressed data is damaged.
        PluginError: A library is missing.
    """
    with _decompressed(path) as file, io.BufferedReader(_BoundedLines(path, file), _SAMPLE_BYTES) as lines:
        try:
            yield lines
        except (OSError, EOFError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(f"{path}: damaged or cut off ({error})", hint="copy or download the file again") from None


@contextmanager
def _decompressed(path: Path) -> Iterator[Any]:
    ending = path.suffix.lower()
    if ending == ".gz":
        with gzip.open(path, "rb") as file:
            yield file
    elif ending == ".zst":
        try:
            import pyarrow as pa
        except ImportError:
            raise PluginError(f"reading {path} needs pyarrow", hint='pip install "enhancer[parquet]"') from None
        with pa.input_stream(str(path), compression="zstd") as file:
            yield file
    else:
        with path.open("rb", buffering=0) as file:
            yield file


class _BoundedLines(io.RawIOBase):
    """Bytes of a file; a line that is too long raises while it is read, before it fills the memory."""

    def __init__(self, path: Path, file: Any) -> None:
        self._path, self._file = path, file
        self._since_end = 0
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        end = max(data.rfind(b"\n"), data.rfind(b"\r"))
        self._since_end = self._since_end + len(data) if end < 0 else len(data) - end
        self._read += len(data)
        if self._since_end > MAX_LINE:
            line = 1 + _line_ends(self._path, self._read - self._since_end + 1)
            raise DataError(
                f"{self._path}, line {line}: longer than {MAX_LINE >> 20} MiB", hint="end each row by a line break"
            )
        return len(data)


def _line_ends(path: Path, size: int) -> int:
    """Count the line feeds in the first bytes of a file."""
    ends = 0
    with _decompressed(path) as file:
        while size > 0 and (data := file.read(min(size, _SAMPLE_BYTES))):
            ends += data.count(b"\n")
            size -= len(data)
    return ends


def _codec(encoding: str) -> tuple[str, str]:
    """Return the codec and the handler of errors that read an encoding."""
    name = codecs.lookup(encoding).name
    if name in _UTF8:
        return "utf-8-sig", "strict"
    if _is_single_byte(name):
        handler = f"enhancer-{name}"
        codecs.register_error(handler, lambda error: _as_single_bytes(error, name))
        return "utf-8-sig", handler
    return name, "strict"


def _is_single_byte(encoding: str) -> bool:
    try:
        return len(bytes(range(0x20, 0x7F)).decode(encoding)) == 0x7F - 0x20 and len(b"\xe9\xe8".decode(encoding)) == 2
    except UnicodeError:
        return False


def _as_single_bytes(error: UnicodeError, encoding: str) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode(encoding), error.end


def _undecodable(path: Path, encoding: str) -> DataError:
    location = f"{path}, line {_first_undecodable_line(path, encoding)}"
    if codecs.lookup(encoding).name in _UTF8:
        return DataError(
            f"{location}: not UTF-8", hint="save the file as UTF-8, or name its encoding by [data] encoding"
        )
    return DataError(f"{location}: not {encoding}", hint="correct [data] encoding")


def _first_undecodable_line(path: Path, encoding: str) -> int:
    codec, errors = _codec(encoding)
    decoder = codecs.getincrementaldecoder(codec)(errors)
    number = 0
    with open_binary(path) as lines:
        try:
            for number, line in enumerate(lines, 1):  # noqa: B007 - the number is the result
                decoder.decode(line)
        except UnicodeError:
            pass
    return number
