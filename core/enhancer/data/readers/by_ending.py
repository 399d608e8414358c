"""Open a table with the reader for its format: a native one that is recognised, else the one that its ending names."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from enhancer.data.readers.delimited import DelimitedReader
from enhancer.data.readers.native import recognise
from enhancer.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from enhancer.data.readers.table_reader import TableReader

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".item", ".user", ".inter")
"""Supported file endings."""
_UNMISTAKABLE = (".jsonl", ".ndjson", ".parquet", ".inter")
"""Endings of files that are never looked into for a native format."""


def open_table(path: Path) -> TableReader:
    """Open a table with the reader for its format.

    Files in the form of a public data set are recognised by what they hold (see :mod:`enhancer.data.readers.native`).
    All others are read by their ending.

    Raises:
        ConfigError: The file does not exist, is a folder or has an unknown ending, or a library is missing.
        DataError: The file is empty, or its header is damaged.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, not a file")
    if not path.exists():
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings[:1000])
        raise ConfigError(f"no such file: {path}", hint=hint if hint and hint.startswith("did") else None)
    ending = path.suffix.lower()
    try:
        native = recognise(path) if ending not in _UNMISTAKABLE else None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    if native is not None and native.automatic:
        return native.open(path)
    if ending not in ENDINGS:
        shown = f"ending {ending!r}" if ending else "file without an ending"
        raise ConfigError(
            f"{path}: unknown {shown}, and not in the form of a known data set", hint=f"known: {', '.join(ENDINGS)}"
        )
    try:
        if ending == ".csv":
            return DelimitedReader(path, delimiter=None, quoted=True, typed=False)
        if ending == ".tsv":
            return DelimitedReader(path, delimiter="\t", quoted=False, typed=False)
        if ending in {".item", ".user", ".inter"}:
            return DelimitedReader(path, delimiter="\t", quoted=False, typed=True)
        if ending == ".parquet":
            from enhancer.data.readers.parquet import ParquetReader

            return ParquetReader(path)
        from enhancer.data.readers.json_lines import JsonLinesReader

        return JsonLinesReader(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except csv.Error as error:
        raise DataError(f"{path}, line 1: {error}") from None
