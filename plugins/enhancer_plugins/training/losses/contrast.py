"""InfoNCE between embeddings and mapped vectors, with its gradient, in few passes over the logits.

With ``e = exp(left @ right')``, counts ``c`` of the targets and the weighted row sums ``t = e @ c``, the gradients by
``left`` and ``right`` are ``w / t * (e @ (c * right)) - w * right[positions]`` and ``c * (e' @ (w / t * left))`` less
``w * left`` at the positions. So the matrix is written once, block by block, made exponential in place, and read by two
products; the logarithms of the counts never have to be added to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from enhancer_plugins.training.compiled.kernels import exponentials
from enhancer_plugins.training.pairs import both

if TYPE_CHECKING:
    from collections.abc import Sequence

SAFE = 30.0
"""Logits no larger than this need no shift in float32: their exponentials lie between 1e-13 and 1e13."""
_TINY = 1e-6
"""Rows shorter than this are divided by this instead of by their length."""
BLOCK = 192 * 1024
"""Logits in a block: a matrix of so many stays in the cache of a core from its making to its last use."""
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


class _Ready(NamedTuple):
    """A term as the products take it."""

    left: torch.Tensor
    """Unit anchors, divided by the temperature."""
    right: torch.Tensor
    """Unit targets."""
    positions: torch.Tensor
    weights: torch.Tensor
    """``[n]``: what each anchor counts for; 1 in all."""
    often: torch.Tensor
    """``[m]``."""
    shifted: bool
    """Whether logits may be too large for their exponentials."""


class _Part(NamedTuple):
    """What some anchors bring."""

    loss: torch.Tensor
    to_left: torch.Tensor
    to_right: torch.Tensor | None
    """``[m, d]``, before the counts of the targets are multiplied in; None where nobody asked."""


def _some(ready: _Ready, first: int, last: int, *, targets: bool) -> _Part:
    """The anchors from ``first`` to ``last``, in blocks that stay in the cache from one product to the next."""
    m = len(ready.right)
    block = last - first if ready.left.device.type != "cpu" else min(max(BLOCK // max(m, 1), 16), last - first)
    heavy = ready.often.unsqueeze(1) * ready.right
    to_left = torch.empty_like(ready.left[first:last])
    to_right = torch.zeros_like(ready.right) if targets else None
    level = torch.empty_like(ready.weights[first:last])
    memory = ready.left.new_empty((block, m))
    for begin in range(first, last, max(block, 1)):
        rows = slice(begin, min(begin + block, last))
        here = slice(rows.start - first, rows.stop - first)
        left = ready.left[rows]
        matrix = torch.mm(left, ready.right.T, out=memory[: len(left)])
        shift = None
        if ready.shifted:
            shift = matrix.amax(1)
            matrix.sub_(shift.unsqueeze(1))
        total = torch.mv(exponentiate(matrix), ready.often)
        share = (ready.weights[rows] / total).unsqueeze(1)
        torch.mm(matrix, heavy, out=to_left[here]).mul_(share)
        if to_right is not None:
            to_right.addmm_(matrix.T, share * left)
        level[here] = total.log_() if shift is None else total.log_().add_(shift)
    own = ready.right.index_select(0, ready.positions[first:last])
    weights, left = ready.weights[first:last], ready.left[first:last]
    loss = weights @ (level - torch.linalg.vecdot(left, own))
    return _Part(loss, to_left.addcmul_(weights.unsqueeze(1), own, value=-1), to_right)


def exponentiate(matrix: torch.Tensor) -> torch.Tensor:
    """In place."""
    if matrix.device.type != "cpu" or matrix.dtype != torch.float32:
        return matrix.exp_()
    exponentials(matrix.numpy())
    return matrix


def _unit(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / length.clamp_min(_TINY), length


def _through(gradient: torch.Tensor, unit: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Gradient by a row from that by its direction: what points along the row is lost."""
    along = torch.linalg.vecdot(unit, gradient).unsqueeze(1) * (length > _TINY)
    return gradient.addcmul(unit, along, value=-1).div_(length.clamp_min(_TINY))


@torch.no_grad()
def _solve_all(terms: Sequence[Term], temperature: float, gradients: Sequence[bool]) -> list[_Found]:
    """Losses of all terms and their gradients by anchors and, where asked for, by targets.

    Each term's anchors are cut into two halves, the first halves one thread's work and the second ones another's: who
    does it changes no bit.
    """
    made, lengths = [], []
    for term in terms:
        like = term.anchors
        counts = [
            torch.ones(len(rows), dtype=like.dtype, device=like.device) if given is None else given.to(like.dtype)
            for rows, given in ((term.anchors, term.anchor_counts), (term.targets, term.target_counts))
        ]
        (left, left_length), (right, right_length) = _unit(term.anchors), _unit(term.targets)
        weights, shifted = counts[0] / counts[0].sum(), 1 / temperature > SAFE
        made.append(_Ready(left / temperature, right, term.positions, weights, counts[1], shifted))
        lengths.append((left_length, right_length))

    def half(*, second: bool) -> list[_Part]:
        cuts = [(len(ready.left) // 2, len(ready.left)) if second else (0, len(ready.left) // 2) for ready in made]
        return [_some(one, *cut, targets=t) for one, cut, t in zip(made, cuts, gradients, strict=True)]

    worth = (
        terms[0].anchors.device.type == "cpu" and sum(len(t.anchors) * len(t.targets) for t in terms) >= _WORTH_SHARING
    )
    halves = both(lambda: half(second=False), lambda: half(second=True), worth=worth)
    found = []
    for ready, (left_length, right_length), one, two in zip(made, lengths, *halves, strict=True):
        to_left = torch.cat([one.to_left, two.to_left])
        to_anchors = _through(to_left / temperature, ready.left * temperature, left_length)
        to_targets = None
        if one.to_right is not None and two.to_right is not None:
            to_right = (one.to_right + two.to_right).mul_(ready.often.unsqueeze(1))
            to_right.index_add_(0, ready.positions, ready.weights.unsqueeze(1) * ready.left, alpha=-1)
            to_targets = _through(to_right, ready.right, right_length)
        found.append(_Found(one.loss + two.loss, to_anchors, to_targets))
    return found


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
