"""Rules that all exporters share: names, refusals, and texts that every system takes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from enhancer.contracts import ExportBatch
from enhancer.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enhancer.contracts import ExportOrder, VectorTable

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,49}")
_LONGEST_REASON: Final = 300


def check_name(name: str) -> None:
    """Check the name of a table or collection, which must need no quoting anywhere.

    Raises:
        ConfigError: It has other characters than letters, digits and underscores, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a table", hint="use letters, digits and underscores, at most 50, no digit first"
        )


def check_parent(path: Path) -> None:
    """Check that the folder that a target is written to exists.

    Raises:
        ConfigError: It does not.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent}", hint="create it, or choose another")


def refuse(where: str, order: ExportOrder, *, ours: bool) -> None:
    """Raise an error about something that is at the target already, if it may not be replaced.

    Args:
        where: What is there, for the message.
        order: What is to be written.
        ours: Whether it is an earlier export.

    Raises:
        ConfigError: It is no export, or ``order.replace`` is not set.
    """
    if not ours:
        raise ConfigError(f"{where} is no export of enhancer and is not replaced", hint="choose another name")
    if not order.replace:
        raise ConfigError(f"{where} exists", hint="--force replaces it, and another name is written beside it")


def clean_batches(table: VectorTable) -> Iterator[ExportBatch]:
    """Stream a table with texts that are valid UTF-8 without NUL, as databases require.

    Raises:
        ExportError: An id cannot be written.
    """
    for batch in table.batches():
        for id_ in batch.ids:
            if clean(id_) != id_:
                raise ExportError(
                    f"the {table.kind} id {id_!r} has characters that no database takes", hint="change it in the table"
                )
        payloads = [{key: _cleaned(value) for key, value in payload.items()} for payload in batch.payloads]
        yield ExportBatch(batch.ids, batch.vectors, payloads)


def clean(text: str) -> str:
    """Replace NUL, and what is not valid UTF-8, by question marks."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode()


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    return [_cleaned(one) for one in value] if isinstance(value, list) else value


def as_json(value: dict[str, Any]) -> str:
    """Return a payload or an origin as JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)


def reason(error: BaseException) -> str:
    """Return the first line of a library's message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:_LONGEST_REASON] if lines else 'no message'}"
