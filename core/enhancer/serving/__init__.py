"""Serving: an artifact on disk and rankers over it. Imports numpy and safetensors, and nothing heavier.

>>> from enhancer.serving import Ranker
>>> ranker = Ranker.load("artifact")  # doctest: +SKIP
>>> ranker.recommend(["42"], k=10)[0].items[0]  # doctest: +SKIP
('318', 4.125)

Names are imported on first use: the service sets the number of BLAS threads before numpy is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.lazy_face import lazy_face

if TYPE_CHECKING:
    from enhancer.serving.approximate_ranker import ApproximateRanker as ApproximateRanker
    from enhancer.serving.artifact import write_artifact as write_artifact
    from enhancer.serving.ranker import Ranker as Ranker
    from enhancer.serving.results import (
        Neighbours as Neighbours,
        Recommendation as Recommendation,
        Recommendations as Recommendations,
    )
    from enhancer.serving.service.app import create_app as create_app
    from enhancer.serving.service.live_ranker import Live as Live, LiveRanker as LiveRanker
    from enhancer.serving.service.server import serve as serve
    from enhancer.serving.service.settings import Limits as Limits

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "enhancer.serving.artifact": "write_artifact",
        "enhancer.serving.approximate_ranker": "ApproximateRanker",
        "enhancer.serving.ranker": "Ranker",
        "enhancer.serving.results": "Neighbours Recommendation Recommendations",
        "enhancer.serving.service.app": "create_app",
        "enhancer.serving.service.live_ranker": "Live LiveRanker",
        "enhancer.serving.service.server": "serve",
        "enhancer.serving.service.settings": "Limits",
    },
)
