"""Show results in notebooks, and turn them into data frames."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Library = Literal["pandas", "polars", "arrow"]
_MOST_ROWS = 60
"""Rows of a table that a notebook shows; the frame has all."""


class Shown(ABC):
    """A result with rows: a notebook shows it as HTML, and :meth:`to_frame` returns it as a data frame."""

    __slots__ = ()

    @abstractmethod
    def to_rows(self) -> list[dict[str, Any]]:
        """Return the result as rows of a table, with the same keys in each."""

    def to_frame(self, library: Library = "pandas") -> Any:
        """Return the result as a data frame.

        Args:
            library: ``pandas``, ``polars``, or ``arrow`` for a PyArrow table.

        Raises:
            ConfigError: The library is not installed, or unknown.
        """
        return frame_of(self.to_rows(), library)

    def html_lines(self) -> Sequence[str]:
        """Return the sentences that stand above the table, the most important first."""
        return ()

    def html_rows(self) -> list[dict[str, Any]]:
        """Return the rows that a notebook shows; those of :meth:`to_rows` by default."""
        return self.to_rows()

    def html_more(self) -> str:
        """Return HTML to show below the table."""
        return ""

    def _repr_html_(self) -> str:
        rows = self.html_rows()
        table = html_pairs(rows[0]) if len(rows) == 1 else html_table(rows)
        return html_lines(self.html_lines()) + table + self.html_more()


def frame_of(rows: Sequence[Mapping[str, Any]], library: Library = "pandas") -> Any:
    """Return rows as a data frame.

    Args:
        rows: Rows with the same keys.
        library: ``pandas``, ``polars``, or ``arrow`` for a PyArrow table.

    Raises:
        ConfigError: The library is not installed, or unknown.
    """
    from enhancer.errors import ConfigError, did_you_mean

    known = ("pandas", "polars", "arrow")
    if library not in known:
        raise ConfigError(f"unknown library {library!r}", hint=did_you_mean(library, known))
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    package = {"arrow": "pyarrow"}.get(library, library)
    try:
        module: Any = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{package} is not installed", hint=f"pip install {package}") from error
    if library == "arrow":
        return module.table(columns)
    return module.DataFrame(columns) if library == "pandas" else module.DataFrame(columns, strict=False)


def html_lines(lines: Iterable[str]) -> str:
    """Return sentences as paragraphs, the first one bold."""
    found = [escape(line) for line in lines if line]
    return "".join(f"<p>{f'<b>{line}</b>' if place == 0 else line}</p>" for place, line in enumerate(found))


def html_table(rows: Sequence[Mapping[str, Any]], *, most: int = _MOST_ROWS) -> str:
    """Return rows as a table of HTML; numbers stand right.

    Args:
        rows: Rows with the same keys.
        most: Largest number of rows shown; a line below says how many there are.
    """
    if not rows:
        return ""
    head = "".join(f"<th>{escape(_label(name))}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in rows[:most])
    left = f"<p>{most} of {len(rows):,} rows; <code>to_frame()</code> has all.</p>" if len(rows) > most else ""
    return f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{left}'


def html_pairs(row: Mapping[str, Any]) -> str:
    """Return names and values as a table of two columns."""
    body = "".join(f"<tr><th>{escape(_label(name))}</th>{_cell(value)}</tr>" for name, value in row.items())
    return f'<table class="dataframe"><tbody>{body}</tbody></table>'


def html_page(title: str, page: str) -> str:
    """Return a page that is folded away until it is asked for.

    Args:
        title: Line to click on.
        page: A complete page of HTML. It stands in a frame of its own, so that its styles do not reach the notebook.
    """
    style = "width:100%;height:720px;border:1px solid #ccc;border-radius:8px"
    frame = f'<iframe srcdoc="{escape(page)}" style="{style}" sandbox title="{escape(title)}"></iframe>'
    return f"<details><summary>{escape(title)}</summary>{frame}</details>"


def _label(name: str) -> str:
    return str(name).replace("_", " ")


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return f"<td>{'' if value is None else 'yes' if value else 'no'}</td>"
    if isinstance(value, int):
        return f'<td style="text-align:right">{value:,}</td>'
    if isinstance(value, float):
        return f'<td style="text-align:right">{"" if math.isnan(value) else f"{value:.4f}"}</td>'
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return f'<td style="text-align:left">{escape(str(value))}</td>'
