"""Sum of the rows that a sparse row refers to, as an LLVM intrinsic with prefetching.

A step of a graph model is dominated by reading rows from memory in an unpredictable order. A plain loop keeps the sum
in vector registers, but requests a row only when it is needed. This intrinsic prefetches the rows of later entries
while earlier ones are added, which is a quarter faster for tables larger than the cache.

Numba caches compiled kernels by the file that defines them: change ``kernels.py``, too, when this file changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_AHEAD = 16
"""Entries between prefetching a row and adding it."""
_LANES = 16
"""Maximum length of a vector; LLVM splits it for the processor."""
_COLUMNS = 64
"""Columns whose sums are kept in registers at once."""
_LINE = 64
"""Bytes in a cache line."""
_PREFETCH = "llvm.prefetch.p0i8"
"""Name in LLVM 14; later versions accept it, too."""
_I32, _I64, _BYTE = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()


class _Vector(NamedTuple):
    """Columns that are loaded as one vector."""

    place: int
    """First element in a stored row."""
    lanes: int
    """Length of the vector, a power of two."""
    columns: tuple[int, ...]
    """First column of its numbers. For packed bfloat16: of the lower and of the upper halves of its words."""


def _column_groups(width: int, *, packed: bool) -> Iterator[list[_Vector]]:
    """Iterate over groups of columns whose sums fit into registers."""
    places = width // 2 if packed else width
    size = _COLUMNS * places // width
    for first in range(0, places, size):
        place, last, vectors = first, min(first + size, places), []
        while place < last:
            lanes = min(_LANES, 1 << ((last - place).bit_length() - 1))
            vectors.append(_Vector(place, lanes, (place, place + places) if packed else (place,)))
            place += lanes
        yield vectors


class RowReader:
    """Code generator that reads the rows which the entries of a sparse row refer to.

    Args:
        context: Numba's target context.
        builder: LLVM's builder.
        indices: Numba type and value of the array of indices.
        x: Those of the array of rows.
        width: Columns of a row.
    """

    def __init__(self, context: Any, builder: Any, indices: tuple[Any, Any], x: tuple[Any, Any], width: int) -> None:
        self.builder = builder
        self.indices, self.x = (context.make_array(kind)(context, builder, value) for kind, value in (indices, x))
        self.packed = x[0].dtype == types.uint32
        self.places = width // 2 if self.packed else width
        self.size = context.get_abi_sizeof(context.get_value_type(x[0].dtype))
        entries = cgutils.unpack_tuple(builder, self.indices.shape)[0]
        self.end = builder.sub(entries, ir.Constant(_I64, 1))

    def row(self, entry: Any) -> Any:
        """Return the address of the row of ``x`` that an entry refers to."""
        index = self.builder.load(self.builder.gep(self.indices.data, [entry]))
        index = self.builder.sext(index, _I64) if index.type != _I64 else index
        return self.builder.gep(self.x.data, [self.builder.mul(index, ir.Constant(_I64, self.places))])

    def vector(self, row: Any, column: int, kind: Any) -> Any:
        """Return the address of some columns of a row."""
        return self.builder.bitcast(self.builder.gep(row, [ir.Constant(_I64, column)]), kind.as_pointer())

    def prefetch(self, entry: Any, first: int, last: int) -> None:
        """Prefetch some columns of the row of an entry, or of the last entry if there are fewer."""
        builder = self.builder
        entry = builder.select(builder.icmp_signed("<", entry, self.end), entry, self.end)
        kind = ir.FunctionType(ir.VoidType(), [_BYTE, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, _PREFETCH)
        row, flags = self.row(entry), [ir.Constant(_I32, n) for n in (0, 3, 1)]  # read, high locality, data cache
        for column in range(first, last, _LINE // self.size):
            place = builder.gep(row, [ir.Constant(_I64, column)])
            builder.call(function, [builder.bitcast(place, _BYTE), *flags])


def broadcast(builder: Any, value: Any, kind: Any) -> Any:
    """Return a vector of equal numbers."""
    nothing, mask = ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(_I32, kind.count), None)
    one = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, nothing, mask)


class _Sum(RowReader):
    """Code generator of the weighted sum of the rows of a sparse row."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, width: int) -> None:
        kinds = signature.args
        super().__init__(context, builder, (kinds[0], arguments[0]), (kinds[4], arguments[4]), width)
        self.values, self.total = (context.make_array(kinds[n])(context, builder, arguments[n]) for n in (1, 5))
        self.first, self.last = arguments[2], arguments[3]
        self.number = context.get_value_type(kinds[5].dtype)
        self.aligned = context.get_abi_sizeof(self.number)

    def numbers(self, row: Any, vector: _Vector) -> list[Any]:
        """Load a vector; packed words give two, one for each half."""
        builder, lanes = self.builder, vector.lanes
        kind = ir.VectorType(self.number, lanes)
        if not self.packed:
            return [builder.load(self.vector(row, vector.place, kind), align=self.size)]
        words = ir.VectorType(_I32, lanes)
        both = builder.load(self.vector(row, vector.place, words), align=self.size)
        lower = builder.shl(both, broadcast(builder, ir.Constant(_I32, 16), words))
        upper = builder.and_(both, broadcast(builder, ir.Constant(_I32, 0xFFFF0000), words))
        return [builder.bitcast(bits, kind) for bits in (lower, upper)]

    def value(self, entry: Any) -> Any:
        """Load the value of an entry, converted to the type of the rows."""
        value = self.builder.load(self.builder.gep(self.values.data, [entry]))
        return value if value.type == self.number else self.builder.fpext(value, self.number)

    def sums(self, vectors: Sequence[_Vector]) -> None:
        """Emit the sums of a group of columns."""
        builder = self.builder
        columns = [(column, ir.VectorType(self.number, each.lanes)) for each in vectors for column in each.columns]
        before, loop, done = builder.block, builder.append_basic_block("entries"), builder.append_basic_block("sum")
        builder.cbranch(builder.icmp_signed("<", self.first, self.last), loop, done)
        builder.position_at_end(loop)
        entry = builder.phi(_I64)
        sums = [builder.phi(kind) for _, kind in columns]
        self.prefetch(
            builder.add(entry, ir.Constant(_I64, _AHEAD)), vectors[0].place, vectors[-1].place + vectors[-1].lanes
        )
        value, row, added = self.value(entry), self.row(entry), []
        numbers = [loaded for each in vectors for loaded in self.numbers(row, each)]
        for (_, kind), total, loaded in zip(columns, sums, numbers, strict=True):
            product = builder.fmul(loaded, broadcast(builder, value, kind), flags=["contract"])
            added.append(builder.fadd(total, product, flags=["contract"]))
        following = builder.add(entry, ir.Constant(_I64, 1))
        builder.cbranch(builder.icmp_signed("<", following, self.last), loop, done)
        entry.add_incoming(self.first, before)
        entry.add_incoming(following, loop)
        for (_, kind), total, more in zip(columns, sums, added, strict=True):
            total.add_incoming(ir.Constant(kind, None), before)
            total.add_incoming(more, loop)
        builder.position_at_end(done)
        results = [builder.phi(kind) for _, kind in columns]
        for (column, kind), result, more in zip(columns, results, added, strict=True):
            result.add_incoming(ir.Constant(kind, None), before)
            result.add_incoming(more, loop)
            builder.store(result, self.vector(self.total.data, column, kind), align=self.aligned)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def sum_rows(
    typing: Any, indices: Any, values: Any, first: Any, last: Any, x: Any, total: Any, width: Any
) -> tuple[Any, Callable[..., Any]]:
    """Compute ``total[k] = sum_p values[p] * x[indices[p], k]`` over entries ``first <= p < last``, within a kernel.

    Entries are added in order, in every column. Arguments: ``indices`` int32 ``[nnz]``, ``values`` float32 ``[nnz]``,
    ``first`` and ``last``, ``x`` ``[m, width]`` (or uint32 ``[m, width / 2]``, packed by
    :func:`~enhancer_plugins.training.compiled.kernels.pack_bfloat16`), ``total`` float ``[width]``, and ``width``, a
    compile-time constant. All arrays are C-contiguous.
    """
    del typing, first, last

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emitter = _Sum(context, builder, signature, arguments, width.literal_value)
        for vectors in _column_groups(width.literal_value, packed=emitter.packed):
            emitter.sums(vectors)
        return context.get_dummy_value()

    return types.void(indices, values, types.int64, types.int64, x, total, width), emit
