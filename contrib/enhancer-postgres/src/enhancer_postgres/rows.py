"""Convert records to rows of typed columns and back, with checksums.

Each row has two checksums. ``checksum`` is that of :mod:`enhancer.storekit.codec`, over the key and all fields. A
row is verified by decoding it, encoding the record again, and comparing checksums. ``vector_crc`` is CRC-32 over the
key and the vector only, so that vectors are verified without reading profiles.

The type ``text`` of PostgreSQL can contain neither NUL nor lone surrogates. Fields with such characters are stored with
replacement characters, and their exact values as ASCII JSON in the column ``exact``. It also holds a record's
confidence, which tables of earlier versions have no column for, and is null in all other rows.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import Any, Final

import numpy as np

from enhancer.contracts import Record, codec
from enhancer.errors import StoreCorruptError, StoreError
from enhancer_postgres import wire

TEXTS: Final = (
    "kind",
    "id",
    "aspect",
    "profile",
    "prompt_version",
    "model",
    "embedder",
    "generated_at",
    "input_hash",
)
COLUMNS: Final = (
    "key",
    *TEXTS,
    "tags",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "exact",
    "dim",
    "vector_crc",
    "checksum",
    "damaged",
    "vector",
)
"""Columns of a complete row, in order."""
PGVECTOR_DIMS: Final = 16_000
"""Maximum dimension of pgvector's ``vector``."""

_COUNT: Final = len(COLUMNS).to_bytes(2, "big")
_CHECKSUM: Final = slice(8, 12)
_VECTOR_AT: Final = 32
_TOKENS: Final = 2**63


class DamagedError(StoreCorruptError):
    """The checksum of a row is wrong."""

    def __init__(self, key: bytes, seen: int, what: str = "its checksum is wrong") -> None:
        super().__init__(
            f"record {codec.describe_key(key)}: {what}",
            hint="the next `enhancer generate` creates damaged records again",
        )
        self.key = key
        self.seen = seen
        """The ``vector_crc`` of the row, to distinguish it from a row written meanwhile."""


def encode(record: Record) -> tuple[bytes, tuple[Record, bytes]]:
    """Return the key, the record as it will be read, and its bytes in the layout of the codec.

    Raises:
        StoreError: The record is invalid; the message names it.
    """
    key, value = codec.encode(record)
    cost: Any = record.cost_usd
    if isinstance(cost, int):
        record = replace(record, cost_usd=float(cost))  # as the column returns it
        key, value = codec.encode(record)
    for tokens in (record.prompt_tokens, record.completion_tokens):
        if tokens is not None and not -_TOKENS <= tokens < _TOKENS:
            raise StoreError(f"record {codec.describe_key(key)}: {tokens} tokens do not fit into a bigint")
    return key, (record, value)


def vector_crc(key: bytes, vector: bytes | memoryview) -> int:
    """Return the checksum of a key and its vector, as little-endian float32."""
    return zlib.crc32(vector, zlib.crc32(key))


def to_copy(key: bytes, record: Record, value: bytes, *, pgvector: bool) -> bytes:
    """Return one row for ``COPY ... (FORMAT binary)``.

    Raises:
        StoreError: The vector has more dimensions than pgvector supports.
    """
    dim = int.from_bytes(value[16:20], "little")
    if pgvector and dim > PGVECTOR_DIMS:
        raise StoreError(
            f"record {codec.describe_key(key)}: its vector has {dim:,} dimensions; pgvector supports {PGVECTOR_DIMS:,}",
            hint='use another [store] table with vectors = "bytea"',
        )
    vector = value[_VECTOR_AT : _VECTOR_AT + 4 * dim]
    exact: dict[str, Any] = {}
    parts = [_COUNT, wire.sized(key)]
    for name in TEXTS:
        text = getattr(record, name)
        if not _is_storable(text):
            exact[name] = text
        parts.append(wire.sized(_readable(text)))
    if record.confidence:
        exact["confidence"] = record.confidence
    if not all(map(_is_storable, record.tags)):
        exact["tags"] = list(record.tags)
    parts += (
        wire.sized(wire.array([_readable(tag) for tag in record.tags])),
        wire.int8(record.prompt_tokens),
        wire.int8(record.completion_tokens),
        wire.float8(record.cost_usd),
        wire.sized(json.dumps(exact).encode("ascii")) if exact else wire.NULL,
        wire.int4(dim),
        wire.int4(vector_crc(key, vector)),
        wire.int4(int.from_bytes(value[_CHECKSUM], "little")),
        b"\x00\x00\x00\x01\x00",
        wire.vector(vector, pgvector=pgvector),
    )
    return b"".join(parts)


def _is_storable(text: str) -> bool:
    if text.isascii():
        return "\x00" not in text
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def _readable(text: str) -> bytes:
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace")


def decode(row: tuple[Any, ...], *, pgvector: bool) -> Record:
    """Return the record of a row with all :data:`COLUMNS`.

    Raises:
        DamagedError: The row is not what was written.
        StoreError: The row has a format that only a newer version of enhancer reads.
    """
    fields = dict(zip(COLUMNS, row, strict=True))
    key, dim, crc, checksum = (fields.pop(name) for name in ("key", "dim", "vector_crc", "checksum"))
    crc &= 0xFFFFFFFF
    exact, data, _ = fields.pop("exact"), fields.pop("vector"), fields.pop("damaged")
    try:
        if exact is not None:
            fields.update(json.loads(exact))
        fields["tags"] = tuple(fields["tags"])
        vector = wire.matrix_of([data], pgvector=pgvector)[0].astype("<f4")
        record = Record(vector=vector, **fields)
        own, value = codec.encode(record)
    except (ValueError, TypeError, StoreError) as error:
        raise DamagedError(key, crc, f"it cannot be read ({error})") from None
    if own != key:
        raise DamagedError(key, crc, f"it contains the record {codec.describe_key(own)}")
    if (
        dim != vector.size
        or crc != vector_crc(key, vector.tobytes())
        or checksum & 0xFFFFFFFF != int.from_bytes(value[_CHECKSUM], "little")
    ):
        raise DamagedError(key, crc)
    record.vector = vector.astype(np.float32, copy=False)
    return record


def exact_text(text: str, exact: str | None, name: str) -> str:
    """Return the exact value of one text field."""
    return text if exact is None else str(json.loads(exact).get(name, text))
