"""Standard streams without control sequences, whatever is printed: ids and texts of tables, errors of servers.

A terminal obeys sequences in what it shows: they colour and overwrite text, set the title, or type an answer.
Characters that reverse the direction of text make it read as something else.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, except tab and newline; separators of lines; characters that reverse the direction of text."""


def clean(text: str) -> str:
    r"""Replace control characters by visible escapes; newlines and tabs are kept.

    >>> clean("\x1b[31mred\tand\x07\nnot \x9b31mred \u202e")
    '\\x1b[31mred\tand\\x07\nnot \\x9b31mred \\u202e'
    """
    if text.isascii() and text.isprintable():  # fast
        return text
    return _CONTROL.sub(_visible, text.replace("\r\n", "\n"))


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def escape(json_text: str) -> str:
    r"""Escape in JSON the control characters that JSON allows in strings.

    >>> escape('{"a": "\x9b31m\u202e"}')
    '{"a": "\\u009b31m\\u202e"}'
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


class CleanStream:
    """Text stream that cleans what is written to it.

    Args:
        raw: Stream to write to.
        lossy: Ignore errors of writing, for messages that nobody reads any more: the terminal was closed.
    """

    def __init__(self, raw: TextIO, *, lossy: bool = False) -> None:
        self.raw = raw
        self._lossy = lossy

    def write(self, text: str) -> int:
        """Write text with control characters escaped."""
        with self._errors():
            self.raw.write(clean(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        with self._errors():
            self.raw.flush()

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            if not self._lossy:
                raise
            discard(self.raw)


def raw(stream: TextIO) -> TextIO:
    """Return the stream under a :class:`CleanStream`, to control the terminal."""
    return stream.raw if isinstance(stream, CleanStream) else stream


def discard(stream: TextIO) -> None:
    """Redirect a stream to the null device, so that what is buffered does not fail again when the process ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def cleaned() -> Iterator[None]:
    """Clean stdout and stderr within the context. Errors of writing to stderr are ignored."""
    out, err = sys.stdout, sys.stderr
    if out is None or err is None:  # a process without a console
        yield
        return
    clean_out, clean_err = cast("TextIO", CleanStream(out)), cast("TextIO", CleanStream(err, lossy=True))
    with contextlib.redirect_stdout(clean_out), contextlib.redirect_stderr(clean_err):
        yield
