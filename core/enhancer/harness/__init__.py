"""The harness: every LLM call goes through here, is paid for once, and is judged before it counts."""

from __future__ import annotations

from enhancer.harness.answers.case import Ask, Case
from enhancer.harness.answers.matching import Matched, match
from enhancer.harness.answers.parse import InvalidAnswerError, parse_object
from enhancer.harness.answers.validate import Answer, AnswerValidator
from enhancer.harness.calls.budget import Budget
from enhancer.harness.calls.cache_key import KeyMaker, text_hash
from enhancer.harness.calls.caller import Caller
from enhancer.harness.calls.gate import Gate
from enhancer.harness.calls.spending import Spent
from enhancer.harness.generator import Generator
from enhancer.harness.journal.completion_writer import Paid, PaidCall
from enhancer.harness.journal.journal import FILE_NAME, CostLine, Journal, Quarantined
from enhancer.harness.redact import redact

__all__ = [
    "FILE_NAME",
    "Answer",
    "AnswerValidator",
    "Ask",
    "Budget",
    "Caller",
    "Case",
    "CostLine",
    "Gate",
    "Generator",
    "InvalidAnswerError",
    "Journal",
    "KeyMaker",
    "Matched",
    "Paid",
    "PaidCall",
    "Quarantined",
    "Spent",
    "match",
    "parse_object",
    "redact",
    "text_hash",
]
