"""From entities to stored vectors, and from stored vectors to matrices."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enhancer.features.pipeline import Pipeline
    from enhancer.features.report import GenerationReport, Plan
    from enhancer.features.semantics import Semantics, inputs_wanted
    from enhancer.features.sources import Sources, resolve_inputs
    from enhancer.features.table import feature_table, pool

__all__ = [
    "GenerationReport",
    "Pipeline",
    "Plan",
    "Semantics",
    "Sources",
    "feature_table",
    "inputs_wanted",
    "pool",
    "resolve_inputs",
]

_HOMES = {
    "GenerationReport": "report",
    "Pipeline": "pipeline",
    "Plan": "report",
    "Semantics": "semantics",
    "Sources": "sources",
    "feature_table": "table",
    "inputs_wanted": "semantics",
    "pool": "table",
    "resolve_inputs": "sources",
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first used: reading vectors needs no harness, planning no numpy."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
