"""How an entity that training never saw gets its place in serving space: a few dense layers, in numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Activation = Literal["none", "leaky_relu", "relu", "tanh"]
_LEAK = 0.01


@dataclass(frozen=True, eq=False)
class Dense:
    """One layer, ``y = activation(x @ weight + bias)``."""

    weight: NDArray[np.float32]
    """float32 ``[inputs, outputs]``."""
    bias: NDArray[np.float32]
    """float32 ``[outputs]``."""
    activation: Activation = "none"


@dataclass(frozen=True, eq=False)
class Placement:
    """Map from semantic vectors to serving space; it travels in the serving artifact.

    >>> import numpy as np
    >>> layer = Dense(np.eye(2, 3, dtype=np.float32), np.array([0, 0, 1], np.float32))
    >>> Placement((layer,))(np.array([[3, 4]], np.float32))
    array([[3., 4., 1.]], dtype=float32)
    """

    layers: tuple[Dense, ...]
    norm: float | None = None
    """If given, rows are rescaled to this L2 length: the typical length of trained rows."""
    tail: tuple[float, ...] = ()
    """Constant columns set beside the rows after that, such as the bias of a typical item."""

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Place vectors: float32 ``[n, ds]`` to float32 ``[n, k]``."""
        hidden = np.asarray(vectors, dtype=np.float32)
        for layer in self.layers:
            hidden = hidden @ layer.weight + layer.bias
            if layer.activation == "leaky_relu":
                hidden = np.where(hidden > 0, hidden, np.float32(_LEAK) * hidden)
            elif layer.activation == "relu":
                hidden = np.maximum(hidden, 0)
            elif layer.activation == "tanh":
                hidden = np.tanh(hidden)
        if self.norm is not None:
            length = np.linalg.norm(hidden, axis=1, keepdims=True)
            hidden = hidden * (np.float32(self.norm) / np.maximum(length, np.float32(1e-12)))
        if self.tail:
            columns = np.broadcast_to(np.asarray(self.tail, dtype=np.float32), (len(hidden), len(self.tail)))
            hidden = np.concatenate([hidden, columns], axis=1)
        return np.ascontiguousarray(hidden, dtype=np.float32)

    def to_tensors(self, prefix: str) -> tuple[dict[str, NDArray[np.float32]], dict[str, object]]:
        """Split into named arrays (for safetensors) and a JSON-able description."""
        tensors: dict[str, NDArray[np.float32]] = {}
        for number, layer in enumerate(self.layers):
            tensors[f"{prefix}.{number}.weight"] = np.ascontiguousarray(layer.weight, dtype=np.float32)
            tensors[f"{prefix}.{number}.bias"] = np.ascontiguousarray(layer.bias, dtype=np.float32)
        activations = [layer.activation for layer in self.layers]
        return tensors, {"activations": activations, "norm": self.norm, "tail": list(self.tail)}

    @classmethod
    def from_tensors(
        cls, prefix: str, tensors: Mapping[str, NDArray[np.float32]], description: Mapping[str, object]
    ) -> Placement:
        """Inverse of :meth:`to_tensors`.

        Raises:
            KeyError: An array is missing.
            ValueError: The description is not one that :meth:`to_tensors` wrote.
        """
        activations, norm, tail = description["activations"], description["norm"], description.get("tail", [])
        if not (isinstance(activations, list) and isinstance(tail, list) and isinstance(norm, int | float | None)):
            raise ValueError(f"not a placement: {description!r}")  # noqa: TRY004 - what a file says, not a caller
        layers = tuple(
            Dense(tensors[f"{prefix}.{number}.weight"], tensors[f"{prefix}.{number}.bias"], activation)
            for number, activation in enumerate(activations)
        )
        return cls(layers, None if norm is None else float(norm), tuple(float(number) for number in tail))
