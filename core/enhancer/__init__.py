"""LLM-written profiles, embedded offline, fused into collaborative filtering, and judged by a fair ablation.

::

    import enhancer

    project = enhancer.Project.load("enhancer.toml")
    project.generate()
    project.train()
    enhancer.Ranker.load("artifact").recommend(["42"], k=10)

Names are imported when they are first used: ``import enhancer`` itself costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enhancer.errors import EnhancerError as EnhancerError
    from enhancer.hookspecs import hookimpl as hookimpl
    from enhancer.hookspecs import hookspec as hookspec
    from enhancer.project import Project as Project
    from enhancer.serving import Ranker as Ranker

__version__ = "0.5.0"

_HOMES = {
    "EnhancerError": "enhancer.errors",
    "Project": "enhancer.project",
    "Ranker": "enhancer.serving",
    "hookimpl": "enhancer.hookspecs",
    "hookspec": "enhancer.hookspecs",
}

__all__ = ["EnhancerError", "Project", "Ranker", "__version__", "hookimpl", "hookspec"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'enhancer' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
