"""Evaluate whether semantic features help: metrics, arms, significance tests, strata, verdicts and reports.

>>> import numpy as np
>>> from enhancer.contracts import Factors
>>> from enhancer.evaluation import rank
>>> factors = Factors(np.eye(2, dtype=np.float32), np.array([[3, 1], [2, 2], [1, 3]], np.float32))
>>> rank(factors, np.array([0, 1]), None, k=2)
array([[0, 1],
       [2, 1]], dtype=int32)

Names are imported on first use, so that a command that trains nothing does not import what trains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.lazy_face import lazy_face

if TYPE_CHECKING:
    from enhancer.evaluation.ablation import run_ablation as run_ablation
    from enhancer.evaluation.judging.findings import Comparison as Comparison, Finding as Finding
    from enhancer.evaluation.judging.result import Ablation as Ablation
    from enhancer.evaluation.judging.significance import bootstrap as bootstrap, holm as holm, paired as paired
    from enhancer.evaluation.measuring.metrics import (
        Metric as Metric,
        Scores as Scores,
        evaluate as evaluate,
        parse_metric as parse_metric,
    )
    from enhancer.evaluation.measuring.peer_definitions import (
        compare_definitions as compare_definitions,
        metric_like as metric_like,
    )
    from enhancer.evaluation.measuring.ranking import CSR as CSR, rank as rank
    from enhancer.evaluation.measuring.views import Views as Views, training_data as training_data
    from enhancer.evaluation.reporting.saved_report import SavedReport as SavedReport
    from enhancer.evaluation.running.arms import (
        Arm as Arm,
        resolve_arms as resolve_arms,
        resolve_baseline as resolve_baseline,
    )
    from enhancer.evaluation.running.experiment import Experiment as Experiment, Reference as Reference
    from enhancer.evaluation.running.fitting import fit as fit
    from enhancer.evaluation.running.refitting import FitRecord as FitRecord, refit as refit
    from enhancer.evaluation.running.run_cache import RunCache as RunCache
    from enhancer.evaluation.running.runs import ArmRun as ArmRun, Run as Run
    from enhancer.evaluation.running.vectors import shuffled as shuffled
    from enhancer.evaluation.running.workers import Workers as Workers
    from enhancer.evaluation.side_by_side import SideBySide as SideBySide, compare_reports as compare_reports

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "enhancer.evaluation.ablation": "run_ablation",
        "enhancer.evaluation.judging.findings": "Comparison Finding",
        "enhancer.evaluation.judging.result": "Ablation",
        "enhancer.evaluation.judging.significance": "bootstrap holm paired",
        "enhancer.evaluation.measuring.metrics": "Metric Scores evaluate parse_metric",
        "enhancer.evaluation.measuring.peer_definitions": "compare_definitions metric_like",
        "enhancer.evaluation.measuring.ranking": "CSR rank",
        "enhancer.evaluation.measuring.views": "Views training_data",
        "enhancer.evaluation.reporting.saved_report": "SavedReport",
        "enhancer.evaluation.running.arms": "Arm resolve_arms resolve_baseline",
        "enhancer.evaluation.running.experiment": "Experiment Reference",
        "enhancer.evaluation.running.fitting": "fit",
        "enhancer.evaluation.running.refitting": "FitRecord refit",
        "enhancer.evaluation.running.run_cache": "RunCache",
        "enhancer.evaluation.running.runs": "ArmRun Run",
        "enhancer.evaluation.running.vectors": "shuffled",
        "enhancer.evaluation.running.workers": "Workers",
        "enhancer.evaluation.side_by_side": "SideBySide compare_reports",
    },
)
