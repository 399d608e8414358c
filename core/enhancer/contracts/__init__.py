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
"""

from __future__ import annotations

from enhancer.contracts.backbone import Backbone, Factors, Fitted, Monitor, TrainingData
from enhancer.contracts.embedder import Embedder
from enhancer.contracts.fuser import Batch, Fuser, Fusion, WideInput
from enhancer.contracts.llm import Completion, FinishReason, LLMProvider, Message, Price, Request
from enhancer.contracts.options import Context, Options
from enhancer.contracts.placement import Dense, Placement
from enhancer.contracts.record import Key, Record, Stamp
from enhancer.contracts.store import Fault, FeatureStore, StoreStats

__all__ = [
    "Backbone",
    "Batch",
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
    "Key",
    "LLMProvider",
    "Message",
    "Monitor",
    "Options",
    "Placement",
    "Price",
    "Record",
    "Request",
    "Stamp",
    "StoreStats",
    "TrainingData",
    "WideInput",
]
