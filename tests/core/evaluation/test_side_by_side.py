"""Test the comparison of several ablations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from enhancer.errors import ConfigError
from enhancer.evaluation import Arm
from enhancer.evaluation.reporting.report import write_report
from enhancer.evaluation.reporting.saved_report import SavedReport
from enhancer.evaluation.side_by_side import compare_reports


@pytest.fixture(scope="module")
def reports(ablate, tmp_path_factory):
    """Return reports by name: two of one split that differ in the rank of the backbone, and others."""
    folder = tmp_path_factory.mktemp("runs")

    def save(name, **more):
        page = write_report(folder / name / "report.html", ablate(**more))
        return SavedReport.read(page)

    narrow = [
        Arm("none", "none", semantic=False, backbone_options={"rank": 2}),
        Arm("beside", "beside", backbone_options={"rank": 2}),
        Arm("text", "beside", inputs=("text",), backbone_options={"rank": 2}),
    ]
    return {
        "a": save("a"),
        "b": save("b", arms=narrow),
        "seeds": save("seeds", seeds=(1, 2, 3)),
        "split": save("split", world_seed=1),
        "one": save("one", seeds=(0,)),
        "uno": save("uno", seeds=(0,)),
    }


def test_arms_of_one_name_are_tested_seed_by_seed(reports):
    found = compare_reports([reports["a"], reports["b"]])
    assert found.untested is None
    a, b = (
        np.array(reports[name].panels["tail"]["arms"]["none"]["ndcg@10"]["per_seed"], np.float64) for name in ("a", "b")
    )
    test = found.comparisons["tail", "none", "b"]
    expected = stats.ttest_rel(b, a)
    assert test.paired.delta == pytest.approx((b - a).mean())
    assert test.paired.p == pytest.approx(expected.pvalue)
    assert test.relative == pytest.approx(b.mean() / a.mean() - 1)
    ps = [one.paired.p for (panel, *_), one in found.comparisons.items() if panel == "tail"]
    assert test.p_adjusted >= test.paired.p
    assert len([p for p in ps if p is not None]) >= 3
    assert ("tail", "placebo", "b") not in found.comparisons  # the second ablation has no such arm


def test_an_ablation_is_level_with_its_equal(reports, ablate, tmp_path):
    again = SavedReport.read(write_report(tmp_path / "again" / "report.html", ablate()))
    found = compare_reports([reports["a"], again])
    assert all(one.paired.delta == 0 and not one.significant for one in found.comparisons.values())
    assert all("no significant difference" in sentence for sentence in found.verdict)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a", "seeds"), "has the seeds 1, 2, 3"),
        (("a", "split"), "another split"),
        (("one", "uno"), "one seed"),
    ],
)
def test_ablations_that_cannot_be_paired_are_shown_without_tests(reports, names, reason):
    found = compare_reports([reports[name] for name in names])
    assert reason in found.untested
    assert not found.comparisons
    assert set(found.values["all"]["none"]) == set(names)
    assert all("not tested" in sentence for sentence in found.verdict)


def test_the_json_is_json(reports):
    printed = json.loads(json.dumps(compare_reports([reports["a"], reports["b"]], "recall@20").to_json()))
    assert printed["metric"] == "recall@20"
    assert {one["arm"] for one in printed["comparisons"]} == {"best", "none", "beside", "text"}
    assert (
        printed["panels"]["all"]["none"]["a"]["per_seed"]
        == (reports["a"].result["arms"]["none"]["recall@20"]["per_seed"])
    )


def test_wrong_use_is_told(reports):
    with pytest.raises(ConfigError, match="at least two"):
        compare_reports([reports["a"]])
    with pytest.raises(ConfigError, match="given twice"):
        compare_reports([reports["a"], reports["a"]])
    with pytest.raises(ConfigError, match="no metric 'ndcg@1'") as raised:
        compare_reports([reports["a"], reports["b"]], "ndcg@1")
    assert "ndcg@10" in raised.value.hint
