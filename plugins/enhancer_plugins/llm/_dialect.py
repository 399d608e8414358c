"""Which parameters an endpoint and a model take: guessed from their names, and corrected by what the endpoint refuses.

OpenAI's reasoning models refuse ``max_tokens`` and any temperature but their own, Azure hides the model behind the name
of a deployment, DeepSeek refuses ``json_schema``. A refusal costs nothing and names the parameter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from enhancer_plugins.network import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.contracts import Request
    from enhancer_plugins.llm._asking import MaxTokensParameter, Structured

MAX_CORRECTIONS = 5
"""Largest number of times that one request is sent in another form."""
_AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_NO_SCHEMA_HOSTS = ("deepseek.com", "bigmodel.cn", "z.ai")
_NO_SCHEMA_PROVIDERS = ("deepseek/",)
_SEED_NAMES = {"api.mistral.ai": "random_seed"}
_REASONING = re.compile(r"(?:^|[/:])(?:o[1-9]|gpt-[5-9]|gpt-\d\d)(?!\w)(?!.*chat)", re.IGNORECASE)
"""OpenAI's models that think, also behind a gateway's or a fine-tuning prefix: they refuse sampling parameters."""
_RENAMED = re.compile(r"(?:^|[/:])(?:o[1-9]|gpt-[5-9]|gpt-\d\d)(?!\w)", re.IGNORECASE)
"""OpenAI's models that take ``max_completion_tokens`` alone."""
_REFUSED = re.compile(
    r"\b(?:un|not )support|does not support|\bunknown\b|unrecogni[sz]ed|unexpected|not permitted|not allowed"
    r"|unavailable|not available|deprecated|only the default|extra inputs|invalid value",
    re.IGNORECASE,
)
_PARAMETER = re.compile(
    r"\b(max_completion_tokens|max_tokens|temperature|top_p|random_seed|seed|response_format|json_schema)\b"
)
_LONGEST_ANSWER = re.compile(r"at most ([\d,]{1,12}) (?:completion|output) tokens", re.IGNORECASE)
_CONTEXT = re.compile(r"(?:maximum )?context (?:length|window|size)(?: is| of)?:? ([\d,]{1,12})", re.IGNORECASE)
_LENGTH_OF_MODEL = re.compile(r"cannot be greater than max_model_len ?= ?([\d,]{1,12})", re.IGNORECASE)
"""vLLM's refusal of more answer than its context; what is left of it beside a prompt, it finds itself."""
_LONG_PROMPT = re.compile(
    r"prompt contains|even without any output|the input \([\d,]+ tokens\) is longer", re.IGNORECASE
)
"""Refusals of a prompt that leaves no room, whatever the answer."""
_WEAKER: Mapping[Structured, Structured] = {"json_schema": "json_object", "json_object": "none"}


class Dialect:
    """Form of the requests to one endpoint.

    Args:
        host: Host of the endpoint; empty if the model's name determines it.
        structured: Option ``structured``.
        max_tokens_parameter: Option ``max_tokens_parameter``.
        library: Whether a library translates OpenAI's parameters for the models that it knows.

    Attributes:
        version: Number of corrections so far.
    """

    def __init__(
        self, host: str, *, structured: Structured, max_tokens_parameter: MaxTokensParameter, library: bool = False
    ) -> None:
        self._host = host.lower()
        self._library = library
        self._renamed = self._host == "api.openai.com" or self._host.endswith(_AZURE)
        self._structured = structured
        self._max_tokens = max_tokens_parameter
        self._weaker: Structured | None = None
        self._learned_name: str | None = None
        self._dropped: set[str] = set()
        self._most_tokens: int | None = None
        self._schema: Mapping[str, Any] | None = None
        self._strict: Any = None
        self.version = 0

    def parameters(self, request: Request, model: str) -> dict[str, Any]:
        """Return the parameters of a request that depend on the endpoint and the model.

        Args:
            request: The request.
            model: Name of the model as it is sent.
        """
        found: dict[str, Any] = {}
        if self._library or not _REASONING.search(model):
            found |= {"temperature": request.temperature, "top_p": request.top_p}
        limits = [limit for limit in (request.max_tokens, self._most_tokens) if limit is not None]
        found[self.max_tokens_name(model)] = min(limits) if request.max_tokens is not None else None
        found["seed" if self._library else _SEED_NAMES.get(self._host, "seed")] = request.seed
        found["reasoning_effort"] = request.reasoning_effort
        if request.schema is not None:
            found["response_format"] = self._response_format(request, model)
        return {name: value for name, value in found.items() if value is not None and name not in self._dropped}

    def max_tokens_name(self, model: str) -> str:
        """Return the name of the parameter that limits the tokens of an answer."""
        if self._max_tokens != "auto":
            return self._max_tokens
        if self._learned_name is not None:
            return self._learned_name
        renamed = not self._library and (self._renamed or _RENAMED.search(model))
        return "max_completion_tokens" if renamed else "max_tokens"

    def structured(self, model: str) -> Structured:
        """Return the form in which the schema is requested."""
        if self._structured != "auto":
            return self._structured
        if self._weaker is not None:
            return self._weaker
        hosts = any(self._host == host or self._host.endswith(f".{host}") for host in _NO_SCHEMA_HOSTS)
        return "json_object" if hosts or model.startswith(_NO_SCHEMA_PROVIDERS) else "json_schema"

    def corrected(self, message: str, model: str, version: int, max_tokens: int | None = None) -> bool:
        """Learn from a refusal; return whether to send the request again, in another form.

        Args:
            message: Message of a refusal with status 400 or 422.
            model: Name of the model as it was sent.
            version: :attr:`version` when the request was written.
            max_tokens: Its limit of tokens.
        """
        if version != self.version:
            return True  # another request has met the same refusal meanwhile
        if self._learn_most_tokens(message, max_tokens or 0):
            self.version += 1
            return True
        named = _PARAMETER.search(message)
        if named is None or not _REFUSED.search(message):
            return False
        learned = self._learn(named[1], message, model)
        self.version += learned
        return learned

    def _learn_most_tokens(self, message: str, max_tokens: int) -> bool:
        """Learn the longest answer that fits into the model: what it tells, or half of its context."""
        if _LONG_PROMPT.search(message):
            return False
        longest = _LONGEST_ANSWER.search(message) or _LENGTH_OF_MODEL.search(message)
        context = _CONTEXT.search(message)
        if longest is not None:
            most = int(longest[1].replace(",", "") or 0)
        elif context is not None:
            most = int(context[1].replace(",", "") or 0) // 2
        else:
            return False
        if not 0 < most < min(max_tokens, self._most_tokens or max_tokens):
            return False
        self._most_tokens = most
        return True

    def _learn(self, name: str, message: str, model: str) -> bool:
        if name in ("max_tokens", "max_completion_tokens"):
            return self._rename(name, message, model)
        if name in ("response_format", "json_schema"):
            weaker = _WEAKER.get(self.structured(model))
            if self._structured != "auto" or weaker is None or "schema for response_format" in message:
                return False
            self._weaker = weaker
            return True
        if name in self._dropped:
            return False
        self._dropped.add(name)
        return True

    def _rename(self, name: str, message: str, model: str) -> bool:
        if self._max_tokens != "auto" or self._learned_name is not None or name != self.max_tokens_name(model):
            return False
        other = "max_tokens" if name == "max_completion_tokens" else "max_completion_tokens"
        # "max_tokens is too large: this model supports at most 4096" names no other parameter.
        if name == "max_tokens" and other not in message:
            return False
        self._learned_name = other
        return True

    def _response_format(self, request: Request, model: str) -> dict[str, Any] | None:
        form = self.structured(model)
        if form == "json_object":
            return {"type": "json_object"}
        if form == "none":
            return None
        if request.schema is not self._schema:  # usually the same for the whole run
            assert request.schema is not None
            self._schema, self._strict = request.schema, wire.strict_schema(dict(request.schema))
        schema = {"name": request.schema_name, "strict": True, "schema": self._strict}
        return {"type": "json_schema", "json_schema": schema}
