"""Tests of the warning that a users table spells ids otherwise than the interactions."""

from __future__ import annotations

import logging

import pytest

from enhancer import Project


@pytest.mark.parametrize(("spelling", "warned"), [("{}", False), ("{}.0", True), ("0{}", True)])
@pytest.mark.parametrize("source", ["text", "pool"])
def test_users_that_are_spelt_otherwise_are_named(tmp_path, caplog, spelling, warned, source):
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"{n},T{n}\n" for n in range(6)))
    (tmp_path / "users.csv").write_text("user_id,job\n" + "".join(f"{n},cook\n" for n in range(1, 5)))
    pairs = "".join(f"{spelling.format(u)},{n}\n" for u in range(1, 5) for n in range(6))
    (tmp_path / "log.csv").write_text("user_id,item_id\n" + pairs)
    (tmp_path / "enhancer.toml").write_text(
        '[data]\nitems = "items.csv"\nusers = "users.csv"\ninteractions = "log.csv"\n'
        f'[prompts.user]\nsource = "{source}"\n[prompts.item]\nsource = "text"\n'
    )
    project = Project.load(tmp_path / "enhancer.toml")
    with caplog.at_level(logging.WARNING):
        assert len(project.parts.interactions) == 24
    told = [record.getMessage() for record in caplog.records if "spelt otherwise" in record.getMessage()]
    assert bool(told) == (warned and source == "text")
    if told:
        assert f"such as '1' for '{spelling.format(1)}'" in told[0]
