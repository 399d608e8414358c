"""Alignment of embeddings with a trained map of the semantic vectors.

Ren et al. 2024, "Representation Learning with Large Language Models for Recommendation" (RLMRec), the contrastive
variant, https://arxiv.org/abs/2310.15950.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from enhancer.contracts import Fuser, Fusion, Placement
from enhancer_plugins.training.placing.options import RegressionOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch
    from numpy.typing import NDArray

    from enhancer.contracts import TrainingData, TrainingStep
    from enhancer.contracts.fuser import Judge
    from enhancer.contracts.record import Kind

_TOGETHER = 256
"""Nodes of a step up to which its three terms are computed together; a third of so little work saves no time."""


class AlignOptions(RegressionOptions):
    """``[fuser] use = "align"``."""

    weight: float = Field(default=1e-2, ge=0)
    """Weight of the alignment loss, added to the backbone's loss."""
    temperature: float = Field(default=0.2, gt=0)
    """Temperature of InfoNCE."""
    hidden: int | None = Field(default=None, ge=1)
    """Width of the hidden layer; by default half the sum of vector and embedding length."""
    nodes_per_step: int = Field(default=128, ge=0)
    """Maximum number of users, of positives and of negatives that a step aligns, drawn from its own; 0 for all."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Step size of Adam for the MLP, which needs smaller steps than embeddings."""
    unseen: Literal["regression", "mlp"] = "regression"
    """Placement of unseen entities: ridge regression of trained embeddings on vectors, or the MLP, which is trained to
    distinguish entities by direction rather than to predict their embedding."""
    unseen_length: float | None = Field(default=None, gt=0)
    """Length of placed rows, as a multiple of the mean length of trained rows. Longer rows recommend unseen entities
    more often. By default the length of the regression's prediction (the less the vectors explain, the shorter); 1 for
    the MLP."""


class Align(Fuser):
    """InfoNCE loss between each entity's embedding and an MLP of its vector. Serving needs no vectors."""

    options_class = AlignOptions
    options: AlignOptions
    needs = frozenset({"loss"})

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return the fusion of one run."""
        return _Alignment(self.options, data, dim, seed, device)


class _Alignment(Fusion):
    """The MLP, which users and items share as in the authors' code, and its loss.

    The loss is the sum of three terms: for the users, the positives and the negatives of a step. With many nodes, steps
    take one of them in turn, with three times its weight. Over three steps that is the same gradient up to the change
    of the parameters, for a third of the work.
    """

    def __init__(self, options: AlignOptions, data: TrainingData, dim: int, seed: int, device: str) -> None:
        from enhancer_plugins.training.mlp import Mlp
        from enhancer_plugins.training.run import generator
        from enhancer_plugins.training.semantics import Semantics

        self._options = options
        self.learning_rate = options.learning_rate
        self._semantics = semantics = Semantics(data, device, options)
        self._vectors, self._known = semantics.vectors, semantics.known
        hidden = options.hidden or (semantics.dim + dim) // 2
        self._map = Mlp((semantics.dim, hidden, dim), generator(seed, "align"), device)
        self._random = generator(seed, "align nodes")
        self._turn = 0
        """Term of the next step, if steps take turns."""

    def parameters(self) -> Iterable[torch.Tensor]:
        return self._map.parameters()

    def _draw(self, kind: Kind, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return at most ``nodes_per_step`` distinct nodes of a step that have a vector, and their counts."""
        import torch

        from enhancer_plugins.training.sampler import occurrences

        known = self._known[kind]
        counted = occurrences(nodes, len(known)) * known
        distinct = counted.nonzero().squeeze(1)
        most = self._options.nodes_per_step
        if 0 < most < len(distinct):
            some = torch.randperm(len(distinct), generator=self._random)[:most].to(distinct.device)
            distinct = distinct[some]
        return distinct, counted[distinct]

    def loss(self, step: TrainingStep) -> torch.Tensor | None:
        import torch

        from enhancer_plugins.training.losses.bpr import Term, info_nce_sum

        parts = [
            ("user", step.user_embeddings, *self._draw("user", step.users)),
            ("item", step.item_embeddings, *self._draw("item", step.positives)),
            ("item", step.item_embeddings, *self._draw("item", step.negatives)),
        ]
        parts = [part for part in parts if len(part[2]) > 1]
        weight = self._options.weight
        if len(step.negatives) and sum(len(nodes) for _, _, nodes, _ in parts) > _TOGETHER:
            parts, weight = [parts[self._turn % len(parts)]], weight * len(parts)
            self._turn = (self._turn + 1) % 3
        if not parts:
            return None
        # Many items are both positives and negatives of a step; the MLP maps each distinct node once.
        offsets = {"user": 0, "item": len(self._vectors["user"])}
        wanted = torch.cat([nodes + offsets[kind] for kind, _, nodes, _ in parts])
        distinct, places = torch.unique(wanted, return_inverse=True)
        n_users = int((distinct < offsets["item"]).sum())
        vectors = self._vectors["user"].new_empty((len(distinct), self._vectors["user"].shape[1]))
        torch.index_select(self._vectors["user"], 0, distinct[:n_users], out=vectors[:n_users])
        torch.index_select(self._vectors["item"], 0, distinct[n_users:] - offsets["item"], out=vectors[n_users:])
        mapped = self._map(vectors)
        terms = []
        for (_, embeddings, nodes, counts), rows in zip(
            parts, places.split([len(nodes) for _, _, nodes, _ in parts]), strict=True
        ):
            own = torch.arange(len(nodes), device=nodes.device)
            terms.append(Term(embeddings.index_select(0, nodes), mapped.index_select(0, rows), own, counts, counts))
        return weight * info_nce_sum(terms, temperature=self._options.temperature)

    def left_out(
        self, kind: Kind, embeddings: NDArray[np.float32], rows: NDArray[np.integer]
    ) -> NDArray[np.float32] | None:
        if self._options.unseen == "mlp":
            return None
        return self._semantics.host.left_out(kind, embeddings, rows)

    def place(self, kind: Kind, embeddings: NDArray[np.float32]) -> Placement:
        if self._options.unseen == "mlp":
            norm = (self._options.unseen_length or 1.0) * float(np.linalg.norm(embeddings, axis=1).mean())
            return Placement(self._semantics.of_raw(self._map.layers()), norm=norm)
        return self._semantics.host.fitted_placement(kind, embeddings, length=self._options.unseen_length)

    def weigh(
        self, kind: Kind, embeddings: NDArray[np.float32], folds: Sequence[NDArray[np.int64]], judge: Judge
    ) -> Placement | None:
        if self._options.unseen == "mlp":
            return None
        return self._semantics.host.weighed_placement(
            kind, embeddings, folds, judge, length=self._options.unseen_length
        )

    def trust(self, kind: Kind) -> NDArray[np.float32] | None:
        if self._options.unseen == "mlp":
            return None
        return self._semantics.host.trust(kind)

    def state(self) -> dict[str, torch.Tensor]:
        import torch

        turn = torch.tensor([self._turn])
        return self._map.state() | {"random": self._random.get_state(), "turn": turn}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self._map.load_state(state)
        self._random.set_state(state["random"])
        self._turn = int(state["turn"][0])
