"""Hybrid-expert adaptor: gated experts map vectors to a few columns beside the embeddings.

Xi et al. 2024, "Towards Open-World Recommendation with Knowledge Augmentation from Large Language Models" (KAR),
section 3.4, https://arxiv.org/abs/2306.10933.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from enhancer.contracts import Fuser, Fusion, Mixture, Options, Placement, WideInput
from enhancer.contracts.placement import LEAK

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from enhancer.contracts import TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.training.mlp import Mlp


class AdapterOptions(Options):
    """``[fuser] use = "adapter"``."""

    columns: int = Field(default=32, ge=1)
    """Number of output columns of the experts."""
    hidden: int = Field(default=64, ge=1)
    """Width of an expert's hidden layer."""
    shared_experts: int = Field(default=2, ge=0)
    """Number of experts shared by users and items."""
    own_experts: int = Field(default=2, ge=1)
    """Number of experts for users only, and for items only."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size of Adam for experts and gates."""


class Adapter(Fuser):
    """Columns ``sum_e gate_e(s) * expert_e(s)`` beside the embeddings. They are part of the served factors.

    Users and items each have a gate, over the shared experts and their own.
    """

    options_class = AdapterOptions
    options: AdapterOptions
    needs = frozenset({"input"})
    carries_semantics = True

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return the fusion of one run."""
        del dim
        return _Adaptor(self.options, data, seed, device)


class _Adaptor(Fusion):
    def __init__(self, options: AdapterOptions, data: TrainingData, seed: int, device: str) -> None:
        from enhancer_plugins.training.mlp import Mlp
        from enhancer_plugins.training.run import generator
        from enhancer_plugins.training.semantics import Semantics

        self.learning_rate = options.learning_rate
        self._semantics = Semantics(data, device)
        ds = self._semantics.dim
        random = generator(seed, "adapter")
        widths = (ds, options.hidden, options.columns)
        self._experts: dict[Kind | str, list[Mlp]] = {
            "shared": [Mlp(widths, random, device) for _ in range(options.shared_experts)],
            "user": [Mlp(widths, random, device) for _ in range(options.own_experts)],
            "item": [Mlp(widths, random, device) for _ in range(options.own_experts)],
        }
        gate = (ds, options.shared_experts + options.own_experts)
        self._gates: dict[Kind, Mlp] = {"user": Mlp(gate, random, device), "item": Mlp(gate, random, device)}
        self._has_vector: dict[Kind, torch.Tensor] = {
            kind: (rows != 0).any(1, keepdim=True).to(rows.dtype) for kind, rows in self._semantics.vectors.items()
        }

    def _networks(self) -> Iterable[tuple[str, Mlp]]:
        for owner, experts in self._experts.items():
            for number, expert in enumerate(experts):
                yield f"{owner}.{number}.", expert
        for kind, gate in self._gates.items():
            yield f"gate.{kind}.", gate

    def parameters(self) -> Iterable[torch.Tensor]:
        return [weight for _, part in self._networks() for weight in part.parameters()]

    def inputs(self) -> WideInput:
        return WideInput(self._columns("user"), self._columns("item"), constant=False)

    def _columns(self, kind: Kind) -> torch.Tensor:
        import torch

        vectors = self._semantics.vectors[kind]
        experts = torch.stack([expert(vectors) for expert in (*self._experts["shared"], *self._experts[kind])], 1)
        shares = torch.softmax(self._gates[kind](vectors), 1)
        # Entities without a vector get zero columns in spite of the biases.
        return torch.einsum("ne,nec->nc", shares, experts) * self._has_vector[kind]

    def inputs_of(self, users: torch.Tensor, items: torch.Tensor) -> WideInput:
        return WideInput(self._columns_of("user", users), self._columns_of("item", items), constant=False)

    def _columns_of(self, kind: Kind, rows: torch.Tensor) -> torch.Tensor:
        """Return the columns of some rows by one product per layer, where :meth:`_columns` has one per expert.

        With the hidden layers side by side, each scaled by its expert's share, the second layers are one product:
        ``sum_e g_e (h_e W_e + b_e) = [g_1 h_1 ... g_E h_E] [W_1; ...; W_E] + g [b_1; ...; b_E]``.
        """
        import torch

        experts, gate = [*self._experts["shared"], *self._experts[kind]], self._gates[kind]
        first = [part.weights for part in (*experts, gate)]
        second = [part.weights for part in experts]
        made = torch.addmm(
            torch.cat([own["bias.0"] for own in first]),
            self._semantics.vectors[kind].index_select(0, rows),
            torch.cat([own["weight.0"] for own in first], 1),
        )
        hidden, logits = made[:, : -len(experts)], made[:, -len(experts) :]
        shares = torch.softmax(logits, 1)
        active = torch.nn.functional.leaky_relu(hidden, LEAK).reshape(len(made), len(experts), -1)
        scaled = (active * shares.unsqueeze(2)).flatten(1)
        biases, weights = (torch.stack([own[name] for own in second]) for name in ("bias.1", "weight.1"))
        columns = torch.addmm(shares @ biases, scaled, weights.flatten(0, 1))
        return columns * self._has_vector[kind].index_select(0, rows)

    def place(self, kind: Kind, embeddings: NDArray[np.float32]) -> Placement:
        del embeddings
        experts = (*self._experts["shared"], *self._experts[kind])
        (gate,) = self._semantics.of_raw(self._gates[kind].layers())
        return Placement((Mixture(gate, tuple(self._semantics.of_raw(expert.layers()) for expert in experts)),))

    def state(self) -> dict[str, torch.Tensor]:
        return {name: t for prefix, part in self._networks() for name, t in part.state(prefix).items()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        for prefix, part in self._networks():
            part.load_state(state, prefix)
