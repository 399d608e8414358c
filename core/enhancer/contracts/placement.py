"""Map from semantic vectors to factors, for entities without training interactions: layers in numpy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Activation = Literal["none", "leaky_relu", "relu", "tanh"]
LEAK = 0.01
"""Slope of LeakyReLU for negative inputs."""
_BLOCK = 4096
"""Rows that are placed at once: a layer may be much wider than its inputs and outputs."""


@dataclass(frozen=True, eq=False)
class Dense:
    """One layer, ``y = activation(x @ weight + bias)``."""

    weight: NDArray[np.float32]
    """float32 ``[inputs, outputs]``."""
    bias: NDArray[np.float32]
    """float32 ``[outputs]``."""
    activation: Activation = "none"

    @property
    def inputs(self) -> int:
        """Number of input columns."""
        return int(self.weight.shape[0])

    @property
    def outputs(self) -> int:
        """Number of output columns."""
        return int(self.weight.shape[1])

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply the layer: float32 ``[n, inputs]`` to float32 ``[n, outputs]``."""
        hidden: NDArray[np.float32] = x @ self.weight + self.bias
        if self.activation == "leaky_relu":
            return np.where(hidden > 0, hidden, np.float32(LEAK) * hidden)
        if self.activation == "relu":
            return np.maximum(hidden, np.float32(0))
        return np.tanh(hidden) if self.activation == "tanh" else hidden


@dataclass(frozen=True, eq=False)
class Mixture:
    """A layer of gated experts, ``y = sum_e softmax(gate(x))_e * expert_e(x)``.

    >>> import numpy as np
    >>> gate = Dense(np.zeros((1, 2), np.float32), np.zeros(2, np.float32))
    >>> twice, thrice = (Dense(np.array([[k]], np.float32), np.zeros(1, np.float32)) for k in (2, 3))
    >>> Mixture(gate, ((twice,), (thrice,)))(np.array([[2]], np.float32))
    array([[5.]], dtype=float32)
    """

    gate: Dense
    """Maps ``inputs`` columns to one logit per expert."""
    experts: tuple[tuple[Dense, ...], ...]
    """Layers of each expert."""

    @property
    def inputs(self) -> int:
        """Number of input columns."""
        return self.gate.inputs

    @property
    def outputs(self) -> int:
        """Number of output columns."""
        return self.experts[0][-1].outputs

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply the layer: float32 ``[n, inputs]`` to float32 ``[n, outputs]``."""
        logits = self.gate(x)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        total = np.zeros((len(x), self.outputs), np.float32)
        for number, layers in enumerate(self.experts):
            hidden = x
            for layer in layers:
                hidden = layer(hidden)
            total += shares[:, number, None] * hidden
        return total


@dataclass(frozen=True, eq=False)
class Kernel:
    r"""Similarities to landmarks, added up over views, which are ranges of columns.

    .. math:: y_m = \sum_v w_v \exp\big((\cos(x_v - c_v, z_{mv}) - 1) / b\big)

    This is a Gaussian kernel of variance ``b`` on rows that are centred and scaled to unit length in each view. A view
    in which a row is zero has no similarity to anything.

    >>> import numpy as np
    >>> axes = np.eye(2, dtype=np.float32)
    >>> Kernel(axes, np.zeros(2, np.float32), (0, 2), (1.0,), 0.5)(np.array([[3, 0]], np.float32)).round(3)
    array([[1.   , 0.135]], dtype=float32)
    """

    landmarks: NDArray[np.float32] | NDArray[np.float16]
    """float32, or float16 to take half of the room, ``[outputs, inputs]``: centred, and of unit length in each view, or
    zero there."""
    centre: NDArray[np.float32]
    """float32 ``[inputs]``: mean of each column."""
    edges: tuple[int, ...]
    """First column of each view, in ascending order, and at last the number of inputs."""
    weights: tuple[float, ...]
    """Weight of each view."""
    width: float
    """Variance ``b`` of the kernel."""

    @property
    def inputs(self) -> int:
        """Number of input columns."""
        return int(self.landmarks.shape[1])

    @property
    def outputs(self) -> int:
        """Number of output columns, one for each landmark."""
        return int(self.landmarks.shape[0])

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply the layer: float32 ``[n, inputs]`` to float32 ``[n, outputs]``."""
        total = np.zeros((len(x), self.outputs), np.float32)
        for (start, stop), weight in zip(itertools.pairwise(self.edges), self.weights, strict=True):
            if weight == 0:
                continue
            rows = centred_units(x[:, start:stop], self.centre[start:stop])
            marks = self.landmarks[:, start:stop].astype(np.float32, copy=False)
            similar = rows @ marks.T
            similar -= np.float32(1)
            similar *= np.float32(1 / self.width)
            np.exp(similar, out=similar)
            similar *= np.float32(weight)
            similar[~rows.any(axis=1)] = 0
            similar[:, ~marks.any(axis=1)] = 0
            total += similar
        return total


Layer = Dense | Mixture | Kernel
"""A layer of a :class:`Placement`."""


def centred_units(x: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows relative to a centre and of unit length, float32 ``[n, w]``; a row of zeros stays one."""
    rows = (x - centre).astype(np.float32, copy=False)
    rows[~np.any(x, axis=1)] = 0
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(length > 0, length, np.float32(1))
    return rows


@dataclass(frozen=True, eq=False)
class Placement:
    """Map from semantic vectors to factors, stored in the serving artifact.

    >>> import numpy as np
    >>> layer = Dense(np.eye(2, 3, dtype=np.float32), np.array([0, 0, 1], np.float32))
    >>> Placement((layer,))(np.array([[3, 4]], np.float32))
    array([[3., 4., 1.]], dtype=float32)
    """

    layers: tuple[Layer, ...]
    norm: float | None = None
    """L2 length that rows are rescaled to, such as the mean length of trained rows; None to leave them."""
    tail: tuple[float, ...] = ()
    """Constant columns appended after rescaling, such as the mean item bias."""

    @property
    def inputs(self) -> int:
        """Number of input columns ``ds``."""
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        """Number of output columns ``k``."""
        return self.layers[-1].outputs + len(self.tail)

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Place vectors: float32 ``[n, ds]`` to float32 ``[n, k]``."""
        vectors = np.asarray(vectors, dtype=np.float32)
        if len(vectors) <= _BLOCK:
            return self._placed(vectors)
        rows = np.empty((len(vectors), self.outputs), np.float32)
        for start in range(0, len(vectors), _BLOCK):
            rows[start : start + _BLOCK] = self._placed(vectors[start : start + _BLOCK])
        return rows

    def _placed(self, hidden: NDArray[np.float32]) -> NDArray[np.float32]:
        for layer in self.layers:
            hidden = layer(hidden)
        if self.norm is not None:
            length = np.linalg.norm(hidden, axis=1, keepdims=True)
            hidden = hidden * (np.float32(self.norm) / np.maximum(length, np.float32(1e-12)))
        if self.tail:
            columns = np.broadcast_to(np.asarray(self.tail, dtype=np.float32), (len(hidden), len(self.tail)))
            hidden = np.concatenate([hidden, columns], axis=1)
        return np.ascontiguousarray(hidden, dtype=np.float32)

    def to_tensors(self, prefix: str) -> tuple[dict[str, NDArray[Any]], dict[str, object]]:
        """Return arrays by name, for safetensors, and a description that can be written as JSON."""
        tensors: dict[str, NDArray[Any]] = {}
        kinds: list[object] = []
        for number, layer in enumerate(self.layers):
            if isinstance(layer, Dense):
                kinds.append(_put(tensors, f"{prefix}.{number}", layer))
                continue
            if isinstance(layer, Kernel):
                tensors[f"{prefix}.{number}.landmarks"] = np.ascontiguousarray(layer.landmarks)
                tensors[f"{prefix}.{number}.centre"] = np.ascontiguousarray(layer.centre, np.float32)
                own = {"edges": list(layer.edges), "weights": list(layer.weights), "width": layer.width}
                kinds.append({"kernel": own})
                continue
            _put(tensors, f"{prefix}.{number}.gate", layer.gate)
            places = [[f"{prefix}.{number}.{e}.{n}" for n in range(len(own))] for e, own in enumerate(layer.experts)]
            experts = [
                [_put(tensors, place, dense) for place, dense in zip(named, members, strict=True)]
                for named, members in zip(places, layer.experts, strict=True)
            ]
            kinds.append({"gate": layer.gate.activation, "experts": experts})
        return tensors, {"activations": kinds, "norm": self.norm, "tail": list(self.tail)}

    @classmethod
    def from_tensors(
        cls, prefix: str, tensors: Mapping[str, NDArray[Any]], description: Mapping[str, object]
    ) -> Placement:
        """Build a placement from the result of :meth:`to_tensors`.

        Raises:
            KeyError: An array is missing.
            ValueError: The description is malformed.
        """
        activations, norm, tail = description["activations"], description["norm"], description.get("tail", [])
        if not (isinstance(activations, list) and isinstance(tail, list) and isinstance(norm, int | float | None)):
            raise ValueError(f"not a placement: {description!r}")  # noqa: TRY004 - the value comes from a file
        layers = tuple(_take(tensors, f"{prefix}.{number}", kind) for number, kind in enumerate(activations))
        return cls(layers, None if norm is None else float(norm), tuple(float(number) for number in tail))


def _put(tensors: dict[str, NDArray[Any]], place: str, layer: Dense) -> Activation:
    tensors[f"{place}.weight"] = np.ascontiguousarray(layer.weight, dtype=np.float32)
    tensors[f"{place}.bias"] = np.ascontiguousarray(layer.bias, dtype=np.float32)
    return layer.activation


def _take(tensors: Mapping[str, NDArray[Any]], place: str, kind: object) -> Layer:
    if isinstance(kind, dict) and "kernel" in kind:
        return _kernel(tensors[f"{place}.landmarks"], tensors[f"{place}.centre"], kind["kernel"])
    if isinstance(kind, dict):
        experts = tuple(
            tuple(_dense(tensors, f"{place}.{e}.{n}", activation) for n, activation in enumerate(own))
            for e, own in enumerate(kind["experts"])
        )
        if not experts or not all(experts):
            raise ValueError("a mixture without experts")
        return Mixture(_dense(tensors, f"{place}.gate", kind["gate"]), experts)
    return _dense(tensors, place, kind)


def _dense(tensors: Mapping[str, NDArray[Any]], place: str, activation: object) -> Dense:
    if activation not in get_args(Activation):
        raise ValueError(f"an unknown activation: {activation!r}")
    return Dense(tensors[f"{place}.weight"], tensors[f"{place}.bias"], cast("Activation", activation))


def _kernel(landmarks: NDArray[Any], centre: NDArray[np.float32], own: Mapping[str, Any]) -> Kernel:
    edges, weights = tuple(int(edge) for edge in own["edges"]), tuple(float(weight) for weight in own["weights"])
    wide = landmarks.shape[-1]
    ordered = all(left < right for left, right in itertools.pairwise(edges))
    if edges[:1] != (0,) or edges[-1:] != (wide,) or not ordered or len(weights) != len(edges) - 1:
        raise ValueError(f"views {edges} with weights {weights} do not cover {wide} columns")
    if centre.shape != (wide,) or not float(own["width"]) > 0:
        raise ValueError(f"a kernel of width {own['width']!r} with {centre.shape} for {wide} columns")
    return Kernel(landmarks, centre, edges, weights, float(own["width"]))
