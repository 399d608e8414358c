"""Multinomial likelihood of each user's items, with one softmax over all items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from enhancer_plugins.training.compiled.worker import run_halves
from enhancer_plugins.training.interactions import trained
from enhancer_plugins.training.losses.contrast import BLOCK, exponentiate
from enhancer_plugins.training.losses.softmax import compared

if TYPE_CHECKING:
    from enhancer.contracts import TrainingData

_LARGE_BLOCK = 1 << 26
"""Logits in a block on other devices than the CPU: a quarter of a gigabyte."""


class _Step(NamedTuple):
    """The pairs of a step, ordered by user."""

    users: torch.Tensor
    """int64 ``[n]``: distinct users."""
    counts: torch.Tensor
    """float ``[n]``: number of pairs of each user."""
    starts: list[int]
    """``[n + 1]``: first pair of each user."""
    rows: torch.Tensor
    """int64 ``[b]``: position of each pair's user in ``users``."""
    columns: torch.Tensor
    """int64 ``[b]``: position of each pair's item among the candidate items."""


class _Blocks(torch.autograd.Function):
    """Loss and gradients in blocks of users, so that logits stay in the cache until their last use.

    The gradient by the logits of a user with ``n`` pairs is ``n softmax - counts``.
    """

    @staticmethod
    def forward(ctx: Any, anchors: torch.Tensor, items: torch.Tensor, step: _Step, factor: float) -> torch.Tensor:
        """Return the mean loss of the pairs. ``anchors`` are float ``[n, k]``, ``items`` float ``[m, k]``."""
        pairs, m = len(step.rows), len(items)
        block = BLOCK if anchors.device.type == "cpu" else _LARGE_BLOCK
        most = min(max(block // m, 16), len(anchors))
        to_anchors = torch.empty_like(anchors)

        def run(first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
            to_items = torch.zeros_like(items)
            loss = torch.zeros((), dtype=torch.float64, device=items.device)
            memory = anchors.new_empty((min(most, last - first), m))
            for begin in range(first, last, most):
                end = min(begin + most, last)
                of = slice(step.starts[begin], step.starts[end])
                own, counts = (step.rows[of] - begin) * m + step.columns[of], step.counts[begin:end]
                logits = torch.mm(anchors[begin:end], items.T, out=memory[: end - begin]).mul_(factor)
                loss -= logits.view(-1).index_select(0, own).sum(dtype=torch.float64)
                shift = logits.amax(1)
                total = exponentiate(logits.sub_(shift.unsqueeze(1))).sum(1)
                loss += (total.log() + shift).double() @ counts.double()
                logits.mul_((counts / total * (factor / pairs)).unsqueeze(1))
                logits.view(-1).index_add_(0, own, logits.new_full((len(own),), -factor / pairs))
                torch.mm(logits, items, out=to_anchors[begin:end])
                to_items.addmm_(logits.T, anchors[begin:end])
            return loss, to_items

        worthwhile = anchors.device.type == "cpu" and len(anchors) * m > BLOCK
        (one, left), (two, right) = run_halves(len(anchors), run, worthwhile=worthwhile)
        ctx.save_for_backward(to_anchors, left + right)
        return ((one + two) / pairs).to(anchors.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return *(tensor * gradients[0] for tensor in ctx.saved_tensors), None, None


class Multinomial:
    """Mean of ``-log( exp(s_ui/t) / sum_j exp(s_uj/t) )`` over the pairs of a step, ``j`` over all training items.

    Liang et al. 2018, "Variational Autoencoders for Collaborative Filtering", eq. 2. The sum includes the user's own
    items.

    Args:
        data: Training interactions. Items without any are left out of the sum.
        temperature: ``t``.
        cosine: Whether ``s`` is the cosine rather than the inner product.
        device: Device of the run.
        reference: Compute one matrix and differentiate automatically.
    """

    def __init__(
        self, data: TrainingData, *, temperature: float, cosine: bool, device: str, reference: bool = False
    ) -> None:
        self._temperature, self._cosine, self._reference = temperature, cosine, reference
        candidates = np.flatnonzero(trained(data)[1])
        place = np.full(data.n_items, -1, np.int64)
        place[candidates] = np.arange(len(candidates))
        self._candidates, self._place = (torch.from_numpy(array).to(device) for array in (candidates, place))
        self._last: tuple[torch.Tensor, torch.Tensor, _Step] | None = None

    def __call__(
        self, user_rows: torch.Tensor, item_rows: torch.Tensor, users: torch.Tensor, positives: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of one step.

        Args:
            user_rows: float32 ``[n_users, k]``.
            item_rows: float32 ``[n_items, k]``.
            users: int64 ``[b]``.
            positives: int64 ``[b]``.
        """
        step = self._ordered(users, positives, user_rows.dtype)
        anchors, items = compared(
            user_rows.index_select(0, step.users), item_rows.index_select(0, self._candidates), cosine=self._cosine
        )
        if self._reference:
            likelihood = torch.log_softmax(anchors @ items.T / self._temperature, 1)
            return -likelihood[step.rows, step.columns].mean()
        loss: torch.Tensor = _Blocks.apply(  # type: ignore[no-untyped-call]
            anchors.contiguous(), items.contiguous(), step, 1 / self._temperature
        )
        return loss

    def _ordered(self, users: torch.Tensor, positives: torch.Tensor, dtype: torch.dtype) -> _Step:
        """Order the pairs by user. The last result is kept, because every step may be the same one."""
        if self._last is not None and self._last[0] is users and self._last[1] is positives:
            return self._last[2]
        ordered, order = torch.sort(users, stable=True)
        distinct, rows, counts = torch.unique_consecutive(ordered, return_inverse=True, return_counts=True)
        starts = [0, *counts.cumsum(0).cpu().tolist()]
        columns = self._place.index_select(0, positives.index_select(0, order))
        step = _Step(distinct, counts.to(dtype), starts, rows, columns)
        self._last = users, positives, step
        return step
