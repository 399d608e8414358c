"""Versioned prompt templates with the JSON schemas of their answers."""

from __future__ import annotations

from enhancer.prompts.history import HistoryLine, history_text
from enhancer.prompts.notes import Note
from enhancer.prompts.quoting import contains_instructions, neutralize
from enhancer.prompts.request_text import Knowledge, RequestText
from enhancer.prompts.schema import PROFILE_SCHEMA, group_schema
from enhancer.prompts.template import Template, bundled_names

neutral = neutralize  # the name in earlier releases

__all__ = [
    "PROFILE_SCHEMA",
    "HistoryLine",
    "Knowledge",
    "Note",
    "RequestText",
    "Template",
    "bundled_names",
    "contains_instructions",
    "group_schema",
    "history_text",
    "neutral",
    "neutralize",
]
