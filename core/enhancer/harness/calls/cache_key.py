"""The cache key: a hash over all that determines an answer, and over nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.llm import Message
    from enhancer.prompts import Template

KEY_VERSION = 1
"""Raised when what is hashed changes, so that no old key can be taken for a new one."""
_DIGEST = 16


class KeyMaker:
    """Hashes rendered texts under one template, model, endpoint and sampling.

    In the key: template fingerprint (which covers the schema), rendered text, model, endpoint, temperature, top_p,
    seed, max_tokens, the provider's own sampling options, and the key version. Not in it: concurrency, time-outs, retry
    settings, how many entities share a request, and the entity's id: equal questions are paid for once.

    The constant part is hashed once, so that a million unchanged rows take seconds.
    """

    def __init__(
        self, template: Template, llm: LLMConfig, *, endpoint: str, sampling: Mapping[str, Any] | None = None
    ) -> None:
        constant = json.dumps(
            {
                "v": KEY_VERSION,
                "template": template.fingerprint,
                "schema": template.schema,
                "model": llm.model,
                "endpoint": endpoint,
                "temperature": llm.temperature,
                "top_p": llm.top_p,
                "seed": llm.seed,
                "max_tokens": llm.max_tokens,
                "sampling": dict(sampling or {}),
            },
            sort_keys=True,
            separators=(",", ":"),
        )
        # JSON text holds no NUL, so the rendered text cannot shift the boundary.
        self._base = hashlib.blake2b(constant.encode() + b"\0", digest_size=_DIGEST)

    def of(self, rendered: str) -> str:
        """The key of one rendered text: 32 hexadecimal characters."""
        return self.of_all([rendered])[0]

    def of_all(self, rendered: Iterable[str]) -> list[str]:
        """The key of each rendered text."""
        keys, start = [], self._base.copy
        for text in rendered:
            digest = start()
            digest.update(text.encode() if text.isascii() else text.encode("utf-8", "surrogatepass"))
            keys.append(digest.hexdigest())
        return keys


def text_hash(text: str) -> str:
    """The key of a raw text that is embedded as it is."""
    return hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST, person=b"enhancer-text"
    ).hexdigest()


def request_hash(messages: Iterable[Message]) -> str:
    """Identifies what was sent, re-asks and batches included; for the ledger, never for look-ups."""
    digest = hashlib.blake2b(digest_size=8)
    for message in messages:
        digest.update(f"{message.role}\0{message.content}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
