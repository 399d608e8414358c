"""A record as a row of typed columns, and back, each checked.

Two checksums stand in every row. ``checksum`` is the one that :mod:`enhancer.storekit.codec` gives the record, over
its key and all its fields: a row that was read is made into a record, encoded again, and compared. ``vector_crc`` is
CRC-32 over the key and the vector alone, so that a table of vectors is checked without fetching the profiles.

PostgreSQL's ``text`` holds neither NUL nor lone surrogates. A field that has one is kept readable with a replacement
character in its place, and ``exact``, null in all other rows, has the true fields as ASCII JSON.
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
"""The order of the columns in a row that is sent or read whole."""
PGVECTOR_DIMS: Final = 16_000
"""pgvector's ``vector`` holds no more numbers."""

_COUNT: Final = len(COLUMNS).to_bytes(2, "big")
_CHECKSUM: Final = slice(8, 12)
_VECTOR_AT: Final = 32
_TOKENS: Final = 2**63


class DamagedError(StoreCorruptError):
    """A row whose checksum does not hold."""

    def __init__(self, key: bytes, seen: int, what: str = "its checksum does not hold") -> None:
        super().__init__(
            f"record {codec.describe_key(key)}: {what}", hint="the next `enhancer generate` makes damaged records again"
        )
        self.key = key
        self.seen = seen
        """The ``vector_crc`` in the row, by which the row is told from one that was written meanwhile."""


def encode(record: Record) -> tuple[bytes, tuple[Record, bytes]]:
    """Key, the record as it will be read again, and its bytes in the codec's layout.

    Raises:
        StoreError: The record is refused; it is named.
    """
    key, value = codec.encode(record)
    cost: Any = record.cost_usd
    if isinstance(cost, int):
        record = replace(record, cost_usd=float(cost))  # as the column gives it back
        key, value = codec.encode(record)
    for tokens in (record.prompt_tokens, record.completion_tokens):
        if tokens is not None and not -_TOKENS <= tokens < _TOKENS:
            raise StoreError(f"record {codec.describe_key(key)}: {tokens} tokens do not fit into a bigint")
    return key, (record, value)


def vector_crc(key: bytes, vector: bytes | memoryview) -> int:
    """The checksum of a vector, little-endian float32, under its key."""
    return zlib.crc32(vector, zlib.crc32(key))


def to_copy(key: bytes, record: Record, value: bytes, *, pgvector: bool) -> bytes:
    """One row for ``COPY ... (FORMAT binary)``.

    Raises:
        StoreError: The vector is longer than pgvector allows.
    """
    dim = int.from_bytes(value[16:20], "little")
    if pgvector and dim > PGVECTOR_DIMS:
        raise StoreError(
            f"record {codec.describe_key(key)}: its vector has {dim:,} numbers, and pgvector holds {PGVECTOR_DIMS:,}",
            hint='use another [store] table with vectors = "bytea"',
        )
    vector = value[_VECTOR_AT : _VECTOR_AT + 4 * dim]
    exact: dict[str, Any] = {}
    parts = [_COUNT, wire.sized(key)]
    for name in TEXTS:
        text = getattr(record, name)
        if not _fits(text):
            exact[name] = text
        parts.append(wire.sized(_readable(text)))
    if not all(map(_fits, record.tags)):
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


def _fits(text: str) -> bool:
    if text.isascii():
        return "\x00" not in text
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def _readable(text: str) -> bytes:
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace")


def decode(row: tuple[Any, ...], *, pgvector: bool) -> Record:
    """The record of a row, all of :data:`COLUMNS`.

    Raises:
        DamagedError: The row is not what was written.
        StoreError: It is of a format that only a newer enhancer reads.
    """
    fields = dict(zip(COLUMNS, row, strict=True))
    key, dim, crc, checksum = (fields.pop(name) for name in ("key", "dim", "vector_crc", "checksum"))
    crc &= 0xFFFFFFFF
    exact, data, _ = fields.pop("exact"), fields.pop("vector"), fields.pop("damaged")
    try:
        if exact is not None:
            fields.update(json.loads(exact))
        fields["tags"] = tuple(fields["tags"])
        vector = wire.table_of([data], pgvector=pgvector)[0].astype("<f4")
        record = Record(vector=vector, **fields)
        own, value = codec.encode(record)
    except (ValueError, TypeError, StoreError) as error:
        raise DamagedError(key, crc, f"it cannot be read ({error})") from None
    if own != key:
        raise DamagedError(key, crc, f"it holds {codec.describe_key(own)}")
    if (
        dim != vector.size
        or crc != vector_crc(key, vector.tobytes())
        or checksum & 0xFFFFFFFF != int.from_bytes(value[_CHECKSUM], "little")
    ):
        raise DamagedError(key, crc)
    record.vector = vector.astype(np.float32, copy=False)
    return record


def exact_text(text: str, exact: str | None, name: str) -> str:
    """A field of a row that is read in part."""
    return text if exact is None else str(json.loads(exact).get(name, text))
