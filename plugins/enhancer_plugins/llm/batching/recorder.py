"""Requests as LiteLLM would send them, for the lines of batch jobs. Nothing is sent."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from enhancer.contracts import Message, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_OTHER_FIELDS = tuple(f.name for f in fields(Request) if f.name not in {"messages", "subjects", "timeout"})
_MARK = "enhancer-message-{}"
_MAX_FORMS = 64
"""Number of forms that are kept; a run has one for each schema and order of messages."""


class SentRequest(NamedTuple):
    """An HTTP request of LiteLLM."""

    url: str
    headers: Mapping[str, str]
    """Headers with lower-case names."""
    body: Any


class _Form(NamedTuple):
    """Body of a request as JSON, in parts between which the contents of messages belong."""

    parts: tuple[bytes, ...]
    order: tuple[int, ...]
    """Number of the message between each part and the next."""
    headers: Mapping[str, str]

    def fill(self, messages: tuple[Message, ...]) -> bytes:
        """Return the body for these messages."""
        filled = [self.parts[0]]
        for number, part in zip(self.order, self.parts[1:], strict=True):
            filled += [json.dumps(messages[number].content).encode(), part]
        return b"".join(filled)


class Recorder:
    """Records the requests that LiteLLM would send.

    LiteLLM takes about ten milliseconds to write a request. A run asks the same of each entity except for the messages,
    so that one recording with marks in their place serves for all of them.

    Args:
        completion: ``litellm.completion``.
        client: Returns a client for it that calls the function with each HTTP request.
        arguments: Returns the arguments of ``completion`` for a request.
        version: Returns a number that changes when equal requests get other arguments.
    """

    def __init__(
        self,
        completion: Callable[..., Any],
        client: Callable[[Callable[[Any], None]], Any],
        arguments: Callable[[Request], dict[str, Any]],
        version: Callable[[], int],
    ) -> None:
        self._completion = completion
        self._client = client
        self._arguments = arguments
        self._version = version
        self._forms: dict[object, _Form | None] = {}

    def record(self, request: Request) -> SentRequest:
        """Return the HTTP request of a direct call.

        Raises:
            Exception: The library refuses the request; its own exception.
        """
        received: list[SentRequest] = []

        def receive(http: Any) -> None:
            headers = {name.lower(): value for name, value in http.headers.items()}
            received.append(SentRequest(str(http.url), headers, json.loads(http.content)))

        try:
            self._completion(**self._arguments(request), client=self._client(receive))
        except Exception:
            if not received:
                raise
        return received[0]

    def body(self, request: Request) -> tuple[bytes, Mapping[str, str]]:
        """Return the body of the request as JSON on one line, and the headers of a direct call."""
        values = [getattr(request, name) for name in _OTHER_FIELDS]
        roles = [message.role for message in request.messages]
        key = json.dumps([self._version(), *values, roles], sort_keys=True)
        if key not in self._forms:
            if len(self._forms) >= _MAX_FORMS:
                self._forms.clear()
            self._forms[key] = self._form(request)
        form = self._forms[key]
        if form is None:
            sent = self.record(request)
            return _dumped(sent.body), sent.headers
        return form.fill(request.messages), form.headers

    def _form(self, request: Request) -> _Form | None:
        """Return the form of requests such as this one; None if their messages are not sent as they are."""
        marks = [_MARK.format(number) for number in range(len(request.messages))]
        marked = tuple(Message(m.role, mark) for m, mark in zip(request.messages, marks, strict=True))
        sent = self.record(replace(request, messages=marked))
        text = _dumped(sent.body)
        places = []
        for number, mark in enumerate(marks):
            quoted = json.dumps(mark).encode()
            if text.count(quoted) != 1:
                return None
            places.append((text.index(quoted), number, len(quoted)))
        parts, end = [], 0
        for start, _, length in sorted(places):
            parts.append(text[end:start])
            end = start + length
        form = _Form((*parts, text[end:]), tuple(number for _, number, _ in sorted(places)), sent.headers)
        same = json.loads(form.fill(request.messages)) == self.record(request).body
        return form if same else None


def _dumped(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
