"""Estimate the number of tokens of a text without a tokenizer, whose vocabulary would have to be downloaded.

The rule is calibrated on byte-pair vocabularies of current models. It is within a few percent for English prose; CJK
text takes 0.7 to 1.3 tokens per character, depending on the age of the vocabulary. Once the ledger holds actual counts
of a model, their ratio corrects the estimate.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enhancer.contracts.llm import Message, Request
    from enhancer.harness.journal.journal import ObservedUsage

_PIECE = re.compile(r"[A-Za-z']+|\d+|[^\x00-\x7f]+|[^\sA-Za-z\d'\x00-\x1f]+|\n+")
_WIDE = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U0001f000-\U0003ffff]")
TOKENS_PER_MESSAGE = 4
"""Tokens that the chat format adds to each message."""
TYPICAL_ANSWER = 110.0
"""Completion tokens of a two-sentence profile with four tags as JSON."""
TYPICAL_NOTE = 50.0
"""Completion tokens of a note of one sentence or two, one of several in an answer."""
MIN_OBSERVED_CALLS = 20
"""Minimum number of calls in the ledger from which ratios are computed."""
_MIN_THOUGHTS = 5
"""Minimum number of calls in the ledger that show how much a model thinks."""
_WORD_LENGTH = 9
"""Length up to which a word is usually one token."""


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text.

    >>> estimate_tokens("A toy cowboy fears that a space ranger will replace him.")
    12
    >>> estimate_tokens("")
    0
    """
    if text.isascii() and (count := _ascii_pieces(text)) is not None:
        return count
    total = 0.0
    for piece in _PIECE.findall(text):
        first = piece[0]
        length = len(piece)
        if first > "\x7f":
            wide = len(_WIDE.findall(piece))
            total += wide * 0.85 + (length - wide) / 2.5
        elif first.isdigit():
            total += (length + 2) // 3
        elif first.isalpha() or first == "'":
            total += 1 if length <= _WORD_LENGTH else 1 + (length - _WORD_LENGTH + 3) // 4
        else:
            total += (length + 1) // 2
    return round(total)


def _table(belongs: Callable[[str], object]) -> bytes:
    return bytes(97 if code < 128 and belongs(chr(code)) else 32 for code in range(256))


_CLASSES = (
    # Characters of a piece, length of its first token, length of each further token.
    (_table(lambda c: c.isalpha() or c == "'"), _WORD_LENGTH, 4),
    (_table(str.isdigit), 3, 3),
    (_table(lambda c: c >= " " and not c.isspace() and not c.isalnum() and c != "'"), 2, 2),
    (_table(lambda c: c == "\n"), 2, 2),
)
_MAX_PIECE = 60
"""Maximum length of a piece for the fast path."""


def _ascii_pieces(text: str) -> int | None:
    """Return the same estimate for ASCII text in half the time, by counting pieces of at least each length.

    None if a piece is too long.
    """
    raw = text.encode("ascii")
    total = 0
    for table, first, step in _CLASSES:
        marked = b" " + raw.translate(table)
        total += marked.count(b" a")
        length = first + 1
        while longer := marked.count(b" " + b"a" * length):
            total += longer
            length += step
            if length > _MAX_PIECE:
                return None
    return total


def estimate_messages(messages: Iterable[Message]) -> int:
    """Estimate the prompt tokens of a chat."""
    return sum(
        (_estimate_cached(message.content) if message.role == "system" else estimate_tokens(message.content))
        + TOKENS_PER_MESSAGE
        for message in messages
    )


@lru_cache(maxsize=32)
def _estimate_cached(text: str) -> int:
    """Estimate the tokens of a system text, which is the same in every call."""
    return estimate_tokens(text)


def upper_bound(request: Request) -> int:
    """Return an upper bound of the prompt tokens for budget reservations: a token is at least one byte."""
    text = sum(len(message.content.encode("utf-8", "surrogatepass")) + 16 for message in request.messages)
    schema = len(repr(request.schema)) if request.schema is not None else 0
    return text + schema + 64


def token_ratio(observed: ObservedUsage) -> float:
    """Return actual tokens of a model per estimated token; 1 until there are enough calls."""
    if observed.calls < MIN_OBSERVED_CALLS or not observed.estimated_prompt_tokens:
        return 1.0
    return min(max(observed.prompt_tokens / observed.estimated_prompt_tokens, 0.1), 10.0)


class ExpectedAnswer(NamedTuple):
    """Completion tokens that calls are expected to take."""

    per_note: float
    """Tokens of the answer for each note."""
    thought: float
    """Tokens of thought for each call."""

    def total(self, notes: int, calls: int) -> tuple[float, float]:
        """Return the completion tokens of some calls, and the part of them that is thought."""
        thought = self.thought * calls
        return self.per_note * notes + thought, thought


def expected_answer(
    own: ObservedUsage, overall: ObservedUsage, *, typical: float = TYPICAL_ANSWER, thought: float = 0.0
) -> ExpectedAnswer:
    """Return what answers take: the observed means, or typical values until there are enough calls.

    Args:
        own: Earlier calls of the same kind.
        overall: All earlier calls of the model, which show what it thinks before there are enough of the same kind.
        typical: Typical tokens of a note, which hold no thought.
        thought: Typical tokens of thought of a call.
    """
    if own.calls >= MIN_OBSERVED_CALLS and own.entities:
        return ExpectedAnswer((own.completion_tokens - own.reasoning_tokens) / own.entities, _thought(own))
    seen = next((one for one in (own, overall) if one.calls >= _MIN_THOUGHTS), None)
    if seen is not None:
        return ExpectedAnswer(typical, _thought(seen))
    # Thought that was cut off would have been at least as long.
    return ExpectedAnswer(typical, max(thought, overall.longest_thought or overall.longest_cut_thought))


def _thought(observed: ObservedUsage) -> float:
    return observed.reasoning_tokens / observed.calls
