"""A small trained network that fusers share, and its way into serving."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch

from enhancer.contracts import Dense

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Mlp:
    """Dense layers with LeakyReLU between them; weights as Glorot & Bengio 2010 draw them, biases zero.

    Args:
        widths: Columns in, of each hidden layer, and out.
        random: Draws the weights.
        device: Where they live.
    """

    def __init__(self, widths: Sequence[int], random: torch.Generator, device: str) -> None:
        self.weights: dict[str, torch.Tensor] = {}
        self._depth = len(widths) - 1
        for number, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            uniform = torch.rand(fan_in, fan_out, generator=random) * 2 - 1
            self.weights[f"weight.{number}"] = (uniform * math.sqrt(6 / (fan_in + fan_out))).to(device)
            self.weights[f"bias.{number}"] = torch.zeros(fan_out, device=device)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float32 ``[n, widths[0]]`` to float32 ``[n, widths[-1]]``."""
        for number in range(self._depth):
            x = torch.addmm(self.weights[f"bias.{number}"], x, self.weights[f"weight.{number}"])
            if number < self._depth - 1:
                x = torch.nn.functional.leaky_relu(x, 0.01)
        return x

    def parameters(self) -> Iterable[torch.Tensor]:
        """What is trained."""
        return self.weights.values()

    def layers(self) -> tuple[Dense, ...]:
        """The network as it is now, in numpy."""
        own = {name: t.detach().cpu().numpy().copy() for name, t in self.weights.items()}
        last = self._depth - 1
        return tuple(
            Dense(own[f"weight.{n}"], own[f"bias.{n}"], "none" if n == last else "leaky_relu")
            for n in range(self._depth)
        )

    def state(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """What a checkpoint keeps."""
        return {f"{prefix}{name}": t.detach() for name, t in self.weights.items()}

    def load_state(self, state: Mapping[str, torch.Tensor], prefix: str = "") -> None:
        """Inverse of :meth:`state`."""
        for name, tensor in self.weights.items():
            tensor.data.copy_(state[f"{prefix}{name}"])
