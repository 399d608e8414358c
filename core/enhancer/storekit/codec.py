"""Encode records as bytes. The layout is shared by all stores of opaque values, and detects damage.

A record is stored as a *key* and a *value*. Layout of the value, with little-endian integers::

    0   4  magic ``ENHR``
    4   2  format version
    6   2  zero
    8   4  CRC-32 of the key, followed by the value without these four bytes
    12  4  length of the value
    16  4  dim: length of the vector
    20  2  length of the input hash
    22  2  length of the embedder's fingerprint
    24  4  length of the metadata
    28  4  zero
    32     the vector, float32 ``[dim]``; then the input hash, the fingerprint and the metadata (JSON), all UTF-8

The vector has a fixed offset, so that a matrix of vectors is filled by copying memory. Input hash and embedder are read
without parsing the JSON. The checksum includes the key, to detect a damaged index that returns the value of another
record. Magic, version and checksum have the same offsets in every later version.

Keys sort by kind, then aspect, then id. Ids may have any length and any characters, including lone surrogates. An id of
more than 255 bytes is replaced by its BLAKE2b digest in the key; the record contains the id itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final, NoReturn, get_args

import numpy as np

from enhancer.contracts.record import CONFIDENCES, PROFILE_ASPECT, Key, Kind, Record, Stamp
from enhancer.errors import StoreCorruptError, StoreError, StoreMismatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

FORMAT_VERSION: Final = 1
"""Version that :func:`encode` writes, and the newest that :func:`decode` reads."""

Value = bytes | memoryview

_MAGIC: Final = b"ENHR"
_HEADER = struct.Struct("<4sHHIIIHHII")
_STAMP_HEADER = struct.Struct("<8sI4xIHH")
"""Subset of the header for stamps: magic and version, checksum, dim, and the lengths of both strings."""
_CHECKSUM = struct.Struct("<I")
_FLOATS = np.dtype("<f4")
_PREFIX: Final = _HEADER.pack(_MAGIC, FORMAT_VERSION, 0, 0, 0, 0, 0, 0, 0, 0)[:8]
_CHECKSUM_AT: Final = 8
_BODY_AT: Final = 12
VECTOR_AT: Final = 32
"""Offset of the vector in every value."""
_STRINGS: Final = {str}
_quoted = json.encoder.encode_basestring_ascii
_ID_BYTES: Final = 255
_ASPECT_BYTES: Final = 100
_ASPECT_HASHED: Final = 255
_KIND_BYTE: Final[dict[str, bytes]] = {"item": b"i", "user": b"u"}
_KIND_NAME: Final[dict[int, Kind]] = {ord("i"): "item", ord("u"): "user"}


# --- keys ---------------------------------------------------------------------------------------------------------


def key_prefix(kind: Kind, aspect: str | None = None) -> bytes:
    r"""Return the common prefix of the keys of one kind, or of one kind and aspect.

    >>> key_prefix("item")
    b'i'
    >>> key_prefix("item", "mood")
    b'i\x04mood'
    """
    if kind not in _KIND_BYTE:
        raise StoreError(f"unknown kind {kind!r}", hint=f"known: {', '.join(get_args(Kind))}")
    if aspect is None:
        return _KIND_BYTE[kind]
    raw = aspect.encode("utf-8", "surrogatepass")
    if len(raw) > _ASPECT_BYTES:
        return _KIND_BYTE[kind] + bytes([_ASPECT_HASHED]) + hashlib.blake2b(raw, digest_size=32).digest()
    return _KIND_BYTE[kind] + bytes([len(raw)]) + raw


def encode_keys(ids: Sequence[str], kind: Kind, aspect: str = PROFILE_ASPECT) -> list[bytes]:
    """Return the keys of many ids of one kind and aspect."""
    prefix = key_prefix(kind, aspect)
    plain, hashed = prefix + b"=", prefix + b"#"
    keys = []
    for id_ in ids:
        raw = id_.encode() if id_.isascii() else id_.encode("utf-8", "surrogatepass")
        keys.append(plain + raw if len(raw) <= _ID_BYTES else hashed + hashlib.blake2b(raw, digest_size=32).digest())
    return keys


def encode_key(key: Key) -> bytes:
    r"""Return the key as bytes, 2 to 358 of them.

    >>> encode_key(Key("item", "42"))
    b'i\x00=42'
    """
    return encode_keys([key.id], key.kind, key.aspect)[0]


def describe_key(raw: bytes) -> str:
    r"""Return a key for display, as ``kind/id`` or ``kind/id/aspect``.

    >>> describe_key(b"i\x00=42")
    'item/42'
    """
    try:
        kind, length = _KIND_NAME[raw[0]], raw[1]
        end = 2 + (32 if length == _ASPECT_HASHED else length)
        aspect = "(long)" if length == _ASPECT_HASHED else raw[2:end].decode("utf-8", "backslashreplace")
        mark, rest = raw[end : end + 1], raw[end + 1 :]
        if mark not in (b"=", b"#"):
            return repr(raw)
        id_ = rest.decode("utf-8", "backslashreplace") if mark == b"=" else f"(long id {rest.hex()[:12]}…)"
    except (KeyError, IndexError):
        return repr(raw)
    return f"{kind}/{id_}/{aspect}" if aspect else f"{kind}/{id_}"


def decode_key(raw: bytes) -> Key | None:
    r"""Invert :func:`encode_key`. Return None for a damaged key or one that contains a digest.

    >>> decode_key(b"i\x00=42")
    Key(kind='item', id='42', aspect='')
    """
    kind = _KIND_NAME.get(raw[0]) if len(raw) > 2 else None
    if kind is None or raw[1] > _ASPECT_BYTES:
        return None
    end = 2 + raw[1]
    if raw[end : end + 1] != b"=":
        return None
    try:
        aspect = raw[2:end].decode("utf-8", "surrogatepass") if end > 2 else PROFILE_ASPECT
        return Key(kind, raw[end + 1 :].decode("utf-8", "surrogatepass"), aspect)
    except UnicodeDecodeError:
        return None


def describe_kind(raw: bytes) -> str:
    r"""Return the ``kind`` or ``kind/aspect`` of a key.

    >>> describe_kind(b"i\x04mood=42")
    'item/mood'
    """
    kind, length = _KIND_NAME.get(raw[0], "unknown"), raw[1]
    if length == _ASPECT_HASHED:
        return f"{kind}/(long)"
    return f"{kind}/{raw[2 : 2 + length].decode('utf-8', 'backslashreplace')}" if length else kind


# --- writing ------------------------------------------------------------------------------------------------------


def check_vector(vector: Any, name: str) -> NDArray[np.float32]:
    """Return the vector as float32 ``[dim]``.

    Raises:
        StoreError: The vector is empty, zero or not one-dimensional, or contains NaN or infinity; names the record.
    """
    with np.errstate(all="ignore"):
        if _is_plain(vector):
            checked: NDArray[np.float32] = vector
            return checked
    try:
        array = np.asarray(vector)
        with np.errstate(over="ignore"):
            row = np.ascontiguousarray(array, dtype="<f4")
    except (TypeError, ValueError) as error:
        raise StoreError(f"record {name}: its vector is not numeric: {error}") from None
    if array.ndim != 1 or row.size == 0:
        raise StoreError(f"record {name}: its vector has shape {array.shape}", hint="a vector has one dimension")
    if not np.isfinite(row).all():
        place = int(np.flatnonzero(~np.isfinite(row))[0])
        raise StoreError(
            f"record {name}: its vector has the value {row[place]} at index {place}",
            hint="nothing of this call was written",
        )
    if not row.any():
        raise StoreError(f"record {name}: its vector is zero", hint="a zero vector has no direction to compare")
    return row


def _is_plain(vector: Any) -> bool:
    """Check whether a vector needs neither a conversion nor a closer look, like nearly all. May warn of an overflow."""
    if not (type(vector) is np.ndarray and vector.ndim == 1 and vector.dtype == _FLOATS and vector.flags.c_contiguous):
        return False
    # One product tells that it is neither zero nor other than finite.
    return bool(0.0 < vector.dot(vector) < math.inf)


def encode(record: Record) -> tuple[bytes, bytes]:
    """Return a record as key and value.

    Raises:
        StoreError: The vector is invalid (see :func:`check_vector`), or a field has a wrong type; names the record.
    """
    return encode_all([record])[0]


def encode_all(records: Iterable[Record]) -> list[tuple[bytes, bytes]]:
    """Return records as keys and values; see :func:`encode`."""
    with np.errstate(all="ignore"):  # about products of vectors that are then looked at
        return list(map(_encode, records))


def _encode(record: Record) -> tuple[bytes, bytes]:
    id_, kind, aspect, embedder, input_hash = record.id, record.kind, record.aspect, record.embedder, record.input_hash
    texts = (
        id_,
        aspect,
        embedder,
        input_hash,
        record.profile,
        record.prompt_version,
        record.model,
        record.generated_at,
    )
    if set(map(type, texts)) != _STRINGS:  # subclasses of str are looked at one by one
        _check_strings(record)
    [key] = encode_keys([id_], kind, aspect)
    vector = record.vector
    if not _is_plain(vector):
        vector = check_vector(vector, _name(record))
    stamp = (_utf8(input_hash), _utf8(embedder))
    if len(stamp[0]) > 0xFFFF or len(stamp[1]) > 0xFFFF:
        raise StoreError(f"record {_name(record)}: input_hash and embedder are limited to 65,535 bytes each")
    meta = _metadata(record)
    length = VECTOR_AT + 4 * vector.size + len(stamp[0]) + len(stamp[1]) + len(meta)
    head = _HEADER.pack(
        _MAGIC, FORMAT_VERSION, 0, 0, length, vector.size, len(stamp[0]), len(stamp[1]), len(meta), 0
    )  # fmt: skip
    body = b"".join((head[_BODY_AT:], vector.tobytes(), *stamp, meta))
    return key, b"".join((_PREFIX, _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(key + _PREFIX))), body))


def _name(record: Record) -> str:
    return "/".join(filter(None, (str(record.kind), str(record.id), str(record.aspect))))


def _utf8(text: str) -> bytes:
    return text.encode() if text.isascii() else text.encode("utf-8", "surrogatepass")


def _check_strings(record: Record) -> None:
    for field in ("id", "aspect", "profile", "prompt_version", "model", "embedder", "generated_at", "input_hash"):
        if not isinstance(value := getattr(record, field), str):
            raise StoreError(f"record {_name(record)}: {field} must be a string, not {value!r}")


def _metadata(record: Record) -> bytes:
    """Return the metadata as JSON in ASCII, which can represent lone surrogates, which UTF-8 cannot.

    Written by hand: ``json.dumps`` takes four times as long.
    """
    counts = {"prompt_tokens": record.prompt_tokens, "completion_tokens": record.completion_tokens}
    for field, count in counts.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
            raise StoreError(f"record {_name(record)}: {field} must be a whole number or None, not {count!r}")
    cost, tags, sure = record.cost_usd, record.tags, record.confidence
    if not (cost is None or (isinstance(cost, int | float) and math.isfinite(cost))):
        raise StoreError(f"record {_name(record)}: cost_usd must be a finite number or None, not {cost!r}")
    if sure not in ("", *CONFIDENCES):
        raise StoreError(f"record {_name(record)}: confidence must be low, medium, high or empty, not {sure!r}")
    if not isinstance(tags, tuple | list) or not all(isinstance(tag, str) for tag in tags):
        raise StoreError(f"record {_name(record)}: tags must be strings, not {tags!r}")
    # Left out where it is empty: records without it keep the bytes, and so the checksum, of earlier versions.
    last = f',"confidence":"{sure}"' if sure else ""
    return (
        f'{{"id":{_quoted(record.id)},"kind":"{record.kind}","aspect":{_quoted(record.aspect)}'
        f',"profile":{_quoted(record.profile)},"tags":[{",".join(map(_quoted, tags))}]'
        f',"prompt_version":{_quoted(record.prompt_version)},"model":{_quoted(record.model)}'
        f',"generated_at":{_quoted(record.generated_at)},"prompt_tokens":{_number(record.prompt_tokens)}'
        f',"completion_tokens":{_number(record.completion_tokens)},"cost_usd":{_number(cost)}{last}}}'
    ).encode("ascii")


def _number(value: float | None) -> str:
    if value is None:
        return "null"
    return json.dumps(value)


def _checksum(key: bytes, start: Value, body: Value) -> int:
    return zlib.crc32(body, zlib.crc32(start, zlib.crc32(key)))


# --- reading ------------------------------------------------------------------------------------------------------


def check(key: bytes, value: Value) -> int:
    """Verify a value against its key and return the dimension of its vector.

    Raises:
        StoreCorruptError: The value is not what was written under the key.
        StoreError: The value is valid, but has a format that only a newer version of enhancer reads.
    """
    if len(value) < VECTOR_AT:
        _corrupt(key, "not a record")
    magic, version, zero, checksum, _, dim, _, _, _, _ = _HEADER.unpack_from(value)
    if magic == _MAGIC and version == FORMAT_VERSION and not zero:
        # Fast path for the current format: its first eight bytes are constant.
        if zlib.crc32(value[_BODY_AT:], zlib.crc32(key + _PREFIX)) != checksum:
            _corrupt(key, "its checksum is wrong")
        return int(dim)
    if magic != _MAGIC:
        _corrupt(key, "not a record")
    if checksum != _checksum(key, value[:_CHECKSUM_AT], value[_BODY_AT:]):
        _corrupt(key, "its checksum is wrong")
    if version != FORMAT_VERSION:
        raise StoreError(
            f"record {describe_key(key)} has format {version}; this enhancer reads formats up to {FORMAT_VERSION}",
            hint="upgrade enhancer",
        )
    return int(dim)


def vector_bytes(value: Value, dim: int) -> Value:
    """Return the vector of a verified value as the bytes of little-endian float32 ``[dim]``."""
    return value[VECTOR_AT : VECTOR_AT + 4 * dim]


def read_stamp(value: Value, dim: int) -> Stamp:
    """Return input hash and embedder of a verified value."""
    first = VECTOR_AT + 4 * dim
    second = first + int.from_bytes(value[20:22], "little")
    end = second + int.from_bytes(value[22:24], "little")
    return Stamp(
        str(value[first:second], "utf-8", "surrogatepass"), str(value[second:end], "utf-8", "surrogatepass")
    )  # fmt: skip


def stamps(keys: Iterable[bytes], values: Iterable[Value | None]) -> list[Stamp | None]:
    """Return the stamps of many records. Equivalent to :func:`check` and :func:`read_stamp`, but faster.

    Args:
        keys: Keys.
        values: Value of each key; None if there is none.

    Returns:
        Stamp of each record; None for missing and damaged records.

    Raises:
        StoreError: A record has a format that only a newer version of enhancer reads.
    """
    # Inlined: function calls and slices would cost nearly as much as the checksum.
    found: list[Stamp | None] = []
    add, unpack, crc, make = found.append, _STAMP_HEADER.unpack_from, zlib.crc32, tuple.__new__
    expected, body_at, vector_at = _PREFIX, _BODY_AT, VECTOR_AT
    for key, value in zip(keys, values, strict=True):
        if value is None:
            add(None)
            continue
        if len(value) >= vector_at:
            prefix, checksum, dim, hash_bytes, embedder_bytes = unpack(value)
            if prefix == expected and crc(value[body_at:], crc(key + expected)) == checksum:
                start = vector_at + 4 * dim
                middle = start + hash_bytes
                both = str(value[start : middle + embedder_bytes], "utf-8", "surrogatepass")
                if len(both) == hash_bytes + embedder_bytes:  # ASCII alone
                    add(make(Stamp, (both[:hash_bytes], both[hash_bytes:])))
                    continue
        try:
            add(read_stamp(value, check(key, value)))
        except StoreCorruptError:
            add(None)
    return found


def vectors(keys: Sequence[bytes], values: Iterable[Value | None]) -> NDArray[np.float32]:
    """Return the vectors of many records as a matrix.

    Args:
        keys: Keys.
        values: Value of each key; None if there is none.

    Returns:
        float32 ``[len(keys), dim]``, with NaN in the rows of missing records; ``[len(keys), 0]`` if all are missing.

    Raises:
        StoreCorruptError: A value is not what was written under its key.
        StoreMismatchError: Vectors differ in dimension.
        StoreError: A record has a format that only a newer version of enhancer reads.
    """
    table = np.empty((len(keys), 0), dtype="<f4")
    view = memoryview(b"")
    unpack, crc, expected, body_at = _STAMP_HEADER.unpack_from, zlib.crc32, _PREFIX, _BODY_AT
    dim, width, first = 0, 0, b""
    for row, (key, value) in enumerate(zip(keys, values, strict=True)):
        if value is None:
            continue
        # Inlined, as for stamps; other formats and damaged values take the slow path.
        prefix, checksum, found, _, _ = unpack(value) if len(value) >= VECTOR_AT else (b"", 0, 0, 0, 0)
        if prefix != expected or crc(value[body_at:], crc(key + expected)) != checksum:
            found = check(key, value)
        if found != dim:
            if first:
                raise StoreMismatchError(
                    f"vectors differ in dimension: record {describe_key(first)} has {dim}, "
                    f"{describe_key(key)} has {found}",
                    hint="run `enhancer generate` to embed all of them with the configured embedder",
                )
            dim, width, first = found, 4 * found, key
            table = np.full((len(keys), dim), np.nan, dtype="<f4")
            view = table.reshape(-1).view(np.uint8).data
        view[row * width : (row + 1) * width] = value[VECTOR_AT : VECTOR_AT + width]
    return table.astype(np.float32, copy=False)


def decode(key: bytes, value: Value) -> Record:
    """Invert :func:`encode`. The vector is a copy.

    Raises:
        StoreCorruptError: The value is not what was written under the key.
        StoreError: The value has a format that only a newer version of enhancer reads.
    """
    dim = check(key, value)
    stamp = read_stamp(value, dim)
    start = len(value) - int.from_bytes(value[24:28], "little")
    try:
        meta = json.loads(bytes(value[start:]))
        meta["tags"] = tuple(meta["tags"])
        record = Record(
            vector=np.frombuffer(value, dtype="<f4", count=dim, offset=VECTOR_AT).astype(np.float32),
            input_hash=stamp.input_hash,
            embedder=stamp.embedder,
            **meta,
        )
        own = encode_key(record.key)
    except (ValueError, TypeError, KeyError, StoreError) as error:
        _corrupt(key, f"its metadata cannot be read ({error})")
    if own != key:
        _corrupt(key, f"it contains the record {describe_key(own)}")
    return record


def _corrupt(key: bytes, what: str) -> NoReturn:
    raise StoreCorruptError(
        f"record {describe_key(key)}: {what}", hint="the next `enhancer generate` creates damaged records again"
    )
