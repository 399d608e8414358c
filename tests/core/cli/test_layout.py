"""Tests of tables and prose at several widths, on a terminal and in a pipe."""

from __future__ import annotations

import doctest
import sys

import pytest
from hypothesis import given, strategies as st
from rich.cells import cell_len
from terminal import on_a_terminal

from enhancer.cli import formatting, layout, progress
from enhancer.cli.commands import plugins

WORDS = "Adds a loss that aligns embeddings with vectors, as in a-very-long-identifier-without-spaces."
ROWS = [["weight", "float", "0.1", WORDS], ["layers", "int | None", "3", "七人の侍 は 1954年の 映画です"]]
HEAD = ["option", "type", "default", "description"]


@pytest.mark.parametrize("module", [formatting, layout, plugins, progress], ids=lambda module: module.__name__)
def test_docstring_examples(module):
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)


def test_wide_and_combining_characters_stay_in_their_columns():
    lines = layout.table(["title", "n"], [["七人の侍", "1"], ["Amélie", "2"], ["e\u0301te\u0301", "3"]]).splitlines()
    assert lines[2] == "七人の侍  1"
    assert lines[3] == "Amélie    2"
    assert lines[4] == "e\u0301te\u0301       3"


def test_foreign_text_cannot_move_the_cursor(monkeypatch):
    for columns in ("", "12"):
        monkeypatch.setenv("COLUMNS", columns)
        assert "\x1b" not in layout.table(["title"], [["\x1b[2J evil and longer than the terminal"]])
        assert layout.pairs([("profile", "two\nlines")]).replace("\n", " ").split() == ["profile", "two", "lines"]


def test_a_row_is_one_line_in_a_pipe(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = layout.table(HEAD, ROWS, right=[2]).splitlines()
    assert len(lines) == 4
    assert lines[2].endswith(WORDS)
    assert layout.prose(WORDS * 9, "- ") == f"- {WORDS * 9}"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_table_fits_the_width_and_loses_nothing(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    text = layout.table(HEAD, ROWS, right=[2])
    assert max(map(cell_len, text.splitlines())) <= width
    assert set("".join(text.split())) == set("".join(" ".join([*HEAD, *ROWS[0], *ROWS[1], "-"]).split()))
    assert "0.1" in text


@given(
    st.lists(st.lists(st.text("ab七\u0301 ±-", max_size=30), min_size=3, max_size=3), min_size=2, max_size=4),
    st.integers(20, 90),
)
def test_any_table_fits_and_loses_nothing(rows, width):
    rows = [[*row, f"{number}.25"] for number, row in enumerate(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        text = layout.table(["w", "x", "y", "z"], rows, right=[3])
    if "\n\n" not in text:  # otherwise a block for each row, in which words stay whole
        assert max(map(cell_len, text.splitlines())) <= width
    for character in "ab七":
        assert text.count(character) == sum(cell.count(character) for row in rows for cell in row)
    for *_, number in rows:
        assert number in text


def test_numbers_are_not_broken_and_a_narrow_terminal_gets_blocks(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    head, row = ["stratum", *"abcdef"], ["history_medium", *["0.1234 ± 0.0010"] * 6]
    lines = layout.table(head, [row, row], right=range(1, 7)).splitlines()
    assert lines[:2] == ["stratum  history_medium", "a        0.1234 ± 0.0010"]
    assert len(lines) == 15


def test_a_path_stays_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    path = "/a/folder/with/a/long/name/artifact"
    assert path in layout.prose(f"wrote {path} just now").splitlines()
    assert layout.pairs([("aspect", ""), ("artifact", path)]).splitlines()[0] == "aspect"


@pytest.mark.parametrize("columns", ["", "0", "-1", "wide"])
def test_a_width_that_is_none_is_ignored(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    assert layout.terminal_width() is None
    monkeypatch.setattr(sys, "stdout", None)
    assert layout.terminal_width() is None


@pytest.mark.parametrize("width", [40, 80])
def test_a_real_terminal(tmp_path, monkeypatch, width):
    monkeypatch.setenv("NO_COLOR", "1")
    code, shown = on_a_terminal(tmp_path, ["plugins"], columns=width)
    assert code == 0
    assert max(map(len, shown.splitlines())) <= width
    assert "\x1b" not in shown
    assert "sentence-transformers" in shown
