"""InfoNCE over distinct rows, with an explicit gradient.

With ``e = exp(left @ right')``, counts ``c`` of the targets, weights ``w`` of the anchors and weighted row sums
``t = e @ c``, the gradient by ``left`` is ``w / t * (e @ (c * right)) - w * right[positions]``. The gradient by
``right`` is ``c * (e' @ (w / t * left))``, minus ``w * left`` at the positions. The matrix is computed once, block by
block, exponentiated in place, and read by two products. The logarithms of the counts need not be added to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from enhancer_plugins.training.compiled.kernels import exponentials
from enhancer_plugins.training.compiled.worker import run_both

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LOGIT = 30.0
"""Largest logit that needs no shift in float32: exponentials lie between 1e-13 and 1e13."""
_MIN_LENGTH = 1e-6
"""Rows shorter than this are divided by it instead of by their length."""
BLOCK = 192 * 1024
"""Logits in a block. A matrix of this size stays in the cache of a core until its last use."""
_MIN_LOGITS = 200_000
"""Total number of logits below which a second thread is not faster."""


class Term(NamedTuple):
    """Distinct anchors and targets with their counts. Each anchor has one positive target."""

    anchors: torch.Tensor
    """float ``[n, d]``."""
    targets: torch.Tensor
    """float ``[m, d]``."""
    positions: torch.Tensor
    """int64 ``[n]``: row of each anchor's positive target."""
    anchor_counts: torch.Tensor | None = None
    """``[n]``: how often each anchor occurs; None for once."""
    target_counts: torch.Tensor | None = None
    """``[m]``: how often each target occurs; None for once."""


class _TermGradients(NamedTuple):
    """Loss and gradients of a term."""

    loss: torch.Tensor
    to_anchors: torch.Tensor
    to_targets: torch.Tensor | None
    """None if it is not needed."""


class _UnitTerm(NamedTuple):
    """A term with rows of unit length."""

    left: torch.Tensor
    """Anchors of unit length, divided by the temperature."""
    right: torch.Tensor
    """Targets of unit length."""
    positions: torch.Tensor
    weights: torch.Tensor
    """``[n]``: weight of each anchor; they sum to 1."""
    counts: torch.Tensor
    """``[m]``: count of each target."""
    shifted: bool
    """Whether logits may exceed :data:`MAX_LOGIT`."""


class _Part(NamedTuple):
    """Loss and gradients of some anchors of a term."""

    loss: torch.Tensor
    to_left: torch.Tensor
    to_right: torch.Tensor | None
    """``[m, d]``, not yet multiplied by the counts of the targets; None if it is not needed."""


def _part(term: _UnitTerm, first: int, last: int, *, targets: bool) -> _Part:
    """Compute the part of the anchors from ``first`` to ``last``, in blocks that stay in the cache."""
    m = len(term.right)
    block = last - first if term.left.device.type != "cpu" else min(max(BLOCK // max(m, 1), 16), last - first)
    counted = term.counts.unsqueeze(1) * term.right
    to_left = torch.empty_like(term.left[first:last])
    to_right = torch.zeros_like(term.right) if targets else None
    level = torch.empty_like(term.weights[first:last])
    memory = term.left.new_empty((block, m))
    for begin in range(first, last, max(block, 1)):
        rows = slice(begin, min(begin + block, last))
        here = slice(rows.start - first, rows.stop - first)
        left = term.left[rows]
        matrix = torch.mm(left, term.right.T, out=memory[: len(left)])
        shift = None
        if term.shifted:
            shift = matrix.amax(1)
            matrix.sub_(shift.unsqueeze(1))
        total = torch.mv(exponentiate(matrix), term.counts)
        share = (term.weights[rows] / total).unsqueeze(1)
        torch.mm(matrix, counted, out=to_left[here]).mul_(share)
        if to_right is not None:
            to_right.addmm_(matrix.T, share * left)
        level[here] = total.log_() if shift is None else total.log_().add_(shift)
    own = term.right.index_select(0, term.positions[first:last])
    weights, left = term.weights[first:last], term.left[first:last]
    loss = weights @ (level - torch.linalg.vecdot(left, own))
    return _Part(loss, to_left.addcmul_(weights.unsqueeze(1), own, value=-1), to_right)


def exponentiate(matrix: torch.Tensor) -> torch.Tensor:
    """Exponentiate in place and return the matrix."""
    if matrix.device.type != "cpu" or matrix.dtype != torch.float32:
        return matrix.exp_()
    exponentials(matrix.numpy())
    return matrix


def _unit(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / length.clamp_min(_MIN_LENGTH), length


def _through_normalisation(gradient: torch.Tensor, unit: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Return the gradient by rows from that by their unit vectors; the component along the row vanishes."""
    along = torch.linalg.vecdot(unit, gradient).unsqueeze(1) * (length > _MIN_LENGTH)
    return gradient.addcmul(unit, along, value=-1).div_(length.clamp_min(_MIN_LENGTH))


@torch.no_grad()
def _solve_all(terms: Sequence[Term], temperature: float, gradients: Sequence[bool]) -> list[_TermGradients]:
    """Return losses of all terms, their gradients by anchors and, if needed, by targets.

    The anchors of each term are cut into halves, which two threads may compute; the result does not depend on it.
    """
    unit_terms, lengths = [], []
    for term in terms:
        like = term.anchors
        counts = [
            torch.ones(len(rows), dtype=like.dtype, device=like.device) if given is None else given.to(like.dtype)
            for rows, given in ((term.anchors, term.anchor_counts), (term.targets, term.target_counts))
        ]
        (left, left_length), (right, right_length) = _unit(term.anchors), _unit(term.targets)
        weights, shifted = counts[0] / counts[0].sum(), 1 / temperature > MAX_LOGIT
        unit_terms.append(_UnitTerm(left / temperature, right, term.positions, weights, counts[1], shifted))
        lengths.append((left_length, right_length))

    def half(*, second: bool) -> list[_Part]:
        middles = [len(term.left) // 2 for term in unit_terms]
        cuts = [
            (middle, len(term.left)) if second else (0, middle)
            for term, middle in zip(unit_terms, middles, strict=True)
        ]
        return [_part(term, *cut, targets=t) for term, cut, t in zip(unit_terms, cuts, gradients, strict=True)]

    logits = sum(len(term.anchors) * len(term.targets) for term in terms)
    worthwhile = terms[0].anchors.device.type == "cpu" and logits >= _MIN_LOGITS
    halves = run_both(lambda: half(second=False), lambda: half(second=True), worthwhile=worthwhile)
    found = []
    for unit, (left_length, right_length), one, two in zip(unit_terms, lengths, *halves, strict=True):
        to_left = torch.cat([one.to_left, two.to_left])
        to_anchors = _through_normalisation(to_left / temperature, unit.left * temperature, left_length)
        to_targets = None
        if one.to_right is not None and two.to_right is not None:
            to_right = (one.to_right + two.to_right).mul_(unit.counts.unsqueeze(1))
            to_right.index_add_(0, unit.positions, unit.weights.unsqueeze(1) * unit.left, alpha=-1)
            to_targets = _through_normalisation(to_right, unit.right, right_length)
        found.append(_TermGradients(one.loss + two.loss, to_anchors, to_targets))
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
    """Return the sum over terms of InfoNCE with cosine similarity.

    InfoNCE is the mean over anchors of the cross entropy of identifying their positive target. Repeated rows are given
    once, with their count; the result equals that with repetitions, as
    ``sum_t c_t exp(x_t) = sum_t exp(x_t + log c_t)``.

    Args:
        terms: At least one term.
        temperature: Divisor of the cosines.

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
    """Return one term of :func:`info_nce_sum`.

    Args:
        anchors: float ``[n, d]``.
        targets: float ``[m, d]``.
        positions: int64 ``[n]``: row of each anchor's positive target.
        temperature: Divisor of the cosines.
        anchor_counts: ``[n]``: how often each anchor occurs; None for once.
        target_counts: ``[m]``: how often each target occurs; None for once.
    """
    term = Term(anchors, targets, positions, anchor_counts, target_counts)
    return info_nce_sum([term], temperature=temperature)
