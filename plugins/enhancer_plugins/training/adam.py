"""Adam over named parameters, with a state that can be stored without pickle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from enhancer_plugins.training.compiled import kernels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class Adam:
    """Adam (Kingma & Ba 2015). A kernel updates float32 parameters on the CPU; torch operations update all others.

    Args:
        parameters: Parameters to train, by name.
        learning_rate: Step size.
        rates: Step sizes that differ from ``learning_rate``, by name.
        betas: Decay rates of the two moments.
        epsilon: Added to the denominator.
        reference: Use torch operations on the CPU, too.
    """

    def __init__(
        self,
        parameters: Mapping[str, torch.Tensor],
        learning_rate: float,
        *,
        rates: Mapping[str, float] | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        reference: bool = False,
    ) -> None:
        self._reference = reference
        self._parameters = dict(parameters)
        self._rates = {name: (rates or {}).get(name, learning_rate) for name in self._parameters}
        self._betas, self._epsilon = betas, epsilon
        self._first = {name: torch.zeros_like(p, requires_grad=False) for name, p in self._parameters.items()}
        self._second = {name: torch.zeros_like(p, requires_grad=False) for name, p in self._parameters.items()}
        rows = {name: len(p) if p.ndim > 1 else 1 for name, p in self._parameters.items()}
        self._no_decay = {name: np.zeros(n, np.float32) for name, n in rows.items()}
        self._penalties = {name: np.zeros(n, np.float32) for name, n in rows.items()}
        self._steps = 0
        self.rate_factor = 1.0
        """Factor of all step sizes; not part of the state."""

    @torch.no_grad()
    def step(
        self, gradients: Mapping[str, torch.Tensor | None], decay: Mapping[str, torch.Tensor] | None = None
    ) -> float | torch.Tensor:
        """Update every parameter that has a gradient.

        Args:
            gradients: Gradient by parameter; None or missing for a parameter that is not updated.
            decay: By parameter, float32 ``[rows]``: ``decay[r]`` times row r is added to the gradient of row r.

        Returns:
            The L2 penalty whose gradient the decay is, before the update: the sum of ``decay[r] / 2`` times the squared
            length of row r. On other devices than the CPU a float64 scalar tensor, because reading it would
            synchronise.
        """
        penalty: float | torch.Tensor = 0.0
        self._steps += 1
        b1, b2 = self._betas
        c1, c2 = 1 - b1**self._steps, 1 - b2**self._steps
        for name, parameter in self._parameters.items():
            gradient = gradients.get(name)
            if gradient is None:
                continue
            m, v = self._first[name], self._second[name]
            rows = decay.get(name) if decay else None
            if parameter.device.type == "cpu" and parameter.dtype == torch.float32 and not self._reference:
                slopes = self._no_decay[name] if rows is None else rows.numpy()
                penalty += self._kernel(name, gradient.contiguous().view(_rows(parameter)).numpy(), slopes, (c1, c2))
                continue
            if rows is not None:
                held = parameter.view(_rows(parameter))
                own = (rows @ torch.linalg.vecdot(held, held).to(rows)).double() / 2
                penalty = penalty + (float(own) if parameter.device.type == "cpu" else own)
                gradient = gradient + (rows.to(held).unsqueeze(1) * held).view_as(parameter)
            m.lerp_(gradient, 1 - b1)
            v.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
            rate = self.rate_factor * self._rates[name]
            parameter.addcdiv_(m, (v / c2).sqrt_().add_(self._epsilon), value=-rate / c1)
        return penalty

    def _kernel(
        self, name: str, gradient: NDArray[np.float32], decay: NDArray[np.float32], corrections: tuple[float, float]
    ) -> float:
        """Update one parameter and return its share of the penalty."""
        shape = _rows(self._parameters[name])
        arrays = (
            t.detach().view(shape).numpy() for t in (self._parameters[name], self._first[name], self._second[name])
        )
        weights, first, second = arrays
        rate = self.rate_factor * self._rates[name]
        kernels.adam(
            weights, gradient, first, second, decay, rate, *self._betas, self._epsilon, *corrections,
            self._penalties[name],
        )  # fmt: skip
        return float(self._penalties[name].sum(dtype=np.float64))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the moments and the number of steps, by name."""
        tensors = {f"first.{name}": t for name, t in self._first.items()}
        tensors |= {f"second.{name}": t for name, t in self._second.items()}
        tensors["steps"] = torch.tensor([self._steps], dtype=torch.int64)
        return tensors

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of :meth:`state`."""
        for name in self._parameters:
            self._first[name].copy_(state[f"first.{name}"])
            self._second[name].copy_(state[f"second.{name}"])
        self._steps = int(state["steps"][0])


def _rows(parameter: torch.Tensor) -> tuple[int, int]:
    """Return the shape in which the kernel sees a parameter: a vector is one row."""
    return (len(parameter), -1) if parameter.ndim > 1 else (1, -1)
