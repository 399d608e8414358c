"""Tests for every exporter of vectors. Subclass :class:`ExporterConformance` in a test module that pytest collects.

::

    from enhancer.testing.exporter import ExporterConformance

    class TestMine(ExporterConformance):
        exporter_class = MyExporter

        @pytest.fixture
        def target(self, tmp_path):
            return str(tmp_path / "mine")

        def read(self, target, name):
            return {id_: (vector, payload) for ...}      # by the library itself; None if there is nothing
"""

# ruff: noqa: D102 - the name of a test states the requirement

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from enhancer.contracts import Context, ExportBatch, Exporter, ExportOrder
from enhancer.contracts.options import build_options
from enhancer.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from enhancer.contracts.operations.exporter import Exported
    from enhancer.contracts.record import Kind

_ROWS, _WIDTH = 300, 9
_IDS = ("a'b\"c", "ü/☃", "7", "007", " ")
"""Ids that need care in queries, paths and numbers."""


@dataclass
class PlantedTable:
    """Rows of very different lengths, so that ranking by cosines gives other answers; one is zero."""

    name: str = "items"
    kind: Kind = "item"
    seed: int = 0
    fails_at: int | None = None
    """Number of the batch that raises an error."""
    matrix: NDArray[np.float32] = field(init=False)
    ids: list[str] = field(init=False)

    def __post_init__(self) -> None:
        chance = np.random.default_rng(self.seed)
        lengths = chance.lognormal(0, 1, (_ROWS, 1))
        self.matrix = (chance.normal(size=(_ROWS, _WIDTH)) * lengths).astype(np.float32)
        self.matrix[3] = 0
        self.ids = [*_IDS, *(f"id-{row}" for row in range(len(_IDS), _ROWS))]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @property
    def width(self) -> int:
        """Length of each row."""
        return int(self.matrix.shape[1])

    @property
    def source(self) -> dict[str, Any]:
        """Origin, with a quotation mark."""
        return {"table": self.name, "artifact": f"planted's {self.seed}", "created_at": "2026-01-02T03:04:05+00:00"}

    def payload(self, row: int) -> dict[str, Any]:
        """Return what is known about a row; nothing about each third."""
        if row % 3 == 2:
            return {}
        return {"title": f"Title '{row}'", "profile": "née\n☃", "tags": ["a", "b"], "new": True}

    def batches(self) -> Iterator[ExportBatch]:
        """Stream all rows."""
        for number, start in enumerate(range(0, self.rows, 64)):
            if number == self.fails_at:
                raise ExportError("the table ended early")
            ids = self.ids[start : start + 64]
            payloads = [self.payload(row) for row in range(start, start + len(ids))]
            yield ExportBatch(ids, self.matrix[start : start + 64], payloads)


@dataclass
class PlantedSource:
    """A source of one table, whatever is asked for, and of a few interactions."""

    planted: PlantedTable = field(default_factory=PlantedTable)

    def table(self, name: str) -> PlantedTable:
        """Return the table."""
        self.planted.name = name
        return self.planted

    def interactions(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Stream three interactions."""
        yield np.array([0, 0], np.int64), np.array([1, 2], np.int64)
        yield np.array([1], np.int64), np.array([0], np.int64)


class ExporterConformance:
    """Whole or not at all, refusals, content as it was, and search by inner products."""

    exporter_class: ClassVar[type[Exporter]]
    options: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def read(self, target: str, name: str) -> dict[str, tuple[list[float], dict[str, Any]]] | None:
        """Read a table by the library itself: vector and payload of each id; None if there is no such table."""

    @pytest.fixture
    def target(self) -> str:
        """Place to write to, where nothing is."""
        raise NotImplementedError

    @property
    def what(self) -> str:
        """The table that is written."""
        return self.exporter_class.tables[0]

    def write(self, target: str, source: PlantedSource, *, replace: bool = False, name: str = "films") -> Exported:
        """Write a table."""
        options = build_options(self.exporter_class.options_class, self.options, where="options")
        exporter = self.exporter_class(options, Context())
        return exporter.write(source, ExportOrder(what=self.what, target=target, name=name, replace=replace))

    def holds(self, target: str, planted: PlantedTable) -> None:
        """Check that the target holds exactly the rows of a table."""
        found = self.read(target, "films")
        assert found is not None
        assert set(found) == set(planted.ids)
        for row, id_ in enumerate(planted.ids):
            vector, payload = found[id_]
            assert np.array_equal(np.asarray(vector, np.float32), planted.matrix[row])
            assert payload == planted.payload(row)

    def test_rows_are_read_back_bit_for_bit_with_their_payload(self, target: str) -> None:
        source = PlantedSource()
        written = self.write(target, source)
        written.close()
        assert (written.rows, written.width) == (_ROWS, _WIDTH)
        self.holds(target, source.planted)

    def test_search_ranks_by_inner_products(self, target: str) -> None:
        source = PlantedSource()
        written = self.write(target, source)
        if written.search is None:
            written.close()
            pytest.skip("the target does not search")
        queries = np.random.default_rng(5).normal(size=(20, _WIDTH)).astype(np.float32)
        found = written.search(queries, 5)
        written.close()
        best = np.argsort(-(queries @ source.planted.matrix.T), axis=1)[:, :5]
        assert found == [[source.planted.ids[row] for row in rows] for rows in best]

    def test_an_export_is_refused_where_one_is_and_replaces_it_when_asked(self, target: str) -> None:
        self.write(target, PlantedSource()).close()
        other = PlantedSource(PlantedTable(seed=1))
        with pytest.raises(ConfigError, match="exists"):
            self.write(target, other)
        self.holds(target, PlantedTable())
        self.write(target, other, replace=True).close()
        self.holds(target, other.planted)
        self.write(target, other, replace=True).close()
        self.holds(target, other.planted)

    def test_an_export_that_fails_leaves_nothing(self, target: str) -> None:
        with pytest.raises(ExportError, match="the table ended early"):
            self.write(target, PlantedSource(PlantedTable(fails_at=3)))
        assert self.read(target, "films") is None
        self.write(target, PlantedSource()).close()
        self.holds(target, PlantedTable())

    def test_an_export_that_fails_leaves_the_earlier_one(self, target: str) -> None:
        self.write(target, PlantedSource()).close()
        with pytest.raises(ExportError, match="the table ended early"):
            self.write(target, PlantedSource(PlantedTable(seed=1, fails_at=3)), replace=True)
        self.holds(target, PlantedTable())

    def test_an_id_that_no_database_takes_is_named(self, target: str) -> None:
        planted = PlantedTable()
        planted.ids[9] = "a\0b"
        with pytest.raises(ExportError, match="has characters that no database takes"):
            self.write(target, PlantedSource(planted))
        assert self.read(target, "films") is None
