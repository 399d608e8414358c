"""TOML that the parser cannot take is a configuration error, in a file and in an override."""

from __future__ import annotations

from pathlib import Path

import pytest

from enhancer.config import load_settings
from enhancer.errors import ConfigError

HOSTILE = {"deep": "[" * 20_000 + "]" * 20_000, "huge": "9" * 5_000, "large": "9" * 400, "65 bits": str(2**63)}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_value_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "enhancer.toml"
    path.write_text(f"seed = {HOSTILE[name]}\n")
    with pytest.raises(ConfigError, match=r"enhancer\.toml"):
        load_settings(path, environ={})
    path.write_text(f"[llm.extra_body]\nx = [{{a = {HOSTILE[name]}}}]\n")
    with pytest.raises(ConfigError, match=r"enhancer\.toml"):
        load_settings(path, environ={})
    path.write_text("")
    with pytest.raises(ConfigError, match="--set seed"):
        load_settings(path, overrides=[f"seed={HOSTILE[name]}"], environ={})
    with pytest.raises(ConfigError, match="ENHANCER_LLM__SEED"):
        load_settings(path, environ={"ENHANCER_LLM__SEED": HOSTILE[name]})


def test_integers_of_64_bits_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "enhancer.toml"
    path.write_text(f"[llm.extra_body]\nlow = {-(2**63)}\nhigh = {2**63 - 1}\n")
    settings, _ = load_settings(path, environ={})
    assert settings.llm.options["extra_body"] == {"low": -(2**63), "high": 2**63 - 1}
