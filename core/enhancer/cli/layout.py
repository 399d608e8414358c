"""Lay out tables and text for the terminal or pipe that stdout is.

On a terminal, output fits its width. In a pipe, a table row is one line of any length, so that ``grep`` and ``awk``
see whole rows; ``kubectl``, ``gh`` and ``uv`` do the same. An exported ``COLUMNS`` sets the width in both cases.
No colours or control characters are written, and nothing is cut off.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = 2
_WORDS = (16, 10)
"""Words longer than this may be broken. The second limit is for tables of numbers, which are hard to compare in blocks;
numbers themselves are never broken."""
_GLUE = "\ue000"
"""Stands for the space after ``±`` while lines are broken: a private-use character, one cell wide."""


def terminal_width() -> int | None:
    """Return the number of columns of stdout, or None where a line may have any length."""
    with contextlib.suppress(ValueError):
        if (columns := int(os.environ.get("COLUMNS", ""))) > 0:
            return columns
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (AttributeError, OSError, ValueError):  # a pipe, a file, or replaced by an object without a descriptor
        return None


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Align rows in columns.

    Where the terminal is too narrow for the table, cells are wrapped; where it is too narrow for that, each row becomes
    a block of lines with a name and a value.

    Args:
        head: Column names.
        rows: Cells, as many in each row as there are names.
        right: Indices of the columns that are aligned right: numbers.

    >>> print(table(["name", "n"], [["a", "1"], ["bcd", "12"]], right=[1]))
    name   n
    ----  --
    a      1
    bcd   12
    """
    cells = [[one_line(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    room = terminal_width()
    if room is None or sum(widths) + _GAP * (len(widths) - 1) <= room:
        # Not by rich: for ten thousand rows it takes seconds, and here it has nothing to do.
        cells.insert(1, ["-" * width for width in widths])
        return "\n".join(_line(row, widths, right) for row in cells)
    cells = [[cell.replace("± ", f"±{_GLUE}") for cell in row] for row in cells]
    limits = _WORDS if right else _WORDS[:1]
    fitted = next((found for limit in limits if (found := _fit(cells, widths, right, room, limit))), None)
    if fitted is None:
        return "\n\n".join(pairs(list(zip(head, row, strict=True))) for row in rows)
    return _wrapped(cells, fitted, right).replace(_GLUE, " ")


def _width(text: str) -> int:
    """Return the number of terminal cells that a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> str:
    padded = (_pad(cell, width, column in right) for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
    return (" " * _GAP).join(padded).rstrip()


def _pad(cell: str, width: int, right: bool = False) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _fit(
    cells: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[int], room: int, longest_word: int
) -> Sequence[int] | None:
    """Narrow the widest columns until the table fits; None if it does not fit even with one word to a line."""
    room -= _GAP * (len(widths) - 1)
    least = []
    for place, column in enumerate(zip(*cells, strict=True)):
        longest = max((_width(word) for cell in column for word in cell.split(" ")), default=0)
        least.append(longest if place in right else min(longest, longest_word))
    if sum(least) > room:
        return None
    fitted = list(widths)
    while sum(fitted) > room:
        fitted[max((c for c in range(len(fitted)) if fitted[c] > least[c]), key=fitted.__getitem__)] -= 1
    return fitted


def _wrapped(cells: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[int]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, show_header=False, pad_edge=False, padding=(0, _GAP, 0, 0))
    for column, width in enumerate(widths):
        grid.add_column(width=width, justify="right" if column in right else "left", overflow="fold")
    grid.add_row(*map(Text, cells[0]))
    grid.add_row(*("-" * width for width in widths))
    for row in cells[1:]:
        grid.add_row(*map(Text, row))
    out = io.StringIO()
    total = sum(widths) + _GAP * (len(widths) - 1)
    Console(file=out, width=total, color_system=None, legacy_windows=False, force_jupyter=False).print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Align names and values, a pair on a line.

    >>> print(pairs([("entities", "12"), ("cost", "$0.10")]))
    entities  12
    cost      $0.10
    """
    width = max((_width(name) for name, _ in rows), default=0)
    return "\n".join(prose(value, _pad(name, width) + " " * _GAP) for name, value in rows)


def prose(text: str, first: str = "", *, indent: int | None = None, piped: int | None = None) -> str:
    """Wrap text between words. A word longer than a line, such as a path, stays whole so that it can be copied.

    >>> print(prose("Cells are wrapped.", "- ", piped=12))
    - Cells are
      wrapped.

    Args:
        text: One paragraph.
        first: Put before the first line.
        indent: Spaces before the other lines; by default as many as ``first`` is wide.
        piped: Width in a pipe; by default lines are not broken there.
    """
    text = one_line(text)
    width = terminal_width() or piped
    if width is None or not text:
        return f"{first}{text}".rstrip()
    rest = " " * (_width(first) if indent is None else indent)
    return textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def one_line(text: str) -> str:
    """Replace characters that could move the cursor or colour the terminal by spaces."""
    return "".join(c if c.isprintable() else " " for c in text)
