"""Numba kernels for the CPU. Tests compare each with its torch counterpart.

- The width of a row is a compile-time constant, so that the sum of a row stays in vector registers. A kernel is
  compiled once per width; numba caches it on disk.
- Each thread owns rows, columns or samples of the output. The order of summation does not depend on scheduling, so that
  results are the same in every run and for any number of threads.
- Every array is C-contiguous and of one type, so that each kernel has one signature.
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
"""Number of chunks of row-parallel work. It is fixed, so that sums over chunks do not depend on the machine."""

_FAST = {"contract", "reassoc", "nsz", "arcp"}  # without "nnan" and "ninf", so that a diverged run is detected


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _rounded(bits: Any) -> Any:  # pragma: no cover - compiled
    """Round the bits of a float32 number to its upper sixteen, ties to even."""
    return (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


@numba.njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def pack_bfloat16(bits: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Round float32 numbers to bfloat16 and pack two into a word.

    ``bits`` is uint32 ``[n, d]``, the bits of the numbers, with ``d`` even. ``out`` is uint32 ``[n, d / 2]``: word k
    holds column k in its lower half and column ``k + d / 2`` in its upper half, so that one instruction unpacks a
    vector of words.
    """
    middle = out.shape[1]
    for row in numba.prange(out.shape[0]):
        for k in range(middle):
            out[row, k] = _rounded(bits[row, k]) | (_rounded(bits[row, middle + k]) << np.uint32(16))


@functools.cache
def spmm(width: int, *, parallel: bool = True) -> Callable[..., None]:
    """Return the kernel of ``out = beta * A @ x + alpha * base`` for a CSR matrix ``A`` and rows of ``width``.

    Numba's threads share the chunks if ``parallel``. Otherwise the kernel releases the GIL and may run in several
    Python threads at once.

    Arguments of the kernel: ``indptr`` int64 ``[n + 1]``, ``indices`` int32 ``[nnz]``, ``values`` float32 ``[nnz]``,
    ``x`` ``[m, width]`` (or packed by :func:`pack_bfloat16`), ``base`` ``[n, width]``, ``alpha``, ``beta``, ``bounds``
    int64 ``[chunks + 1]`` (first rows of chunks with about equally many non-zeros), and ``out`` ``[n, width]`` (neither
    ``x`` nor ``base``).
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
    """Return the kernel of :func:`spmm` for some rows; all other rows of ``out`` are unchanged.

    Arguments of the kernel: those of :func:`spmm` with ``rows`` int64 ``[m]`` (distinct) before ``bounds``, which are
    positions in ``rows``.
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
    """Return the kernel of :func:`spmm` for ``x`` and ``base`` with many zero rows.

    Arguments of the kernel: those of :func:`spmm` with ``filled`` bool ``[n]`` (non-zero rows of ``x`` and ``base``)
    before ``bounds``.
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
    """Return the kernel of the BPR loss of each triple and its derivative by the score difference.

    Arguments of the kernel: ``user_rows`` ``[n_users, width]``, ``item_rows`` ``[n_items, width]``, ``users``,
    ``positives``, ``negatives`` int64 ``[b]``, ``extra`` float32 ``[b]`` (added to the difference), and the outputs
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
    """Return the kernel of the gradients by user and item rows, given the slopes of the triples. Threads own columns.

    Arguments of the kernel: those of :func:`bpr_scores` up to ``negatives``, then ``slopes`` float32 ``[b]`` and
    ``scale``, and the outputs ``user_gradients`` and ``item_gradients``, which are overwritten.
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
    """Compute ``out[t] = user_rows[u] @ (item_rows[i] - item_rows[j])`` of each triple, for rows of any width."""
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
    """Make one step of Adam (Kingma & Ba 2015, algorithm 1) in place.

    ``decay`` is float32 ``[n]``, one value per row. The output ``penalties`` float32 ``[n]`` is the penalty of each
    row: ``decay / 2`` times its squared length before the step.
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
    """Count how often the triples contain each node (users, then items): output ``counts`` float32 ``[n]``."""
    counts[:] = 0
    for t in range(users.shape[0]):
        counts[users[t]] += 1
        counts[n_users + positives[t]] += 1
        counts[n_users + negatives[t]] += 1


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def stable_order(keys: Any, size: Any) -> Any:  # pragma: no cover - compiled
    """Return the indices that sort ``keys`` int ``[n]``, all in ``range(size)``, by a stable counting sort."""
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
    """Hash a counter to 64 random bits: the finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
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
def sample_negatives(
    indptr: Any, items: Any, candidates: Any, users: Any, positives: Any, key: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Sample for each user a candidate item that is not one of the user's items.

    Args:
        indptr: int64 ``[n_users + 1]``: first position of each user in ``items``.
        items: int32 ``[nnz]``: items of each user, ascending.
        candidates: int32 ``[m]``, ascending: items to sample from.
        users: int64 ``[b]``.
        positives: int64 ``[b]``: result for a user of all candidates.
        key: uint64: seed and epoch. Each position has its own random stream, so that results do not depend on threads.
        out: int64 ``[b]``: the output.
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
            # the upper half of a 32 x 32 bit product is a uniform draw from range(n) without a division
            place = np.int64(((_mix(state) >> np.uint64(32)) * n) >> np.uint64(32))
            if not _contains(items, low, high, candidates[place]):
                found = True
                break
        if not found:  # the user has nearly all candidates: take the next one that is not theirs
            for offset in range(candidates.shape[0]):
                near = (place + offset) % candidates.shape[0]
                if not _contains(items, low, high, candidates[near]):
                    place = near
                    found = True
                    break
        out[t] = candidates[place] if found else positives[t]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def mask_own_items(
    matrix: Any, first: Any, degree: Any, items: Any, place: Any, value: Any
) -> None:  # pragma: no cover - compiled
    """Write ``value`` to ``matrix[r, place[i]]`` for each item ``i`` of row r's user that has a column.

    Args:
        matrix: ``[n, m]``: changed in place.
        first: int64 ``[n]``: first position in ``items`` of the items of each row's user.
        degree: int64 ``[n]``: number of items of each row's user.
        items: int64 ``[nnz]``.
        place: int32 ``[n_items]``: column of each item; negative if it has none.
        value: A number.
    """
    for row in range(matrix.shape[0]):
        for p in range(first[row], first[row] + degree[row]):
            column = place[items[p]]
            if column >= 0:
                matrix[row, column] = value


_LOG2_E = np.float32(1.4426950408889634)
_LN2_UPPER = np.float32(0.693359375)  # few bits, so that its products with integers are exact
_LN2_LOWER = np.float32(0.6931471805599453 - 0.693359375)
_SMALLEST = np.float32(-87.0)
"""Number whose exponential is about the smallest normal float32."""
_OVER_7, _OVER_6, _OVER_5, _OVER_4, _OVER_3, _OVER_2 = (np.float32(1 / k) for k in (5040, 720, 120, 24, 6, 2))


@numba.njit(nogil=True, fastmath={"contract"}, cache=True)  # type: ignore[untyped-decorator]
def exponentials(matrix: Any) -> None:  # pragma: no cover - compiled
    """Exponentiate float32 ``[n, m]`` in place; numbers must not exceed 88. Takes a third of torch's time.

    With n the integer nearest to x / ln 2, the result is ``2**n exp(x - n ln 2)``. The second factor is a Taylor series
    of degree 7; the first is written into the exponent bits. The error is at most one unit in the last place.
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
