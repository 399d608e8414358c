"""The verb ``export``: write a table to another system, and compare what it finds with exact search."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from enhancer.contracts.operations.exporter import TABLES, ExportOrder
from enhancer.errors import ConfigError, ExportError, did_you_mean
from enhancer.project.exporting.recall import measured_recall, query_sample
from enhancer.project.exporting.source import ProjectSource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from enhancer.contracts.operations.exporter import Exporter
    from enhancer.project.parts import ProjectParts

SAMPLE: Final = 200
"""Queries of the check."""
K: Final = 10
"""Rows that each query asks for."""
_ASKED_BY: Final = {"items": "users", "users": "items"}
"""Tables whose rows are the queries: factors of items are asked with those of users, and the other way round."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """Result of one export."""

    exporter: str
    """Name of the exporter."""
    target: str
    """Where the rows are, without passwords."""
    table: str
    """The table that was exported."""
    name: str
    """Name of the table or collection in the target."""
    rows: int
    """Rows that the target holds."""
    width: int
    """Length of the vectors."""
    k: int
    """Rows that each query of the check asked for."""
    queries: int
    """Queries of the check; 0 for a target that does not search."""
    recall: float | None
    """Share of the exact answers that the target found; None without a check."""
    seconds: float
    """Wall time of writing, without the check."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``enhancer export --json`` prints."""
        return {
            "exporter": self.exporter,
            "target": self.target,
            "table": self.table,
            "name": self.name,
            "rows": self.rows,
            "width": self.width,
            "metric": "inner product",
            "queries": self.queries,
            f"recall@{self.k}": self.recall,
            "seconds": round(self.seconds, 3),
        }


def export(
    parts: ProjectParts,
    use: str,
    target: str,
    *,
    table: str | None,
    name: str | None,
    artifact: Path,
    options: Mapping[str, Any],
    replace: bool,
    payload: bool,
    k: int,
    sample: int,
) -> ExportReport:
    """Write a table; see :meth:`enhancer.Project.export`."""
    exporter: Exporter = parts.plugins.create("exporter", use, options, parts.context, where=f"export {use}")
    what = exporter.tables[0] if table is None else table
    if what not in exporter.tables:
        raise ConfigError(f"{use} exports no table {what!r}", hint=did_you_mean(what, exporter.tables))
    order = ExportOrder(what=what, target=target, name=name or what.replace("-", "_"), replace=replace)
    with parts.pinned():
        source = ProjectSource(parts, artifact, payload=payload)
        if what in TABLES and not source.table(what).rows:
            raise ExportError(f"there are no {what} to export")
        begun = time.perf_counter()
        written = exporter.write(source, order)
        seconds = time.perf_counter() - begun
        try:
            recall, queries = None, 0
            if written.search is not None and sample:
                plain = ProjectSource(parts, artifact, payload=False)
                checked = plain.table(what)
                if checked.rows != written.rows:
                    raise ExportError(f"{exporter.place(target)} holds {written.rows:,} of {checked.rows:,} rows")
                asking = query_sample(plain.table(_ASKED_BY.get(what, what)), sample)
                recall, queries = measured_recall(checked, written.search, asking, k), len(asking)
        finally:
            written.close()
    return ExportReport(
        exporter=use,
        target=exporter.place(target),
        table=what,
        name=order.name,
        rows=written.rows,
        width=written.width,
        k=k,
        queries=queries,
        recall=recall,
        seconds=seconds,
    )
