"""Test that options of plugins are validated once, and only those of plugins that are installed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import BaseModel

from enhancer.config import Settings
from enhancer.errors import ConfigError, PluginError
from enhancer.evaluation import resolve_arms
from enhancer.project import Project, ProjectParts

ARMS = {
    "backbone": {"use": "fm"},
    "fuser": {"use": "concat"},
    "evaluation": {
        "arms": ["none", "concat", "wide"],
        "arm": {"wide": {"fuser": "concat", "backbone": {"dim": 8}}},
    },
}


@pytest.fixture
def validated(monkeypatch):
    """Counts validations by class."""
    counts: Counter[str] = Counter()
    validate = BaseModel.model_validate.__func__

    def counting(cls, *arguments, **more):
        counts[cls.__name__] += 1
        return validate(cls, *arguments, **more)

    monkeypatch.setattr(BaseModel, "model_validate", classmethod(counting))
    return counts


def test_options_are_validated_once_for_all_runs_of_an_ablation(tmp_path, validated):
    pytest.importorskip("torch")
    settings = Settings.model_validate(ARMS)
    validated.clear()
    parts = ProjectParts(settings, tmp_path)
    parts.chosen.check_options()
    for _seed in range(3):
        parts.backbone(), parts.fuser()
        for arm in resolve_arms(settings):
            parts.backbone(arm), parts.fuser(arm)
    assert validated["ConcatOptions"] == 1
    assert validated["NoFusionOptions"] == 1
    # Once as configured; for the arm once to find what its changes leave without effect, and once as a whole.
    assert validated["FMOptions"] == 3


def test_arms_of_one_name_and_other_options_are_distinguished(tmp_path):
    pytest.importorskip("torch")
    parts = ProjectParts(Settings.model_validate(ARMS), tmp_path)
    dims = []
    for dim in (4, 8, 4):
        settings = Settings.model_validate({**ARMS, "evaluation": {"arms": ["a"], "arm": {"a": {"fuser": "none", "backbone": {"dim": dim}}}}})  # fmt: skip
        (arm,) = (arm for arm in resolve_arms(settings) if arm.name == "a")
        dims.append(parts.backbone(arm).options.dim)
    assert dims == [4, 8, 4]


def project_file(folder: Path, text: str) -> Path:
    path = folder / "enhancer.toml"
    path.write_text(text)
    return path


def test_a_missing_plugin_stops_only_commands_that_create_it(tmp_path):
    project = Project.load(project_file(tmp_path, '[llm]\nuse = "elsewhere"\nanything = 3\n'))
    with pytest.raises(PluginError, match="unknown llm 'elsewhere'"):
        project.parts.provider()
    assert list(project.store.scan()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["enhancer.toml"]


def test_a_wrong_option_of_an_installed_plugin_stops_every_command(tmp_path):
    with pytest.raises(ConfigError, match=r"^\[store\] unknown key 'pth'; did you mean 'path'"):
        Project.load(project_file(tmp_path, '[store]\nuse = "sqlite"\npth = "x"\n'))
