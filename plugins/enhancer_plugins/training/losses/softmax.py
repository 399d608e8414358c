"""Sampled softmax: each positive against negatives that are shared by all users of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from enhancer_plugins.training.compiled import kernels
from enhancer_plugins.training.compiled.worker import run_halves
from enhancer_plugins.training.interactions import trained
from enhancer_plugins.training.losses.contrast import BLOCK, MAX_LOGIT
from enhancer_plugins.training.run import generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.contracts import TrainingData


_MIN_TOTAL = 1e-30
"""Lower bound of a sum of exponentials that is divided by."""
_MASKED = -1e30
"""Logit of a masked negative. It is finite, so that gradients are finite if all negatives of a user are masked."""


class _Blocks(torch.autograd.Function):
    """Loss and gradients in blocks of users, so that logits stay in the cache until their last use."""

    @staticmethod
    def forward(
        ctx: Any,
        anchors: torch.Tensor,
        negatives: torch.Tensor,
        targets: torch.Tensor,
        starts: torch.Tensor,
        bias: torch.Tensor,
        mask: Callable[[torch.Tensor, int], None],
        scale: tuple[float, bool],
    ) -> torch.Tensor:
        """Return the mean loss of pairs that are ordered by user.

        Args:
            ctx: Stores the gradients.
            anchors: float ``[n, k]``: a row per user.
            negatives: float ``[m, k]``.
            targets: float ``[b, k]``: a row per pair.
            starts: int64 ``[n + 1]``: first pair of each user.
            bias: float ``[m]``: added to the logits of each negative.
            mask: Masks the user's own items in a block of logits, given its first user.
            scale: Factor of the products, and whether logits may exceed
                :data:`~enhancer_plugins.training.losses.contrast.MAX_LOGIT`.
        """
        factor, shifted = scale
        pairs, most = len(targets), min(max(BLOCK // len(negatives), 16), len(anchors))
        to_anchors, to_targets = torch.empty_like(anchors), torch.empty_like(targets)

        def run(first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
            to_negatives, losses = torch.zeros_like(negatives), torch.zeros((), dtype=torch.float64)
            memory = anchors.new_empty((most, len(negatives)))
            for begin in range(first, last, most):
                rows = slice(begin, min(begin + most, last))
                of = slice(int(starts[rows.start]), int(starts[rows.stop]))
                left, own_rows = anchors[rows], targets[of]
                place = torch.repeat_interleave(
                    torch.arange(len(left)), starts[begin + 1 : rows.stop + 1] - starts[rows]
                )
                matrix = torch.addmm(bias, left, negatives.T, alpha=factor, out=memory[: len(left)])
                mask(matrix, begin)
                shift = matrix.amax(1) if shifted else matrix.new_zeros(len(left))
                total = matrix.sub_(shift.unsqueeze(1)).exp_().sum(1) if shifted else matrix.exp_().sum(1)
                own = torch.linalg.vecdot(left.index_select(0, place), own_rows) * factor
                others = (total.log() + shift).index_select(0, place)
                whole = torch.logaddexp(own, others)
                losses += (whole - own).sum(dtype=torch.float64)
                missed = (
                    (others - whole).exp_().mul_(factor / pairs).unsqueeze(1)
                )  # one minus the probability of the positive
                share = matrix.new_zeros(len(left)).index_add_(0, place, missed.squeeze(1))
                share = (share / total.clamp_min(_MIN_TOTAL)).unsqueeze(1)
                torch.mm(matrix, negatives, out=to_anchors[rows]).mul_(share)
                to_anchors[rows].index_add_(0, place, missed * own_rows, alpha=-1)
                to_negatives.addmm_(matrix.T, share * left)
                torch.mul(left.index_select(0, place), -missed, out=to_targets[of])
            return losses, to_negatives

        worthwhile = len(anchors) * len(negatives) > BLOCK
        (one, left), (two, right) = run_halves(len(anchors), run, worthwhile=worthwhile)
        ctx.save_for_backward(to_anchors, left + right, to_targets)
        return ((one + two) / pairs).to(anchors.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return *(tensor * gradients[0] for tensor in ctx.saved_tensors), None, None, None, None


def compared(*rows: torch.Tensor, cosine: bool) -> list[torch.Tensor]:
    """Return rows whose products are the scores: unchanged, or of unit length for cosines."""
    return [torch.nn.functional.normalize(r, dim=1, eps=1e-6) for r in rows] if cosine else list(rows)


class SampledSoftmax:
    """Mean of ``-log( exp(s_ui/t) / (exp(s_ui/t) + sum_j exp(s_uj/t)) )`` over the pairs of a step.

    The negatives ``j`` are drawn once per step, uniformly and without replacement, from the items with a training
    interaction. A user's own items are masked. With ``in_batch``, the positives of the step's other pairs are
    negatives, too, as often as they occur.

    Args:
        data: Training interactions.
        negatives: Items drawn per step; all items if there are fewer.
        temperature: ``t``.
        cosine: Whether ``s`` is the cosine rather than the inner product.
        seed: Seed of the negatives.
        device: Device of the run.
        in_batch: Whether positives of other pairs are negatives, too.
        reference: Differentiate automatically on the CPU, too, as on other devices.
    """

    def __init__(
        self,
        data: TrainingData,
        *,
        negatives: int,
        temperature: float,
        cosine: bool,
        seed: int,
        device: str,
        in_batch: bool = False,
        reference: bool = False,
    ) -> None:
        self._blocks = device == "cpu" and not reference
        self._temperature, self._cosine, self._in_batch = temperature, cosine, in_batch
        self._candidates = torch.from_numpy(np.flatnonzero(trained(data)[1]))
        self._count = min(negatives, len(self._candidates))
        order = np.argsort(data.users, kind="stable")
        self._items = torch.from_numpy(data.items[order].astype(np.int64)).to(device)
        counts = np.bincount(data.users, minlength=data.n_users)
        self._degree = torch.from_numpy(counts).to(device)
        self._start = torch.from_numpy(np.cumsum(counts) - counts).to(device)
        self._n_items = data.n_items
        self.random = generator(seed, "softmax")

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
        device = user_rows.device
        drawn = self._candidates[torch.randperm(len(self._candidates), generator=self.random)[: self._count]].to(device)
        bias = torch.zeros(len(drawn), dtype=user_rows.dtype, device=device)
        if self._in_batch:
            others, counts = torch.unique(positives, return_counts=True)
            # An item that is also drawn appears twice, and counts twice.
            drawn, bias = torch.cat([drawn, others]), torch.cat([bias, counts.to(bias.dtype).log()])
        if self._blocks:
            return self._by_blocks(user_rows, item_rows, (users, positives), drawn, bias)
        distinct, places = torch.unique(users, return_inverse=True)
        anchors, negatives, targets = compared(
            user_rows[distinct], item_rows[drawn], item_rows[positives], cosine=self._cosine
        )
        own_items = self._own_items(distinct, drawn)
        against = torch.addmm(bias, anchors, negatives.T, alpha=1 / self._temperature).masked_fill(own_items, _MASKED)
        own = (anchors.index_select(0, places) * targets).sum(1) / self._temperature
        # The sum over the negatives is computed once per distinct user.
        others = torch.logsumexp(against, 1).index_select(0, places)
        return (torch.logaddexp(own, others) - own).mean()

    def _by_blocks(
        self,
        user_rows: torch.Tensor,
        item_rows: torch.Tensor,
        pairs: tuple[torch.Tensor, torch.Tensor],
        drawn: torch.Tensor,
        bias: torch.Tensor,
    ) -> torch.Tensor:
        """Compute the loss by :class:`_Blocks`."""
        users, order = torch.sort(pairs[0], stable=True)
        distinct, counts = torch.unique_consecutive(users, return_counts=True)
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        anchors, negatives, targets = compared(
            user_rows.index_select(0, distinct),
            item_rows.index_select(0, drawn),
            item_rows.index_select(0, pairs[1].index_select(0, order)),
            cosine=self._cosine,
        )
        items, first = self._items.numpy(), self._start.numpy()
        columns = [torch.arange(self._count), torch.arange(self._count, len(drawn))]
        places = []
        for column in columns:  # an item may be both drawn and another pair's positive
            place = np.full(self._n_items, -1, np.int32)
            place[drawn[column].numpy()] = column.numpy()
            places.append(place)

        def mask(matrix: torch.Tensor, begin: int) -> None:
            those = distinct[begin : begin + len(matrix)]
            ranges = first[those.numpy()], self._degree[those].numpy()
            for place in places[: 1 + self._in_batch]:
                kernels.mask_own_items(matrix.numpy(), *ranges, items, place, _MASKED)

        scale = 1 / self._temperature, not self._cosine or 1 / self._temperature > MAX_LOGIT
        loss: torch.Tensor = _Blocks.apply(  # type: ignore[no-untyped-call]
            *(rows.contiguous() for rows in (anchors, negatives, targets)), starts, bias, mask, scale
        )
        return loss

    def _own_items(self, users: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Return which of the drawn items belong to each user: bool ``[len(users), len(drawn)]``."""
        column = torch.full((self._n_items,), -1, dtype=torch.int64, device=drawn.device)
        items, place_of = torch.unique(drawn, return_inverse=True)
        column[items] = torch.arange(len(items), device=drawn.device)
        degree = self._degree[users]
        row = torch.repeat_interleave(torch.arange(len(users), device=drawn.device), degree)
        offset = torch.arange(len(row), device=drawn.device) - torch.repeat_interleave(
            degree.cumsum(0) - degree, degree
        )
        place = column[self._items[self._start[users][row] + offset]]
        found = torch.zeros(len(users), len(items), dtype=torch.bool, device=drawn.device)
        found[row[place >= 0], place[place >= 0]] = True
        return found[:, place_of]
