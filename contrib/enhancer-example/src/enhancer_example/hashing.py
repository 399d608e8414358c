"""Embedder ``hashing``: hashed bags of words. Needs only numpy."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from enhancer.contracts import Context, Embedder, Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_WORD = re.compile(r"\w+")


class HashingOptions(Options):
    """``[embedder]`` with ``use = "hashing"``."""

    dim: int = Field(default=256, ge=2)
    """Dimension of the vectors."""
    ngrams: int = Field(default=1, ge=1, le=5)
    """Maximum number of consecutive words in a feature."""


class Hashing(Embedder):
    """Hashed bags of words. Needs no model and no download, and gives the same vectors on every machine.

    Each n-gram of up to ``ngrams`` words adds 1 or -1 to one component of the vector. Component and sign are determined
    by its BLAKE2b digest (Weinberger et al. 2009, "Feature hashing for large scale multitask learning", eq. 1).

        >>> embedder = Hashing(HashingOptions(dim=16), Context())
        >>> a, b, c = embedder.encode(["green tea", "tea, green", "motor oil"])
        >>> round(float(a @ b), 3), bool(a @ c < 0.9)
        (1.0, True)
    """

    options_class = HashingOptions

    def __init__(self, options: Options, context: Context) -> None:
        del context
        assert isinstance(options, HashingOptions)  # validated by ``options_class``
        self._options = options

    @property
    def fingerprint(self) -> str:
        """Identifier of everything that affects a vector. Stores compare vectors by this string alone."""
        return f"hashing@1;dim={self._options.dim};ngrams={self._options.ngrams}"

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return self._options.dim

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts. Returns float32 ``[len(texts), dim]`` with rows of unit length."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for feature in self._features(text):
                component, sign = self._hash(feature)
                vectors[row, component] += sign
            if not vectors[row].any():  # no words, or all of them cancelled out
                vectors[row, self._hash(text)[0]] = 1
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _features(self, text: str) -> list[str]:
        words = _WORD.findall(text.lower())
        lengths = range(1, self._options.ngrams + 1)
        return [" ".join(words[start : start + n]) for n in lengths for start in range(len(words) - n + 1)]

    def _hash(self, feature: str) -> tuple[int, int]:
        digest = hashlib.blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "little")
        return (number >> 1) % self.dim, 1 if number & 1 else -1
