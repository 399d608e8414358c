"""Model of LightGCN for one training run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from enhancer.contracts import TrainingStep
from enhancer_plugins.backbones.spectral_start import Likelihood, spectral_start
from enhancer_plugins.training import run
from enhancer_plugins.training.compiled import threads
from enhancer_plugins.training.compiled.steps import BprSteps
from enhancer_plugins.training.graph import BipartiteGraph, propagate
from enhancer_plugins.training.model import (
    Gradients,
    RankingModel,
    Recipe,
    ServedRows,
    mean_length,
    score_differences,
)
from enhancer_plugins.training.placing import unseen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts import Fuser, TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.training.sampler import Triples

_CACHE_BYTES = 8 << 20
"""Size of the embeddings above which they do not fit into the cache of a core and are read as bfloat16."""


class LightGCNModel(RankingModel):
    """One run of LightGCN with a fuser.

    A widened input ``[e; s]`` is propagated as a whole (eq. 7). Propagation acts on each column separately, so constant
    columns ``s`` are propagated once; they add a constant to every score.

    Args:
        recipe: Training parameters.
        weights: Weight of each layer, the input first.
        data: Interactions and vectors.
        fuser: Fuser of the run.
        seed: Seed of all random numbers.
        precision: Precision in which kernels read rows.
        spectral: Whether to start from :func:`~enhancer_plugins.backbones.spectral_start.spectral_start`, with the
            random initial embeddings added to it. It depends on the interactions and the seed alone.
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
        spectral: bool = False,
    ) -> None:
        super().__init__(recipe, data, fuser, seed)
        self._weights = tuple(weights)
        large = (data.n_users + data.n_items) * recipe.dim * 4 > _CACHE_BYTES
        self._graph = BipartiteGraph(
            data.n_users,
            data.n_items,
            data.users,
            data.items,
            device=self.device,
            reference=self.engine == "torch",
            half_precision=precision == "half" or (precision == "auto" and large),
        )
        self._split = [data.n_users, data.n_items]
        self._constant: torch.Tensor | None = None
        """Constant columns after propagation, ``[n, w]``; None without any."""
        if self.constant_columns is not None:
            self._constant = self._graph.apply(torch.cat(self.constant_columns), self._weights)
        start = torch.randn(self._graph.n, recipe.dim, generator=run.generator(seed, "embeddings"))
        start *= recipe.init_std
        if spectral:
            start += self._spectral_start(seed)
        self.set_parameters({"embeddings": start.to(self.device)})
        self._bpr_steps: BprSteps | None = None
        if self.plain_bpr and self.engine == "numba":
            constant = None if self._constant is None else self._constant.numpy()
            self._bpr_steps = BprSteps(self._graph, self._weights, recipe.dim, recipe.regularisation, constant)

    def _spectral_start(self, seed: int) -> torch.Tensor:
        softmax, data = self.recipe.softmax, self.data
        assert softmax is not None
        graph = self._graph
        if self.device != "cpu" or self.engine == "torch":  # the start is the same for every device and engine
            graph = BipartiteGraph(data.n_users, data.n_items, data.users, data.items)
        by = Likelihood(self._weights, softmax.temperature, self._penalty)
        with threads.limited(torch_threads=1, kernel_threads=None):
            return spectral_start(data, graph, self.recipe.dim, seed, by)

    def _columns(self) -> torch.Tensor | None:
        """Return the widening columns after propagation, ``[n, w]``."""
        if self._constant is not None:
            return self._constant
        wide = self.wide_columns()
        return None if wide is None else propagate(torch.cat(wide), self._graph, self._weights)

    def _propagated(self, *, training: bool) -> torch.Tensor:
        """Return the collaborative embeddings after propagation, ``[n, d]``."""
        start = self.parameters["embeddings"]
        if self.replaces_embeddings:
            start = torch.cat(self.fusion.embeddings(*torch.split(start, self._split), training=training))
        return propagate(start, self._graph, self._weights)

    def gradients(self, examples: Triples) -> Gradients:
        """Return loss and gradients of one step: by kernels for plain BPR, by torch otherwise."""
        if self._bpr_steps is None:
            return super().gradients(examples)
        users, positives, negatives = (column.numpy() for column in examples)
        embeddings = self.parameters["embeddings"].detach().numpy()
        found = self._bpr_steps.gradient(embeddings, (users, positives, negatives))
        by, decay = {"embeddings": torch.from_numpy(found.rows)}, {"embeddings": torch.from_numpy(found.decay)}
        return Gradients(found.loss, by, decay)

    def score_rows(self, triples: Triples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, TrainingStep]:
        """Return the final embeddings (eq. 3-6)."""
        embeddings = self._propagated(training=True)
        users, items = torch.split(embeddings, self._split)
        step = TrainingStep(*triples, users, items)
        if self._constant is not None and not self.needs_whole_scores:
            constant_users, constant_items = torch.split(self._constant, self._split)
            return users, items, score_differences(constant_users, constant_items, triples), step
        columns = self._columns()
        if columns is None:
            return users, items, None, step
        users, items = torch.split(torch.cat([embeddings, columns], 1), self._split)
        return users, items, None, step

    def decay(self, users: torch.Tensor, items: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the penalty on the embeddings before propagation (eq. 15)."""
        return {"embeddings": torch.cat([users, items])}

    def served_rows(self, *, placements: bool) -> dict[Kind, ServedRows]:
        """Return final embeddings with the widening columns beside them."""
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
        served: dict[Kind, ServedRows] = {}
        for number, kind in enumerate(kinds):
            mask, known = self.trained[number], vectors[number]
            adjusted = self.fusion.settle(kind, own[number]) if self.adjusts_served else own[number]
            rows = np.array(adjusted, np.float32)
            placement = self.fusion.place(kind, own[number][mask])
            if placement is not None and wide is not None and known is not None:
                # Propagation shortens the columns of trained nodes; unseen nodes get columns of the same mean length.
                typical, placed = mean_length(wide[number][mask]), mean_length(placement(known[mask]))
                scale = typical / placed if placed else 1.0
                placement = unseen.beside(placement, rows[mask].mean(0), scale, fuser=self.fuser_name)
            if wide is not None:
                rows = np.concatenate([rows, wide[number]], axis=1)
            left_out = None if wide is not None else partial(self.fusion.left_out, kind, own[number][mask])
            weigh = None if wide is not None else partial(self.fusion.weigh, kind, own[number][mask])
            served[kind] = ServedRows(rows, placement, left_out=left_out, weigh=weigh)
        return served
