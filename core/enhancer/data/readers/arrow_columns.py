"""Turn Arrow arrays into cells and columns. pyarrow is imported when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.data.readers.arrays import CodedColumn, IrregularTableError, TimeColumn
from enhancer.data.readers.cells import cell

if TYPE_CHECKING:
    import datetime as dt

    from numpy.typing import NDArray

    from enhancer.data.readers.arrays import Column, ColumnRole

_DAY_SECONDS, _THOUSAND = 86_400, 1000
_DECIMALS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def is_list(kind: Any) -> bool:
    """Check whether an Arrow type is a list of any kind."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    views = (getattr(pa.types, name, None) for name in ("is_list_view", "is_large_list_view"))
    checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, *views)
    return any(check is not None and check(kind) for check in checks)


def arrow_array(column: Any, role: ColumnRole) -> Column:
    """Return an Arrow array as a column; text for types that are no numbers, times or strings.

    Raises:
        IrregularTableError: Values are missing.
    """
    import pyarrow as pa

    kind, types = column.type, pa.types
    if role == "text":
        return arrow_cells(column)
    if column.null_count:
        raise IrregularTableError
    if types.is_string(kind) or types.is_large_string(kind):
        column = column.dictionary_encode()
    if types.is_dictionary(column.type):
        if column.dictionary.null_count:
            raise IrregularTableError
        return CodedColumn(column.indices.to_numpy().astype(np.int32, copy=False), arrow_cells(column.dictionary))
    if types.is_integer(kind) and kind != pa.uint64():
        integers: NDArray[np.int64] = column.to_numpy().astype(np.int64, copy=False)
        return integers
    if types.is_float64(kind) and role == "number":
        floats: NDArray[np.float64] = column.to_numpy()
        return floats
    if types.is_timestamp(kind) and role == "time":
        return _moments(column.cast(pa.int64()).to_numpy(), _DECIMALS[kind.unit])
    if types.is_date32(kind) and role == "time":
        return _moments(column.cast(pa.int32()).to_numpy().astype(np.int64) * _DAY_SECONDS, 0)
    return arrow_cells(column)


def _moments(times: NDArray[np.int64], decimals: int) -> TimeColumn:
    """Return times with as few decimals as they need."""
    while decimals and not (times % _THOUSAND).any():
        times, decimals = times // _THOUSAND, decimals - 3
    while decimals and not (times % 10).any():
        times, decimals = times // 10, decimals - 1
    return TimeColumn(times, decimals)


def arrow_cells(column: Any, *, short_floats: bool = False) -> list[str]:
    """Return the cells of an Arrow array."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return arrow_cells(column.dictionary_decode(), short_floats=short_floats)
    if short_floats and (width := _narrow_floats(kind)) is not None:
        return [cell(_shortened(value, width)) for value in column.to_pylist()]
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return _nanoseconds(column)
    coarser = _without_nanoseconds(kind)
    if coarser != kind:
        column = column.cast(coarser, safe=False)
    return [cell(value) for value in column.to_pylist()]


def _narrow_floats(kind: Any) -> type[np.floating] | None:
    """Return the NumPy type of floats of less than 64 bits, or of lists of them."""
    import pyarrow as pa

    if is_list(kind):
        return _narrow_floats(kind.value_type)
    if pa.types.is_float32(kind):
        return np.float32
    return np.float16 if pa.types.is_float16(kind) else None


def _shortened(value: Any, width: type[np.floating]) -> Any:
    """Return a number with the fewest digits that tell it from others of its width; also within lists."""
    if isinstance(value, list):
        return [_shortened(part, width) for part in value]
    return None if value is None else float(str(width(value)))


def _without_nanoseconds(kind: Any) -> Any:
    """Return a type with microseconds for nanoseconds, however nested: pyarrow needs pandas for nanoseconds."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if pa.types.is_struct(kind):
        return pa.struct(
            [kind.field(n).with_type(_without_nanoseconds(kind.field(n).type)) for n in range(kind.num_fields)]
        )
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_nanoseconds(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_without_nanoseconds(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_without_nanoseconds(kind.value_type)), kind.list_size)
    return kind


def _nanoseconds(column: Any) -> list[str]:
    """Return ISO 8601. A datetime has no nanoseconds, and pyarrow needs pandas for them."""
    import pyarrow as pa

    nanoseconds = column.cast(pa.int64()).to_pylist()
    microseconds = [None if value is None else value // 1000 for value in nanoseconds]
    moments = pa.array(microseconds, pa.timestamp("us", column.type.tz)).to_pylist()
    return [
        "" if moment is None else _with_nanoseconds(moment, value % 1000)
        for moment, value in zip(moments, nanoseconds, strict=True)
    ]


def _with_nanoseconds(moment: dt.datetime, rest: int) -> str:
    if not rest:
        return moment.isoformat()
    text = moment.isoformat(timespec="microseconds")
    end = text.index(".") + 7
    return f"{text[:end]}{rest:03}{text[end:]}"
