"""The model behind :class:`~enhancer_plugins.backbones.fm.FM`, for one run.

Fields are the user's id, the item's id and, where a fuser widens the input, the columns ``x`` of both as dense fields.
Write ``p = v_u + sum_f x_f v_f`` for all that the user brings and ``q`` for the item's. By Rendle's identity (2010,
lemma 3.1) the model equation is::

    y = w_u + p·q + [c(user)] + [b(item)],
    b(item) = w_i + sum_f w_f x_f + 1/2 (|q|² - |v_i|² - sum_f x_f² |v_f|²)

with ``c`` likewise: what two fields of one side do to each other depends on that side alone. So with
``users = [p; 1; c]`` and ``items = [q; b; 1]`` every score is an inner product. Ranking compares items for one user,
which says nothing about the linear terms of a user's fields: they stay zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from enhancer.contracts import Batch, Dense, Placement
from enhancer_plugins.training import run
from enhancer_plugins.training.model import RankingModel, Recipe, Side
from enhancer_plugins.training.semantics import linear_fit

if TYPE_CHECKING:
    from enhancer.contracts import Fuser, TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.training.sampler import Triples

_RIDGE = 1e-3


class FMModel(RankingModel):
    """One run of a factorisation machine with a fuser.

    Args:
        recipe: How to train.
        data: Interactions and vectors.
        fuser: Its run begins here.
        seed: Draws everything.
        field_rate: Step size of what belongs to dense fields, by default that of the rest.
    """

    def __init__(
        self, recipe: Recipe, data: TrainingData, fuser: Fuser, *, seed: int, field_rate: float | None = None
    ) -> None:
        super().__init__(recipe, data, fuser, seed)
        ids = torch.randn(data.n_users + data.n_items, recipe.dim, generator=run.generator(seed, "embeddings"))
        users, items = torch.split(ids * recipe.init_std, [data.n_users, data.n_items])
        parameters = {"users": users.clone(), "items": items.clone(), "item_bias": torch.zeros(data.n_items, 1)}
        wide = self.wide()
        if wide is not None:
            random = run.generator(seed, "dense fields")
            for name, columns in zip(("user", "item"), wide, strict=True):
                drawn = torch.randn(columns.shape[1], recipe.dim, generator=random)
                parameters[f"{name}_fields"] = drawn * recipe.init_std
            parameters["item_linear"] = torch.zeros(wide[1].shape[1], 1)
        dense = ("user_fields", "item_fields", "item_linear")
        rates = {} if field_rate is None else dict.fromkeys(dense, field_rate)
        self.begin({name: p.to(self.device) for name, p in parameters.items()}, rates)

    def _sums(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """``p`` ``[n_users, d]``, ``q`` ``[n_items, d]`` and ``b`` ``[n_items]``."""
        own = self.parameters
        wide = self.wide()
        if wide is None:
            return own["users"], own["items"], own["item_bias"].squeeze(1)
        users = torch.addmm(own["users"], wide[0], own["user_fields"])
        items = torch.addmm(own["items"], wide[1], own["item_fields"])
        within = _within(items, own["items"], wide[1], own["item_fields"])
        return users, items, torch.addmm(own["item_bias"], wide[1], own["item_linear"]).squeeze(1) + within

    def rows(self, triples: Triples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, Batch]:
        """What a step scores by."""
        users, items, bias = self._sums()
        if self.whole:
            rows = torch.cat([users, torch.ones(len(users), 1, device=self.device)], 1)
            return rows, torch.cat([items, bias.unsqueeze(1)], 1), None, Batch(*triples, users, items)
        extra = bias.index_select(0, triples.positives) - bias.index_select(0, triples.negatives)
        return users, items, extra, Batch(*triples, users, items)

    def decay(self, users: torch.Tensor, items: torch.Tensor) -> dict[str, torch.Tensor]:
        """The penalty is on the parameters of all fields that a triple brings: the drawn ids, and every dense field."""
        slopes = {"users": users, "items": items, "item_bias": items}
        for name, counts in (("user_fields", users), ("item_fields", items), ("item_linear", items)):
            if name in self.parameters:
                slopes[name] = counts.sum().expand(len(self.parameters[name])).contiguous()
        return slopes

    def sides(self) -> dict[Kind, Side]:
        """What is served: ``[p; 1; c]`` and ``[q; b; 1]``."""
        users, items, bias = self._sums()
        wide = self.wide()
        constant = torch.zeros(len(users), device=users.device)
        if wide is not None:
            constant = _within(users, self.parameters["users"], wide[0], self.parameters["user_fields"])
        return {
            "user": self._side("user", users, constant, bias_first=False),
            "item": self._side("item", items, bias, bias_first=True),
        }

    def _side(self, kind: Kind, sums: torch.Tensor, bias: torch.Tensor, *, bias_first: bool) -> Side:
        ones = torch.ones_like(bias)
        ends = (bias, ones) if bias_first else (ones, bias)
        served = self.fusion.settle(kind, sums.detach()) if self.settles else sums.detach()
        rows = torch.cat([served, torch.stack(ends, 1).detach()], 1).cpu().numpy()
        mask = self.trained[0 if kind == "user" else 1]
        placement = self.fusion.place(kind, sums[torch.from_numpy(mask).to(self.device)].detach())
        if placement is None:
            return Side(rows, None)
        level = float(bias[torch.from_numpy(mask).to(self.device)].mean())
        if not self.widens:
            tail = (level, 1.0) if bias_first else (1.0, level)
            return Side(rows, Placement(placement.layers, placement.norm, tail))
        return Side(rows, self._through_fields(kind, placement, bias_first=bias_first))

    def _through_fields(self, kind: Kind, placement: Placement, *, bias_first: bool) -> Placement:
        """Place by the dense fields, beside the mean of the trained ids.

        ``b`` is of second order in the columns, which a layer cannot say: the layer holds its best linear fit over
        the trained nodes (ridge regression).
        """
        wide = self.wide()
        assert wide is not None
        number = 0 if kind == "user" else 1
        mask = torch.from_numpy(self.trained[number]).to(self.device)
        columns = wide[number].detach()[mask]
        ids = self.parameters[f"{kind}s"].detach()[mask].mean(0, keepdim=True)
        fields = self.parameters[f"{kind}_fields"].detach()
        bias = _within(ids + columns @ fields, ids, columns, fields)
        if kind == "item":
            bias = bias + (columns @ self.parameters["item_linear"].detach()).squeeze(1)
            bias = bias + self.parameters["item_bias"].detach()[mask].mean()
        x, y = columns.cpu().numpy().astype(np.float64), bias.cpu().numpy().astype(np.float64)
        slope, level = linear_fit(x, y[:, None], ridge=_RIDGE)
        ends = np.zeros((len(slope), 2), np.float32)
        ends[:, 0 if bias_first else 1] = slope[:, 0]
        weight = np.concatenate([fields.cpu().numpy(), ends], axis=1)
        last = [float(level[0]), 1.0] if bias_first else [1.0, float(level[0])]
        offset = np.concatenate([ids.squeeze(0).cpu().numpy(), last]).astype(np.float32)
        return Placement((*placement.layers, Dense(weight, offset)))


def _within(total: torch.Tensor, ids: torch.Tensor, columns: torch.Tensor, fields: torch.Tensor) -> torch.Tensor:
    """What the fields of one side do to each other: ``1/2 (|total|² - |id|² - sum_f x_f² |v_f|²)``, ``[n]``."""
    squares = torch.mv(columns.square(), fields.square().sum(1))
    return (total.square().sum(1) - ids.square().sum(1) - squares) / 2
