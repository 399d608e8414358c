"""Take the thought out of an answer, in the forms in which models and servers write it.

A thought that has no end holds no answer, whatever it contains: an object in it is a draft.
"""

from __future__ import annotations

import re

_NAMES = ("think(?:ing)?|thoughts?", "reasoning", "reflection", "scratchpad", "analysis")
"""Names of tags, such as ``<think>``, ``<seed:think>``, ``<longcat_think>`` and ``<antThinking>``. A closing tag closes
a thought that one of the same names has opened."""
_PREFIX = r"(?:[\w.-]{1,20}:)?(?:\w{1,20}_)?(?:ant)?"
_DRESSES: tuple[tuple[str, str], ...] = (
    *((rf"<{_PREFIX}(?:{name})(?:\s[^<>]{{0,200}})?>", rf"</{_PREFIX}(?:{name})\s{{0,9}}>") for name in _NAMES),
    # Magistral
    (r"\[(?:think(?:ing)?|thought|reasoning)\]", r"\[/(?:think(?:ing)?|thought|reasoning)\]"),
    # Gemma 4, MedGemma
    (r"<\|channel>", r"<channel\|>"),
    (r"<unused94>", r"<unused95>"),
    # Command A, Sky-T1, Kimi-VL
    (r"<\|start_thinking\|>", r"<\|end_thinking\|>"),
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    ("◁think▷", "◁/think▷"),
    # Granite
    (r"here(?:'s| is) my thought process:", r"here(?:'s| is) my response:"),
)
_MARK = re.compile(
    "|".join(f"(?P<o{n}>{opening})|(?P<c{n}>{closing})" for n, (opening, closing) in enumerate(_DRESSES)),
    re.IGNORECASE,
)
_PROSE = len(_DRESSES) - 1
"""The form whose closing words alone may be prose."""
_CHANNEL = re.compile(
    r"(?:<\|channel\|>)?\s{0,9}\b(?P<name>analysis|commentary|final)\b[^<]{0,200}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>",
    re.IGNORECASE,
)
"""Header of a channel of OpenAI's harmony format; some servers remove its first token."""
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start)\|>", re.IGNORECASE)
_BARE_ANALYSIS = re.compile(r"\s*(?:assistant)?analysis(?=[A-Z])")
"""Beginning of an answer in harmony's format from which a server has removed all special tokens."""
_BARE_FINAL = "assistantfinal"


_IN_BRACKETS = tuple(f"[{slash}{name}" for slash in ("", "/") for name in ("think", "thought", "reasoning"))
_IN_WORDS = ("my thought process:", "my response:")


def _may_hold_mark(text: str) -> bool:
    """Check whether a search for marks may find any: nearly all answers have none, and the search takes its time."""
    if "<" in text or "◁" in text:
        return True
    lower = text.lower()
    return any(word in lower for word in _IN_WORDS) or ("[" in text and any(word in lower for word in _IN_BRACKETS))


def without_thought(text: str) -> str | None:
    """Return the text of an answer without its thoughts; None if it ends within one.

    >>> without_thought("<think>A draft: {} </think>{1}"), without_thought("so far</think>{2}")
    ('{1}', '{2}')
    >>> without_thought("<think>A draft: {}") is None
    True
    """
    if "<|message|>" in text or "<|channel|>" in text:
        final = _final_channel(text)
        if final is None:
            return None
        text = final
    elif _BARE_ANALYSIS.match(text):
        _, found, text = text.rpartition(_BARE_FINAL)
        if not found:
            return None
    if not _may_hold_mark(text):
        return text
    kept: list[str] = []
    opened: int | None = None
    position = 0
    for mark in _MARK.finditer(text):
        group = mark.lastgroup or ""
        form = int(group[1:])
        if opened is not None:
            if group[0] == "c" and form == opened:
                opened, position = None, mark.end()
        elif group[0] == "o":
            if not mark.group().endswith("/>"):
                kept.append(text[position : mark.start()])
                opened = form
        elif form != _PROSE:
            # The prompt held the opening tag: everything so far was thought.
            kept, position = [], mark.end()
    if opened is not None:
        return None
    return "".join([*kept, text[position:]])


def _final_channel(text: str) -> str | None:
    """Return the text of the final channel of an answer in harmony's format; None if it has none."""
    headers = list(_CHANNEL.finditer(text))
    found = []
    for number, header in enumerate(headers):
        if header["name"].lower() != "final":
            continue
        end = headers[number + 1].start() if number + 1 < len(headers) else len(text)
        closed = _CHANNEL_END.search(text, header.end(), end)
        found.append(text[header.end() : closed.start() if closed else end])
    return "\n".join(found) if found else None
