"""Compute cache keys: hashes over everything that determines an answer."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.llm import Message

KEY_VERSION = 1
"""Incremented when the hashed content changes, so that old keys never match."""
_DIGEST = 16


class Prompt(Protocol):
    """A template, or a note of one: everything of a prompt that is the same for all entities."""

    @property
    def fingerprint(self) -> str:
        """Hash of its content."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON schema of an answer about one entity."""


class KeyMaker:
    """Computes cache keys of rendered texts for one prompt, model, endpoint and set of sampling parameters.

    The key covers the template fingerprint, schema, rendered text, model, endpoint, temperature, top_p, seed,
    max_tokens, reasoning_effort if it is set, the provider's own sampling options, and the key version. It does not
    cover concurrency, time-outs, retry settings, room for thought, the size of groups, the notes that share a request,
    or the id of the entity, so equal prompts are paid for once.

    The constant part is hashed once; a million unchanged rows take seconds.

    Args:
        prompt: Prompt template, or a note of one.
        llm: ``[llm]``.
        endpoint: Endpoint of the provider.
        sampling: Provider-specific sampling options.
        sample: Number of the sample, from 1. Part of the key from 2 on.
    """

    def __init__(
        self,
        prompt: Prompt,
        llm: LLMConfig,
        *,
        endpoint: str,
        sampling: Mapping[str, Any] | None = None,
        sample: int = 1,
    ) -> None:
        constant = json.dumps(
            {
                "v": KEY_VERSION,
                "template": prompt.fingerprint,
                "schema": prompt.schema,
                "model": llm.model,
                "endpoint": endpoint,
                "temperature": llm.temperature,
                "top_p": llm.top_p,
                "seed": llm.seed,
                "max_tokens": llm.max_tokens,
                "sampling": dict(sampling or {}),
                **({"sample": sample} if sample > 1 else {}),
                # Only if it is set: keys of before there was such an option stay valid.
                **({} if llm.reasoning_effort is None else {"reasoning_effort": llm.reasoning_effort}),
            },
            sort_keys=True,
            separators=(",", ":"),
        )
        # JSON holds no NUL, so the boundary to the rendered text is unambiguous.
        self._base = hashlib.blake2b(constant.encode() + b"\0", digest_size=_DIGEST)

    def of(self, rendered: str) -> str:
        """Return the cache key of a rendered text: 32 hexadecimal characters."""
        return self.of_all([rendered])[0]

    def of_all(self, rendered: Iterable[str]) -> list[str]:
        """Return the cache key of each rendered text."""
        keys, start = [], self._base.copy
        for text in rendered:
            digest = start()
            digest.update(text.encode() if text.isascii() else text.encode("utf-8", "surrogatepass"))
            keys.append(digest.hexdigest())
        return keys


def text_hash(text: str) -> str:
    """Return the cache key of a raw text that is embedded without a prompt."""
    return hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST, person=b"enhancer-text"
    ).hexdigest()


def request_hash(messages: Iterable[Message]) -> str:
    """Return a hash of the messages of a request. The ledger records it; it is never used for lookups."""
    digest = None
    for message in messages:
        if digest is None and message.role == "system":
            digest = _after_system_text(message.content).copy()
            continue
        digest = digest or hashlib.blake2b(digest_size=8)
        digest.update(f"{message.role}\0{message.content}\0".encode("utf-8", "surrogatepass"))
    return (digest or hashlib.blake2b(digest_size=8)).hexdigest()


@lru_cache(maxsize=32)
def _after_system_text(text: str) -> hashlib.blake2b:
    """Return the state of :func:`request_hash` after a system text, which is the same in every call."""
    return hashlib.blake2b(f"system\0{text}\0".encode("utf-8", "surrogatepass"), digest_size=8)
