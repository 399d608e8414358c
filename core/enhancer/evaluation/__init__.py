"""Evaluate whether semantic features help: metrics, arms, significance tests, strata, verdicts and reports.

>>> import numpy as np
>>> from enhancer.contracts import Factors
>>> factors = Factors(np.eye(2, dtype=np.float32), np.array([[3, 1], [2, 2], [1, 3]], np.float32))
>>> rank(factors, np.array([0, 1]), None, k=2)
array([[0, 1],
       [2, 1]], dtype=int32)
"""

from __future__ import annotations

from enhancer.evaluation.ablation import run_ablation
from enhancer.evaluation.judging.findings import Comparison, Finding
from enhancer.evaluation.judging.result import Ablation
from enhancer.evaluation.judging.significance import bootstrap, holm, paired
from enhancer.evaluation.measuring.metrics import Metric, Scores, evaluate, parse_metric
from enhancer.evaluation.measuring.peer_definitions import compare_definitions, metric_like
from enhancer.evaluation.measuring.ranking import CSR, rank
from enhancer.evaluation.measuring.views import Views, training_data
from enhancer.evaluation.running.arms import Arm, resolve_arms, resolve_baseline
from enhancer.evaluation.running.experiment import Experiment, Reference
from enhancer.evaluation.running.fitting import fit
from enhancer.evaluation.running.run_cache import RunCache
from enhancer.evaluation.running.runs import ArmRun, Run
from enhancer.evaluation.running.vectors import shuffled
from enhancer.evaluation.running.workers import Workers

__all__ = [
    "CSR",
    "Ablation",
    "Arm",
    "ArmRun",
    "Comparison",
    "Experiment",
    "Finding",
    "Metric",
    "Reference",
    "Run",
    "RunCache",
    "Scores",
    "Views",
    "Workers",
    "bootstrap",
    "compare_definitions",
    "evaluate",
    "fit",
    "holm",
    "metric_like",
    "paired",
    "parse_metric",
    "rank",
    "resolve_arms",
    "resolve_baseline",
    "run_ablation",
    "shuffled",
    "training_data",
]
