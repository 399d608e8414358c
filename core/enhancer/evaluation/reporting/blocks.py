"""Sections that callers add to the report. All their text is escaped, never interpreted as markup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table of plain-text cells."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    numeric: bool = False
    """Whether cells are numbers: aligned right, and never broken."""


@dataclass(frozen=True, slots=True)
class ReportLists:
    """Short lists side by side, such as a user's items beside the recommendations of each arm."""

    lists: Mapping[str, Sequence[str]]
    """Entries by heading."""
    caption: str = ""
    marked: frozenset[str] = frozenset()
    """Entries to highlight, such as recommendations that are in the test split."""


@dataclass(frozen=True, slots=True)
class ReportFigures:
    """Plots side by side."""

    figures: Sequence[tuple[str, str, Markup]]
    """Title, description and SVG of each."""
    caption: str = ""


@dataclass(frozen=True, slots=True)
class ReportSection:
    """A section of the report."""

    title: str
    text: str = ""
    blocks: Sequence[ReportTable | ReportLists | ReportFigures] = ()
