"""Sampled softmax: each positive against items drawn for the whole step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from enhancer_plugins.training.run import generator, trained

if TYPE_CHECKING:
    from enhancer.contracts import TrainingData


_NEVER = -1e30
"""A logit that counts for nothing, and whose gradient is a number even where a user has touched all that was drawn."""


class SampledSoftmax:
    """The mean of ``-log( exp(s_ui/t) / (exp(s_ui/t) + sum_j exp(s_uj/t)) )`` over a step's pairs.

    The items ``j`` are drawn evenly, without repetition, from those with a training interaction, once a step for all
    its users; those that a user has touched do not count against their positives. With ``in_batch`` the positives of
    the step's other pairs count too, as often as they come.

    Args:
        data: Which items each user touched.
        negatives: Items drawn a step (all of them, where there are fewer).
        temperature: ``t``.
        cosine: Whether ``s`` is the cosine rather than the inner product.
        seed: Draws the items.
        device: Of the run.
        in_batch: Whether the other pairs' positives are negatives as well.
    """

    def __init__(
        self,
        data: TrainingData,
        *,
        negatives: int,
        temperature: float,
        cosine: bool,
        seed: int,
        device: str,
        in_batch: bool = False,
    ) -> None:
        self._temperature, self._cosine, self._in_batch = temperature, cosine, in_batch
        self._candidates = torch.from_numpy(np.flatnonzero(trained(data)[1]))
        self._count = min(negatives, len(self._candidates))
        order = np.argsort(data.users, kind="stable")
        self._items = torch.from_numpy(data.items[order].astype(np.int64)).to(device)
        counts = np.bincount(data.users, minlength=data.n_users)
        self._degree = torch.from_numpy(counts).to(device)
        self._start = torch.from_numpy(np.cumsum(counts) - counts).to(device)
        self._n_items = data.n_items
        self.random = generator(seed, "softmax")

    def __call__(
        self, user_rows: torch.Tensor, item_rows: torch.Tensor, users: torch.Tensor, positives: torch.Tensor
    ) -> torch.Tensor:
        """The loss of one step.

        Args:
            user_rows: float32 ``[n_users, k]``.
            item_rows: float32 ``[n_items, k]``.
            users: int64 ``[b]``.
            positives: int64 ``[b]``.
        """
        device = user_rows.device
        drawn = self._candidates[torch.randperm(len(self._candidates), generator=self.random)[: self._count]].to(device)
        bias = torch.zeros(len(drawn), device=device)
        if self._in_batch:
            others, counts = torch.unique(positives, return_counts=True)
            # An item that is both is drawn once more, and counts once more.
            drawn, bias = torch.cat([drawn, others]), torch.cat([bias, counts.to(bias.dtype).log()])
        distinct, places = torch.unique(users, return_inverse=True)
        anchors, negatives = user_rows.index_select(0, distinct), item_rows.index_select(0, drawn)
        targets = item_rows.index_select(0, positives)
        if self._cosine:
            anchors, negatives, targets = (
                torch.nn.functional.normalize(rows, dim=1, eps=1e-6) for rows in (anchors, negatives, targets)
            )
        touched = self._touched(distinct, drawn)
        against = torch.addmm(bias, anchors, negatives.T, alpha=1 / self._temperature).masked_fill(touched, _NEVER)
        own = (anchors.index_select(0, places) * targets).sum(1) / self._temperature
        # Of equal users the sum over the drawn items is made once.
        others = torch.logsumexp(against, 1).index_select(0, places)
        return (torch.logaddexp(own, others) - own).mean()

    def _touched(self, users: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Which of the drawn items each user has touched: bool ``[len(users), len(drawn)]``."""
        column = torch.full((self._n_items,), -1, dtype=torch.int64, device=drawn.device)
        items, place_of = torch.unique(drawn, return_inverse=True)
        column[items] = torch.arange(len(items), device=drawn.device)
        degree = self._degree[users]
        row = torch.repeat_interleave(torch.arange(len(users), device=drawn.device), degree)
        offset = torch.arange(len(row), device=drawn.device) - torch.repeat_interleave(
            degree.cumsum(0) - degree, degree
        )
        place = column[self._items[self._start[users][row] + offset]]
        touched = torch.zeros(len(users), len(items), dtype=torch.bool, device=drawn.device)
        touched[row[place >= 0], place[place >= 0]] = True
        return touched[:, place_of]
