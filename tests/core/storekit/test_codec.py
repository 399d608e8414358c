import json
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.contracts import Key, Record, codec
from enhancer.errors import StoreCorruptError, StoreError
from enhancer.testing.store import as_tuple, make_record

text = st.text(max_size=30) | st.sampled_from(["\ud800", "\x00", "a" * 400])
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
records = st.builds(
    make_record,
    text,
    kind=st.sampled_from(["item", "user"]),
    aspect=text,
    profile=text,
    tags=st.lists(text, max_size=4).map(tuple),
    vector=st.lists(finite, min_size=1, max_size=20).filter(any).map(lambda row: np.array(row, np.float32)),
    prompt_version=text,
    model=text,
    embedder=text,
    generated_at=text,
    input_hash=text,
    prompt_tokens=st.none() | st.integers(0, 2**62),
    completion_tokens=st.none() | st.integers(0, 2**62),
    cost_usd=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)


@given(records)
def test_a_record_survives_the_round_trip(record: Record) -> None:
    key, value = codec.encode(record)
    assert key == codec.encode_key(record.key)
    assert 2 < len(key) <= 511  # limits of LMDB
    for given_as in (value, memoryview(value)):
        assert as_tuple(codec.decode(key, given_as)) == as_tuple(record)
        dim = codec.check(key, given_as)
        assert codec.read_stamp(given_as, dim) == record.stamp
        assert bytes(codec.vector_bytes(given_as, dim)) == record.vector.tobytes()


@given(records, st.data())
def test_every_flipped_bit_is_noticed(record: Record, data: st.DataObject) -> None:
    key, value = codec.encode(record)
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    damaged = bytearray(value)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StoreCorruptError):
        codec.check(key, bytes(damaged))


def test_every_single_bit_of_one_record() -> None:
    key, value = codec.encode(make_record("1"))
    for bit in range(8 * len(value)):
        damaged = bytearray(value)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreCorruptError, match="item/1"):
            codec.decode(key, bytes(damaged))


@given(records, st.data())
def test_a_value_cut_short_or_made_longer_is_noticed(record: Record, data: st.DataObject) -> None:
    key, value = codec.encode(record)
    for other in (value[: data.draw(st.integers(0, len(value) - 1))], value + b"\0"):
        with pytest.raises(StoreCorruptError):
            codec.decode(key, other)


@given(st.binary(max_size=200))
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(StoreCorruptError):
        codec.decode(b"i\0=1", junk)


def test_a_value_under_another_records_key_is_noticed() -> None:
    _, value = codec.encode(make_record("1"))
    with pytest.raises(StoreCorruptError, match="item/2"):
        codec.check(codec.encode_key(Key("item", "2")), value)


@given(st.tuples(text, text), st.tuples(text, text))
def test_different_keys_are_different_bytes(one: tuple[str, str], two: tuple[str, str]) -> None:
    keys = [codec.encode_key(Key("item", id_, aspect)) for id_, aspect in (one, two)]
    assert (keys[0] == keys[1]) == (one == two)
    for key, (_, aspect) in zip(keys, (one, two), strict=True):
        assert key.startswith(codec.key_prefix("item", aspect))
        codec.describe_key(key), codec.describe_kind(key)


def test_keys_name_their_record() -> None:
    named = [Key("item", "42"), Key("user", "é", "mood"), Key("item", "x" * 300), Key("item", "1", "y" * 300)]
    shown = [codec.describe_key(codec.encode_key(key)) for key in named]
    assert shown[:2] == ["item/42", "user/é/mood"]
    assert shown[2].startswith("item/(long id ")
    assert shown[3] == "item/1/(long)"
    assert codec.describe_kind(codec.encode_key(named[3])) == "item/(long)"


@given(records, st.sampled_from(["", "low", "medium", "high"]))
def test_the_metadata_are_the_json_of_earlier_versions(record: Record, confidence: str) -> None:
    record.confidence = confidence
    _, value = codec.encode(record)
    names = ("id", "kind", "aspect", "profile", "tags", "prompt_version", "model", "generated_at")
    numbers = ("prompt_tokens", "completion_tokens", "cost_usd")
    fields = {name: getattr(record, name) for name in (*names, *numbers)}
    fields |= {"confidence": confidence} if confidence else {}
    assert value.endswith(json.dumps(fields, separators=(",", ":"), allow_nan=False).encode("ascii"))


def test_many_records_are_encoded_like_each() -> None:
    some = [make_record(str(n), seed=n) for n in range(5)]
    some[3].vector = np.full(4, 1e30, np.float32)  # the product of such a vector with itself is infinite
    assert codec.encode_all(some) == [codec.encode(one) for one in some]
    some[1].vector = np.full(4, np.nan, np.float32)
    with pytest.raises(StoreError, match="record item/1: its vector has the value nan"):
        codec.encode_all(some)


def test_a_text_may_be_of_a_subclass_of_str() -> None:
    one = make_record("1", profile="A warm story.")
    expected = codec.encode(one)
    one.id, one.profile = np.str_("1"), np.str_("A warm story.")
    assert codec.encode(one) == expected


def test_the_layout_is_what_the_docstring_says() -> None:
    record = make_record("1")
    key, value = codec.encode(record)
    magic, version, zero, checksum, length, dim, a, b, c, zero2 = struct.unpack_from("<4sHHIIIHHII", value)
    assert (magic, version, zero, zero2, length, dim) == (b"ENHR", 1, 0, 0, len(value), 4)
    assert checksum == zlib.crc32(value[12:], zlib.crc32(value[:8], zlib.crc32(key)))
    assert value[32:48] == record.vector.astype("<f4").tobytes()
    assert value[48 : 48 + a] == record.input_hash.encode()
    assert value[48 + a : 48 + a + b] == record.embedder.encode()
    assert len(value) == 48 + a + b + c
    assert json.loads(value[48 + a + b :])["id"] == "1"


def test_a_newer_format_asks_for_an_upgrade() -> None:
    key, value = codec.encode(make_record("1"))
    newer = bytearray(value)
    newer[4:6] = (7).to_bytes(2, "little")
    newer[8:12] = zlib.crc32(bytes(newer[12:]), zlib.crc32(bytes(newer[:8]), zlib.crc32(key))).to_bytes(4, "little")
    with pytest.raises(StoreError, match=r"item/1 has format 7.*upgrade") as caught:
        codec.decode(key, bytes(newer))
    assert not isinstance(caught.value, StoreCorruptError)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cost_usd", float("nan")),
        ("cost_usd", "1"),
        ("prompt_tokens", 1.5),
        ("completion_tokens", True),
        ("tags", "warm"),
        ("tags", (1,)),
        ("profile", None),
        ("kind", "film"),
        ("embedder", b"x"),
        ("input_hash", "h" * 70_000),
    ],
)
def test_a_field_of_a_wrong_type_is_named(field: str, value: object) -> None:
    with pytest.raises(StoreError, match=field):
        codec.encode(make_record("7", **{field: value}))


def test_confidence_is_kept_and_its_absence_changes_no_byte() -> None:
    key, value = codec.encode(make_record("1", confidence="low"))
    assert codec.decode(key, value).confidence == "low"
    assert b"confidence" not in codec.encode(make_record("1"))[1], "values of earlier versions would change"
    with pytest.raises(StoreError, match="confidence must be low, medium, high or empty, not 'sure'"):
        codec.encode(make_record("1", confidence="sure"))
