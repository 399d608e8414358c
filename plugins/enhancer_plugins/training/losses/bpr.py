"""Bayesian personalised ranking (BPR)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from enhancer_plugins.training.compiled import kernels
from enhancer_plugins.training.losses.contrast import Term, info_nce, info_nce_sum

if TYPE_CHECKING:
    from enhancer_plugins.training.sampler import Triples

__all__ = ["Term", "bpr_loss", "bpr_reference", "info_nce", "info_nce_sum"]


def bpr_reference(
    user_rows: torch.Tensor, item_rows: torch.Tensor, triples: Triples, extra: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute :func:`bpr_loss` by torch operations, for other devices than the CPU and as a reference."""
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
    """Return the BPR loss (Rendle et al. 2009): the mean of ``-log sigmoid(score(u, i) - score(u, j))``.

    Args:
        user_rows: float32 ``[n_users, d]``.
        item_rows: float32 ``[n_items, d]``.
        triples: Users, positives and negatives of the step, int64 ``[b]`` each.
        extra: float32 ``[b]``: term to add to each score difference; None for zero.

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
