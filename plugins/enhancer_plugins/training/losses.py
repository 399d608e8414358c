"""Losses that backbones and fusers share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from enhancer_plugins.training import kernels

if TYPE_CHECKING:
    from enhancer_plugins.training.sampler import Triples


_SAFE = 30.0
"""Logits no larger than this may be shifted by a constant in float32: their exponentials stay above 1e-27."""


def bpr_reference(
    user_rows: torch.Tensor, item_rows: torch.Tensor, triples: Triples, extra: torch.Tensor | None = None
) -> torch.Tensor:
    """:func:`bpr_loss` in plain torch: for other devices than the CPU, and for comparison."""
    users = user_rows.index_select(0, triples.users)
    difference = item_rows.index_select(0, triples.positives) - item_rows.index_select(0, triples.negatives)
    score = (users * difference).sum(1)
    if extra is not None:
        score = score + extra
    return torch.nn.functional.softplus(-score).mean()


class _Bpr(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, user_rows: torch.Tensor, item_rows: torch.Tensor, triples: Triples, extra: torch.Tensor
    ) -> torch.Tensor:
        losses, slopes = torch.empty_like(extra), torch.empty_like(extra)
        ctx.inputs = [t.detach().numpy() for t in (user_rows, item_rows, *triples)]
        ctx.slopes = slopes
        kernel = kernels.bpr_scores(user_rows.shape[1])
        kernel(*ctx.inputs, extra.detach().numpy(), losses.numpy(), slopes.numpy())
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        users, items, *triples = ctx.inputs
        scale = float(gradients[0]) / len(triples[0])
        user_gradients, item_gradients = torch.empty(users.shape), torch.empty(items.shape)
        kernel = kernels.bpr_gradients(users.shape[1])
        kernel(users, items, *triples, ctx.slopes.numpy(), scale, user_gradients.numpy(), item_gradients.numpy())
        return user_gradients, item_gradients, None, ctx.slopes * scale


def bpr_loss(
    user_rows: torch.Tensor, item_rows: torch.Tensor, triples: Triples, extra: torch.Tensor | None = None
) -> torch.Tensor:
    """Bayesian personalised ranking (Rendle et al. 2009): the mean of ``-log sigmoid(score(u, i) - score(u, j))``.

    Args:
        user_rows: float32 ``[n_users, d]``.
        item_rows: float32 ``[n_items, d]``.
        triples: The step's users, positives and negatives, int64 ``[b]`` each.
        extra: float32 ``[b]``: added to each score difference.

    Returns:
        A scalar with gradient to ``user_rows``, ``item_rows`` and ``extra``.
    """
    if user_rows.device.type != "cpu" or user_rows.dtype != torch.float32:
        return bpr_reference(user_rows, item_rows, triples, extra)
    if extra is None:
        extra = torch.zeros(len(triples.users))
    loss: torch.Tensor = _Bpr.apply(  # type: ignore[no-untyped-call]
        user_rows.contiguous(), item_rows.contiguous(), triples, extra.contiguous()
    )
    return loss


class _InfoNce(torch.autograd.Function):
    """Softmax cross entropy of a product of two factors, and its gradient, in few passes over the logits.

    With ``e = exp(left @ right' + bias - shift)`` and ``t`` the sums of its rows, the gradients are
    ``(w / t) * (e @ right) - w * right[positions]`` and ``e' @ (w / t * left)`` less ``w * left`` at the positions. So
    the matrix is written once, made exponential in place, and read by two products: bias and shift ride in the first
    as a column more, the sums in the second.
    """

    @staticmethod
    def forward(
        ctx: Any,
        left: torch.Tensor,
        right: torch.Tensor,
        positions: torch.Tensor,
        weights: torch.Tensor,
        bias: torch.Tensor,
        bound: float,
    ) -> torch.Tensor:
        ones = [torch.ones(len(rows), 1, dtype=rows.dtype, device=rows.device) for rows in (left, right)]
        fixed = bound < _SAFE
        column = (bias - bound if fixed else bias).unsqueeze(1)
        exponential = torch.cat([left, ones[0]], 1) @ torch.cat([right, column], 1).T
        shift = weights.new_tensor(bound)
        if not fixed:
            shift = exponential.amax(1)
            exponential.sub_(shift.unsqueeze(1))
        exponential.exp_()
        own = right.index_select(0, positions)
        product = exponential @ torch.cat([right, ones[1]], 1)
        total = product[:, -1]
        share = weights / total
        loss: torch.Tensor = weights @ (total.log() + shift - torch.linalg.vecdot(left, own))
        to_left = share.unsqueeze(1) * product[:, :-1] - weights.unsqueeze(1) * own
        to_right = None
        if ctx.needs_input_grad[1]:
            to_right = exponential.T @ (share.unsqueeze(1) * left)
            to_right.index_add_(0, positions, weights.unsqueeze(1) * left, alpha=-1)
        ctx.save_for_backward(to_left, to_right)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        to_left, to_right = ctx.saved_tensors
        return to_left * gradients[0], None if to_right is None else to_right * gradients[0], None, None, None, None


def info_nce(
    anchors: torch.Tensor,
    targets: torch.Tensor,
    positions: torch.Tensor,
    *,
    temperature: float,
    anchor_counts: torch.Tensor | None = None,
    target_counts: torch.Tensor | None = None,
) -> torch.Tensor:
    """InfoNCE with cosine similarity: the mean over anchors of the cross entropy of finding their own target.

    A batch with repeated rows need not repeat the work: give each distinct row once with its count. The result is that
    of the batch with its repetitions, as ``sum_t c_t exp(x_t) = sum_t exp(x_t + log c_t)``.

    Args:
        anchors: float ``[n, d]``.
        targets: float ``[m, d]``.
        positions: int64 ``[n]``: which target is an anchor's own.
        temperature: Divides the cosines.
        anchor_counts: ``[n]``: how often each anchor occurs; once if None.
        target_counts: ``[m]``: how often each target occurs; once if None.
    """
    left = torch.nn.functional.normalize(anchors, dim=1, eps=1e-6) / temperature
    right = torch.nn.functional.normalize(targets, dim=1, eps=1e-6)
    weights = torch.ones(len(left), device=left.device) if anchor_counts is None else anchor_counts
    weights = weights.to(left.dtype) / weights.sum()
    bias = torch.zeros(len(right)) if target_counts is None else target_counts.to(left.dtype).log()
    loss: torch.Tensor = _InfoNce.apply(  # type: ignore[no-untyped-call]
        left, right, positions, weights, bias.to(left), 1 / temperature
    )
    return loss
