from __future__ import annotations

import doctest
import math

import jsonschema
import pytest
from hypothesis import given, strategies as st

from enhancer.errors import AuthenticationError, RateLimitError, RequestError, ServerError
from enhancer_plugins.network import hosts, prices, wire

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize("module", [wire, hosts, prices])
def test_examples(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": " 3 "}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1e9"}, 3600.0),
        ({"retry-after": "inf"}, 3600.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:00:00 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2099 07:00:00 GMT", "date": DATE}, 3600.0),
        ({"retry-after": "Wed, 99 Oct 2026 07:28:30 GMT", "date": DATE}, None),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "junk", "retry-after": "2"}, 2.0),
    ],
)
def test_retry_after(headers, seconds):
    assert wire.retry_after(headers) == seconds


def test_a_date_without_the_servers_clock_uses_ours():
    assert wire.retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, now=40.0) == 60.0


@given(st.text(), st.text())
def test_no_retry_after_is_absurd(text, date):
    seconds = wire.retry_after({"retry-after": text, "date": date})
    assert seconds is None or (math.isfinite(seconds) and 0 <= seconds <= wire.MAX_RETRY_AFTER)


@given(st.text(min_size=4, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_a_secret_never_survives(secret, before, after):
    assert secret not in wire.Scrubber([secret])(f"{before}{secret}{after}") or secret in "[secret]"


@pytest.mark.parametrize(
    "text", ["sk-proj-abcdefghij1234", "Bearer abc.def.ghi", "gsk_abcdefghij123", "sk-ab****************wxyz"]
)
def test_what_looks_like_a_key_goes_too(text):
    assert text not in wire.Scrubber([])(f"bad key: {text}, sorry")


@given(st.binary(max_size=200))
def test_any_error_body_has_a_message(body):
    message, code = wire.provider_message(body)
    assert isinstance(message, str)
    assert isinstance(code, str)
    assert len(message) <= 500


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error": {"message": "M"}}', "M"),
        ('{"error": "M"}', "M"),
        ('{"detail": "M"}', "M"),
        ('{"message": "M"}', "M"),
        ('[{"error": {"message": "M"}}]', "M"),
        ("<h1>M</h1>", "<h1>M</h1>"),
        ("", ""),
    ],
)
def test_messages_in_the_forms_of_many_servers(body, message):
    assert wire.provider_message(body)[0] == message


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "", AuthenticationError),
        (402, "", AuthenticationError),
        (403, "", AuthenticationError),
        (429, "", RateLimitError),
        (429, "insufficient_quota", AuthenticationError),
        (408, "", ServerError),
        (529, "", ServerError),
        (413, "", RequestError),
    ],
)
def test_statuses(status, code, kind):
    assert type(wire.error_for(status, "m", code=code)) is kind


def test_a_strict_schema_is_what_openai_takes():
    schema = {
        "$schema": "x",
        "type": "object",
        "properties": {
            "minLength": {"type": "string", "minLength": 2, "description": "a property of that name"},
            "items": {
                "type": "array",
                "uniqueItems": True,
                "items": {"type": "object", "properties": {"id": {"enum": ["1"]}}},
            },
        },
    }
    strict = wire.strict_schema(schema)
    assert strict == {
        "type": "object",
        "properties": {
            "minLength": {"type": "string", "description": "a property of that name"},
            "items": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"id": {"enum": ["1"]}},
                    "required": ["id"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["minLength", "items"],
        "additionalProperties": False,
    }
    jsonschema.Draft202012Validator.check_schema(strict)
    assert "$schema" in schema  # the argument is not modified


def test_an_enum_or_a_constant_is_data_and_not_schema():
    assert wire.strict_schema({"const": {"default": 1}}) == {"const": {"default": 1}}
