"""Tests of output without control sequences."""

from __future__ import annotations

import io
import re
import sys

import pytest
from hypothesis import given, strategies as st

from enhancer.cli.streams import CleanStream, clean, cleaned

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eaway\rover"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@given(st.text())
def test_no_control_character_is_left(text):
    found = clean(text)
    assert not CONTROL.search(found)
    assert clean(found) == found


@given(st.text(st.characters(exclude_categories=("C", "Z"))))
def test_other_text_is_unchanged(text):
    assert clean(text) == text


def test_control_characters_stay_visible():
    assert clean("\x1b[31m\tred\n\x9b\u202e\x7f\r\n") == "\\x1b[31m\tred\n\\x9b\\u202e\\x7f\n"


def test_errors_of_stderr_are_ignored_and_those_of_stdout_are_not():
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(text)

    CleanStream(Closed(), lossy=True).write("x")
    with pytest.raises(BrokenPipeError):
        CleanStream(Closed()).write("x")


def test_streams_are_cleaned_and_put_back(capsys):
    before = sys.stdout, sys.stderr
    with cleaned():
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
    assert (sys.stdout, sys.stderr) == before
    for text in capsys.readouterr():
        assert not CONTROL.search(text)
        assert "\\x1b]0;owned" in text
