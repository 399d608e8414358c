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

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enhancer.errors import EnhancerError
    from enhancer.hookspecs import hookimpl
    from enhancer.project import Project
    from enhancer.serving import Ranker

    __version__: str

__all__ = ["EnhancerError", "Project", "Ranker", "__version__", "hookimpl"]

_HOMES = {
    "EnhancerError": "enhancer.errors",
    "Project": "enhancer.project",
    "Ranker": "enhancer.serving",
    "hookimpl": "enhancer.hookspecs",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("enhancer")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'enhancer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
