"""Items and users added to a ranker after training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class AddedItems:
    """Items added after training. Immutable: an addition makes a new object, so readers need no lock."""

    ids: tuple[str, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)
    matrix: NDArray[np.float32] | None = None
    """float32 ``[m, width]``: rows of all items, the artifact's first; None if none were added."""


@dataclass(frozen=True, eq=False, slots=True)
class FoldedUser:
    """A user added after training."""

    row: NDArray[np.float32]
    """float32 ``[width]``: the user's row."""
    seen: NDArray[np.int64]
    """Item rows of the history, sorted and unique."""
