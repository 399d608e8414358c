"""Tests of plain text from HTML."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, strategies as st

from enhancer.config import ColumnsConfig
from enhancer.data import read_entities
from enhancer.data.html_text import looks_like_html, strip_html


def words(text: str) -> str:
    return " ".join(strip_html(text).split())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("<p>Tea &amp; <b>cake</b></p>Now<br/>at 3 &lt; 4", "Tea & cake Now at 3 < 4"),
        ("un<b>believ</b>able<br>low", "unbelievable low"),
        ("<li>one<li>two", "one two"),
        ("<script>alert('<b>')</script>x<style>p{color:red}</style>y", "x y"),
        ("a <!-- no --> b", "a b"),
        ("<a href=http://x.y/z?a=b>link</a>!", "link!"),
        ("<a title=John's href='x'>q</a>", "q"),
        ("<img src=\"data:image/png;base64,aa'bb\" alt='a > b'>seen", "seen"),
        ('<H2 CLASS="bb_tag">Hi</H2><P ALIGN=center>there</P>', "Hi there"),
        ("caf&eacute; &#233; &#x41;", "café é A"),
        ("&lt;br&gt;escaped &amp;amp; twice&lt;/p&gt;", "escaped & twice"),
        ("<o:p></o:p>Word", "Word"),
        ("<!DOCTYPE html><html><head><body>page", "page"),
    ],
)
def test_tags_vanish_and_entities_are_characters(given, expected):
    assert words(given) == expected
    assert looks_like_html(given)


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d",
        "I <3 it",
        "x<y, y>z",
        "a<b and y> z",
        "List<String> of <no subject> and <Project Name>",
        "R&B, AT&T, &copyright, ?a=1&copy=2, Q&A;",
        "1 <2 > 0",
        "<br",
        "<!-- open",
        "<![CDATA[x]]>",
        "",
    ],
)
def test_text_that_is_no_html_stays(text):
    assert strip_html(text) == text
    assert not looks_like_html(text)


@given(st.text(alphabet="<>&;abp/!- ='\"\n", max_size=60))
def test_any_text_is_read_and_what_has_no_tag_is_kept(text):
    done = strip_html(text)
    assert strip_html(done) == done or "&" in text  # entities may spell out entities
    if "<" not in text and "&" not in text:
        assert done == text


@pytest.mark.parametrize(
    "piece", ["<", "<b ", '<b "', "<!--", "<a href='", "&", "<div x=", "<p>", "<script", "<b 'x' "]
)
def test_hostile_text_takes_linear_time(piece):
    started = time.process_time()
    strip_html(piece * (100_000 // len(piece)))
    assert time.process_time() - started < 2


def test_items_and_their_titles_are_stripped_on_demand(tmp_path):
    path = tmp_path / "items.jsonl"
    row = {"item_id": "<1>", "title": "Salt &amp; <i>Pepper</i>", "about": "<p>Grind</p>\n<p>well</p>" + "<br>" * 50}
    path.write_text(json.dumps(row) + "\n")
    (kept,) = read_entities(path, "item", ColumnsConfig(), 40)
    (stripped,) = read_entities(path, "item", ColumnsConfig(), 60, html="strip")
    assert kept.title == row["title"]
    assert kept.text == "title: Salt &amp; <i>Pepper</i>\nabout: <"
    assert stripped.id == "<1>"
    assert stripped.title == "Salt & Pepper"
    assert stripped.text == "title: Salt & Pepper\nabout: Grind well"
