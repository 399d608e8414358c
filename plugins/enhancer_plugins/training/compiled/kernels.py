"""Numba kernels for the CPU. Each has a torch counterpart that tests compare it with.

Three rules make them fast and reproducible:

- The width of a row is a compile-time constant, so that a row's sum stays in vector registers (a kernel is compiled
  once for each width that is met, and kept on disk by numba).
- Threads own rows, columns or samples of the output; nothing is summed in an order that depends on scheduling, so
  results are equal from run to run and for any number of threads.
- Every array is C-contiguous and of one type, so that there is one signature a kernel.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from enhancer_plugins.training.compiled.gather import sum_rows

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNKS = 64
"""Pieces that row-parallel work is cut into: fixed, so that sums over pieces do not depend on the machine."""

_FAST = {"contract", "reassoc", "nsz", "arcp"}  # not "nnan"/"ninf": a diverged run must still be seen as such


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _rounded(bits: Any) -> Any:  # pragma: no cover - compiled
    """The upper sixteen bits of a float32 number, to the nearest, ties to even."""
    return (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


@numba.njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def halve(bits: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Round float32 numbers to their upper sixteen bits (bfloat16) and pack two into a word.

    ``bits`` is uint32 ``[n, d]``, the numbers' own, ``d`` even; ``out`` uint32 ``[n, d / 2]``: word k holds column k
    in its lower half and column ``k + d / 2`` in its upper one, so that each comes back by one instruction on a whole
    vector of words.
    """
    middle = out.shape[1]
    for row in numba.prange(out.shape[0]):
        for k in range(middle):
            out[row, k] = _rounded(bits[row, k]) | (_rounded(bits[row, middle + k]) << np.uint32(16))


@functools.cache
def spmm(width: int, *, parallel: bool = True) -> Callable[..., None]:
    """Kernel of ``out = beta * A @ x + alpha * base`` for a CSR matrix ``A`` and rows of ``width``.

    Numba's own threads share its chunks, unless not ``parallel``: then any thread of Python's may run it beside others.

    Its arguments: ``indptr`` int64 ``[n + 1]``, ``indices`` int32 ``[nnz]``, ``values`` float32 ``[nnz]``,
    ``x`` ``[m, width]`` (or what :func:`halve` made of it), ``base`` ``[n, width]``, ``alpha``, ``beta``, ``bounds``
    int64 ``[chunks + 1]`` (first rows of chunks that hold about equally many non-zeros), ``out`` ``[n, width]``
    (neither ``x`` nor ``base``).
    """

    @numba.njit(parallel=parallel, nogil=not parallel, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
    def kernel(
        indptr: Any, indices: Any, values: Any, x: Any, base: Any, alpha: Any, beta: Any, bounds: Any, out: Any
    ) -> None:
        for chunk in numba.prange(bounds.shape[0] - 1):
            total = np.empty(width, base.dtype)
            for row in range(bounds[chunk], bounds[chunk + 1]):
                sum_rows(indices, values, indptr[row], indptr[row + 1], x, total, width)
                for k in range(width):
                    out[row, k] = beta * total[k] + alpha * base[row, k]

    return kernel  # type: ignore[no-any-return]


@functools.cache
def spmm_rows(width: int) -> Callable[..., None]:
    """Kernel of :func:`spmm` for some rows alone; the others of ``out`` are left as they are.

    Its arguments are those of :func:`spmm` with ``rows`` int64 ``[m]`` (distinct) before ``bounds``, which here are
    places in ``rows``.
    """

    @numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
    def kernel(
        indptr: Any,
        indices: Any,
        values: Any,
        x: Any,
        base: Any,
        alpha: Any,
        beta: Any,
        rows: Any,
        bounds: Any,
        out: Any,
    ) -> None:
        for chunk in numba.prange(bounds.shape[0] - 1):
            total = np.empty(width, base.dtype)
            for place in range(bounds[chunk], bounds[chunk + 1]):
                row = rows[place]
                sum_rows(indices, values, indptr[row], indptr[row + 1], x, total, width)
                for k in range(width):
                    out[row, k] = beta * total[k] + alpha * base[row, k]

    return kernel  # type: ignore[no-any-return]


@functools.cache
def spmm_sparse(width: int) -> Callable[..., None]:
    """Kernel of :func:`spmm` for an ``x`` and a ``base`` that are zero in all rows but some.

    Its arguments are those of :func:`spmm` with ``filled`` bool ``[n]`` (which rows of ``x`` and ``base`` are not
    zero) before ``bounds``.
    """

    @numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
    def kernel(
        indptr: Any,
        indices: Any,
        values: Any,
        x: Any,
        base: Any,
        alpha: Any,
        beta: Any,
        filled: Any,
        bounds: Any,
        out: Any,
    ) -> None:
        for chunk in numba.prange(bounds.shape[0] - 1):
            total = np.empty(width, x.dtype)
            for row in range(bounds[chunk], bounds[chunk + 1]):
                for k in range(width):
                    total[k] = 0
                for p in range(indptr[row], indptr[row + 1]):
                    column = indices[p]
                    if filled[column]:
                        value = values[p]
                        for k in range(width):
                            total[k] += value * x[column, k]
                if filled[row]:
                    for k in range(width):
                        out[row, k] = beta * total[k] + alpha * base[row, k]
                else:
                    for k in range(width):
                        out[row, k] = beta * total[k]

    return kernel  # type: ignore[no-any-return]


@functools.cache
def bpr_scores(width: int) -> Callable[..., None]:
    """Kernel of the BPR loss of each triple, and of its derivative by the score difference.

    Its arguments: ``user_rows`` ``[n_users, width]``, ``item_rows`` ``[n_items, width]``, ``users``, ``positives``,
    ``negatives`` int64 ``[b]``, ``extra`` float32 ``[b]`` (what else the difference holds), and the outputs
    ``losses`` and ``slopes`` float32 ``[b]``.
    """

    @numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
    def kernel(
        user_rows: Any, item_rows: Any, users: Any, positives: Any, negatives: Any, extra: Any, losses: Any, slopes: Any
    ) -> None:
        for t in numba.prange(users.shape[0]):
            u, i, j = users[t], positives[t], negatives[t]
            difference = np.float32(0)
            for k in range(width):
                difference += user_rows[u, k] * (item_rows[i, k] - item_rows[j, k])
            difference += extra[t]
            # log(1 + exp(-x)) and its derivative -1 / (1 + exp(x)), without overflow on either side
            tail = np.exp(-abs(difference))
            losses[t] = np.log1p(tail) + max(-difference, np.float32(0))
            slopes[t] = -(tail if difference > 0 else np.float32(1)) / (np.float32(1) + tail)

    return kernel  # type: ignore[no-any-return]


@functools.cache
def bpr_gradients(width: int) -> Callable[..., None]:
    """Kernel that scatters slopes to the gradients of user and item rows. Threads own columns.

    Its arguments are those of :func:`bpr_scores` up to ``negatives``, then ``slopes`` float32 ``[b]`` and ``scale``,
    and the outputs ``user_gradients`` and ``item_gradients``, which are overwritten.
    """
    block = next(b for b in (32, 16, 8, 4, 2, 1) if width % b == 0)

    @numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
    def kernel(
        user_rows: Any,
        item_rows: Any,
        users: Any,
        positives: Any,
        negatives: Any,
        slopes: Any,
        scale: Any,
        user_gradients: Any,
        item_gradients: Any,
    ) -> None:
        for part in numba.prange(width // block):
            first = part * block
            for row in range(user_gradients.shape[0]):
                for k in range(block):
                    user_gradients[row, first + k] = 0
            for row in range(item_gradients.shape[0]):
                for k in range(block):
                    item_gradients[row, first + k] = 0
            for t in range(users.shape[0]):
                u, i, j = users[t], positives[t], negatives[t]
                slope = np.float32(slopes[t] * scale)
                if i == j:
                    continue
                for k in range(block):
                    c = first + k
                    step = slope * user_rows[u, c]
                    user_gradients[u, c] += slope * (item_rows[i, c] - item_rows[j, c])
                    item_gradients[i, c] += step
                    item_gradients[j, c] -= step

    return kernel  # type: ignore[no-any-return]


@numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
def row_differences(
    user_rows: Any, item_rows: Any, users: Any, positives: Any, negatives: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """``out[t] = user_rows[u] @ (item_rows[i] - item_rows[j])`` for each triple, rows of any width."""
    for t in numba.prange(users.shape[0]):
        u, i, j = users[t], positives[t], negatives[t]
        total = np.float32(0)
        for k in range(user_rows.shape[1]):
            total += user_rows[u, k] * (item_rows[i, k] - item_rows[j, k])
        out[t] = total


@numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
def adam(
    weights: Any,
    gradients: Any,
    first: Any,
    second: Any,
    decay: Any,
    rate: Any,
    beta1: Any,
    beta2: Any,
    epsilon: Any,
    correction1: Any,
    correction2: Any,
    penalties: Any,
) -> None:  # pragma: no cover - compiled
    """One step of Adam (Kingma & Ba 2015, algorithm 1), in place.

    ``decay`` is float32 ``[n]``, one for each row; ``penalties`` float32 ``[n]`` gets what each row adds to the loss,
    ``decay / 2`` times its squared length before the step.
    """
    step = np.float32(rate / correction1)
    root = np.float32(1 / np.sqrt(correction2))
    b1, b2, eps = np.float32(beta1), np.float32(beta2), np.float32(epsilon)
    for row in numba.prange(weights.shape[0]):
        square = np.float32(0)
        for k in range(weights.shape[1]):
            w = weights[row, k]
            square += w * w
            g = gradients[row, k] + decay[row] * w
            m = b1 * first[row, k] + (np.float32(1) - b1) * g
            v = b2 * second[row, k] + (np.float32(1) - b2) * g * g
            first[row, k] = m
            second[row, k] = v
            weights[row, k] = w - step * m / (np.sqrt(v) * root + eps)
        penalties[row] = np.float32(0.5) * decay[row] * square


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def count_draws(
    users: Any, positives: Any, negatives: Any, n_users: Any, counts: Any
) -> None:  # pragma: no cover - compiled
    """How often the triples draw each node (users, then items) into ``counts`` float32 ``[n]``."""
    counts[:] = 0
    for t in range(users.shape[0]):
        counts[users[t]] += 1
        counts[n_users + positives[t]] += 1
        counts[n_users + negatives[t]] += 1


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def stable_order(keys: Any, size: Any) -> Any:  # pragma: no cover - compiled
    """Places of ``keys`` int ``[n]`` in ``range(size)``, ascending by key, equal ones as they came: a counting sort."""
    starts = np.zeros(size + 1, np.int64)
    for key in keys:
        starts[key + 1] += 1
    for k in range(size):
        starts[k + 1] += starts[k]
    order = np.empty(keys.shape[0], np.int64)
    for place in range(keys.shape[0]):
        key = keys[place]
        order[starts[key]] = place
        starts[key] += 1
    return order


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _mix(x: Any) -> Any:  # pragma: no cover - compiled
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014): a counter becomes 64 random bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _contains(items: Any, low: Any, high: Any, item: Any) -> Any:  # pragma: no cover - compiled
    end = high
    while low < high:
        middle = (low + high) // 2
        if items[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < end and items[low] == item


@numba.njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def negatives(
    indptr: Any, items: Any, candidates: Any, users: Any, positives: Any, key: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Draw for each user a candidate that is none of theirs.

    Args:
        indptr: int64 ``[n_users + 1]``, with ``items`` int32 each user's items, ascending.
        items: See ``indptr``.
        candidates: int32 ``[m]``, ascending: what may be drawn.
        users: int64 ``[b]``.
        positives: int64 ``[b]``: what is answered for a user who has all the candidates.
        key: uint64: seed and epoch; each position draws from its own stream, so threads do not matter.
        out: int64 ``[b]``.
    """
    n = np.uint64(candidates.shape[0])
    golden = np.uint64(0x9E3779B97F4A7C15)
    for t in numba.prange(users.shape[0]):
        u = users[t]
        low, high = indptr[u], indptr[u + 1]
        state = _mix(key + (np.uint64(t) + np.uint64(1)) * golden)
        place = np.int64(0)
        found = False
        for _ in range(64):
            state = state + golden
            # the high half of a 32 x 32 bit product: an even draw from range(n) without a division
            place = np.int64(((_mix(state) >> np.uint64(32)) * n) >> np.uint64(32))
            if not _contains(items, low, high, candidates[place]):
                found = True
                break
        if not found:  # a user of nearly everything: take the next candidate in line
            for offset in range(candidates.shape[0]):
                near = (place + offset) % candidates.shape[0]
                if not _contains(items, low, high, candidates[near]):
                    place = near
                    found = True
                    break
        out[t] = candidates[place] if found else positives[t]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def overwrite_touched(
    matrix: Any, first: Any, degree: Any, items: Any, place: Any, value: Any
) -> None:  # pragma: no cover - compiled
    """Write ``value`` to ``matrix[r, place[i]]`` for each item ``i`` of row r's user, unless ``place[i]`` is negative.

    Args:
        matrix: ``[n, m]``.
        first: int64 ``[n]``: where the items of each row's user begin in ``items``.
        degree: int64 ``[n]``: how many they are.
        items: int64 ``[nnz]``.
        place: int32 ``[n_items]``.
        value: A number.
    """
    for row in range(matrix.shape[0]):
        for p in range(first[row], first[row] + degree[row]):
            column = place[items[p]]
            if column >= 0:
                matrix[row, column] = value


_LOG2_E = np.float32(1.4426950408889634)
_LN2_UPPER = np.float32(0.693359375)  # of few bits, so that its products with whole numbers are exact
_LN2_LOWER = np.float32(0.6931471805599453 - 0.693359375)
_SMALLEST = np.float32(-87.0)
"""Its exponential is about the smallest normal float32."""
_OVER_7, _OVER_6, _OVER_5, _OVER_4, _OVER_3, _OVER_2 = (np.float32(1 / k) for k in (5040, 720, 120, 24, 6, 2))


@numba.njit(nogil=True, fastmath={"contract"}, cache=True)  # type: ignore[untyped-decorator]
def exponentials(matrix: Any) -> None:  # pragma: no cover - compiled
    """The exponential of each number in place, float32 ``[n, m]``, none above 88; a third of what torch takes.

    With n the whole number next to x / ln 2, it is ``2**n exp(x - n ln 2)``: the second factor by Taylor's series up to
    the seventh power, the first one by the bits of the exponent. Off by one unit in the last place at most.
    """
    for row in range(matrix.shape[0]):
        for k in range(matrix.shape[1]):
            x = max(matrix[row, k], _SMALLEST)
            n = np.rint(x * _LOG2_E)
            r = x - n * _LN2_UPPER
            r = r - n * _LN2_LOWER
            p = _OVER_7 * r + _OVER_6
            p = p * r + _OVER_5
            p = p * r + _OVER_4
            p = p * r + _OVER_3
            p = p * r + _OVER_2
            p = p * r * r + r + np.float32(1)
            matrix[row, k] = p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
