"""Embedders: text to unit vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from enhancer.contracts.options import Context, Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


class Embedder(ABC):
    """Maps texts to float32 rows of unit L2 length. Construction is cheap; the model loads at first use."""

    options_class: ClassVar[type[Options]] = Options

    @abstractmethod
    def __init__(self, options: Options, context: Context) -> None:
        """Take the options; import and load nothing heavy yet."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Names all that changes a vector: model, revision, pooling, prefix, normalisation.

        Two embedders of equal fingerprint give equal vectors; a store trusts this string alone.
        """

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of a vector (may load the model)."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: float32 ``[len(texts), dim]``, each row of unit L2 length, in the order of ``texts``.

        An empty list gives shape ``[0, dim]``. The result for a text does not depend on its neighbours
        (up to floating-point rounding).
        """
