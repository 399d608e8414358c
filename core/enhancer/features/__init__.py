"""Generate, store and read features: from entities to stored vectors, and from stored vectors to matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.lazy_face import lazy_face

if TYPE_CHECKING:
    from enhancer.features.generating.reports import GenerationReport as GenerationReport, Plan as Plan
    from enhancer.features.pipeline import Pipeline as Pipeline
    from enhancer.features.reading.pooling import pool as pool
    from enhancer.features.reading.semantics import (
        Semantics as Semantics,
        inputs_wanted as inputs_wanted,
        wants_profiles as wants_profiles,
    )
    from enhancer.features.reading.table import feature_table as feature_table
    from enhancer.features.sources import Sources as Sources, resolve_inputs as resolve_inputs

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "enhancer.features.generating.reports": "GenerationReport Plan",
        "enhancer.features.pipeline": "Pipeline",
        "enhancer.features.reading.semantics": "Semantics inputs_wanted wants_profiles",
        "enhancer.features.reading.pooling": "pool",
        "enhancer.features.reading.table": "feature_table",
        "enhancer.features.sources": "Sources resolve_inputs",
    },
)
