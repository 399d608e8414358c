"""InfoNCE between embeddings and mapped vectors, with its gradient, in few passes over the logits.

With ``e = exp(left @ right')``, counts ``c`` of the targets and the weighted row sums ``t = e @ c``, the gradients by
``left`` and ``right`` are ``w / t * (e @ (c * right)) - w * right[positions]`` and ``c * (e' @ (w / t * left))`` less
``w * left`` at the positions. So the matrix is written once, made exponential in place, and read by two products; the
logarithms of the counts never have to be added to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from enhancer_plugins.training.pairs import both

if TYPE_CHECKING:
    from collections.abc import Sequence

_SAFE = 30.0
"""Logits no larger than this need no shift in float32: their exponentials lie between 1e-13 and 1e13."""
_TINY = 1e-6
"""Rows shorter than this are divided by this instead of by their length."""
_WORTH_SHARING = 200_000
"""Logits in all, below which a second thread brings nothing."""


class Term(NamedTuple):
    """Anchors that are to find their own target. Distinct rows, with how often each occurs."""

    anchors: torch.Tensor
    """float ``[n, d]``."""
    targets: torch.Tensor
    """float ``[m, d]``."""
    positions: torch.Tensor
    """int64 ``[n]``: which target is an anchor's own."""
    anchor_counts: torch.Tensor | None = None
    """``[n]``; once each if None."""
    target_counts: torch.Tensor | None = None
    """``[m]``; likewise."""


class _Found(NamedTuple):
    loss: torch.Tensor
    to_anchors: torch.Tensor
    to_targets: torch.Tensor | None
    """None where nobody asked."""


@torch.no_grad()
def _solve(term: Term, temperature: float, *, targets: bool) -> _Found:
    """Loss of one term, and its gradients by the anchors and, if ``targets``, by the targets."""
    dtype, device = term.anchors.dtype, term.anchors.device
    counts = [
        torch.ones(len(rows), dtype=dtype, device=device) if given is None else given.to(dtype)
        for rows, given in ((term.anchors, term.anchor_counts), (term.targets, term.target_counts))
    ]
    weights, often = counts[0] / counts[0].sum(), counts[1]
    units, lengths = zip(*(_unit(rows) for rows in (term.anchors, term.targets)), strict=True)
    left, right = units[0] / temperature, units[1]
    matrix = left @ right.T
    shift = None
    if 1 / temperature > _SAFE:
        shift = matrix.amax(1)
        matrix.sub_(shift.unsqueeze(1))
    matrix.exp_()
    total = matrix @ often
    own = right.index_select(0, term.positions)
    level = total.log() if shift is None else total.log() + shift
    loss: torch.Tensor = weights @ (level - torch.linalg.vecdot(left, own))
    share = (weights / total).unsqueeze(1)
    weight = weights.unsqueeze(1)
    to_left = share * (matrix @ (often.unsqueeze(1) * right)) - weight * own
    to_anchors = _through(to_left / temperature, units[0], lengths[0])
    if not targets:
        return _Found(loss, to_anchors, None)
    to_right = often.unsqueeze(1) * (matrix.T @ (share * left))
    to_right.index_add_(0, term.positions, weight * left, alpha=-1)
    return _Found(loss, to_anchors, _through(to_right, right, lengths[1]))


def _unit(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / length.clamp_min(_TINY), length


def _through(gradient: torch.Tensor, unit: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Gradient by a row from that by its direction: what points along the row is lost."""
    along = torch.linalg.vecdot(unit, gradient).unsqueeze(1) * (length > _TINY)
    return gradient.addcmul(unit, along, value=-1).div_(length.clamp_min(_TINY))


def _solve_all(terms: Sequence[Term], temperature: float, gradients: Sequence[bool]) -> list[_Found]:
    """All terms, the largest at once with the others. Each is one thread's work: who does it changes no bit."""
    sizes = [len(term.anchors) * len(term.targets) for term in terms]
    largest = max(range(len(terms)), key=sizes.__getitem__)
    rest = [number for number in range(len(terms)) if number != largest]

    def solve(number: int) -> _Found:
        return _solve(terms[number], temperature, targets=gradients[number])

    worth = bool(rest) and sum(sizes) >= _WORTH_SHARING and terms[0].anchors.device.type == "cpu"
    own, found = both(lambda: solve(largest), lambda: [solve(number) for number in rest], worth=worth)
    return [*found[:largest], own, *found[largest:]]


class _InfoNce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, temperature: float, rest: Sequence[Any], *rows: torch.Tensor) -> torch.Tensor:
        pairs = [(rows[n], rows[n + 1]) for n in range(0, len(rows), 2)]
        terms = [Term(*pair, *more) for pair, more in zip(pairs, rest, strict=True)]
        found = _solve_all(terms, temperature, ctx.needs_input_grad[3::2])
        ctx.save_for_backward(*(tensor for one in found for tensor in (one.to_anchors, one.to_targets)))
        return torch.stack([one.loss for one in found]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return None, None, *(None if t is None else t * gradients[0] for t in ctx.saved_tensors)


def info_nce_sum(terms: Sequence[Term], *, temperature: float) -> torch.Tensor:
    """The sum over terms of InfoNCE with cosine similarity.

    InfoNCE is the mean over anchors of the cross entropy of finding their own target. A batch with repeated rows need
    not repeat the work: give each distinct row once with its count. The result is that of the batch with its
    repetitions, as ``sum_t c_t exp(x_t) = sum_t exp(x_t + log c_t)``.

    Args:
        terms: One or more.
        temperature: Divides the cosines.

    Returns:
        A scalar with gradient to all anchors and targets.
    """
    rows = [tensor.contiguous() for term in terms for tensor in (term.anchors, term.targets)]
    rest = [(term.positions, term.anchor_counts, term.target_counts) for term in terms]
    loss: torch.Tensor = _InfoNce.apply(temperature, rest, *rows)  # type: ignore[no-untyped-call]
    return loss


def info_nce(
    anchors: torch.Tensor,
    targets: torch.Tensor,
    positions: torch.Tensor,
    *,
    temperature: float,
    anchor_counts: torch.Tensor | None = None,
    target_counts: torch.Tensor | None = None,
) -> torch.Tensor:
    """One term of :func:`info_nce_sum`.

    Args:
        anchors: float ``[n, d]``.
        targets: float ``[m, d]``.
        positions: int64 ``[n]``: which target is an anchor's own.
        temperature: Divides the cosines.
        anchor_counts: ``[n]``: how often each anchor occurs; once if None.
        target_counts: ``[m]``: how often each target occurs; once if None.
    """
    term = Term(anchors, targets, positions, anchor_counts, target_counts)
    return info_nce_sum([term], temperature=temperature)
