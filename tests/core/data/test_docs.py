"""Run the code and validate the settings in docs/reference/data.md."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from enhancer.config import Settings

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "data.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in blocks("python"):
        exec(compile(block, "docs/reference/data.md", "exec"), {})
    told = capsys.readouterr().out
    assert "title: Heat\nyear: 1995" in told
    assert "1 of 5 interactions left out: their item is not in the items table (such as '9')" in told


def test_the_settings_are_settings():
    assert len(blocks("toml")) == 3
    for block in blocks("toml"):
        Settings.model_validate(tomllib.loads(block))
