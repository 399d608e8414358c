"""Read tables as streams of text, in the format that the file's ending names.

=====================  ======================================================================================
ending                 format
=====================  ======================================================================================
.csv                   RFC 4180; the first line names the columns; ``;``, tab or ``|`` if the header uses it
.tsv                   tab-separated, no quoting (a field quoted as a whole is unquoted)
.jsonl, .ndjson        one JSON object per line
.parquet               needs the extra ``parquet``
.item, .user, .inter   RecBole atomic files: tab-separated, with headers such as ``item_id:token``
=====================  ======================================================================================

Rows are read in blocks, column by column, and are not kept. All text is UTF-8, with or without a byte-order mark.
"""

from __future__ import annotations

from enhancer.data.readers.by_ending import ENDINGS, open_table
from enhancer.data.readers.table_reader import BLANK, Block, ColumnKind, TableReader

__all__ = ["BLANK", "ENDINGS", "Block", "ColumnKind", "TableReader", "open_table"]
