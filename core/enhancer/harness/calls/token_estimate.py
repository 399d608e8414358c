"""How many tokens a text will be, without a tokenizer: its vocabulary would be loaded from the network.

The rule is calibrated on byte-pair vocabularies of today's models: English prose within a few percent, CJK between 0.7
and 1.3 tokens a character, by the vocabulary's age. Once the ledger knows what a model really counted, its own ratio
corrects the estimate.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enhancer.contracts.llm import Message, Request
    from enhancer.harness.journal.journal import ObservedUsage

_PIECE = re.compile(r"[A-Za-z']+|\d+|[^\x00-\x7f]+|[^\sA-Za-z\d'\x00-\x1f]+|\n+")
_WIDE = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U0001f000-\U0003ffff]")
TOKENS_PER_MESSAGE = 4
"""Tokens that the chat format itself adds to a message."""
TYPICAL_ANSWER = 110.0
"""Completion tokens of a profile of two sentences with four tags, as JSON."""
MIN_OBSERVED_CALLS = 20
"""Calls that the ledger must hold before it is believed."""
_WORD = 9
"""A word up to this length is one token, more often than not."""


def estimate_tokens(text: str) -> int:
    """Tokens of a text.

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
            total += 1 if length <= _WORD else 1 + (length - _WORD + 3) // 4
        else:
            total += (length + 1) // 2
    return round(total)


def _table(belongs: Callable[[str], object]) -> bytes:
    return bytes(97 if code < 128 and belongs(chr(code)) else 32 for code in range(256))


_CLASSES = (
    # Which characters make a piece; how much of it is one token; and how much each further one is.
    (_table(lambda c: c.isalpha() or c == "'"), _WORD, 4),
    (_table(str.isdigit), 3, 3),
    (_table(lambda c: c >= " " and not c.isspace() and not c.isalnum() and c != "'"), 2, 2),
    (_table(lambda c: c == "\n"), 2, 2),
)
_LONGEST = 60
"""Characters of a piece that are counted the quick way."""


def _ascii_pieces(text: str) -> int | None:
    """The same count for ASCII, at half the time: pieces of at least so many characters are so many matches.

    None where a piece is too long to be counted so.
    """
    raw = text.encode("ascii")
    total = 0
    for table, first, step in _CLASSES:
        marked = b" " + raw.translate(table)
        total += marked.count(b" a")
        least = first + 1
        while longer := marked.count(b" " + b"a" * least):
            total += longer
            least += step
            if least > _LONGEST:
                return None
    return total


def estimate_messages(messages: Iterable[Message]) -> int:
    """Prompt tokens of a chat."""
    return sum(
        (_estimate_again(message.content) if message.role == "system" else estimate_tokens(message.content))
        + TOKENS_PER_MESSAGE
        for message in messages
    )


@lru_cache(maxsize=32)
def _estimate_again(text: str) -> int:
    """System texts are the same in every call."""
    return estimate_tokens(text)


def upper_bound(request: Request) -> int:
    """A count that no byte-level tokenizer exceeds: a token is at least one byte. For reservations under a budget."""
    text = sum(len(message.content.encode("utf-8", "surrogatepass")) + 16 for message in request.messages)
    schema = len(repr(request.schema)) if request.schema is not None else 0
    return text + schema + 64


def token_ratio(observed: ObservedUsage) -> float:
    """Tokens that a model really counted for each estimated one; 1 until there are enough calls to tell."""
    if observed.calls < MIN_OBSERVED_CALLS or not observed.estimated_prompt_tokens:
        return 1.0
    return min(max(observed.prompt_tokens / observed.estimated_prompt_tokens, 0.1), 10.0)


def expected_completion_tokens(observed: ObservedUsage) -> float:
    """Completion tokens that one entity takes: as observed, or as two sentences and four tags usually take."""
    if observed.calls < MIN_OBSERVED_CALLS or not observed.entities:
        return TYPICAL_ANSWER
    return observed.completion_tokens / observed.entities
