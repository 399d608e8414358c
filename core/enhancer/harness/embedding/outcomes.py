"""Outcome of a text that was to be embedded: a vector, or the reason why it has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from enhancer.errors import EmbedderError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.harness.calls.cost_tracking import UsageTotals


@dataclass(frozen=True, slots=True)
class NoVector:
    """A text has no vector."""

    reason: str
    """Why, in words for the quarantine."""


@dataclass(frozen=True, slots=True)
class LaterVector(NoVector):
    """A text has no vector yet. It is no case for the quarantine."""

    in_job: bool
    """Whether the text is in a batch job; otherwise a later pass or run asks for the vector."""


IN_JOB = LaterVector("its text is in a batch job: `enhancer generate --batch` collects the vector", in_job=True)
"""Outcome of a text in an open batch job."""
Outcome: TypeAlias = "NDArray[np.float32] | NoVector"


class Encoder(Protocol):
    """Embeds texts for code without an event loop."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the embedder."""

    @property
    def size(self) -> int:
        """Number of texts to hand over at once."""

    @property
    def usage(self) -> UsageTotals | None:
        """Tokens and cost of a remote embedder; None without one."""

    @property
    def truncated(self) -> int:
        """Number of texts so far that are longer than the model reads, where that is known."""

    def encode(self, texts: Sequence[str]) -> list[Outcome]:
        """Return the vector of each text, float32 ``[dim]``, or why it has none.

        Raises:
            EmbedderError: The embedder failed, whatever the text.
        """


def usable_rows(table: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which rows of a table ``[n, dim]`` are vectors: finite, and not zero."""
    lengths = np.linalg.norm(table, axis=1)
    usable: NDArray[np.bool_] = np.isfinite(lengths) & (lengths > 0)
    return usable


class Worth:
    """Tells rows that are vectors from rows that are none, and stops an embedder that makes none.

    Args:
        name: Name of the embedder, for messages.
    """

    _MAX_IN_VAIN = 10
    """Texts without a vector, before the first that has one, after which the embedder counts as broken."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._in_vain: int | None = 0

    @property
    def proven(self) -> bool:
        """Whether any text has had a vector."""
        return self._in_vain is None

    def outcomes(self, table: NDArray[np.float32], usable: NDArray[np.bool_] | None = None) -> list[Outcome]:
        """Return the rows ``[n, dim]`` one by one, each either as a vector or as the lack of one.

        Args:
            table: The rows.
            usable: Which rows are vectors, if that is known.

        Raises:
            EmbedderError: None of the texts so far has a vector.
        """
        rows: list[Outcome] = list(np.ascontiguousarray(table, np.float32))
        bad = np.flatnonzero(~(usable_rows(table) if usable is None else usable))
        if len(rows) > len(bad):
            self._in_vain = None
        for row in bad:
            what = "not finite" if not np.isfinite(table[row]).all() else "zero"
            rows[row] = self.none(f"the embedder {self._name!r} made a vector that is {what} of its text")
        return rows

    def none(self, reason: str) -> NoVector:
        """Count a text without a vector.

        Raises:
            EmbedderError: None of the texts so far has a vector.
        """
        if self._in_vain is not None:
            self._in_vain += 1
            if self._in_vain >= self._MAX_IN_VAIN:
                raise EmbedderError(
                    f"the embedder {self._name!r} made no vector of any of the first {self._in_vain} texts: {reason}",
                    hint="check [embedder]; profiles that were paid for are kept, and the next run embeds them",
                )
        return NoVector(reason)
