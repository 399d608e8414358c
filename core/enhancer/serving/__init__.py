"""Serving: an artifact on disk and a ranker over it. Imports numpy and safetensors, and nothing that is heavier.

>>> from enhancer.serving import Ranker
>>> ranker = Ranker.load("artifact")  # doctest: +SKIP
>>> ranker.recommend(["42"], k=10)[0].items[0]  # doctest: +SKIP
('318', 4.125)

Names are imported when they are first used: the service settles numpy's threads before numpy is there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enhancer.serving.artifact import write_artifact
    from enhancer.serving.index import ApproximateRanker
    from enhancer.serving.live import Live
    from enhancer.serving.ranker import Ranker
    from enhancer.serving.results import Neighbours, Recommendation
    from enhancer.serving.server import serve
    from enhancer.serving.service import create_app
    from enhancer.serving.settings import Limits

__all__ = [
    "ApproximateRanker",
    "Limits",
    "Live",
    "Neighbours",
    "Ranker",
    "Recommendation",
    "create_app",
    "serve",
    "write_artifact",
]

_HOMES = {
    "ApproximateRanker": "index",
    "Limits": "settings",
    "Live": "live",
    "Neighbours": "results",
    "Ranker": "ranker",
    "Recommendation": "results",
    "create_app": "service",
    "serve": "server",
    "write_artifact": "artifact",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"enhancer.serving.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'enhancer.serving' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
