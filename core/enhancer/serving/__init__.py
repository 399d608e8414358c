"""Serving: an artifact on disk and a ranker over it. Imports numpy and safetensors, and nothing that is heavier.

>>> from enhancer.serving import Ranker
>>> ranker = Ranker.load("artifact")  # doctest: +SKIP
>>> ranker.recommend(["42"], k=10)[0].items[0]  # doctest: +SKIP
('318', 4.125)
"""

from __future__ import annotations

from enhancer.serving.artifact import write_artifact
from enhancer.serving.index import ApproximateRanker
from enhancer.serving.ranker import Ranker
from enhancer.serving.results import Neighbours, Recommendation

__all__ = ["ApproximateRanker", "Neighbours", "Ranker", "Recommendation", "write_artifact"]
