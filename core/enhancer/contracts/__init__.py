"""Abstract base classes and protocols that plugins implement. They import nothing of the core but its ground floor.

===========  ==========================================  =======================
kind         base class                                  conformance suite
===========  ==========================================  =======================
``llm``      :class:`~enhancer.contracts.LLMProvider`    ``enhancer.testing.llm``
``embedder``  :class:`~enhancer.contracts.Embedder`      ``enhancer.testing.embedder``
``store``    :class:`~enhancer.contracts.FeatureStore`   ``enhancer.testing.store``
``backbone``  :class:`~enhancer.contracts.Backbone`      ``enhancer.testing.backbone``
``fuser``    :class:`~enhancer.contracts.Fuser`          ``enhancer.testing.fuser``
``observer``  :class:`~enhancer.contracts.Observer`      ``enhancer.testing.observer``
``runner``   :class:`~enhancer.contracts.Runner`         ``enhancer.testing.runner``
``exporter``  :class:`~enhancer.contracts.Exporter`      ``enhancer.testing.exporter``
===========  ==========================================  =======================

Names are imported on first use, so that serving imports :class:`Placement` without pydantic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.lazy_face import lazy_face

if TYPE_CHECKING:
    from enhancer.contracts.backbone import Backbone as Backbone
    from enhancer.contracts.batch import (
        BatchClient as BatchClient,
        BatchProvider as BatchProvider,
        EmbeddingBatches as EmbeddingBatches,
        JobStatus as JobStatus,
        LostJob as LostJob,
        OffersBatches as OffersBatches,
        OffersEmbeddingBatches as OffersEmbeddingBatches,
    )
    from enhancer.contracts.embedder import (
        Embedder as Embedder,
        Embeddings as Embeddings,
        RemoteEmbedder as RemoteEmbedder,
    )
    from enhancer.contracts.features import SideFeatures as SideFeatures, Sides as Sides
    from enhancer.contracts.fuser import (
        Batch as Batch,
        Expectation as Expectation,
        Fuser as Fuser,
        Fusion as Fusion,
        TrainingStep as TrainingStep,
        WideInput as WideInput,
    )
    from enhancer.contracts.llm import (
        Completion as Completion,
        FinishReason as FinishReason,
        LLMProvider as LLMProvider,
        Message as Message,
        Price as Price,
        Request as Request,
        ServerFacts as ServerFacts,
    )
    from enhancer.contracts.observer import (
        ArmRunResult as ArmRunResult,
        Observer as Observer,
        RunInfo as RunInfo,
        RunResult as RunResult,
    )
    from enhancer.contracts.operations.exporter import (
        ExportBatch as ExportBatch,
        Exported as Exported,
        Exporter as Exporter,
        ExportOrder as ExportOrder,
        ExportSource as ExportSource,
        VectorTable as VectorTable,
    )
    from enhancer.contracts.options import Context as Context, Options as Options
    from enhancer.contracts.placement import (
        Dense as Dense,
        Kernel as Kernel,
        Mixture as Mixture,
        Placement as Placement,
    )
    from enhancer.contracts.record import Key as Key, Record as Record, Stamp as Stamp
    from enhancer.contracts.runner import Job as Job, Report as Report, Runner as Runner
    from enhancer.contracts.store import (
        Fault as Fault,
        FeatureStore as FeatureStore,
        Repair as Repair,
        Revision as Revision,
        StoreOptions as StoreOptions,
        StoreStats as StoreStats,
    )
    from enhancer.contracts.training import (
        Factors as Factors,
        Fitted as Fitted,
        Monitor as Monitor,
        SemanticVectors as SemanticVectors,
        TrainingData as TrainingData,
        View as View,
    )

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "enhancer.contracts.backbone": "Backbone",
        "enhancer.contracts.batch": (
            "BatchClient BatchProvider EmbeddingBatches JobStatus LostJob OffersBatches OffersEmbeddingBatches"
        ),
        "enhancer.contracts.embedder": "Embedder Embeddings RemoteEmbedder",
        "enhancer.contracts.operations.exporter": "ExportBatch Exported Exporter ExportOrder ExportSource VectorTable",
        "enhancer.contracts.features": "SideFeatures Sides",
        "enhancer.contracts.fuser": "Batch Expectation Fuser Fusion TrainingStep WideInput",
        "enhancer.contracts.llm": "Completion FinishReason LLMProvider Message Price Request ServerFacts",
        "enhancer.contracts.observer": "ArmRunResult Observer RunInfo RunResult",
        "enhancer.contracts.options": "Context Options",
        "enhancer.contracts.placement": "Dense Kernel Mixture Placement",
        "enhancer.contracts.record": "Key Record Stamp",
        "enhancer.contracts.runner": "Job Report Runner",
        "enhancer.contracts.store": "Fault FeatureStore Repair Revision StoreOptions StoreStats",
        "enhancer.contracts.training": "Factors Fitted Monitor SemanticVectors TrainingData View",
    },
)
