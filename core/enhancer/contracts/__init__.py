"""The contracts that plugins implement. They import nothing of the rest of the core.

===========  ==========================================  =======================
kind         abstract class                              conformance suite
===========  ==========================================  =======================
``llm``      :class:`~enhancer.contracts.LLMProvider`    ``enhancer.testing.llm``
``embedder``  :class:`~enhancer.contracts.Embedder`      ``enhancer.testing.embedder``
``store``    :class:`~enhancer.contracts.FeatureStore`   ``enhancer.testing.store``
``backbone``  :class:`~enhancer.contracts.Backbone`      ``enhancer.testing.backbone``
``fuser``    :class:`~enhancer.contracts.Fuser`          ``enhancer.testing.fuser``
===========  ==========================================  =======================

Names are imported when they are first used, so that serving can take :class:`Placement` without pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enhancer.contracts.backbone import Backbone, Factors, Fitted, Monitor, TrainingData
    from enhancer.contracts.batch import BatchProvider, JobStatus, OffersBatches
    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.features import SideFeatures, Sides
    from enhancer.contracts.fuser import Batch, Fuser, Fusion, WideInput
    from enhancer.contracts.llm import Completion, FinishReason, LLMProvider, Message, Price, Request
    from enhancer.contracts.options import Context, Options
    from enhancer.contracts.placement import Dense, Mixture, Placement
    from enhancer.contracts.record import Key, Record, Stamp
    from enhancer.contracts.store import Fault, FeatureStore, Repair, StoreOptions, StoreStats

__all__ = [
    "Backbone",
    "Batch",
    "BatchProvider",
    "Completion",
    "Context",
    "Dense",
    "Embedder",
    "Factors",
    "Fault",
    "FeatureStore",
    "FinishReason",
    "Fitted",
    "Fuser",
    "Fusion",
    "JobStatus",
    "Key",
    "LLMProvider",
    "Message",
    "Mixture",
    "Monitor",
    "OffersBatches",
    "Options",
    "Placement",
    "Price",
    "Record",
    "Repair",
    "Request",
    "SideFeatures",
    "Sides",
    "Stamp",
    "StoreOptions",
    "StoreStats",
    "TrainingData",
    "WideInput",
]

_HOMES = {
    "Backbone": "enhancer.contracts.backbone",
    "Batch": "enhancer.contracts.fuser",
    "BatchProvider": "enhancer.contracts.batch",
    "Completion": "enhancer.contracts.llm",
    "Context": "enhancer.contracts.options",
    "Dense": "enhancer.contracts.placement",
    "Embedder": "enhancer.contracts.embedder",
    "Factors": "enhancer.contracts.backbone",
    "Fault": "enhancer.contracts.store",
    "FeatureStore": "enhancer.contracts.store",
    "FinishReason": "enhancer.contracts.llm",
    "Fitted": "enhancer.contracts.backbone",
    "Fuser": "enhancer.contracts.fuser",
    "Fusion": "enhancer.contracts.fuser",
    "JobStatus": "enhancer.contracts.batch",
    "Key": "enhancer.contracts.record",
    "LLMProvider": "enhancer.contracts.llm",
    "Message": "enhancer.contracts.llm",
    "Mixture": "enhancer.contracts.placement",
    "Monitor": "enhancer.contracts.backbone",
    "OffersBatches": "enhancer.contracts.batch",
    "Options": "enhancer.contracts.options",
    "Placement": "enhancer.contracts.placement",
    "Price": "enhancer.contracts.llm",
    "Record": "enhancer.contracts.record",
    "Repair": "enhancer.contracts.store",
    "Request": "enhancer.contracts.llm",
    "SideFeatures": "enhancer.contracts.features",
    "Sides": "enhancer.contracts.features",
    "Stamp": "enhancer.contracts.record",
    "StoreOptions": "enhancer.contracts.store",
    "StoreStats": "enhancer.contracts.store",
    "TrainingData": "enhancer.contracts.backbone",
    "WideInput": "enhancer.contracts.fuser",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'enhancer.contracts' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
