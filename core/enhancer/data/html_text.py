"""Turn HTML into plain text: descriptions of shops and stores are full of tags and entities.

Only what is certainly HTML is touched: tags and comments whose name HTML knows, and entities that end in a semicolon.
``a < b``, ``<3``, ``List<String>`` and ``AT&T`` stay as they are.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_INLINE = (
    "a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|nobr|q|s|samp|small|span|"
    "strike|strong|sub|sup|time|tt|u|var|wbr"
)
"""Elements within a line: their tags vanish. Those of all other elements leave a blank."""
_HIDDEN = "script|style|template|noscript|svg"
"""Elements whose content is not text."""
_BLOCKS = (
    "address|area|article|aside|audio|base|basefont|blockquote|body|br|button|canvas|caption|center|col|"
    "colgroup|dd|details|dialog|dir|div|dl|dt|embed|fieldset|figcaption|figure|footer|form|frame|frameset|h1|"
    "h2|h3|h4|h5|h6|head|header|hgroup|hr|html|iframe|img|input|legend|li|link|main|map|menu|meta|meter|nav|"
    "noframes|o:p|object|ol|optgroup|option|output|p|param|picture|pre|progress|rp|rt|ruby|section|select|"
    "source|summary|table|tbody|td|textarea|tfoot|th|thead|title|tr|track|ul|video"
)
_MAX_ESCAPED = 3
"""Largest number of times that text was escaped, such as ``&amp;lt;br&amp;gt;``."""
_MAX_INPUT = 1 << 18
"""Largest number of characters that are parsed of a value, whatever the number that is kept."""
_NAMES = "|".join(name for name in f"{_INLINE}|{_HIDDEN}|{_BLOCKS}".split("|") if len(name) > 1)
_MARKUP = re.compile(
    rf"""
    <(?:
        /?(?:[abipqsu]|{_NAMES})\s*+/?>
      | # A name of one letter needs an attribute with a value, to be told from "a <b and c> d".
        /?(?:(?:[abipqsu]|{_NAMES})(?=\s++[\w:@.-]++\s*+=)|(?:{_NAMES})(?=\s++[\w:@./-]))
        # No quoted value holds "<", so that no character is looked at more than a few times.
        (?:(?>[^<>"']|"[^<"]*+"|'[^<']*+')*+>|[^<>]*+>)
      | (?P<comment>!--)
      | (?:!doctype|\?xml)\s[^<>]*+>
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SIGN = re.compile(r"<|&(?!(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});)")


def strip_html(text: str) -> str:
    """Return the text of a piece of HTML, with entities unescaped.

    Tags of blocks and line breaks become blanks, other tags vanish, and so do comments and the content of scripts and
    styles. Text that was escaped once too often, such as ``&lt;br&gt;``, is read as it was meant.

    Args:
        text: Any text, also one without HTML, which is returned as it is. At most 262,144 characters of it are read.

    >>> strip_html("<p>Tea &amp; <b>cake</b></p>Now<br/>at 3 &lt; 4, a < b, <3")
    ' Tea & cake Now at 3 < 4, a < b, <3'
    """
    for _ in range(_MAX_ESCAPED):
        if "<" not in text and "&" not in text:
            break
        before, text = text, _strip_once(text[:_MAX_INPUT])
        if text == before:
            break
    return text


def strip_html_of(values: Sequence[str]) -> list[str]:
    """Return the text of each value of a column; see :func:`strip_html`."""
    return [value if "<" not in value and "&" not in value else strip_html(value) for value in values]


def looks_like_html(text: str) -> bool:
    """Return whether a text has tags or entities that :func:`strip_html` would remove."""
    return ("<" in text or "&" in text) and strip_html(text) != text


def _strip_once(text: str) -> str:
    """Return the text without one level of markup."""
    last_comment = text.rfind("-->")

    def escaped(sign: re.Match[str]) -> str:
        if sign[0] == "&":
            return "&amp;"
        markup = _MARKUP.match(text, sign.start())
        if markup is None or (markup["comment"] and sign.start() > last_comment):
            return "&lt;"
        return "<"

    parser = _Text()
    parser.feed(_SIGN.sub(escaped, text))
    parser.close()
    return "".join(parser.parts)


_WITHIN_LINE = frozenset(_INLINE.split("|"))
_WITHOUT_TEXT = frozenset(_HIDDEN.split("|"))


class _Text(HTMLParser):
    """Collects the text of a document."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - attributes are no text
        if tag in _WITHOUT_TEXT:
            self._hidden.append(tag)
        self._blank(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - attributes are no text
        self._blank(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
        self._blank(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)

    def _blank(self, tag: str) -> None:
        if tag not in _WITHIN_LINE and not self._hidden and (not self.parts or self.parts[-1] != " "):
            self.parts.append(" ")
