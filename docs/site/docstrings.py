"""Turn the reStructuredText in docstrings (roles, ``::``, ``.. math::``) into Markdown, for the Python reference."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":[a-z]+:`(?:~[\w.]*?(\w+)|([^`]+))`")
_MATH = re.compile(r"^( *)\.\. math:: *(.+)$", re.MULTILINE)
_LITERAL = re.compile(r"::$", re.MULTILINE)


def to_markdown(text: str) -> str:
    """Return a docstring with its roles, literal blocks and formulas as Markdown.

    >>> to_markdown("See :meth:`~enhancer.Ranker.load` and :class:`Plan`::")
    'See `load` and `Plan`:'
    """
    text = _MATH.sub(r"\1`\2`", text)
    text = _ROLE.sub(lambda match: f"`{match[1] or match[2]}`", text)
    return _LITERAL.sub(lambda match: "" if match.start() == 0 else ":", text)


class Markdown(griffe.Extension):
    """Apply :func:`to_markdown` to every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
