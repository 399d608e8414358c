"""Make LLM calls that are paid for once, journaled, and validated before they are used."""

from __future__ import annotations

from enhancer.harness.answers.answer_validator import Answer, AnswerValidator
from enhancer.harness.answers.entity_task import EntityTask, PromptSpec
from enhancer.harness.answers.group_reply import GroupReply, match_group_reply
from enhancer.harness.answers.parse import InvalidAnswerError, parse_object
from enhancer.harness.calls.budget import Budget
from enhancer.harness.calls.cache_key import KeyMaker, text_hash
from enhancer.harness.calls.caller import Caller
from enhancer.harness.calls.cost_tracking import UsageTotals
from enhancer.harness.calls.gate import Gate
from enhancer.harness.generator import Generator
from enhancer.harness.journal.completion_writer import PaidAnswer, PaidCall
from enhancer.harness.journal.journal import JOURNAL_FILE_NAME, CostLine, Journal, Quarantined
from enhancer.harness.redact import redact

match = match_group_reply  # the name in earlier releases

__all__ = [
    "JOURNAL_FILE_NAME",
    "Answer",
    "AnswerValidator",
    "Budget",
    "Caller",
    "CostLine",
    "EntityTask",
    "Gate",
    "Generator",
    "GroupReply",
    "InvalidAnswerError",
    "Journal",
    "KeyMaker",
    "PaidAnswer",
    "PaidCall",
    "PromptSpec",
    "Quarantined",
    "UsageTotals",
    "match",
    "match_group_reply",
    "parse_object",
    "redact",
    "text_hash",
]
