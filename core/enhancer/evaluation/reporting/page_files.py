"""Write a page and its table of numbers beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.errors import EvaluationError
from enhancer.files import atomic_replace

if TYPE_CHECKING:
    from pathlib import Path


def write_page(path: Path, page: str, table: str) -> Path:
    """Write a page, and its table as CSV under the same name with the ending ``.csv``.

    Args:
        path: Path of the page; its folder is created if necessary.
        page: Content of the page.
        table: Content of the CSV file.

    Returns:
        ``path``.

    Raises:
        EvaluationError: A file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, text in ((path, page), (path.with_suffix(".csv"), table)):
            with atomic_replace(file) as draft:
                draft.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"cannot write {path}: {error.strerror}") from None
    return path
