"""LLM-written profiles, embedded offline, fused into collaborative filtering, and judged by a fair ablation.

    >>> import enhancer
    >>> project = enhancer.Project.load("enhancer.toml")  # doctest: +SKIP
    >>> project.plan().cost_usd  # doctest: +SKIP
    0.21
    >>> ranker = enhancer.Ranker.load("artifact")  # doctest: +SKIP
    >>> ranker.recommend(["42"], k=10)  # doctest: +SKIP

Names are imported when they are first used: ``enhancer.Ranker`` brings numpy and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.lazy_face import lazy_face

if TYPE_CHECKING:
    from enhancer.errors import EnhancerError as EnhancerError
    from enhancer.hookspecs import hookimpl as hookimpl
    from enhancer.project import Project as Project
    from enhancer.results import (
        Ablation as Ablation,
        Changes as Changes,
        Density as Density,
        Diagnosis as Diagnosis,
        EntityView as EntityView,
        ExportReport as ExportReport,
        GenerationReport as GenerationReport,
        Plan as Plan,
        Reason as Reason,
        Recommendation as Recommendation,
        Recommendations as Recommendations,
        RefreshReport as RefreshReport,
        Repair as Repair,
        RunReport as RunReport,
        Similar as Similar,
        SpendPlan as SpendPlan,
        SpendReport as SpendReport,
        TrainingReport as TrainingReport,
    )
    from enhancer.serving import Ranker as Ranker

    __version__: str

_lazy, __dir__, __all__ = lazy_face(
    __name__,
    {
        "enhancer.errors": "EnhancerError",
        "enhancer.hookspecs": "hookimpl",
        "enhancer.project": "Project",
        "enhancer.results": (
            "Ablation Changes Density Diagnosis EntityView ExportReport GenerationReport Plan Reason Recommendation"
            " Recommendations RefreshReport Repair RunReport Similar SpendPlan SpendReport TrainingReport"
        ),
        "enhancer.serving": "Ranker",
    },
    computed=("__version__",),
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("enhancer")
    return _lazy(name)
