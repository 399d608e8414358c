"""Options and vectors that embedders on servers share."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from enhancer.contracts import Options

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_TEXT = 8000


class VectorOptions(Options):
    """Options that decide which texts a server is asked to embed, and by which parameters."""

    dimensions: int | None = Field(default=None, ge=1)
    """Number of dimensions to ask for, of models that can shorten their vectors."""
    prefix: str = ""
    """Text in front of every text, such as ``passage: `` for models of the E5 family."""
    max_text: int = Field(default=_MAX_TEXT, ge=1)
    """Largest number of characters of a text; longer ones are cut."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further parameters of a request, such as ``input_type = "search_document"`` for Cohere."""

    @property
    def shaping(self) -> str:
        """Part of a fingerprint for the options that are not at their defaults, which affect vectors."""
        set_ones: dict[str, Any] = {
            "dimensions": self.dimensions,
            "prefix": json.dumps(self.prefix) if self.prefix else None,
            "max_text": self.max_text if self.max_text != _MAX_TEXT else None,
        }
        if self.extra_body:
            body = json.dumps(self.extra_body, sort_keys=True).encode()
            set_ones["extra_body"] = hashlib.blake2b(body, digest_size=6).hexdigest()
        return "".join(f";{name}={value}" for name, value in set_ones.items() if value is not None)

    def prepared(self, text: str) -> str:
        """Return a text as it is embedded: with the prefix, and cut."""
        return (self.prefix + text)[: self.max_text]


def scale_to_unit(table: NDArray[np.float32]) -> None:
    """Divide each row of float32 ``[n, d]`` by its length, in place. Zero rows stay, and bad ones stay bad."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(table, axis=1, keepdims=True)
        np.divide(table, lengths, out=table, where=lengths > 0)
