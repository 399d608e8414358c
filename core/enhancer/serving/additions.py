"""What a ranker has beyond its artifact."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Added:
    """Items that training never saw. Replaced whole, never changed: readers need no lock."""

    ids: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)
    matrix: NDArray[np.float32] | None = None
    """float32 ``[m, k]``: all items, the artifact's first; None where nothing was added."""


@dataclass(frozen=True, eq=False, slots=True)
class Folded:
    """A user whom training never saw."""

    row: NDArray[np.float32]
    """float32 ``[k]``."""
    seen: NDArray[np.int64]
    """Rows of the items in the history: sorted, each once."""
