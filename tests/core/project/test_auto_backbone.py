"""``[backbone] use = "auto"``: what is tried, what is chosen, for which arm, and what is remembered."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from toy_candidates import FITS, THEMES, Good, Lucky, Weak, manager_with

import enhancer
from enhancer.config import Settings
from enhancer.errors import ConfigError, EvaluationError, FusionError
from enhancer.plugin_host import PluginManager
from enhancer.project import Project

N_USERS, N_ITEMS = 40, 36


@pytest.fixture(autouse=True)
def fits():
    FITS.clear()
    return FITS


@pytest.fixture
def project(tmp_path):
    """A function that makes a project over one folder, as a new process would."""
    rng = np.random.default_rng(0)
    themes, tastes = rng.integers(0, THEMES, N_ITEMS), rng.integers(0, THEMES, N_USERS)
    items = [f"{i},film about theme{themes[i]}" for i in range(N_ITEMS)]
    rows = []
    for user in range(N_USERS):
        weights = np.where(themes == tastes[user], 1.0, 0.05)
        rows += [f"{user},{item}" for item in rng.choice(N_ITEMS, 10, replace=False, p=weights / weights.sum())]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title", *items]) + "\n")
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id", *rows]) + "\n")

    def make(*names, backbone=None, **tables):
        names = names or ("good", "fair", "weak", "shy")
        tables = {
            "data": {"items": "items.csv", "interactions": "ratings.csv"},
            "prompts": {"item": {"source": "text"}},
            "embedder": {"use": "hashing"},
            "store": {"use": "sqlite"},
            "backbone": {"use": "auto", "candidates": [n for n in names if n != "shy"], **(backbone or {})},
            "fuser": {"use": "none"},
            "evaluation": {"seeds": 2, "validation_size": 0.3},
            "serving": {"refit": False},
            **tables,
        }
        return Project(Settings.model_validate(tables), tmp_path, manager_with(*names))

    return make


def candidates_of(report):
    return {each["label"]: each for each in report.choice["candidates"]}


def test_train_serves_the_best_candidate_with_the_best_neighbouring_options(project, fits):
    report = project().train()
    assert report.backbone == "good"
    tried = candidates_of(report)
    assert list(tried) == ["good", "fair", "weak-two", "weak-one"]
    values = [each["validation"] for each in tried.values()]
    assert values == sorted(values, reverse=True)
    assert report.choice["validation"] == values[0]
    trials = tried["good"]["trials"]
    assert len(trials) == 8
    assert trials[0]["options"] == {}
    assert trials[1]["options"] == {"blur": 1.6}  # a step up is worse, so the next one is down
    assert trials[2]["options"] == {"blur": 0.4}
    assert trials[2]["validation"] > trials[0]["validation"] > trials[1]["validation"]
    assert trials[3]["options"] == {"blur": 0.2}  # and further down
    best = max(trials, key=lambda trial: trial["validation"])
    assert report.backbone_options == best["options"] == tried["good"]["options"]
    assert fits[-1] == ("good", best["options"])
    manifest = json.loads((project().root / "artifact" / "manifest.json").read_text())
    assert (manifest["backbone"], manifest["backbone_options"]) == ("good", best["options"])
    assert manifest["choice"] == report.choice


def test_a_candidate_far_behind_or_without_options_to_vary_gets_one_trial(project):
    tried = candidates_of(project(backbone={"trials": 3}).train())
    assert {label: len(each["trials"]) for label, each in tried.items()} == {
        "good": 3,
        "fair": 1,
        "weak-one": 1,
        "weak-two": 1,
    }
    assert tried["weak-one"]["reason"] == "after 1 of 3 trials too far behind for more"
    assert tried["fair"]["reason"] is None


def test_the_choice_is_remembered_by_train_and_ablate_and_depends_on_its_options(project, fits):
    first = project().train()
    before = len(fits)
    fits.clear()
    second = project().train(seed=7)
    assert [name for name, _ in fits] == ["good"]  # the training itself
    assert second.choice == first.choice
    fits.clear()
    ablation = project().ablate(report=None)
    assert [name for name, _ in fits] == ["good", "good"]  # two seeds
    assert ablation.to_json()["choice"] == first.choice
    fits.clear()
    project(backbone={"trials": 2}).train()
    assert len(fits) == before - 6


def test_a_reference_line_that_was_tried_is_not_tuned_again(project, fits):
    made = project("line", "fair", backbone={"trials": 3})
    ablation = made.ablate(report=None)
    assert ablation.overall.reference["line"]["ndcg@10"] > 0
    tuned = [options for name, options in fits if name == "line"]
    best = made.parts.auto.choice().winner.options
    assert len(tuned) == 3 + 1 + 2, "three trials, the line, and an arm with two seeds"
    assert tuned[3]["blur"] == best["blur"] == 0.4


def test_a_reference_line_that_was_not_tried_is_tuned(project, fits):
    made = project("line", "fair", backbone={"candidates": ["fair"]})
    assert made.ablate(report=None).overall.reference["line"]["ndcg@10"] > 0
    tuned = [options["blur"] for name, options in fits if name == "line"]
    assert tuned[:3] == [0.8, 1.6, 0.4]
    assert tuned[-1] < 0.8


def test_an_interrupted_choice_goes_on_where_it_stopped(project, fits, monkeypatch):
    whole = project().train().choice
    trials = len(fits) - 1
    for path in project().root.glob("runs/choice-*.json"):
        path.unlink()
    fits.clear()
    monkeypatch.setattr(Weak, "quality", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        project().train()
    monkeypatch.undo()
    done = len(fits) - 1
    fits.clear()
    again = project().train(keep=False).choice
    assert len(fits) - 1 == trials - done
    assert [(each["label"], each["validation"]) for each in again["candidates"]] == [
        (each["label"], each["validation"]) for each in whole["candidates"]
    ]


def test_a_damaged_memory_is_made_anew(project):
    first = project().train().choice
    (path,) = project().root.glob("runs/choice-*.json")
    path.write_text('{"trials": [')
    assert project().train().choice["validation"] == first["validation"]


def test_what_cannot_be_tried_is_left_out_with_the_reason(project):
    names = ("fair", "huge", "picky", "labelled", "faulty", "absent")
    report = project(*names[:-1], backbone={"candidates": list(names)}).train()
    assert report.backbone == "fair"
    reasons = {label: each["reason"] for label, each in candidates_of(report).items()}
    assert reasons.pop("fair") is None
    assert f"'huge' would need 1,000,000,000,000,0{N_ITEMS} bytes (931322.6 GiB) of memory" in reasons.pop("huge")
    assert "no_such_library, which is not installed; pip install" in reasons.pop("absent")
    assert reasons == {
        "picky": f"{N_USERS} users are too few",
        "labelled": "backbone 'labelled' learns from labels, but the interactions have none; set [data.columns] label, "
        "such as label = 'click' or label = 'rating >= 4'",
        "faulty": "no accelerator",
    }


def test_without_any_candidate_the_error_says_why_for_each(project):
    with pytest.raises(ConfigError, match=r"could try no backbone: (faulty|picky): .*; (faulty|picky): .*name one"):
        project("picky", "faulty").train()


def test_candidates_that_fail_for_one_reason_are_named_together(project):
    with pytest.raises(ConfigError, match=r"could try no backbone: \w+, \w+: \d+ users are too few"):
        project("picky", "fussy").train()


def test_arms_with_vectors_use_the_best_candidate_that_accepts_their_fuser(project):
    made = project(evaluation={"seeds": 2, "validation_size": 0.3, "arms": ["none", "beside"], "controls": False})
    made.generate()
    ablation = made.ablate()
    assert {arm.name: arm.backbone for arm in ablation.arms} == {"none": "good", "beside": "fair", "none-fair": "fair"}
    result = ablation.to_json()
    assert result["backbones"] == {"none": "good", "beside": "fair", "none-fair": "fair"}
    assert ablation.controls["beside"].backbone_only.name == "none-fair"
    assert ablation.overall.compare("beside", "none-fair", "ndcg@10") is not None
    page = (made.root / "report.html").read_text()
    assert "How the backbone was chosen" in page
    assert "weak-two" in page


def test_a_candidate_is_named_by_the_options_that_tell_it_from_the_others(project):
    made = project(
        "good",
        "twice",
        evaluation={"seeds": 2, "validation_size": 0.3, "arms": ["none", "beside"], "controls": False},
    )
    made.generate()
    ablation = made.ablate(report=None)
    assert [each.label for each in ablation.choice.tried] == ["good", "twice-share-0.5", "twice"]
    assert [arm.name for arm in ablation.arms] == ["none", "beside", "none-twice-share-0.5"]


def test_the_winner_stays_in_the_tables_if_only_arms_with_vectors_are_listed(project):
    made = project(evaluation={"seeds": 2, "validation_size": 0.3, "arms": ["beside"], "controls": False})
    made.generate()
    arms = made.ablate(report=None).arms
    assert [(arm.name, arm.backbone) for arm in arms] == [
        ("beside", "fair"),
        ("none-good", "good"),
        ("none-fair", "fair"),
    ]


def test_an_arm_with_backbone_options_uses_a_candidate_that_takes_them(project):
    evaluation = {
        "seeds": 2,
        "validation_size": 0.3,
        "arms": ["none", "long"],
        "arm": {"long": {"fuser": "none", "backbone": {"epochs": 20}}},
    }
    arms = project(evaluation=evaluation).ablate(report=None).arms
    assert [(arm.backbone, arm.backbone_options.get("epochs")) for arm in arms] == [("good", None), ("weak", 20)]


def test_a_search_varies_an_option_in_the_arms_whose_backbone_has_it(project):
    pytest.importorskip("optuna")
    dimension = {"blur": {"low": 0.1, "high": 1.0}}
    evaluation = {
        "seeds": 2,
        "validation_size": 0.3,
        "arms": ["none", "beside"],
        "controls": False,
        "search": {"trials": 2, "backbone": dimension},
    }
    made = project(evaluation=evaluation)
    made.generate()
    searched = made.ablate(report=None).searched
    tried = {name: [set(trial.options["backbone"]) for trial in each.trials] for name, each in searched.items()}
    assert tried == {"none": [set(), {"blur"}], "beside": [set(), set()], "none-fair": [set(), set()]}


@pytest.mark.parametrize(("lucky_users", "chosen"), [(1, "plain"), (2, "plain"), (15, "lucky")])
def test_a_list_of_bestsellers_is_kept_unless_another_is_significantly_better(
    project, monkeypatch, lucky_users, chosen
):
    """One lucky guess gives the better mean. With few validation pairs, the best of many trials is the luckiest."""
    made = project("plain", "lucky")
    validation = made.parts.split.validation
    guesses = dict(zip(validation.users.tolist(), validation.items.tolist(), strict=True))
    monkeypatch.setattr(Lucky, "guesses", dict(list(guesses.items())[:lucky_users]))
    report = made.train()
    tried = candidates_of(report)
    assert tried["lucky"]["validation"] > tried["plain"]["validation"]
    assert report.backbone == chosen == report.choice["candidates"][0]["label"]
    assert (tried["lucky"]["reason"] == "not significantly better than plain") is (chosen == "plain")
    assert tried["plain"]["trials"][0]["error"] == 0
    assert project("plain", "lucky").train().choice == report.choice  # also from the remembered trials


def test_a_reference_line_that_is_behind_is_tuned_all_the_same(project):
    tried = candidates_of(project("good", "behind", "weak").train())
    assert len(tried["behind"]["trials"]) == 8
    assert tried["behind"]["options"]["blur"] < 0.8
    assert len(tried["weak-one"]["trials"]) < 8
    assert tried["behind"]["reason"] is None


def test_an_arm_is_on_the_backbone_that_is_best_with_its_fuser(project, fits, caplog):
    """The controls are on the backbone of the arm that they control, and the same backbone without vectors is an arm."""
    made = project("fair", "fond", fuser={"use": "beside"})
    made.generate()
    ablation = made.ablate(report=None)
    arms = {arm.name: arm for arm in ablation.arms}
    assert {name: arm.backbone for name, arm in arms.items() if arm.semantic} == {"beside": "fond", "placebo": "fond"}
    assert {arm.backbone for arm in arms.values() if not arm.semantic} == {"fair", "fond"}
    tried = {each["label"]: each["validation"] for each in ablation.choice.to_json()["candidates"]}
    assert tried["fair"] > tried["fond"]
    final = ablation.choice.to_json()["with_fuser"]["beside"]
    assert final["fond"] > final["fair"]
    assert final["fair"] == pytest.approx(tried["fair"])
    fits.clear()
    with caplog.at_level(logging.WARNING):
        report = project("fair", "fond", fuser={"use": "beside"}).train()
    assert report.backbone == "fond"
    assert len(fits) == 1  # trials are remembered
    assert not [record for record in caplog.records if "auto" in record.getMessage()]


def test_train_warns_if_the_best_candidate_does_not_accept_the_fuser(project, caplog):
    made = project(fuser={"use": "beside"})
    made.generate()
    with caplog.at_level(logging.WARNING):
        report = made.train()
    assert report.backbone == "fair"
    (warning,) = [record.getMessage() for record in caplog.records if "auto" in record.getMessage()]
    validation = {label: f"{each['validation']:.4f}" for label, each in candidates_of(report).items()}
    assert f"good is best on validation (ndcg@10 {validation['good']} without vectors)" in warning
    assert f"fair ({validation['fair']} with them)" in warning


def test_a_fuser_that_no_candidate_accepts_is_refused(project):
    made = project(fuser={"use": "deep"})
    made.generate()
    with pytest.raises(FusionError, match=r"^fuser 'deep' works with none of the backbones .*good, fair, weak-two"):
        made.train()


def test_without_a_validation_part_nothing_can_be_chosen(project):
    with pytest.raises(EvaluationError, match=r"compares backbones on the validation part.*validation_size"):
        project(evaluation={"validation_size": 0.0}).train()


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"candidates": ["goood"]}, r"^\[backbone\] candidates: unknown backbone 'goood'; did you mean 'good'"),
        ({"candidates": ["shy"]}, r"'shy' does not offer itself to be tried; set \[backbone\] use = 'shy'"),
        ({"trails": 3}, r"^\[backbone\] unknown key 'trails'; did you mean 'trials'"),
        ({"trials": 0}, r"^\[backbone\] trials: "),
    ],
)
def test_wrong_options_are_named(project, backbone, message):
    with pytest.raises(ConfigError, match=message):
        project(backbone=backbone).train()


def test_no_plugin_can_take_the_name():
    class Plugin:
        @enhancer.hookimpl
        def register_backbones(self, register):
            register("Auto", Good)

    manager = PluginManager()
    with pytest.raises(ConfigError, match="'Auto': this name is reserved"):
        manager.register(Plugin())
