"""Multilayer perceptron that fusers train, with its conversion to numpy layers for serving."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from enhancer.contracts import Dense
from enhancer.contracts.placement import LEAK
from enhancer_plugins.training.compiled.worker import run_both, run_halves, splits_work

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


_MIN_ROWS = 512
"""Minimum number of rows that are cut in halves."""


class _Halves(torch.autograd.Function):
    """The layers applied to both halves of the rows, the second half in the worker thread if it is enabled."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:

        def run(first: int, last: int) -> list[torch.Tensor]:
            rows = x[first:last]
            made = [rows]
            for number in range(0, len(weights), 2):
                rows = torch.addmm(weights[number + 1], rows, weights[number])
                if number + 2 < len(weights):
                    torch.nn.functional.leaky_relu_(rows, LEAK)
                made.append(rows)
            return made

        found = run_halves(len(x), run)
        ctx.weights, ctx.inputs = weights[::2], [made[:-1] for made in found]
        return torch.cat([made[-1] for made in found])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        def run(gradient: torch.Tensor, inputs: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor | None]:
            found: list[torch.Tensor] = []
            before: torch.Tensor | None = gradient
            for number in reversed(range(len(inputs))):
                found = [inputs[number].T @ gradient, gradient.sum(0), *found]
                before = None
                if number or ctx.needs_input_grad[0]:
                    before = gradient = gradient @ ctx.weights[number].T
                if number:
                    # the output of LeakyReLU has the sign of its input
                    gradient = torch.ops.aten.leaky_relu_backward(gradient, inputs[number], LEAK, True)
            return found, before

        first, second = ctx.inputs
        middle = len(first[0])
        (one, left), (two, right) = run_both(
            lambda: run(gradients[0][:middle], first), lambda: run(gradients[0][middle:], second)
        )
        whole = torch.cat([left, right]) if left is not None and right is not None else None
        return whole, *(a + b for a, b in zip(one, two, strict=True))


class Mlp:
    """Dense layers with LeakyReLU between them. Weights are initialised as in Glorot & Bengio 2010, biases with zero.

    Args:
        widths: Number of input columns, of units of each hidden layer, and of output columns.
        random: Generator of the initial weights.
        device: Device of the weights.
    """

    def __init__(self, widths: Sequence[int], random: torch.Generator, device: str) -> None:
        self.weights: dict[str, torch.Tensor] = {}
        self._depth = len(widths) - 1
        for number, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            uniform = torch.rand(fan_in, fan_out, generator=random) * 2 - 1
            self.weights[f"weight.{number}"] = (uniform * math.sqrt(6 / (fan_in + fan_out))).to(device)
            self.weights[f"bias.{number}"] = torch.zeros(fan_out, device=device)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layers: float32 ``[n, widths[0]]`` to float32 ``[n, widths[-1]]``."""
        if x.device.type == "cpu" and len(x) >= _MIN_ROWS and splits_work():
            made: torch.Tensor = _Halves.apply(x, *self.weights.values())  # type: ignore[no-untyped-call]
            return made
        for number in range(self._depth):
            x = torch.addmm(self.weights[f"bias.{number}"], x, self.weights[f"weight.{number}"])
            if number < self._depth - 1:
                x = torch.nn.functional.leaky_relu(x, LEAK)
        return x

    def parameters(self) -> Iterable[torch.Tensor]:
        """Return the trainable parameters."""
        return self.weights.values()

    def layers(self) -> tuple[Dense, ...]:
        """Return a copy of the current layers in numpy."""
        own = {name: t.detach().cpu().numpy().copy() for name, t in self.weights.items()}
        last = self._depth - 1
        return tuple(
            Dense(own[f"weight.{n}"], own[f"bias.{n}"], "none" if n == last else "leaky_relu")
            for n in range(self._depth)
        )

    def state(self, prefix: str = "") -> dict[str, torch.Tensor]:
        """Return the weights by name, for a checkpoint."""
        return {f"{prefix}{name}": t.detach() for name, t in self.weights.items()}

    def load_state(self, state: Mapping[str, torch.Tensor], prefix: str = "") -> None:
        """Restore the weights of :meth:`state`."""
        for name, tensor in self.weights.items():
            tensor.data.copy_(state[f"{prefix}{name}"])
