"""Kernel of conjugate gradients on the normal equations of one side in alternating least squares.

All steps of a few rows are made before the next rows are begun, so that the rows of the other side which they refer to
are read from memory once and from the cache afterwards. Two intrinsics do most of the work: :func:`add_errors` reads
each row of the other side once for its score and its share of the sum, in vector registers, and :func:`multiply` is the
dense product of several rows at once.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from enhancer_plugins.training.compiled.gather import RowReader, broadcast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_WIDE = bool(llvm.get_host_cpu_features().get("avx512f", False))
_ROWS, _COLUMNS = (8, 32) if _WIDE else (4, 16)
"""Rows and columns of a dense product whose sums are kept in registers at once."""
_BLOCK = 16
"""Maximum number of rows that are solved together, a multiple of ``_ROWS``."""
_CACHED = 128 * 1024
"""Numbers that the rows of the other side may have together, for the rows that are solved together: half a MiB, which
fits into the second-level cache."""
_AHEAD_IN_MEMORY, _AHEAD_IN_CACHE = 16, 4
"""Entries between prefetching a row and using it, when it is first read and afterwards."""
_LANES = 16
"""Maximum length of a vector; LLVM splits it for the processor."""
_SOLVED = np.float32(1e-12)
"""Squared length of a residual at which a row is left as it is."""
_FAST = {"contract", "reassoc", "nsz", "arcp"}
_FUSED = ["contract"]
_I32, _I64, _FLOAT, _DOUBLE = ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()


def panels(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a matrix in the form that the kernel reads: float32 ``[d, n]`` to ``[panels, d, columns of a panel]``."""
    d, n = matrix.shape
    count = -(-n // _COLUMNS)
    padded = np.zeros((d, count * _COLUMNS), np.float32)
    padded[:, :n] = matrix
    return np.ascontiguousarray(padded.reshape(d, count, _COLUMNS).transpose(1, 0, 2))


def _columns(width: int) -> Iterator[tuple[int, Any]]:
    """Iterate over the vectors of a row: first column and type."""
    first = 0
    while first < width:
        lanes = min(_LANES, 1 << ((width - first).bit_length() - 1))
        yield first, ir.VectorType(_FLOAT, lanes)
        first += lanes


class _Errors(RowReader):
    """Code generator of the loop of :func:`add_errors`."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, width: int) -> None:
        kinds = signature.args
        super().__init__(context, builder, (kinds[0], arguments[0]), (kinds[4], arguments[4]), width)
        self.weights, self.direction, self.total = (
            context.make_array(kinds[n])(context, builder, arguments[n]) for n in (1, 5, 6)
        )
        self.first, self.last = arguments[2], arguments[3]
        self.columns = list(_columns(width))

    def load(self, row: Any) -> list[Any]:
        """Load all columns of a row."""
        return [self.builder.load(self.vector(row, *each), align=self.size) for each in self.columns]

    def score(self, numbers: list[Any], direction: list[Any]) -> Any:
        """Return the inner product of two rows, in two chains of sums for each length of vectors."""
        builder = self.builder
        chains: dict[int, list[Any]] = {}
        for (_, kind), one, other in zip(self.columns, numbers, direction, strict=True):
            product = builder.fmul(one, other, flags=_FUSED)
            sums = chains.setdefault(kind.count, [])
            sums.append(product if len(sums) < 2 else builder.fadd(sums.pop(0), product, flags=_FUSED))
        total = ir.Constant(_FLOAT, 0.0)
        for lanes, sums in chains.items():
            vector = functools.reduce(builder.fadd, sums)
            kind = ir.FunctionType(_FLOAT, [_FLOAT, vector.type])
            name = f"llvm.vector.reduce.fadd.v{lanes}f32"
            reduce = cgutils.get_or_insert_function(builder.module, kind, name)
            total = builder.call(reduce, [total, vector], fastmath=["contract", "reassoc", "nsz"])
        return total

    def loop(self, *, begin: bool, weighted: bool) -> Any:
        """Emit the loop over the entries; return the sum of squares."""
        builder = self.builder
        direction, start = self.load(self.direction.data), self.load(self.total.data)
        nothing = ir.Constant(_DOUBLE, 0.0)
        before, loop, done = builder.block, builder.append_basic_block("entries"), builder.append_basic_block("sum")
        builder.cbranch(builder.icmp_signed("<", self.first, self.last), loop, done)
        builder.position_at_end(loop)
        entry, loss, sums = builder.phi(_I64), builder.phi(_DOUBLE), [builder.phi(kind) for _, kind in self.columns]
        ahead = ir.Constant(_I64, _AHEAD_IN_MEMORY if begin else _AHEAD_IN_CACHE)
        self.prefetch(builder.add(entry, ahead), 0, self.places)
        numbers = self.load(self.row(entry))
        error = builder.fsub(ir.Constant(_FLOAT, float(begin)), self.score(numbers, direction))
        value = error
        if weighted:
            value = builder.fmul(error, builder.load(builder.gep(self.weights.data, [entry])))
        square = builder.fpext(builder.fmul(value, error), _DOUBLE) if begin else nothing
        more_loss = builder.fadd(loss, square)
        added = []
        for (_, kind), total, loaded in zip(self.columns, sums, numbers, strict=True):
            product = builder.fmul(loaded, broadcast(builder, value, kind), flags=_FUSED)
            added.append(builder.fadd(total, product, flags=_FUSED))
        following = builder.add(entry, ir.Constant(_I64, 1))
        builder.cbranch(builder.icmp_signed("<", following, self.last), loop, done)
        builder.position_at_end(done)
        result, *results = [builder.phi(each.type) for each in (loss, *sums)]
        for first, more, each, final in zip(
            (nothing, *start), (more_loss, *added), (loss, *sums), (result, *results), strict=True
        ):
            for phi in (each, final):
                phi.add_incoming(first, before)
                phi.add_incoming(more, loop)
        entry.add_incoming(self.first, before)
        entry.add_incoming(following, loop)
        for each, final in zip(self.columns, results, strict=True):
            builder.store(final, self.vector(self.total.data, *each), align=self.size)
        return result


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def add_errors(
    typing: Any, indices: Any, weights: Any, first: Any, last: Any, x: Any, vector: Any, total: Any, width: Any,
    begin: Any, weighted: Any,
) -> tuple[Any, Callable[..., Any]]:  # fmt: skip
    """Add ``w[p] * (target - x[i] @ vector) * x[i]`` to ``total`` over entries ``first <= p < last``, within a kernel.

    ``i`` is ``indices[p]``; ``target`` is 1 with ``begin``, else 0. Entries are added in order. Arguments: ``indices``
    int32 ``[nnz]``; ``weights`` float32 ``[nnz]``, read with ``weighted`` and else taken as 1; ``first`` and ``last``;
    ``x`` float32 ``[m, width]``; ``vector`` and ``total`` float32 ``[width]``; and ``width``, ``begin`` and
    ``weighted``, compile-time constants. All arrays are C-contiguous. Returns the sum of
    ``w[p] * (target - x[i] @ vector)**2`` with ``begin``, else 0.
    """
    del typing, first, last

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        errors = _Errors(context, builder, signature, arguments, width.literal_value)
        return errors.loop(begin=bool(begin.literal_value), weighted=bool(weighted.literal_value))

    kinds = (indices, weights, types.int64, types.int64, x, vector, total, width, begin, weighted)
    return types.float64(*kinds), emit


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def multiply(
    typing: Any, vectors: Any, matrix: Any, products: Any, first: Any, width: Any
) -> tuple[Any, Callable[..., Any]]:
    """Compute ``products[r] = vectors[r] @ matrix`` of ``_ROWS`` rows from ``first``, within a kernel.

    Arguments: ``vectors`` float32 ``[n, width]``, ``matrix`` from :func:`panels`, ``products`` float32 ``[n, m]`` with
    the columns of all panels, ``first``, and ``width``, a compile-time constant. All arrays are C-contiguous.
    """
    del typing, first
    d = width.literal_value
    m = -(-d // _COLUMNS) * _COLUMNS
    kind = ir.VectorType(_FLOAT, _LANES)
    places = range(0, _COLUMNS, _LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, dense, target = (
            context.make_array(signature.args[n])(context, builder, arguments[n]).data for n in range(3)
        )

        def element(base: Any, row: Any, length: int, column: int = 0) -> Any:
            place = builder.add(builder.mul(row, ir.Constant(_I64, length)), ir.Constant(_I64, column))
            return builder.gep(base, [place])

        def vector(address: Any) -> Any:
            return builder.bitcast(address, kind.as_pointer())

        rows = [builder.add(arguments[3], ir.Constant(_I64, row)) for row in range(_ROWS)]
        inputs = [element(source, row, d) for row in rows]
        for panel in range(m // _COLUMNS):
            before, loop, done = (
                builder.block,
                builder.append_basic_block("dense"),
                builder.append_basic_block("stored"),
            )
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(_I64)
            sums = [[builder.phi(kind) for _ in places] for _ in rows]
            line = [element(dense, k, _COLUMNS, panel * d * _COLUMNS + place) for place in places]
            numbers = [builder.load(vector(address), align=4) for address in line]
            following = builder.add(k, ir.Constant(_I64, 1))
            added = []
            for totals, row in zip(sums, inputs, strict=True):
                factor = broadcast(builder, builder.load(builder.gep(row, [k])), kind)
                shares = [builder.fmul(each, factor, flags=_FUSED) for each in numbers]
                added.append([builder.fadd(*both, flags=_FUSED) for both in zip(totals, shares, strict=True)])
            builder.cbranch(builder.icmp_signed("<", following, ir.Constant(_I64, d)), loop, done)
            k.add_incoming(ir.Constant(_I64, 0), before)
            k.add_incoming(following, loop)
            builder.position_at_end(done)
            for row, totals, more in zip(rows, sums, added, strict=True):
                for place, phi, value in zip(places, totals, more, strict=True):
                    phi.add_incoming(ir.Constant(kind, None), before)
                    phi.add_incoming(value, loop)
                    builder.store(value, vector(element(target, row, m, panel * _COLUMNS + place)), align=4)
        return context.get_dummy_value()

    return types.void(vectors, matrix, products, types.int64, width), emit


@functools.cache
def kernel(d: int, *, weighted: bool) -> Callable[..., None]:
    """Return the kernel of all conjugate-gradient steps of the rows of one side, for rows of width ``d``.

    Arguments of the kernel: ``starts``, ``columns``, ``weights`` (read if ``weighted``) and ``fixed`` of
    :func:`~enhancer_plugins.training.compiled.least_squares.solve`; ``gram``, the dense part of the matrix from
    :func:`panels`; ``bounds`` int64 ``[chunks + 1]``, the first rows of chunks with about equal work; ``penalty``
    float32 ``[n]``; ``mean`` float32 ``[n, d]``, or ``[0, d]`` for zero; ``rows`` float32 ``[n, d]``, changed in place;
    the output ``losses`` float64 ``[n]``; and ``steps``.
    """
    stride, limit = -(-d // _COLUMNS) * _COLUMNS, max(1, _CACHED // d)
    weigh = int(weighted)

    @numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
    def solve_rows(
        starts: Any, columns: Any, weights: Any, fixed: Any, gram: Any, bounds: Any, penalty: Any, mean: Any, rows: Any,
        losses: Any, steps: Any,
    ) -> None:  # fmt: skip  # pragma: no cover - compiled
        for chunk in numba.prange(bounds.shape[0] - 1):
            directions, residuals = np.zeros((_BLOCK, d), np.float32), np.empty((_BLOCK, d), np.float32)
            products = np.empty((_BLOCK, stride), np.float32)
            squares, total = np.empty(_BLOCK, np.float32), np.empty(d, np.float32)
            low, stop = bounds[chunk], bounds[chunk + 1]
            while low < stop:
                high = low + 1
                while high < stop and high - low < _BLOCK and starts[high + 1] - starts[low] <= limit:
                    high += 1
                n = high - low
                for place in range(n):
                    for k in range(d):
                        directions[place, k] = rows[low + place, k]
                for place in range(0, n, _ROWS):
                    multiply(directions, gram, products, place, d)
                for place in range(n):
                    row = low + place
                    for k in range(d):
                        total[k] = -products[place, k] - penalty[row] * directions[place, k]
                    if mean.shape[0] > 0:
                        for k in range(d):
                            total[k] += penalty[row] * mean[row, k]
                    losses[row] = add_errors(
                        columns, weights, starts[row], starts[row + 1], fixed, directions[place], total, d, 1, weigh
                    )
                    square: Any = np.float32(0)
                    for k in range(d):
                        residuals[place, k] = total[k]
                        directions[place, k] = total[k]
                        square += total[k] * total[k]
                    squares[place] = square
                for _ in range(steps):
                    for place in range(0, n, _ROWS):
                        multiply(directions, gram, products, place, d)
                    for place in range(n):
                        if squares[place] <= _SOLVED:
                            continue
                        row = low + place
                        for k in range(d):  # minus the product of the matrix with the direction
                            total[k] = -products[place, k] - penalty[row] * directions[place, k]
                        add_errors(
                            columns, weights, starts[row], starts[row + 1], fixed, directions[place], total, d, 0, weigh
                        )
                        curvature = np.float32(0)
                        for k in range(d):
                            curvature -= directions[place, k] * total[k]
                        length = squares[place] / curvature
                        rest: Any = np.float32(0)
                        for k in range(d):
                            rows[row, k] += length * directions[place, k]
                            residuals[place, k] += length * total[k]
                            rest += residuals[place, k] * residuals[place, k]
                        turn = rest / squares[place]
                        squares[place] = rest
                        for k in range(d):
                            directions[place, k] = residuals[place, k] + turn * directions[place, k]
                low = high

    return solve_rows  # type: ignore[no-any-return]
