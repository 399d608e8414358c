"""Options of the network providers that say how a model is asked: parameters and headers of every request."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from enhancer.contracts import Options
from enhancer_plugins.network import headers as http_headers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Structured = Literal["auto", "json_schema", "json_object", "none"]
MaxTokensParameter = Literal["auto", "max_tokens", "max_completion_tokens"]
_TOKEN_COUNT = re.compile(r"tokens|token_(?:count|limit|budget)", re.IGNORECASE)
# Parameters of the body that other options decide, and what to set instead.
_OWN_PARAMETERS = {
    "model": "set [llm] model",
    "messages": "they are written by the template",
    "stream": "answers are read as a whole",
    "n": "set [prompts.item] samples",
    "max_tokens": "set [llm] max_tokens and thought_tokens, which cost limits rely on",
    "max_completion_tokens": "set [llm] max_tokens and thought_tokens, which cost limits rely on",
}


class AskingOptions(Options):
    """Options that ``openai`` and ``litellm`` share."""

    structured: Structured = "auto"
    """Way of requesting the schema: enforced by the server (``json_schema``), as any JSON object, or only in the
    prompt. ``auto`` is ``json_schema``, unless the provider is known to refuse it or does so."""
    max_tokens_parameter: MaxTokensParameter = "auto"
    """Name of the parameter that limits the tokens of an answer. ``auto`` follows the endpoint and the model."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further parameters of every request, such as ``enable_thinking = false``. Part of the cache key."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further HTTP headers of every request. ``${NAME}`` in a value stands for an environment variable, from which
    every secret must come. Not part of the cache key."""

    allow_insecure: bool = False
    """Whether a key may be sent over plain http to a public address. Private networks are exempt."""

    @field_validator("extra_body")
    @classmethod
    def _body_holds_no_secret_and_no_option(cls, body: dict[str, Any]) -> dict[str, Any]:
        for name in body:
            if name in _OWN_PARAMETERS:
                raise ValueError(f"{name!r} is not a parameter to add: {_OWN_PARAMETERS[name]}")
        for name in _names(body):
            if http_headers.SECRET_NAME.search(name) and not _TOKEN_COUNT.search(name):
                raise ValueError(
                    f"{name!r} looks like a secret, which would become part of cache keys: send it by"
                    " headers, from an environment variable"
                )
        try:
            json.dumps(body, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("every value must be one that JSON has: no dates, nan or inf") from None
        return body

    @field_validator("headers")
    @classmethod
    def _headers_hold_no_secret(cls, given: dict[str, str]) -> dict[str, str]:
        return http_headers.validated(given)

    @property
    def sampling(self) -> dict[str, Any]:
        """Those of these options that change answers; empty for the defaults, so that older cache keys stay valid."""
        structured = {} if self.structured in ("auto", "json_schema") else {"structured": self.structured}
        return {**structured, **({"extra_body": self.extra_body} if self.extra_body else {})}

    @property
    def header_variables(self) -> list[str]:
        """Names of the environment variables that the headers send."""
        return http_headers.variables(self.headers)

    def filled_headers(self, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the headers with the values of their variables; without those whose variable is not set."""
        return http_headers.filled(self.headers, environment)

    def header_secrets(self, environment: Mapping[str, str] = os.environ) -> list[str]:
        """Return the values of the variables that the headers send."""
        return http_headers.secrets(self.headers, environment)

    def check_headers(self, environment: Mapping[str, str] = os.environ) -> None:
        """Check that the variables of the headers are set.

        Raises:
            AuthenticationError: One is not, or holds a character that headers cannot have.
        """
        http_headers.check(self.headers, "[llm.headers]", environment)


def _names(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from _names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names(inner)
