"""Embedders: map texts to unit vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from enhancer.contracts.options import Context, Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class Embedder(ABC):
    """Maps texts to float32 vectors of unit L2 length. Construction is cheap; the model is loaded on first use."""

    options_class: ClassVar[type[Options]] = Options

    @abstractmethod
    def __init__(self, options: Options, context: Context) -> None:
        """Store the options. Must not import heavy libraries or load the model."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Identifier of everything that affects a vector: weights, revision, tokenizer, pooling, prefix, truncation.

        Embedders with equal fingerprints return equal vectors. Stores compare vectors by this string alone.
        """

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dimension of the vectors. May load the model."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        The vector of a text does not depend on the other texts, up to floating-point rounding.

        Args:
            texts: Texts of any length; long ones are truncated.

        Returns:
            float32 ``[len(texts), dim]``, rows of unit L2 length in the order of ``texts``; ``[0, dim]`` for no texts.
        """
