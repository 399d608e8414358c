"""Exporters: write vectors with ids and payload to another system, such as a vector database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from enhancer.contracts.options import Context, Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts.record import Kind

    Search = Callable[[NDArray[np.float32], int], list[list[str]]]
    """Asks the target for the ids of the ``k`` rows with the largest inner product, for float32 ``[n, width]``."""

TABLES: tuple[str, ...] = ("items", "users", "item-vectors", "user-vectors")
"""Tables of vectors: factors of the artifact, and stored vectors of profiles and texts."""


@dataclass(frozen=True, slots=True, eq=False)
class ExportBatch:
    """Some rows of a table."""

    ids: list[str]
    vectors: NDArray[np.float32]
    """float32 ``[len(ids), width]``."""
    payloads: list[dict[str, Any]]
    """What is known about each row, JSON-serialisable; a row has only those of ``title``, ``profile``, ``tags``,
    ``generated_at`` and ``new`` that apply to it."""


class VectorTable(Protocol):
    """Rows of equal width that are ranked by inner products."""

    @property
    def name(self) -> str:
        """One of :data:`TABLES`."""

    @property
    def kind(self) -> Kind:
        """Kind of the entities."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def width(self) -> int:
        """Length of each vector."""

    @property
    def source(self) -> dict[str, Any]:
        """Origin of the vectors, JSON-serialisable: version, table, and the artifact's hash and time, or the inputs.

        Targets keep it where they can, and it marks what a later export may replace.
        """

    def batches(self) -> Iterator[ExportBatch]:
        """Stream all rows, in the same order each time."""


class ExportSource(Protocol):
    """Everything that can be exported."""

    def table(self, name: str) -> VectorTable:
        """Return a table of :data:`TABLES`.

        Raises:
            ArtifactError: There is no artifact.
            StoreError: The store has no such vectors.
        """

    def interactions(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Stream the interactions that the artifact keeps: rows of users and of items, int64 ``[n]`` each."""


@dataclass(frozen=True, kw_only=True)
class ExportOrder:
    """What to write where."""

    what: str
    """One of :attr:`Exporter.tables`."""
    target: str
    """File, folder, URL or repository, as the exporter takes it."""
    name: str
    """Name of the table or collection within the target."""
    replace: bool = False
    """Whether to replace an earlier export. Without it, an existing one is an error."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an exporter has written."""

    rows: int
    """Number of rows, as the target counts them."""
    width: int
    """Length of the vectors."""
    search: Search | None = None
    """Search in the target, for the recall; None for a target that does not search."""
    close: Callable[[], None] = field(default=lambda: None)
    """Called when the search is no longer needed."""


class Exporter(ABC):
    """Writes a table to another system: whole or not at all.

    Readers of the target see the earlier export or the new one, never a part of one. Whatever was there that is no
    export of enhancer's is never replaced. Scores are inner products, so a target ranks by them, not by cosine.
    """

    options_class: ClassVar[type[Options]] = Options
    tables: ClassVar[tuple[str, ...]] = TABLES
    """What it can write; the first is the default."""

    def __init__(self, options: Options, context: Context) -> None:
        """Store the options and the context. Nothing is connected.

        Args:
            options: Validated options; an instance of ``options_class``.
            context: Location of the project.
        """
        self.options = options
        self.context = context

    def place(self, target: str) -> str:
        """Return the target for messages and results, without passwords and keys. By default it is unchanged."""
        return target

    @abstractmethod
    def write(self, source: ExportSource, order: ExportOrder) -> Exported:
        """Write a table.

        Raises:
            ConfigError: The target cannot be used, or something is there that may not be replaced.
            ExportError: The target failed.
        """
