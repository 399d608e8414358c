"""Versioned prompt templates: what is asked, and the JSON schema of the answer."""

from __future__ import annotations

from enhancer.prompts.history import HistoryLine, history_text
from enhancer.prompts.quoting import neutral, speaks_to_reader
from enhancer.prompts.schema import PROFILE_SCHEMA, batch_schema
from enhancer.prompts.template import Template, bundled_names

__all__ = [
    "PROFILE_SCHEMA",
    "HistoryLine",
    "Template",
    "batch_schema",
    "bundled_names",
    "history_text",
    "neutral",
    "speaks_to_reader",
]
