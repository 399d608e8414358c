"""The harness: every LLM call goes through here, is paid for once, and is judged before it counts."""

from __future__ import annotations

from enhancer.harness.budget import Budget
from enhancer.harness.caller import Caller
from enhancer.harness.case import Ask, Case
from enhancer.harness.completions import Paid, PaidCall
from enhancer.harness.gate import Gate
from enhancer.harness.generator import Generator
from enhancer.harness.journal import FILE_NAME, CostLine, Journal, Quarantined
from enhancer.harness.key import KeyMaker, text_hash
from enhancer.harness.matching import Matched, match
from enhancer.harness.parse import InvalidAnswerError, parse_object
from enhancer.harness.redact import redact
from enhancer.harness.spending import Spent
from enhancer.harness.validate import Answer, AnswerValidator

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
