"""The model behind :class:`~enhancer_plugins.backbones.lightgcn.LightGCN`, for one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from enhancer.contracts import TrainingStep
from enhancer_plugins.training import run, unseen
from enhancer_plugins.training.compiled.steps import BprSteps
from enhancer_plugins.training.graph import BipartiteGraph, propagate
from enhancer_plugins.training.model import Gradients, RankingModel, Recipe, Side, mean_length, score_differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts import Fuser, TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.training.sampler import Triples

_LARGE = 8 << 20
"""Bytes of embeddings beyond which they are fetched as halves: they no longer fit into the cache of a core."""


class LightGCNModel(RankingModel):
    """One run of LightGCN with a fuser.

    A widened input ``[e; s]`` is propagated whole (eq. 7). As propagation acts on each column alone, the columns ``s``
    of a constant input are propagated once; they add a constant to every score.

    Args:
        recipe: How to train.
        weights: Weight of each layer, the input's first.
        data: Interactions and vectors.
        fuser: Its run begins here.
        seed: Draws everything.
        precision: Of the rows that kernels fetch (see the option).
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: Sequence[float],
        data: TrainingData,
        fuser: Fuser,
        *,
        seed: int,
        precision: Literal["auto", "single", "half"] = "auto",
    ) -> None:
        super().__init__(recipe, data, fuser, seed)
        self._weights = tuple(weights)
        reference = self.engine == "torch"
        large = (data.n_users + data.n_items) * recipe.dim * 4 > _LARGE
        self._graph = BipartiteGraph(
            data.n_users,
            data.n_items,
            data.users,
            data.items,
            device=self.device,
            reference=reference,
            halves=precision == "half" or (precision == "auto" and large),
        )
        self._split = [data.n_users, data.n_items]
        self._spread: torch.Tensor | None = None
        if self.constant is not None:
            self._spread = self._graph.apply(torch.cat(self.constant), self._weights)
        start = torch.randn(self._graph.n, recipe.dim, generator=run.generator(seed, "embeddings"))
        self.begin({"embeddings": (start * recipe.init_std).to(self.device)})
        self._steps: BprSteps | None = None
        if self.plain and self.engine == "numba":
            spread = None if self._spread is None else self._spread.numpy()
            self._steps = BprSteps(self._graph, self._weights, recipe.dim, recipe.regularisation, spread)

    def _columns(self) -> torch.Tensor | None:
        """The widening columns after propagation, ``[n, w]``."""
        if self._spread is not None:
            return self._spread
        wide = self.wide()
        return None if wide is None else propagate(torch.cat(wide), self._graph, self._weights)

    def _propagated(self, *, training: bool) -> torch.Tensor:
        """Collaborative embeddings after propagation, ``[n, d]``."""
        start = self.parameters["embeddings"]
        if self.changes:
            start = torch.cat(self.fusion.embeddings(*torch.split(start, self._split), training=training))
        return propagate(start, self._graph, self._weights)

    def gradients(self, batch: Triples) -> Gradients:
        """By kernels over the whole step where embeddings are all that is trained, and by torch otherwise."""
        if self._steps is None:
            return super().gradients(batch)
        users, positives, negatives = (column.numpy() for column in batch)
        found = self._steps.gradient(self.parameters["embeddings"].detach().numpy(), (users, positives, negatives))
        by, decay = {"embeddings": torch.from_numpy(found.rows)}, {"embeddings": torch.from_numpy(found.decay)}
        return Gradients(found.loss, by, decay)

    def rows(self, triples: Triples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, TrainingStep]:
        """What a step scores by (eq. 3-6)."""
        embeddings = self._propagated(training=True)
        users, items = torch.split(embeddings, self._split)
        step = TrainingStep(*triples, users, items)
        if self._spread is not None and not self.whole:
            spread_users, spread_items = torch.split(self._spread, self._split)
            return users, items, score_differences(spread_users, spread_items, triples), step
        columns = self._columns()
        if columns is None:
            return users, items, None, step
        users, items = torch.split(torch.cat([embeddings, columns], 1), self._split)
        return users, items, None, step

    def decay(self, users: torch.Tensor, items: torch.Tensor) -> dict[str, torch.Tensor]:
        """The penalty is on the embeddings before propagation (eq. 15)."""
        return {"embeddings": torch.cat([users, items])}

    def sides(self, *, placements: bool) -> dict[Kind, Side]:
        """Return the served rows: embeddings and, beside them, the widening columns."""
        del placements  # placements are cheap here
        embeddings = self._propagated(training=False).detach()
        if self.cosine:
            embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        columns = self._columns()
        bounds = [self.data.n_users]
        own = np.split(embeddings.cpu().numpy(), bounds)
        wide = None if columns is None else np.split(columns.detach().cpu().numpy(), bounds)
        vectors = (self.data.user_vectors, self.data.item_vectors)
        kinds: tuple[Kind, Kind] = ("user", "item")
        sides: dict[Kind, Side] = {}
        for number, kind in enumerate(kinds):
            mask, known = self.trained[number], vectors[number]
            served = np.array(self.fusion.settle(kind, own[number]) if self.settles else own[number], np.float32)
            placement = self.fusion.place(kind, own[number][mask])
            rows = served if wide is None else np.concatenate([served, wide[number]], axis=1)
            if placement is not None and wide is not None and known is not None:
                # Propagation shortens the columns of trained nodes; unseen nodes get columns of the same mean length.
                typical, placed = mean_length(wide[number][mask]), mean_length(placement(known[mask]))
                placement = unseen.beside(placement, served[mask].mean(0), typical / placed if placed else 1.0)
            sides[kind] = Side(rows, placement)
        return sides
