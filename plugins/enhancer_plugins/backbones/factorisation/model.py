"""The model behind :class:`~enhancer_plugins.backbones.fm.FM`, for one run.

Fields are the user's id, the item's id, every column of their side features and, where a fuser widens the input,
every column of that as a dense field. Write ``p = v_u + sum_f x_f v_f`` for all that the user brings and ``q`` for the
item's. By Rendle's identity (2010, lemma 3.1) the model equation is::

    y = w_0 + p·q + c(user) + b(item),
    b(item) = w_i + sum_f w_f x_f + 1/2 (|q|² - |v_i|² - sum_f x_f² |v_f|²)

with ``c`` likewise: what two fields of one side do to each other depends on that side alone. So with
``users = [p; 1; c + w_0]`` and ``items = [q; b; 1]`` every score is an inner product. Ranking compares items for one
user, which says nothing about ``w_0`` and the linear terms of a user's fields: only a click model has them
(:class:`~enhancer_plugins.backbones.factorisation.click_model.ClickModel`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from enhancer.contracts import Dense, Placement, TrainingStep
from enhancer_plugins.backbones.factorisation.constant_fit import ConstantFit
from enhancer_plugins.backbones.factorisation.drawn_rows import Fields, all_rows
from enhancer_plugins.backbones.factorisation.row_steps import RowSteps, bpr
from enhancer_plugins.backbones.factorisation.sparse_fields import SparseFields
from enhancer_plugins.training import run
from enhancer_plugins.training.model import Gradients, RankingModel, Recipe, Side
from enhancer_plugins.training.regression import ridge_regression

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts import Fuser, TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.training.sampler import Triples

    Wide = tuple[torch.Tensor, torch.Tensor]
    """The widening columns of users ``[n_users, w]`` and of items ``[n_items, w]``."""

_RIDGE = 1e-3
_KINDS: tuple[Kind, Kind] = ("user", "item")


class FMModel(RankingModel):
    """One run of a factorisation machine with a fuser.

    Args:
        recipe: How to train.
        data: Interactions, vectors and side features.
        fuser: Its run begins here.
        seed: Draws everything.
        field_rate: Step size of what belongs to dense fields and side features, by default that of the rest.
    """

    linear_sides: tuple[Kind, ...] = ("item",)
    """Sides whose fields have linear terms."""

    def __init__(
        self, recipe: Recipe, data: TrainingData, fuser: Fuser, *, seed: int, field_rate: float | None = None
    ) -> None:
        super().__init__(recipe, data, fuser, seed)
        self._number: dict[Kind, int] = {"user": 0, "item": 1}
        self._fits: dict[Kind, ConstantFit] = {}
        features = {"user": data.user_features, "item": data.item_features}
        self.sparse: dict[Kind, SparseFields] = {
            kind: SparseFields(given, self.trained[self._number[kind]], self.device)
            for kind in _KINDS
            if (given := features[kind]) is not None and given.width
        }
        parameters = self._drawn(recipe, data, seed)
        slow = ("_fields", "_linear", "_side", "_side_linear")
        rates = {} if field_rate is None else {name: field_rate for name in parameters if name.endswith(slow)}
        self.begin({name: p.to(self.device) for name, p in parameters.items()}, rates)
        drawn = self.engine == "numba" and recipe.softmax is None and not self.adds_loss
        self.row_steps = RowSteps(self) if drawn else None
        """What computes steps on the rows that they draw alone; None where torch takes all rows: as the reference, for
        a softmax, which draws by itself, and for a fuser's loss, which may ask for any row."""

    def _drawn(self, recipe: Recipe, data: TrainingData, seed: int) -> dict[str, torch.Tensor]:
        """The initial parameters: each group from a stream of its own, so that none moves another."""
        ids = torch.randn(data.n_users + data.n_items, recipe.dim, generator=run.generator(seed, "embeddings"))
        users, items = torch.split(ids * recipe.init_std, [data.n_users, data.n_items])
        parameters = {"users": users.clone(), "items": items.clone()}
        for kind in self.linear_sides:
            parameters[f"{kind}_bias"] = torch.zeros(len(parameters[f"{kind}s"]), 1)
        wide = self.wide()
        if wide is not None:
            random = run.generator(seed, "dense fields")
            for kind, columns in zip(_KINDS, wide, strict=True):
                drawn = torch.randn(columns.shape[1], recipe.dim, generator=random)
                parameters[f"{kind}_fields"] = drawn * recipe.init_std
            for kind in self.linear_sides:
                parameters[f"{kind}_linear"] = torch.zeros(wide[self._number[kind]].shape[1], 1)
        random = run.generator(seed, "side features")
        for kind, sparse in self.sparse.items():
            drawn = torch.randn(sparse.width, recipe.dim, generator=random) * recipe.init_std
            # What no trained entity has is never moved, and shall say nothing of those that have it.
            parameters[f"{kind}_side"] = drawn * torch.from_numpy(sparse.seen).unsqueeze(1)
            if kind in self.linear_sides:
                parameters[f"{kind}_side_linear"] = torch.zeros(sparse.width, 1)
        return parameters

    def _core(self, kind: Kind, ids: torch.Tensor, bias: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Id and side features of one side together.

        Args:
            kind: The side.
            ids: ``[n, d]``: factors of its ids.
            bias: ``[n, 1]``: linear terms of its ids; None for none.

        Returns:
            Their sum ``[n, d]``, and their linear terms with what they do to each other, ``[n]``.
        """
        own = self.parameters
        level = torch.zeros(len(ids), device=self.device) if bias is None else bias.squeeze(1)
        if kind not in self.sparse:
            return ids, level
        sparse, side = self.sparse[kind], own[f"{kind}_side"]
        total = ids + sparse.times(side)
        if kind in self.linear_sides:
            level = level + sparse.times(own[f"{kind}_side_linear"]).squeeze(1)
        return total, level + (total.square().sum(1) - ids.square().sum(1) - sparse.squares(side)) / 2

    def _with_dense(
        self, kind: Kind, core: tuple[torch.Tensor, torch.Tensor], columns: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The dense fields beside what :meth:`_core` gives."""
        if columns is None:
            return core
        own = self.parameters
        rows, level = core
        if self.engine == "numba" and not torch.is_grad_enabled():
            fields = self.fields(kind)
            assert fields is not None
            return all_rows(rows, level, columns, fields)
        total = torch.addmm(rows, columns, own[f"{kind}_fields"])
        if kind in self.linear_sides:
            level = torch.addmm(level.unsqueeze(1), columns, own[f"{kind}_linear"]).squeeze(1)
        return total, level + _within(total, rows, columns, own[f"{kind}_fields"])

    def fields(self, kind: Kind) -> Fields | None:
        """The dense fields of one side, without gradient; None for none."""
        factors, linear = self.parameters.get(f"{kind}_fields"), self.parameters.get(f"{kind}_linear")
        return None if factors is None else Fields(factors.detach(), None if linear is None else linear.detach())

    def sums(self, kind: Kind, wide: Wide | None) -> tuple[torch.Tensor, torch.Tensor]:
        """``p`` ``[n, d]`` and ``c`` ``[n]`` of users, ``q`` and ``b`` of items, with the widening columns given."""
        core = self._core(kind, self.parameters[f"{kind}s"], self.parameters.get(f"{kind}_bias"))
        return self._with_dense(kind, core, None if wide is None else wide[self._number[kind]])

    def core(self, kind: Kind) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What ids and side features bring, with gradient: ``[n, d]``, and ``[n]`` where this side has linear terms."""
        if kind in self.linear_sides:
            return self._core(kind, self.parameters[f"{kind}s"], self.parameters[f"{kind}_bias"])
        ids = self.parameters[f"{kind}s"]
        return (ids + self.sparse[kind].times(self.parameters[f"{kind}_side"]) if kind in self.sparse else ids), None

    def _users(self, wide: Wide | None) -> torch.Tensor:
        """``p`` alone, which is all that a ranking wants of users."""
        users, _ = self.core("user")
        return users if wide is None else torch.addmm(users, wide[0], self.parameters["user_fields"])

    def gradients(self, batch: Any) -> Gradients:
        """On the rows that a step draws, where that is enough, and by torch over all rows otherwise."""
        if self.row_steps is None:
            return super().gradients(batch)
        users, *items = (column.numpy() for column in batch)
        loss, by = self.row_steps.gradients(users, items, bpr)
        return Gradients(loss, by, self.decay_of(batch))

    def rows(self, triples: Triples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, TrainingStep]:
        """What a step scores by."""
        wide = self.wide()
        users, (items, bias) = self._users(wide), self.sums("item", wide)
        if self.whole:
            rows = torch.cat([users, torch.ones(len(users), 1, device=self.device)], 1)
            return rows, torch.cat([items, bias.unsqueeze(1)], 1), None, TrainingStep(*triples, users, items)
        extra = bias.index_select(0, triples.positives) - bias.index_select(0, triples.negatives)
        return users, items, extra, TrainingStep(*triples, users, items)

    def decay(self, users: torch.Tensor, items: torch.Tensor) -> dict[str, torch.Tensor]:
        """The penalty is on all that a step brings: drawn ids, their side features, and every dense field."""
        slopes: dict[str, torch.Tensor] = {}
        for kind, counts in zip(_KINDS, (users, items), strict=True):
            slopes |= {f"{kind}s": counts, f"{kind}_bias": counts}
            if kind in self.sparse:
                drawn = self.sparse[kind].draws(counts)
                slopes |= {f"{kind}_side": drawn, f"{kind}_side_linear": drawn}
            for name in (f"{kind}_fields", f"{kind}_linear"):
                if name in self.parameters:
                    slopes[name] = counts.sum().expand(len(self.parameters[name])).contiguous()
        return {name: slope for name, slope in slopes.items() if name in self.parameters}

    def sides(self, *, placements: bool) -> dict[Kind, Side]:
        """What is served: ``[p; 1; c + w_0]`` and ``[q; b; 1]``."""
        wide = self.wide()
        users, constant = self.sums("user", wide)
        items, bias = self.sums("item", wide)
        if "level" in self.parameters:
            constant = constant + self.parameters["level"].squeeze()
        made: dict[Kind, tuple[torch.Tensor, torch.Tensor]] = {"user": (users, constant), "item": (items, bias)}
        # A fit for each look is dear.
        wanted = {kind: placements or not self._places_nobody(kind) for kind in _KINDS}
        return {kind: self._side(kind, *rows, wide, place=wanted[kind]) for kind, rows in made.items()}

    def _places_nobody(self, kind: Kind) -> bool:
        """Whether no entity without an interaction has a vector."""
        number = self._number[kind]
        vectors = (self.data.user_vectors, self.data.item_vectors)[number]
        return vectors is None or not np.any(vectors[~self.trained[number]])

    def _side(self, kind: Kind, sums: torch.Tensor, bias: torch.Tensor, wide: Wide | None, *, place: bool) -> Side:
        embeddings = sums.detach().cpu().numpy()
        mask = self.trained[self._number[kind]]
        served = self.fusion.settle(kind, embeddings) if self.settles else embeddings
        rows = np.concatenate([served, _ends(kind, bias).detach().cpu().numpy()], axis=1)
        placement = self.fusion.place(kind, embeddings[mask]) if place else None
        placed = self._place_by_features(kind, rows, wide, served=placement is not None and not self.widens)
        if placement is None:
            return Side(rows, None, placed)
        if not self.widens:
            level = float(bias[torch.from_numpy(mask).to(self.device)].mean())
            tail = (level, 1.0) if kind == "item" else (1.0, level)
            return Side(rows, Placement(placement.layers, placement.norm, tail), placed)
        return Side(rows, self._through_fields(kind, placement, wide), placed)

    def _neutral(self, kind: Kind) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The mean of the trained ids ``[1, d]``, and of their linear terms ``[1, 1]``."""
        mask = torch.from_numpy(self.trained[self._number[kind]]).to(self.device)
        bias = self.parameters.get(f"{kind}_bias")
        ids = self.parameters[f"{kind}s"].detach()[mask].mean(0, keepdim=True)
        return ids, None if bias is None else bias.detach()[mask].mean(0, keepdim=True)

    def _place_by_features(
        self, kind: Kind, rows: NDArray[np.float32], wide: Wide | None, *, served: bool
    ) -> NDArray[np.bool_] | None:
        """Write the rows of entities without an interaction but with features, in place: the model's own, at a mean id.

        Where a fuser places in the space of what is ``served``, those that have a vector are left to it.
        """
        if kind not in self.sparse:
            return None
        number = self._number[kind]
        given = (self.data.user_vectors, self.data.item_vectors)[number]
        known = np.zeros(len(rows), np.bool_) if given is None else np.any(given != 0, axis=1)
        placed: NDArray[np.bool_] = ~self.trained[number] & self.sparse[kind].told
        if served:
            placed &= ~known
        ids, bias = self._neutral(kind)
        core = self._core(kind, ids.expand(len(rows), -1), None if bias is None else bias.expand(len(rows), -1))
        columns = None
        if wide is not None:
            mask = torch.from_numpy(self.trained[number]).to(self.device)
            has = torch.from_numpy(known).to(self.device).unsqueeze(1)
            columns = torch.where(has, wide[number], wide[number][mask].mean(0, keepdim=True))
        total, level = self._with_dense(kind, core, columns)
        if kind == "user" and "level" in self.parameters:
            level = level + self.parameters["level"].squeeze()
        made = torch.cat([total, _ends(kind, level)], 1).detach().cpu().numpy()
        rows[placed] = made[placed]
        return placed

    def _through_fields(self, kind: Kind, placement: Placement, wide: Wide | None) -> Placement:
        """Place by the dense fields, beside the mean of the trained ids and of their side features.

        ``b`` is of second order in the columns, which a layer cannot say: the layer holds its best linear fit over
        the trained nodes (ridge regression).
        """
        assert wide is not None
        number = self._number[kind]
        mask = torch.from_numpy(self.trained[number]).to(self.device)
        core, own = self._core(kind, self.parameters[f"{kind}s"], self.parameters.get(f"{kind}_bias"))
        neutral, level = core.detach()[mask].mean(0, keepdim=True), own.detach()[mask].mean()
        fields = self.parameters[f"{kind}_fields"].detach()
        if kind == "user" and "level" in self.parameters:
            level = level + self.parameters["level"].detach().squeeze()
        columns = wide[number].detach()
        if kind in self._fits:
            columns = self._fits[kind].columns
        elif not self.trained[number].all():
            columns = columns[mask]
        middle = neutral.expand(len(columns), -1), level.expand(len(columns))
        bias = self._with_dense(kind, middle, columns)[1].detach()
        slope, level_at = self._fit(kind, columns, bias)
        first = kind == "item"
        ends = np.zeros((len(slope), 2), np.float32)
        ends[:, 0 if first else 1] = slope
        weight = np.concatenate([fields.cpu().numpy(), ends], axis=1)
        last = [level_at, 1.0] if first else [1.0, level_at]
        offset = np.concatenate([neutral.squeeze(0).cpu().numpy(), last]).astype(np.float32)
        return Placement((*placement.layers, Dense(weight, offset)))

    def _fit(self, kind: Kind, columns: torch.Tensor, bias: torch.Tensor) -> tuple[NDArray[np.float64], float]:
        """Slope ``[w]`` and level of ``bias`` ``[n]`` by the columns of trained nodes ``[n, w]``."""
        if self.constant is not None and self.engine == "numba":
            if kind not in self._fits:
                self._fits[kind] = ConstantFit(columns, ridge=_RIDGE)
            return self._fits[kind](bias.numpy())
        slope, level = ridge_regression(columns.cpu().numpy(), bias.cpu().numpy()[:, None], ridge=_RIDGE)
        return slope[:, 0], float(level[0])


def _ends(kind: Kind, level: torch.Tensor) -> torch.Tensor:
    """``[b; 1]`` of items, ``[1; c]`` of users: ``[n, 2]``."""
    ones = torch.ones_like(level)
    return torch.stack((level, ones) if kind == "item" else (ones, level), 1)


def _within(total: torch.Tensor, ids: torch.Tensor, columns: torch.Tensor, fields: torch.Tensor) -> torch.Tensor:
    """What dense fields do to each other and to the rest: ``1/2 (|total|² - |rest|² - sum_f x_f² |v_f|²)``, ``[n]``."""
    squares = torch.mv(columns.square(), fields.square().sum(1))
    return (total.square().sum(1) - ids.square().sum(1) - squares) / 2
