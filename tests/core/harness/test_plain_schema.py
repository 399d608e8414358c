"""Compare the plain-schema check with jsonschema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st
from jsonschema import Draft202012Validator

from enhancer.harness.answers.plain_schema import compile_plain_schema
from enhancer.prompts import PROFILE_SCHEMA

LENGTHS = st.integers(0, 4)
PLAIN = st.sampled_from(
    [{"type": "string"}, {"type": "boolean"}, {"type": "integer"}, {"type": "null"}, {"type": "string", "title": "x"}]
)
STRINGS = st.fixed_dictionaries(
    {"type": st.just("string")},
    optional={
        "minLength": LENGTHS,
        "maxLength": LENGTHS,
        "enum": st.lists(st.sampled_from(["", "a", "bb", 1]), max_size=3),
    },
)
NAMES = st.sampled_from(["a", "b", "c"])
SCHEMAS = st.recursive(
    PLAIN | STRINGS,
    lambda inner: (
        st.fixed_dictionaries(
            {"type": st.just("array")}, optional={"items": inner, "minItems": LENGTHS, "maxItems": LENGTHS}
        )
        | st.fixed_dictionaries(
            {"type": st.just("object")},
            optional={
                "properties": st.dictionaries(NAMES, inner, max_size=3),
                "required": st.lists(NAMES, unique=True),
                "additionalProperties": st.booleans(),
                "description": st.just("words"),
            },
        )
    ),
    max_leaves=6,
)
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, 0.5, "", "a", "bb", "ccccc", "\U0001f600"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.just("z"), inner, max_size=3),
    max_leaves=8,
)


@given(SCHEMAS, VALUES)
def test_yes_means_valid(schema: dict[str, Any], value: Any) -> None:
    check = compile_plain_schema(schema)
    assert check is not None
    if check(value):
        assert Draft202012Validator(schema).is_valid(value)
    elif "1.0" not in repr(value):  # 1.0 is an integer in JSON Schema; that case is left to the validator
        assert not Draft202012Validator(schema).is_valid(value)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^a"},
        {"type": "string", "format": "email"},
        {"type": ["string", "null"]},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "array", "uniqueItems": True},
        {"type": "array", "minItems": 1.0},
        {"anyOf": [{"type": "string"}]},
        {"type": "number"},
        {},
        True,
    ],
)
def test_what_is_not_understood_is_left_to_the_validator(schema: Any) -> None:
    assert compile_plain_schema(schema) is None


def test_the_schema_of_profiles_is_understood() -> None:
    check = compile_plain_schema(PROFILE_SCHEMA)
    assert check is not None
    assert check({"profile": "x" * 20, "tags": ["a"]})
    assert not check({"profile": "x" * 20, "tags": ["a"], "more": 1})
    assert not check({"profile": "x" * 19, "tags": ["a"]})
