"""Files are replaced atomically."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from enhancer.files import atomic_replace


def fill(path: Path, text: str) -> None:
    with atomic_replace(path) as draft:
        draft.write_text(text, encoding="utf-8")


def test_a_file_is_made_and_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "report.html"
    fill(path, "old")
    fill(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "report.html"
    fill(path, "old")
    with atomic_replace(path) as draft:
        draft.write_text("ne", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
        assert (draft.parent, draft.suffix) == (path.parent, path.suffix)
        with draft.open("a", encoding="utf-8") as file:
            file.write("w")
    assert path.read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("failure", [OSError("no space"), KeyboardInterrupt()])
def test_a_failure_half_way_leaves_the_old_file_and_no_draft(tmp_path, failure):
    path = tmp_path / "report.html"
    fill(path, "old")

    def half() -> None:
        with atomic_replace(path) as draft:
            draft.write_text("ha", encoding="utf-8")
            raise failure

    with pytest.raises(type(failure)):
        half()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "report.html"
    fill(path, "old")
    with pytest.raises(FileNotFoundError), atomic_replace(path):
        pass
    assert path.read_text(encoding="utf-8") == "old"


def test_two_at_once_do_not_meet_in_one_draft(tmp_path):
    path = tmp_path / "report.html"
    with atomic_replace(path) as first, atomic_replace(path) as second:
        assert first != second
        first.write_text("first", encoding="utf-8")
        second.write_text("second", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "first", "the outer block ends last"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="rights of files are POSIX's")
def test_who_may_read_it_is_as_for_any_new_file(tmp_path):
    fill(tmp_path / "a.json", "{}")
    (tmp_path / "b.json").write_text("{}", encoding="utf-8")
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "b.json").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="rights of files are POSIX's")
def test_an_old_file_keeps_its_rights_and_a_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "summary.json", tmp_path / "summary.json"
    fill(real, "old")
    real.chmod(0o640)
    link.symlink_to(real)
    fill(link, "new")
    assert link.is_symlink()
    assert (real.read_text(encoding="utf-8"), real.stat().st_mode & 0o777) == ("new", 0o640)
    assert sorted(tmp_path.iterdir()) == [real.parent, link]
    (tmp_path / "later.json").symlink_to(real.parent / "later.json")
    fill(tmp_path / "later.json", "made")
    assert (real.parent / "later.json").read_text(encoding="utf-8") == "made"
