"""Write a page and its numbers beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.errors import EvaluationError
from enhancer.files import atomic_replace

if TYPE_CHECKING:
    from pathlib import Path


def write_page(path: Path, page: str, table: str, record: str | None = None) -> Path:
    """Write a page, and beside it its numbers under the same name with the endings ``.csv`` and ``.json``.

    Args:
        path: Path of the page; its folder is created if necessary.
        page: Content of the page.
        table: Content of the CSV file.
        record: Content of the JSON file; None writes none.

    Returns:
        ``path``.

    Raises:
        EvaluationError: A file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = [(path.with_suffix(".csv"), table)]
        if record is not None:
            beside.append((path.with_suffix(".json"), record))
        for file, text in ((path, page), *beside):
            with atomic_replace(file) as draft:
                draft.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"cannot write {path}: {error.strerror}") from None
    return path
