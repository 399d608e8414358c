"""Read tables as streams of text, in the format that the file's ending names.

=====================  ======================================================================================
ending                 format
=====================  ======================================================================================
.csv                   RFC 4180; the first line names the columns; ``;``, tab or ``|`` if the header uses it
.tsv                   tab-separated, no quoting (a field quoted as a whole is unquoted)
.jsonl, .ndjson, .json one JSON object per line
.parquet, or a folder  needs the extra ``parquet``
.item, .user, .inter   RecBole atomic files: tab-separated, with headers such as ``item_id:token``
=====================  ======================================================================================

Text files may be compressed: ``ratings.csv.gz``, ``ratings.csv.zst``. Rows are read in blocks, column by column, and
are not kept. Text is UTF-8, with or without a byte-order mark, unless :class:`TableOptions` name another encoding.

A cell is a string. That of a list is a :class:`ListCell`, which also has the elements.
"""

from __future__ import annotations

from enhancer.data.readers.by_ending import ENDINGS, check_format, is_table, open_table
from enhancer.data.readers.cells import ListCell, cell, list_cell
from enhancer.data.readers.table_reader import AUTO, Block, ColumnKind, Role, TableOptions, TableReader
from enhancer.data.readers.text_files import COMPRESSIONS, guess_encoding, open_text

__all__ = [
    "AUTO",
    "COMPRESSIONS",
    "ENDINGS",
    "Block",
    "ColumnKind",
    "ListCell",
    "Role",
    "TableOptions",
    "TableReader",
    "cell",
    "check_format",
    "guess_encoding",
    "is_table",
    "list_cell",
    "open_table",
    "open_text",
]
