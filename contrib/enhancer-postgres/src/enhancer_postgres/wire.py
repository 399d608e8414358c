"""Encode and decode PostgreSQL's binary formats in bulk.

All integers and floats are big-endian. Encoding the bytes here takes a tenth of the time that psycopg needs for single
Python objects.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import numpy as np
from psycopg.adapt import Dumper
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

COPY_HEAD: Final = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
COPY_END: Final = struct.pack(">h", -1)
NULL: Final = struct.pack(">i", -1)
_TEXT: Final = 25
_BYTEA: Final = 17
_BYTEA_ARRAY: Final = 1001

_LENGTH = struct.Struct(">i")
_INT4 = struct.Struct(">iI")
_INT8 = struct.Struct(">iq")
_FLOAT8 = struct.Struct(">id")
_ARRAY = struct.Struct(">iiIii")
_VECTOR = struct.Struct(">ihh")


def sized(value: bytes) -> bytes:
    r"""Return a value with its length as prefix: ``text`` (UTF-8), ``bytea``, or an array.

    >>> sized(b"ab")
    b'\x00\x00\x00\x02ab'
    """
    return _LENGTH.pack(len(value)) + value


def int4(bits: int) -> bytes:
    """Return 32 bits as ``integer``, which represents values from 2**31 as negative numbers."""
    return _INT4.pack(4, bits)


def int8(value: int | None) -> bytes:
    """Return a value as ``bigint``."""
    return NULL if value is None else _INT8.pack(8, value)


def float8(value: float | None) -> bytes:
    """Return a value as ``double precision``."""
    return NULL if value is None else _FLOAT8.pack(8, value)


def array(items: Sequence[bytes], oid: int = _TEXT) -> bytes:
    """Return a one-dimensional array without length prefix; by default of ``text``."""
    if not items:
        return struct.pack(">iiI", 0, 0, oid)
    return _ARRAY.pack(1, 0, oid, len(items), 1) + b"".join([_LENGTH.pack(len(item)) + item for item in items])


def vector(row: bytes, *, pgvector: bool) -> bytes:
    """Return a vector, given as bytes of little-endian float32, as pgvector's ``vector`` or as ``bytea``."""
    if not pgvector:
        return sized(row)
    return _VECTOR.pack(4 + len(row), len(row) // 4, 0) + np.frombuffer(row, "<f4").byteswap().tobytes()


def matrix_of(values: Sequence[bytes], *, pgvector: bool) -> NDArray[np.float32]:
    """Return received values of equal length as a matrix ``[n, dim]``, in the byte order of the wire."""
    if pgvector:
        kind = np.dtype([("head", "S4"), ("vector", ">f4", ((len(values[0]) - 4) // 4,))])
        rows: NDArray[np.float32] = np.frombuffer(b"".join(values), kind)["vector"]
        return rows
    return np.frombuffer(b"".join(values), "<f4").reshape(len(values), -1)


def dim_of(length: int, *, pgvector: bool) -> int:
    """Return the dimension of a received vector from its length in bytes."""
    return (length - 4 if pgvector else length) // 4


class Keys(bytes):
    """A parameter ``bytea[]`` in its binary format."""

    __slots__ = ()

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> Keys:
        """Encode the keys."""
        return cls(array(keys, _BYTEA))


class KeysDumper(Dumper):
    """Sends :class:`Keys` without conversion."""

    format = Format.BINARY
    oid = _BYTEA_ARRAY

    def dump(self, obj: Keys) -> bytes:
        """Return the bytes."""
        return bytes(obj)
