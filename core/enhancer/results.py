"""Types that the verbs of a project return; ``to_json`` of a result gives what the command line prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.lazy_face import lazy_face

if TYPE_CHECKING:
    from enhancer.contracts.store import Repair as Repair
    from enhancer.evaluation.diagnosing.diagnosis import Diagnosis as Diagnosis
    from enhancer.evaluation.frontier.density import Density as Density
    from enhancer.evaluation.judging.findings import Comparison as Comparison, Finding as Finding
    from enhancer.evaluation.judging.result import Ablation as Ablation
    from enhancer.evaluation.running.runs import ArmRun as ArmRun, Run as Run
    from enhancer.features.generating.reports import GenerationReport as GenerationReport, Plan as Plan
    from enhancer.features.refresh import Changes as Changes, RefreshReport as RefreshReport
    from enhancer.project.exporting.verb import ExportReport as ExportReport
    from enhancer.project.inspecting.entity_view import EntityView as EntityView
    from enhancer.project.inspecting.reasons import Reason as Reason
    from enhancer.project.results import RunReport as RunReport, Similar as Similar, TrainingReport as TrainingReport
    from enhancer.project.spending.results import SpendPlan as SpendPlan, SpendReport as SpendReport
    from enhancer.serving import (
        Neighbours as Neighbours,
        Ranker as Ranker,
        Recommendation as Recommendation,
        Recommendations as Recommendations,
    )

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "enhancer.contracts.store": "Repair",
        "enhancer.evaluation.diagnosing.diagnosis": "Diagnosis",
        "enhancer.evaluation.frontier.density": "Density",
        "enhancer.evaluation.judging.findings": "Comparison Finding",
        "enhancer.evaluation.judging.result": "Ablation",
        "enhancer.evaluation.running.runs": "ArmRun Run",
        "enhancer.features.generating.reports": "GenerationReport Plan",
        "enhancer.features.refresh": "Changes RefreshReport",
        "enhancer.project.exporting.verb": "ExportReport",
        "enhancer.project.inspecting.entity_view": "EntityView",
        "enhancer.project.inspecting.reasons": "Reason",
        "enhancer.project.results": "RunReport Similar TrainingReport",
        "enhancer.project.spending.results": "SpendPlan SpendReport",
        "enhancer.serving": "Neighbours Ranker Recommendation Recommendations",
    },
)
