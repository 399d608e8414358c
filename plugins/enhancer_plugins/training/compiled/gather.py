"""A sparse row's sum of gathered rows, written in LLVM's own vectors.

Nearly all that a step of a graph model does is fetching rows from memory in an order that no processor foresees.
Written as loops, the sum is in vector registers already, but nothing asks for a row before it is needed. Here the rows
of the entries to come are asked for while those before them are added up: beyond the cache that is worth a quarter.

Numba keeps compiled kernels by the file that they are written in: touch ``kernels.py`` when this file changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_AHEAD = 16
"""Entries between asking for a row and adding it."""
_LANES = 16
"""Numbers in a vector at most; LLVM cuts it to what the processor has."""
_COLUMNS = 64
"""Columns whose sums are held in registers at once."""
_LINE = 64
"""Bytes that memory hands over at a time."""
_PREFETCH = "llvm.prefetch.p0i8"
"""As LLVM 14 spells it; later ones read that spelling too."""
_I32, _I64, _BYTE = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()


class _Piece(NamedTuple):
    """Columns that are loaded at once."""

    place: int
    """Where it begins in a row as it is fetched."""
    lanes: int
    """Its length, a power of two."""
    columns: tuple[int, ...]
    """Where its numbers belong; of halves, those in the lower halves of its words and those in the upper ones."""


def _batches(width: int, *, halves: bool) -> Iterator[list[_Piece]]:
    """The columns of a row, as many at a time as there are registers for their sums."""
    places = width // 2 if halves else width
    size = _COLUMNS * places // width
    for first in range(0, places, size):
        place, last, pieces = first, min(first + size, places), []
        while place < last:
            lanes = min(_LANES, 1 << ((last - place).bit_length() - 1))
            pieces.append(_Piece(place, lanes, (place, place + places) if halves else (place,)))
            place += lanes
        yield pieces


class _Emitter:
    """Writes the loop over a row's entries."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, width: int) -> None:
        kinds = signature.args
        self.builder = builder
        self.indices, self.values, self.x, self.total = (
            context.make_array(kinds[n])(context, builder, arguments[n]) for n in (0, 1, 4, 5)
        )
        self.first, self.last = arguments[2], arguments[3]
        self.number = context.get_value_type(kinds[5].dtype)
        self.aligned = context.get_abi_sizeof(self.number)
        self.halves = kinds[4].dtype == types.uint32
        self.places = width // 2 if self.halves else width
        self.size = context.get_abi_sizeof(context.get_value_type(kinds[4].dtype))
        entries = cgutils.unpack_tuple(builder, self.indices.shape)[0]
        self.end = builder.sub(entries, ir.Constant(_I64, 1))

    def row(self, entry: Any) -> Any:
        """Address of the row of ``x`` that an entry names."""
        index = self.builder.load(self.builder.gep(self.indices.data, [entry]))
        index = self.builder.sext(index, _I64) if index.type != _I64 else index
        return self.builder.gep(self.x.data, [self.builder.mul(index, ir.Constant(_I64, self.places))])

    def vector(self, row: Any, column: int, kind: Any) -> Any:
        """Address of some columns of a row."""
        return self.builder.bitcast(self.builder.gep(row, [ir.Constant(_I64, column)]), kind.as_pointer())

    def ask(self, entry: Any, first: int, last: int) -> None:
        """Prefetch some columns of an entry's row; past the end, of the last entry's."""
        builder = self.builder
        entry = builder.select(builder.icmp_signed("<", entry, self.end), entry, self.end)
        kind = ir.FunctionType(ir.VoidType(), [_BYTE, _I32, _I32, _I32])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, _PREFETCH)
        row, told = self.row(entry), [ir.Constant(_I32, n) for n in (0, 3, 1)]  # to read, keep near, data
        for column in range(first, last, _LINE // self.size):
            place = builder.gep(row, [ir.Constant(_I64, column)])
            builder.call(prefetch, [builder.bitcast(place, _BYTE), *told])

    def numbers(self, row: Any, piece: _Piece) -> list[Any]:
        """A piece's numbers, one vector for each of its columns; of halves, both that a word holds."""
        builder, lanes = self.builder, piece.lanes
        kind = ir.VectorType(self.number, lanes)
        if not self.halves:
            return [builder.load(self.vector(row, piece.place, kind), align=self.size)]
        words = ir.VectorType(_I32, lanes)
        both = builder.load(self.vector(row, piece.place, words), align=self.size)
        lower = builder.shl(both, self.everywhere(ir.Constant(_I32, 16), words))
        upper = builder.and_(both, self.everywhere(ir.Constant(_I32, 0xFFFF0000), words))
        return [builder.bitcast(bits, kind) for bits in (lower, upper)]

    def value(self, entry: Any) -> Any:
        """An entry's value, as a number of the rows' type."""
        value = self.builder.load(self.builder.gep(self.values.data, [entry]))
        return value if value.type == self.number else self.builder.fpext(value, self.number)

    def everywhere(self, value: Any, kind: Any) -> Any:
        """A vector of equal numbers."""
        nothing, mask = ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(_I32, kind.count), None)
        one = self.builder.insert_element(nothing, value, ir.Constant(_I32, 0))
        return self.builder.shuffle_vector(one, nothing, mask)

    def sums(self, pieces: Sequence[_Piece]) -> None:
        """The sums of some columns."""
        builder = self.builder
        columns = [(column, ir.VectorType(self.number, piece.lanes)) for piece in pieces for column in piece.columns]
        before, loop, done = builder.block, builder.append_basic_block("entries"), builder.append_basic_block("sum")
        builder.cbranch(builder.icmp_signed("<", self.first, self.last), loop, done)
        builder.position_at_end(loop)
        entry = builder.phi(_I64)
        sums = [builder.phi(kind) for _, kind in columns]
        self.ask(builder.add(entry, ir.Constant(_I64, _AHEAD)), pieces[0].place, pieces[-1].place + pieces[-1].lanes)
        value, row, added = self.value(entry), self.row(entry), []
        numbers = [vector for piece in pieces for vector in self.numbers(row, piece)]
        for (_, kind), total, vector in zip(columns, sums, numbers, strict=True):
            product = builder.fmul(vector, self.everywhere(value, kind), flags=["contract"])
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
    """``total[k] = sum_p values[p] * x[indices[p], k]`` over entries ``first <= p < last``, within a kernel.

    The sum is taken in the order of the entries, in every column alike. Its arguments: ``indices`` int32 ``[nnz]``,
    ``values`` float32 ``[nnz]``, ``first`` and ``last``, ``x`` ``[m, width]`` (or uint32 ``[m, width / 2]``, as
    :func:`~enhancer_plugins.training.compiled.kernels.halve` packs them), ``total`` float ``[width]``,
    and ``width``, a constant at compile time. All arrays are C-contiguous.
    """
    del typing, first, last

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emitter = _Emitter(context, builder, signature, arguments, width.literal_value)
        for pieces in _batches(width.literal_value, halves=emitter.halves):
            emitter.sums(pieces)
        return context.get_dummy_value()

    return types.void(indices, values, types.int64, types.int64, x, total, width), emit
