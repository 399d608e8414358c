"""Tests of what init writes about lists, narrow floats and encodings."""

from __future__ import annotations

import tomllib

import pytest
from command_line import invoke  # noqa: F401 - fixture

from enhancer.data.readers.list_text import not_plain


@pytest.mark.parametrize(
    ("title", "written"),
    [("['Drama', 'War']", True), ('[""a""]', True), ("Heat", None), ("[REC]", None), ("1995", None)],
)
def test_init_writes_plain_cells_where_they_matter(invoke, tmp_path, title, written):  # noqa: F811
    (tmp_path / "items.csv").write_text(f'item_id,title\n1,"{title}"\n2,"a"\n')
    assert invoke("init", "--yes").code == 0
    assert tomllib.loads((tmp_path / "enhancer.toml").read_text())["data"].get("plain_cells") == written


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "utf-8"])
def test_init_writes_the_encoding_and_the_project_reads_it(invoke, tmp_path, encoding):  # noqa: F811
    text = "Amélie\x81" if encoding == "latin-1" else "Amélie"
    (tmp_path / "items.csv").write_bytes(f"item_id,title\n1,{text}\n2,b\n".encode(encoding))
    assert invoke("init", "--yes").code == 0
    written = tomllib.loads((tmp_path / "enhancer.toml").read_text())["data"]
    assert written.get("encoding", "utf-8") == encoding
    assert invoke("plan").code == 0


def test_an_unknown_encoding_is_refused_by_every_command(invoke, tmp_path):  # noqa: F811
    (tmp_path / "items.csv").write_text("item_id,title\n1,Heat\n")
    (tmp_path / "enhancer.toml").write_text('[data]\nitems = "items.csv"\nencoding = "latin1252"\n')
    for command, code in (("plan", 2), ("train", 2), ("doctor", 1)):
        result = invoke(command)
        assert result.code == code
        assert "'latin1252' is no encoding of text" in " ".join((result.out + result.err).split())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0.10000000149011612", True),
        ("0.1", False),
        ("3.14159265358979", False),
        ("[[1]]", False),
        ("9780141439518", False),
    ],
)
def test_narrow_floats_are_seen_by_their_digits(value, expected):
    assert not_plain([value, "Heat"]) is expected
