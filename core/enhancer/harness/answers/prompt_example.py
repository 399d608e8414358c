"""Recognise answers that repeat the example of the prompt instead of following it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WORD = re.compile(r"\w+")
_NUMBERING = re.compile(r"[\s_#.-]*\d*$")
_MAX_STARTS = 50
"""Largest number of braces of a prompt at which an example is looked for."""
_MIN_TAGS = 3
"""Smallest number of tags of an example with which those of an answer may not agree in every word."""


class PromptExample:
    """The example answers of a prompt, such as ``{"profile": "two sentences", "tags": ["tag", "tag"]}``.

    Args:
        system: System text of the prompt.
    """

    def __init__(self, system: str) -> None:
        self._words = set(_WORD.findall(system.casefold()))
        self._texts: dict[str, set[str]] = {}
        self._whole: set[tuple[str, ...]] = set()
        self._placeholders: set[str] = set()
        for example in _objects(system):
            for key, value in example.items():
                if isinstance(value, str):
                    self._texts.setdefault(key, set()).add(_plain(value))
                elif isinstance(value, list) and value and all(isinstance(tag, str) for tag in value):
                    tags = tuple(map(_plain, value))
                    if len(set(tags)) == 1:
                        self._placeholders.add(_NUMBERING.sub("", tags[0]))
                    if len(tags) >= _MIN_TAGS:
                        self._whole.add(tags)

    def has_text(self, key: str, text: str) -> bool:
        """Check whether a text is the example's own, or begins with it and goes on in words of the prompt."""
        plain = _plain(text)
        return any(
            plain.startswith(example) and self._words.issuperset(_WORD.findall(plain))
            for example in self._texts.get(key, ())
            if example
        )

    def has_tags(self, tags: Sequence[str]) -> bool:
        """Check whether tags are the example's placeholder, or all of its tags in their order."""
        plain = tuple(map(_plain, tags))
        return plain in self._whole or any(
            all(tag.startswith(placeholder) and _NUMBERING.sub("", tag) == placeholder for tag in plain)
            for placeholder in self._placeholders
        )


def _objects(system: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text, and those in their lists."""
    decoder = json.JSONDecoder()
    position = 0
    for _ in range(_MAX_STARTS):
        start = system.find("{", position)
        if start < 0:
            return
        try:
            value, position = decoder.raw_decode(system, start)
        except (ValueError, RecursionError):
            position = start + 1
            continue
        yield value
        for part in value.values():
            if isinstance(part, list):
                yield from (element for element in part if isinstance(element, dict))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
