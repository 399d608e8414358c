"""Steps of a factorisation machine on the rows that a step draws.

A step draws a part of the users and items only. Products of hundreds of dense columns over all rows would dominate its
cost, so dense columns are read for the drawn rows alone. Loss and gradient are the same as with all rows. Parts with
few columns (ids, side features, the optimiser) still process all rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch

from enhancer_plugins.backbones.factorisation.drawn_rows import DrawnSide
from enhancer_plugins.training.compiled import kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts import Fusion, TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.backbones.factorisation.drawn_rows import Fields, Slopes
    from enhancer_plugins.backbones.factorisation.sparse_fields import SparseFields
    from enhancer_plugins.training.model import Recipe

_KINDS: tuple[Kind, Kind] = ("user", "item")


class Drawn(NamedTuple):
    """What a step scores by, without gradient."""

    users: torch.Tensor
    """``p`` of the drawn users, float32 ``[m, d]``."""
    items: torch.Tensor
    """``q`` of the drawn items, float32 ``[k, d]``."""
    user_levels: torch.Tensor | None
    """``c``, float32 ``[m]``; None where it says nothing."""
    item_levels: torch.Tensor
    """``b``, float32 ``[k]``."""
    at_users: NDArray[np.int64]
    """int64 ``[b]``: places of the step's users among the drawn ones."""
    at_items: list[NDArray[np.int64]]
    """Likewise of its items, for each column of them that was given."""


class Found(NamedTuple):
    """A loss, and its gradients by the parts of :class:`Drawn`; gradients by rows may be overwritten."""

    loss: float
    users: torch.Tensor
    items: torch.Tensor
    user_levels: torch.Tensor | None
    item_levels: torch.Tensor


def bpr(drawn: Drawn) -> Found:
    """:func:`~enhancer_plugins.training.losses.bpr.bpr_loss` of users, positives and negatives."""
    (positives, negatives), b = drawn.at_items, len(drawn.at_users)
    places = drawn.at_users, positives, negatives
    rows, levels = (drawn.users.numpy(), drawn.items.numpy()), drawn.item_levels.numpy()
    losses, slopes = np.empty(b, np.float32), np.empty(b, np.float32)
    width = drawn.users.shape[1]
    kernels.bpr_scores(width)(*rows, *places, levels[positives] - levels[negatives], losses, slopes)
    by_users, by_items = torch.empty_like(drawn.users), torch.empty_like(drawn.items)
    kernels.bpr_gradients(width)(*rows, *places, slopes, 1 / b, by_users.numpy(), by_items.numpy())
    # what is gained and lost by one item that is both is summed alike, and leaves nothing
    n = len(levels)
    by_levels = np.bincount(positives, slopes, n) - np.bincount(negatives, slopes, n)
    loss = float(losses.mean(dtype=np.float64))
    return Found(loss, by_users, by_items, None, torch.from_numpy((by_levels / b).astype(np.float32)))


class Machine(Protocol):
    """What :class:`RowSteps` uses of a factorisation machine."""

    data: TrainingData
    recipe: Recipe
    fusion: Fusion
    constant: tuple[torch.Tensor, torch.Tensor] | None
    widens: bool
    sparse: dict[Kind, SparseFields]
    moved: dict[str, torch.Tensor]

    def core(self, kind: Kind) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the sums over ids and side features ``[n, d]`` and their linear terms ``[n]``, with gradient."""

    def fields(self, kind: Kind) -> Fields | None:
        """Return the dense fields of one side, without gradient; None without any."""


class RowSteps:
    """Computes loss and gradients of one step after another, on the CPU, in the same memory.

    Args:
        model: Whose parameters, side features and fusion.
    """

    def __init__(self, model: Machine) -> None:
        self._model = model
        constant = (None, None) if model.constant is None else model.constant
        self._counts = model.data.n_users, model.data.n_items
        self._sides = [DrawnSide(n, columns) for n, columns in zip(self._counts, constant, strict=True)]
        self._by_rows = [torch.zeros(n, model.recipe.dim) for n in self._counts]
        self._by_levels = [torch.zeros(n) for n in self._counts]

    def gradients(
        self, users: NDArray[np.int64], items: Sequence[NDArray[np.int64]], loss: Callable[[Drawn], Found]
    ) -> tuple[float, dict[str, torch.Tensor | None]]:
        """Loss of a step, without the penalty, and its gradient by each parameter.

        Args:
            users: int64 ``[b]``.
            items: int64 ``[b]`` each.
            loss: Of the rows that these draw.

        Returns:
            The loss; the gradients, in memory that the next step overwrites.
        """
        (at_users,), at_items = self._sides[0].draw([users]), self._sides[1].draw(items)
        columns = self._columns()
        core = [self._model.core(kind) for kind in _KINDS]
        with torch.no_grad():
            made = [
                side.forward(*own, self._model.fields(kind), None if wide is None else wide.detach().contiguous())
                for kind, side, own, wide in zip(_KINDS, self._sides, core, columns, strict=True)
            ]
            item_levels = made[1][1]
            assert item_levels is not None
            found = loss(Drawn(made[0][0], made[1][0], made[0][1], item_levels, at_users, at_items))
            by_levels = (found.user_levels, found.item_levels)
            slopes = [
                side.backward(by_rows, by_level)
                for side, by_rows, by_level in zip(self._sides, (found.users, found.items), by_levels, strict=True)
            ]
            for number, side in enumerate(self._sides):
                self._by_rows[number].zero_().index_copy_(0, side.rows, slopes[number].rows)
                by_level = by_levels[number]
                if by_level is not None:
                    self._by_levels[number].zero_().index_copy_(0, side.rows, by_level)
        return found.loss, self._collected(core, columns, slopes)

    def _columns(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Trained columns of the drawn rows, with gradient."""
        model = self._model
        if model.constant is not None or not model.widens:
            return None, None
        wide = model.fusion.inputs_of(*(side.rows for side in self._sides))
        return (None, None) if wide is None else (wide.users, wide.items)

    def _collected(
        self,
        core: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
        columns: Sequence[torch.Tensor | None],
        slopes: Sequence[Slopes],
    ) -> dict[str, torch.Tensor | None]:
        """Gradients by every parameter: those at hand, and through side features and a fusion by torch."""
        found: dict[str, torch.Tensor | None] = {}
        chain: list[tuple[torch.Tensor, torch.Tensor]] = []
        for number, kind in enumerate(_KINDS):
            rows, level = core[number]
            by_rows, by_levels, slope = self._by_rows[number], self._by_levels[number], slopes[number]
            if kind in self._model.sparse:
                chain.append((rows, by_rows))
                chain += [] if level is None else [(level, by_levels)]
            else:
                found[f"{kind}s"] = by_rows
                found |= {} if level is None else {f"{kind}_bias": by_levels.unsqueeze(1)}
            for name, by in (("fields", slope.factors), ("linear", slope.linear)):
                found |= {} if by is None else {f"{kind}_{name}": by}
            wide = columns[number]
            if wide is not None and wide.requires_grad and slope.columns is not None:
                chain.append((wide, slope.columns))
        if "level" in self._model.moved:  # the global term is in every score once, as the level of an item is
            found["level"] = self._by_levels[1].sum().view(1, 1)
        rest = {name: p for name, p in self._model.moved.items() if name not in found}
        if chain and rest:
            outputs, by_outputs = ([pair[end] for pair in chain] for end in (0, 1))
            further = torch.autograd.grad(outputs, list(rest.values()), by_outputs, allow_unused=True)
            found |= dict(zip(rest, further, strict=True))
        return found
