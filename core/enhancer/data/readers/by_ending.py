"""Open a table with the reader for its format: a native one that is recognised, else the one that its ending names."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from enhancer.data.readers.delimited import DelimitedReader
from enhancer.data.readers.frames import FrameReader, frame_at
from enhancer.data.readers.native import NAMES, names_of, native_format, recognise
from enhancer.data.readers.table_reader import AUTO, TableOptions
from enhancer.data.readers.text_files import COMPRESSIONS, table_ending
from enhancer.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from enhancer.data.readers.native import NativeFormat
    from enhancer.data.readers.table_reader import TableReader

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".item", ".user", ".inter")
"""Supported file endings. All but ``.parquet`` may be followed by one of :data:`COMPRESSIONS`."""
_UNMISTAKABLE = (".jsonl", ".ndjson", ".parquet", ".inter")
"""Endings of files that are never looked into for a native format."""


def is_table(path: Path) -> bool:
    """Check whether a file has the ending of a table.

    >>> from pathlib import Path
    >>> is_table(Path("ratings.csv.gz")), is_table(Path("ratings.xlsx")), is_table(Path("a.parquet.gz"))
    (True, False, False)
    """
    return table_ending(path) in ENDINGS and (table_ending(path) != ".parquet" or path.suffix.lower() == ".parquet")


def open_table(path: Path, options: TableOptions | None = None) -> TableReader:
    """Open a table with the reader for its format.

    Files in the form of a public data set are recognised by what they hold, unless the options name the format (see
    :mod:`enhancer.data.readers.native`). All others are read by their ending.

    Args:
        path: Path of the file, of a folder of Parquet files, or that a table in memory is registered under.
        options: How the file is read.

    Raises:
        ConfigError: The file does not exist or has an unknown ending, it is a folder of other files, a library is
            missing, or the options name a format that does not exist.
        DataError: The file is empty, or its header is damaged.
    """
    if (frame := frame_at(path)) is not None:
        return FrameReader(frame, options)
    if not path.exists():
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings[:1000])
        raise ConfigError(f"no such file: {path}", hint=hint if hint and hint.startswith("did") else None)
    options = options or TableOptions()
    native = _recognised(path) if options.format == AUTO else _named(path, options)
    if native is not None:
        try:
            return native.open(path)
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    if not path.is_dir() and not is_table(path):
        shown = f"ending {path.suffix.lower()!r}" if path.suffix else "file without an ending"
        compressed = f", all but .parquet also with {' or '.join(COMPRESSIONS)}"
        raise ConfigError(
            f"{path}: unknown {shown}, and not in the form of a known data set",
            hint=f"known: {', '.join(ENDINGS)}{compressed}",
        )
    try:
        return _open(path, options)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except csv.Error as error:
        raise DataError(f"{path}, line 1: {error}") from None


def check_format(options: TableOptions) -> None:
    """Check that the format of a table is known.

    Raises:
        ConfigError: No data set of this name is known, or it has no such table. The hint names the closest one.
    """
    known = names_of(options.role)
    if options.format == AUTO or options.format in known:
        return
    key = f"[data] {options.table}_format = {options.format!r}"
    problem = f"has no table of {options.table}" if options.format in NAMES else "is not known"
    raise ConfigError(f"{key} {problem}", hint=did_you_mean(options.format, (AUTO, *known)))


def _recognised(path: Path) -> NativeFormat | None:
    """Return the native format in which a file is read without being named; None if it has none."""
    ending = table_ending(path)
    if path.is_dir() or ending in _UNMISTAKABLE:
        return None
    try:
        found = recognise(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except DataError:
        if not ending:
            return None  # nothing says that the file should hold a table
        raise
    return found if found is not None and found.automatic else None


def _named(path: Path, options: TableOptions) -> NativeFormat:
    """Return the native format that the options name."""
    check_format(options)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, and [data] {options.table}_format = {options.format!r} is of files")
    try:
        return native_format(options.format, options.role, path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None


def _open(path: Path, options: TableOptions) -> TableReader:
    ending = ".parquet" if path.is_dir() else table_ending(path)
    if ending == ".csv":
        return DelimitedReader(path, delimiter=None, quoted=True, typed=False, options=options)
    if ending == ".tsv":
        return DelimitedReader(path, delimiter="\t", quoted=False, typed=False, options=options)
    if ending in {".item", ".user", ".inter"}:
        return DelimitedReader(path, delimiter="\t", quoted=False, typed=True, options=options)
    if ending == ".parquet":
        from enhancer.data.readers.parquet import ParquetReader

        return ParquetReader(path, options)
    from enhancer.data.readers.json_lines import JsonLinesReader

    return JsonLinesReader(path, options)
