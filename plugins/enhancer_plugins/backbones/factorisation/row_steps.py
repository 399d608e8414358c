"""Training steps of a factorisation machine on the drawn rows only.

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
    from enhancer_plugins.backbones.factorisation.drawn_rows import DenseFields, SideGradients
    from enhancer_plugins.backbones.factorisation.sparse_fields import SparseFields
    from enhancer_plugins.training.model import Recipe

_KINDS: tuple[Kind, Kind] = ("user", "item")


class DrawnScores(NamedTuple):
    """Sums and biases of the drawn rows, without gradient."""

    users: torch.Tensor
    """``p`` of the drawn users, float32 ``[m, d]``."""
    items: torch.Tensor
    """``q`` of the drawn items, float32 ``[k, d]``."""
    user_biases: torch.Tensor | None
    """``c``, float32 ``[m]``; None if it is not needed."""
    item_biases: torch.Tensor
    """``b``, float32 ``[k]``."""
    at_users: NDArray[np.int64]
    """int64 ``[b]``: positions of the step's users in ``users``."""
    at_items: list[NDArray[np.int64]]
    """int64 ``[b]`` each: positions of the step's items in ``items``, for each column of items."""


class LossGradients(NamedTuple):
    """Loss and its gradients by the fields of :class:`DrawnScores`. Gradients by rows may be overwritten."""

    loss: float
    users: torch.Tensor
    items: torch.Tensor
    user_biases: torch.Tensor | None
    item_biases: torch.Tensor


def bpr(drawn: DrawnScores) -> LossGradients:
    """Return :func:`~enhancer_plugins.training.losses.bpr.bpr_loss` of users, positives and negatives."""
    (positives, negatives), b = drawn.at_items, len(drawn.at_users)
    places = drawn.at_users, positives, negatives
    rows, biases = (drawn.users.numpy(), drawn.items.numpy()), drawn.item_biases.numpy()
    losses, slopes = np.empty(b, np.float32), np.empty(b, np.float32)
    width = drawn.users.shape[1]
    kernels.bpr_scores(width)(*rows, *places, biases[positives] - biases[negatives], losses, slopes)
    by_users, by_items = torch.empty_like(drawn.users), torch.empty_like(drawn.items)
    kernels.bpr_gradients(width)(*rows, *places, slopes, 1 / b, by_users.numpy(), by_items.numpy())
    # an item that is both positive and negative gets exactly zero
    n = len(biases)
    by_biases = np.bincount(positives, slopes, n) - np.bincount(negatives, slopes, n)
    loss = float(losses.mean(dtype=np.float64))
    return LossGradients(loss, by_users, by_items, None, torch.from_numpy((by_biases / b).astype(np.float32)))


class Machine(Protocol):
    """Part of a factorisation machine that :class:`RowSteps` uses."""

    data: TrainingData
    recipe: Recipe
    fusion: Fusion
    constant_columns: tuple[torch.Tensor, torch.Tensor] | None
    widens: bool
    sparse: dict[Kind, SparseFields]
    trainable: dict[str, torch.Tensor]

    def sparse_sums(self, kind: Kind) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the sums over ids and side features ``[n, d]`` and their biases ``[n]``, with gradient."""

    def dense_fields(self, kind: Kind) -> DenseFields | None:
        """Return the dense fields of one side, without gradient; None without any."""


class RowSteps:
    """Loss and gradients of successive steps, computed on the CPU in the same memory.

    Args:
        model: Factorisation machine.
    """

    def __init__(self, model: Machine) -> None:
        self._model = model
        constant = (None, None) if model.constant_columns is None else model.constant_columns
        self._counts = model.data.n_users, model.data.n_items
        self._sides = [DrawnSide(n, columns) for n, columns in zip(self._counts, constant, strict=True)]
        self._by_rows = [torch.zeros(n, model.recipe.dim) for n in self._counts]
        self._by_biases = [torch.zeros(n) for n in self._counts]

    def gradients(
        self, users: NDArray[np.int64], items: Sequence[NDArray[np.int64]], loss: Callable[[DrawnScores], LossGradients]
    ) -> tuple[float, dict[str, torch.Tensor | None]]:
        """Return the loss of a step, without the penalty, and its gradient by each parameter.

        Args:
            users: int64 ``[b]``.
            items: int64 ``[b]`` each.
            loss: Loss function of the drawn rows.

        Returns:
            The loss, and the gradients. The next step overwrites the gradients.
        """
        (at_users,), at_items = self._sides[0].draw([users]), self._sides[1].draw(items)
        columns = self._columns()
        sums = [self._model.sparse_sums(kind) for kind in _KINDS]
        with torch.no_grad():
            made = [
                side.forward(*own, self._model.dense_fields(kind), None if wide is None else wide.detach().contiguous())
                for kind, side, own, wide in zip(_KINDS, self._sides, sums, columns, strict=True)
            ]
            item_biases = made[1][1]
            assert item_biases is not None
            found = loss(DrawnScores(made[0][0], made[1][0], made[0][1], item_biases, at_users, at_items))
            by_biases = (found.user_biases, found.item_biases)
            gradients = [
                side.backward(by_rows, by_bias)
                for side, by_rows, by_bias in zip(self._sides, (found.users, found.items), by_biases, strict=True)
            ]
            for number, side in enumerate(self._sides):
                self._by_rows[number].zero_().index_copy_(0, side.rows, gradients[number].rows)
                by_bias = by_biases[number]
                if by_bias is not None:
                    self._by_biases[number].zero_().index_copy_(0, side.rows, by_bias)
        return found.loss, self._by_parameter(sums, columns, gradients)

    def _columns(self) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the trained columns of the drawn rows, with gradient; None without any."""
        model = self._model
        if model.constant_columns is not None or not model.widens:
            return None, None
        wide = model.fusion.inputs_of(*(side.rows for side in self._sides))
        return (None, None) if wide is None else (wide.users, wide.items)

    def _by_parameter(
        self,
        sums: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
        columns: Sequence[torch.Tensor | None],
        gradients: Sequence[SideGradients],
    ) -> dict[str, torch.Tensor | None]:
        """Return the gradient by each parameter; torch propagates through side features and the fusion."""
        found: dict[str, torch.Tensor | None] = {}
        chain: list[tuple[torch.Tensor, torch.Tensor]] = []
        for number, kind in enumerate(_KINDS):
            rows, bias = sums[number]
            by_rows, by_biases, own = self._by_rows[number], self._by_biases[number], gradients[number]
            if kind in self._model.sparse:
                chain.append((rows, by_rows))
                chain += [] if bias is None else [(bias, by_biases)]
            else:
                found[f"{kind}s"] = by_rows
                found |= {} if bias is None else {f"{kind}_bias": by_biases.unsqueeze(1)}
            for name, by in (("fields", own.factors), ("linear", own.linear)):
                found |= {} if by is None else {f"{kind}_{name}": by}
            wide = columns[number]
            if wide is not None and wide.requires_grad and own.columns is not None:
                chain.append((wide, own.columns))
        if "level" in self._model.trainable:  # the global term is part of every score once, like the bias of an item
            found["level"] = self._by_biases[1].sum().view(1, 1)
        rest = {name: p for name, p in self._model.trainable.items() if name not in found}
        if chain and rest:
            outputs, by_outputs = ([pair[end] for pair in chain] for end in (0, 1))
            further = torch.autograd.grad(outputs, list(rest.values()), by_outputs, allow_unused=True)
            found |= dict(zip(rest, further, strict=True))
        return found
