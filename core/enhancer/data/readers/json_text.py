"""Convert JSON values to text."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(value: Any) -> str:
    """Convert a JSON value to text: lists of plain values joined by commas, other containers as compact JSON.

    >>> json_text(["Drama", "War"]), json_text({"a": [1, None]}), json_text(None), json_text(4.5), json_text(7.0)
    ('Drama, War', '{"a":[1,null]}', '', '4.5', '7')
    """
    if isinstance(value, str):
        # JSON may hold lone surrogates; UTF-8 may not.
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if value is None:
        return ""
    if type(value) is int:  # excludes bool
        return repr(value)
    if isinstance(value, float):
        # A column with gaps that passed through a data frame holds NaN for a gap and 7.0 for 7.
        return "" if math.isnan(value) else repr(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, list) and all(isinstance(part, (str, int, float)) for part in value):
        return ", ".join(json_text(part) for part in value)
    try:
        return json_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    except RecursionError:
        return ""
