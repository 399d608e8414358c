"""Model of a factorisation machine for one training run.

The fields are the user's id, the item's id, every column of their side features and, if a fuser widens the input, every
widening column as a dense field. Let ``p = v_u + sum_f x_f v_f`` be the sum over the user's fields, and ``q`` the sum
over the item's. By Rendle's identity (2010, lemma 3.1) the model equation is::

    y = w_0 + p·q + c(user) + b(item),
    b(item) = w_i + sum_f w_f x_f + 1/2 (|q|² - |v_i|² - sum_f x_f² |v_f|²)

and ``c`` likewise: interactions of two fields of one side depend on that side alone. With ``users = [p; 1; c + w_0]``
and ``items = [q; b; 1]`` every score is an inner product. Ranking compares items for one user, which does not depend on
``w_0`` and the linear terms of the user's fields; only
:class:`~enhancer_plugins.backbones.factorisation.click_model.ClickModel` has them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from enhancer.contracts import Dense, Placement, TrainingStep
from enhancer_plugins.backbones.factorisation.constant_fit import ConstantFit
from enhancer_plugins.backbones.factorisation.drawn_rows import DenseFields, all_rows
from enhancer_plugins.backbones.factorisation.row_steps import RowSteps, bpr
from enhancer_plugins.backbones.factorisation.sparse_fields import SparseFields
from enhancer_plugins.training import run
from enhancer_plugins.training.model import Gradients, RankingModel, Recipe, ServedRows
from enhancer_plugins.training.placing.regression import ridge_regression

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts import Fuser, TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.training.sampler import Triples

    WideColumns = tuple[torch.Tensor, torch.Tensor]
    """Widening columns of users ``[n_users, w]`` and of items ``[n_items, w]``."""

_RIDGE = 1e-3
"""Penalty of the regression of biases on dense columns."""
_KINDS: tuple[Kind, Kind] = ("user", "item")


class FMModel(RankingModel):
    """One run of a factorisation machine with a fuser.

    Args:
        recipe: Training parameters.
        data: Interactions, vectors and side features.
        fuser: Fuser of the run.
        seed: Seed of all random numbers.
        field_rate: Step size of dense fields and side features; None for that of the recipe.
    """

    linear_sides: tuple[Kind, ...] = ("item",)
    """Sides whose fields have linear terms."""

    def __init__(
        self, recipe: Recipe, data: TrainingData, fuser: Fuser, *, seed: int, field_rate: float | None = None
    ) -> None:
        super().__init__(recipe, data, fuser, seed)
        self._index: dict[Kind, int] = {"user": 0, "item": 1}
        self._fits: dict[Kind, ConstantFit] = {}
        features = {"user": data.user_features, "item": data.item_features}
        self.sparse: dict[Kind, SparseFields] = {
            kind: SparseFields(given, self.trained[self._index[kind]], self.device)
            for kind in _KINDS
            if (given := features[kind]) is not None and given.width
        }
        parameters = self._initial_parameters(recipe, data, seed)
        slow = ("_fields", "_linear", "_side", "_side_linear")
        rates = {} if field_rate is None else {name: field_rate for name in parameters if name.endswith(slow)}
        self.set_parameters({name: p.to(self.device) for name, p in parameters.items()}, rates)
        by_rows = self.engine == "numba" and recipe.softmax is None and not self.adds_loss
        self.row_steps = RowSteps(self) if by_rows else None
        """Computes steps on the drawn rows only. None if torch processes all rows: for the reference engine, for a
        softmax, which draws rows itself, and for a fuser's loss, which may use any row."""

    def _initial_parameters(self, recipe: Recipe, data: TrainingData, seed: int) -> dict[str, torch.Tensor]:
        """Draw the initial parameters, with a generator for each group, so that groups do not affect each other."""
        ids = torch.randn(data.n_users + data.n_items, recipe.dim, generator=run.generator(seed, "embeddings"))
        users, items = torch.split(ids * recipe.init_std, [data.n_users, data.n_items])
        parameters = {"users": users.clone(), "items": items.clone()}
        for kind in self.linear_sides:
            parameters[f"{kind}_bias"] = torch.zeros(len(parameters[f"{kind}s"]), 1)
        wide = self.wide_columns()
        if wide is not None:
            random = run.generator(seed, "dense fields")
            for kind, columns in zip(_KINDS, wide, strict=True):
                drawn = torch.randn(columns.shape[1], recipe.dim, generator=random)
                parameters[f"{kind}_fields"] = drawn * recipe.init_std
            for kind in self.linear_sides:
                parameters[f"{kind}_linear"] = torch.zeros(wide[self._index[kind]].shape[1], 1)
        random = run.generator(seed, "side features")
        for kind, sparse in self.sparse.items():
            drawn = torch.randn(sparse.width, recipe.dim, generator=random) * recipe.init_std
            # Features without a trained entity are never updated; they start at zero, so that they have no effect.
            parameters[f"{kind}_side"] = drawn * torch.from_numpy(sparse.seen).unsqueeze(1)
            if kind in self.linear_sides:
                parameters[f"{kind}_side_linear"] = torch.zeros(sparse.width, 1)
        return parameters

    def _sparse_sums(
        self, kind: Kind, ids: torch.Tensor, bias: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum ids and side features of one side.

        Args:
            kind: The side.
            ids: ``[n, d]``: factors of the ids.
            bias: ``[n, 1]``: linear terms of the ids; None without any.

        Returns:
            The sum ``[n, d]``, and the linear terms plus the interactions within the side, ``[n]``.
        """
        own = self.parameters
        total_bias = torch.zeros(len(ids), device=self.device) if bias is None else bias.squeeze(1)
        if kind not in self.sparse:
            return ids, total_bias
        sparse, side = self.sparse[kind], own[f"{kind}_side"]
        total = ids + sparse.times(side)
        if kind in self.linear_sides:
            total_bias = total_bias + sparse.times(own[f"{kind}_side_linear"]).squeeze(1)
        return total, total_bias + (total.square().sum(1) - ids.square().sum(1) - sparse.squares(side)) / 2

    def _add_dense(
        self, kind: Kind, sparse_sums: tuple[torch.Tensor, torch.Tensor], columns: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the dense fields to the result of :meth:`_sparse_sums`."""
        if columns is None:
            return sparse_sums
        own = self.parameters
        rows, bias = sparse_sums
        if self.engine == "numba" and not torch.is_grad_enabled():
            fields = self.dense_fields(kind)
            assert fields is not None
            return all_rows(rows, bias, columns, fields)
        total = torch.addmm(rows, columns, own[f"{kind}_fields"])
        if kind in self.linear_sides:
            bias = torch.addmm(bias.unsqueeze(1), columns, own[f"{kind}_linear"]).squeeze(1)
        return total, bias + _interactions_of_dense(total, rows, columns, own[f"{kind}_fields"])

    def dense_fields(self, kind: Kind) -> DenseFields | None:
        """Return the dense fields of one side, without gradient; None without any."""
        factors, linear = self.parameters.get(f"{kind}_fields"), self.parameters.get(f"{kind}_linear")
        return None if factors is None else DenseFields(factors.detach(), None if linear is None else linear.detach())

    def sums(self, kind: Kind, wide: WideColumns | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``p`` ``[n, d]`` and ``c`` ``[n]`` of users, or ``q`` and ``b`` of items, with given wide columns."""
        sparse_sums = self._sparse_sums(kind, self.parameters[f"{kind}s"], self.parameters.get(f"{kind}_bias"))
        return self._add_dense(kind, sparse_sums, None if wide is None else wide[self._index[kind]])

    def sparse_sums(self, kind: Kind) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the sums over ids and side features ``[n, d]``, and the biases ``[n]`` of a side with linear terms."""
        if kind in self.linear_sides:
            return self._sparse_sums(kind, self.parameters[f"{kind}s"], self.parameters[f"{kind}_bias"])
        ids = self.parameters[f"{kind}s"]
        return (ids + self.sparse[kind].times(self.parameters[f"{kind}_side"]) if kind in self.sparse else ids), None

    def _user_sums(self, wide: WideColumns | None) -> torch.Tensor:
        """Return ``p`` only: a ranking does not depend on ``c``."""
        users, _ = self.sparse_sums("user")
        return users if wide is None else torch.addmm(users, wide[0], self.parameters["user_fields"])

    def gradients(self, examples: Any) -> Gradients:
        """Return loss and gradients of one step: from the drawn rows if possible, by torch from all rows otherwise."""
        if self.row_steps is None:
            return super().gradients(examples)
        users, *items = (column.numpy() for column in examples)
        loss, by = self.row_steps.gradients(users, items, bpr)
        return Gradients(loss, by, self.decay_of(examples))

    def score_rows(self, triples: Triples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, TrainingStep]:
        """Return ``p`` and ``q``, with ``b`` as a further column or as the additional score difference."""
        wide = self.wide_columns()
        users, (items, bias) = self._user_sums(wide), self.sums("item", wide)
        step = TrainingStep(*triples, users, items)
        if self.needs_whole_scores:
            rows = torch.cat([users, torch.ones(len(users), 1, device=self.device)], 1)
            return rows, torch.cat([items, bias.unsqueeze(1)], 1), None, step
        extra = bias.index_select(0, triples.positives) - bias.index_select(0, triples.negatives)
        return users, items, extra, step

    def decay(self, users: torch.Tensor, items: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the penalty on all fields of a step: drawn ids, their side features, and every dense field."""
        decay: dict[str, torch.Tensor] = {}
        for kind, counts in zip(_KINDS, (users, items), strict=True):
            decay |= {f"{kind}s": counts, f"{kind}_bias": counts}
            if kind in self.sparse:
                drawn = self.sparse[kind].draws(counts)
                decay |= {f"{kind}_side": drawn, f"{kind}_side_linear": drawn}
            for name in (f"{kind}_fields", f"{kind}_linear"):
                if name in self.parameters:
                    decay[name] = counts.sum().expand(len(self.parameters[name])).contiguous()
        return {name: weights for name, weights in decay.items() if name in self.parameters}

    def served_rows(self, *, placements: bool) -> dict[Kind, ServedRows]:
        """Return ``[p; 1; c + w_0]`` and ``[q; b; 1]``."""
        wide = self.wide_columns()
        users, constant = self.sums("user", wide)
        items, bias = self.sums("item", wide)
        if "level" in self.parameters:
            constant = constant + self.parameters["level"].squeeze()
        sums: dict[Kind, tuple[torch.Tensor, torch.Tensor]] = {"user": (users, constant), "item": (items, bias)}
        # A regression at each validation is expensive, and useless if it places no entity.
        place = {kind: placements or self._has_unseen_vectors(kind) for kind in _KINDS}
        return {kind: self._served_side(kind, *rows, wide, place=place[kind]) for kind, rows in sums.items()}

    def _has_unseen_vectors(self, kind: Kind) -> bool:
        """Return whether an entity without an interaction has a vector."""
        index = self._index[kind]
        vectors = (self.data.user_vectors, self.data.item_vectors)[index]
        return vectors is not None and bool(np.any(vectors[~self.trained[index]]))

    def _served_side(
        self, kind: Kind, sums: torch.Tensor, bias: torch.Tensor, wide: WideColumns | None, *, place: bool
    ) -> ServedRows:
        embeddings = sums.detach().cpu().numpy()
        mask = self.trained[self._index[kind]]
        adjusted = self.fusion.settle(kind, embeddings) if self.adjusts_served else embeddings
        rows = np.concatenate([adjusted, _bias_columns(kind, bias).detach().cpu().numpy()], axis=1)
        placement = self.fusion.place(kind, embeddings[mask]) if place else None
        leave_known = placement is not None and not self.widens
        placed = self._place_by_features(kind, rows, wide, leave_known=leave_known)
        if placement is None:
            return ServedRows(rows, None, placed)
        if not self.widens:
            mean_bias = float(bias[torch.from_numpy(mask).to(self.device)].mean())
            tail = (mean_bias, 1.0) if kind == "item" else (1.0, mean_bias)
            left_out = partial(self.fusion.left_out, kind, embeddings[mask])
            weigh = partial(self.fusion.weigh, kind, embeddings[mask])
            return ServedRows(rows, Placement(placement.layers, placement.norm, tail), placed, left_out, weigh)
        return ServedRows(rows, self._through_dense_fields(kind, placement, wide), placed)

    def _mean_id(self, kind: Kind) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the mean of the trained ids' factors ``[1, d]``, and of their linear terms ``[1, 1]``."""
        mask = torch.from_numpy(self.trained[self._index[kind]]).to(self.device)
        bias = self.parameters.get(f"{kind}_bias")
        ids = self.parameters[f"{kind}s"].detach()[mask].mean(0, keepdim=True)
        return ids, None if bias is None else bias.detach()[mask].mean(0, keepdim=True)

    def _place_by_features(
        self, kind: Kind, rows: NDArray[np.float32], wide: WideColumns | None, *, leave_known: bool
    ) -> NDArray[np.bool_] | None:
        """Write the rows of untrained entities with side features, in place: the model's sums with the mean id.

        Args:
            kind: The side.
            rows: float32 ``[n, k]``.
            wide: Widening columns.
            leave_known: Whether entities with a vector are left for the fuser to place.

        Returns:
            bool ``[n]``: the rows that were written; None without side features.
        """
        if kind not in self.sparse:
            return None
        index = self._index[kind]
        vectors = (self.data.user_vectors, self.data.item_vectors)[index]
        known = np.zeros(len(rows), np.bool_) if vectors is None else np.any(vectors != 0, axis=1)
        placed: NDArray[np.bool_] = ~self.trained[index] & self.sparse[kind].known
        if leave_known:
            placed &= ~known
        ids, bias = self._mean_id(kind)
        sums = self._sparse_sums(kind, ids.expand(len(rows), -1), None if bias is None else bias.expand(len(rows), -1))
        columns = None
        if wide is not None:
            mask = torch.from_numpy(self.trained[index]).to(self.device)
            has = torch.from_numpy(known).to(self.device).unsqueeze(1)
            columns = torch.where(has, wide[index], wide[index][mask].mean(0, keepdim=True))
        total, total_bias = self._add_dense(kind, sums, columns)
        if kind == "user" and "level" in self.parameters:
            total_bias = total_bias + self.parameters["level"].squeeze()
        made = torch.cat([total, _bias_columns(kind, total_bias)], 1).detach().cpu().numpy()
        rows[placed] = made[placed]
        return placed

    def _through_dense_fields(self, kind: Kind, placement: Placement, wide: WideColumns | None) -> Placement:
        """Return a placement by the dense fields, with the mean of the trained ids and of their side features.

        The bias is of second order in the columns, which a layer cannot represent. The layer holds its best linear fit
        over the trained entities, by ridge regression.
        """
        assert wide is not None
        index = self._index[kind]
        mask = torch.from_numpy(self.trained[index]).to(self.device)
        sums, own = self._sparse_sums(kind, self.parameters[f"{kind}s"], self.parameters.get(f"{kind}_bias"))
        neutral, mean_bias = sums.detach()[mask].mean(0, keepdim=True), own.detach()[mask].mean()
        fields = self.parameters[f"{kind}_fields"].detach()
        if kind == "user" and "level" in self.parameters:
            mean_bias = mean_bias + self.parameters["level"].detach().squeeze()
        columns = wide[index].detach()
        if kind in self._fits:
            columns = self._fits[kind].columns
        elif not self.trained[index].all():
            columns = columns[mask]
        middle = neutral.expand(len(columns), -1), mean_bias.expand(len(columns))
        bias = self._add_dense(kind, middle, columns)[1].detach()
        slope, intercept = self._fit_bias(kind, columns, bias)
        first = kind == "item"
        bias_weights = np.zeros((len(slope), 2), np.float32)
        bias_weights[:, 0 if first else 1] = slope
        weight = np.concatenate([fields.cpu().numpy(), bias_weights], axis=1)
        last = [intercept, 1.0] if first else [1.0, intercept]
        offset = np.concatenate([neutral.squeeze(0).cpu().numpy(), last]).astype(np.float32)
        return Placement((*placement.layers, Dense(weight, offset)))

    def _fit_bias(self, kind: Kind, columns: torch.Tensor, bias: torch.Tensor) -> tuple[NDArray[np.float64], float]:
        """Fit ``bias`` ``[n]`` on the columns of trained entities ``[n, w]``; return slope ``[w]`` and intercept."""
        if self.constant_columns is not None and self.engine == "numba":
            if kind not in self._fits:
                self._fits[kind] = ConstantFit(columns, ridge=_RIDGE)
            return self._fits[kind](bias.numpy())
        slope, intercept = ridge_regression(columns.cpu().numpy(), bias.cpu().numpy()[:, None], ridge=_RIDGE)
        return slope[:, 0], float(intercept[0])


def _bias_columns(kind: Kind, bias: torch.Tensor) -> torch.Tensor:
    """Return ``[b; 1]`` of items, ``[1; c]`` of users: ``[n, 2]``."""
    ones = torch.ones_like(bias)
    return torch.stack((bias, ones) if kind == "item" else (ones, bias), 1)


def _interactions_of_dense(
    total: torch.Tensor, rest: torch.Tensor, columns: torch.Tensor, fields: torch.Tensor
) -> torch.Tensor:
    """Return ``1/2 (|total|² - |rest|² - sum_f x_f² |v_f|²)``: interactions of dense fields with all others."""
    squares = torch.mv(columns.square(), fields.square().sum(1))
    return (total.square().sum(1) - rest.square().sum(1) - squares) / 2
