"""The model behind :class:`~enhancer_plugins.backbones.lightgcn.LightGCN`, for one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from enhancer.contracts import Batch, Factors, Fitted
from enhancer_plugins.training import run, unseen
from enhancer_plugins.training.adam import Adam
from enhancer_plugins.training.graph import BipartiteGraph, propagate
from enhancer_plugins.training.kernels import row_differences
from enhancer_plugins.training.losses import bpr_loss
from enhancer_plugins.training.sampler import TripletSampler, Triples

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from enhancer.contracts import Fuser, Placement, TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.backbones.lightgcn import LightGCNOptions
    from enhancer_plugins.training.loop import Outcome


class LightGCNModel:
    """One run of LightGCN with a fuser.

    A widened input ``[e; s]`` is propagated whole (eq. 7). As propagation acts on each column alone, the columns ``s``
    of a constant input are propagated once, and add a constant to every score.
    """

    def __init__(self, options: LightGCNOptions, data: TrainingData, fuser: Fuser, seed: int) -> None:
        self._options, self._data = options, data
        self._device = run.choose_device(options.device)
        self._trained = run.trained(data)
        self._graph = BipartiteGraph(data.n_users, data.n_items, data.users, data.items, device=self._device)
        self._layers = options.layer_weights or [1 / (options.layers + 1)] * (options.layers + 1)
        self._sampler = TripletSampler(data, seed)
        start = torch.randn(self._graph.n, options.dim, generator=run.generator(seed, "embeddings"))
        self._rows = (start * options.init_std).to(self._device)
        self._fusion = fuser.build(data, options.dim, seed=seed, device=self._device)
        self._has_loss = "loss" in fuser.needs
        self._parameters = {"rows": self._rows}
        self._parameters |= {f"fusion.{n}": p for n, p in enumerate(self._fusion.parameters())}
        self._adam = Adam(self._parameters, options.learning_rate)
        for parameter in self._parameters.values():
            parameter.requires_grad_()
        wide = self._fusion.inputs()
        self._widens = wide is not None
        self._constant: torch.Tensor | None = None
        if wide is not None and wide.constant:
            self._constant = self._graph.apply(torch.cat([wide.users, wide.items]).detach(), self._layers)

    def train_epoch(self, epoch: int) -> float:
        """Run one epoch; the mean loss a step."""
        total, steps = 0.0, 0
        for triples in self._sampler.batches(epoch, self._options.batch_size):
            total += self._step(triples)
            steps += 1
        return total / steps

    def _step(self, triples: Triples) -> float:
        n_users = self._graph.n_users
        decay, penalty = self._regularisation(triples)
        on_device = Triples(*(column.to(self._device) for column in triples))
        rows = propagate(self._rows, self._graph, self._layers)
        users, items = rows.split([n_users, self._graph.n_items])
        scored_users, scored_items = users, items
        extra = None
        if self._constant is not None:
            extra = self._constant_differences(on_device)
        elif self._widens:
            wide = self._fusion.inputs()
            assert wide is not None
            columns = propagate(torch.cat([wide.users, wide.items]), self._graph, self._layers)
            scored_users = torch.cat([users, columns[:n_users]], 1)
            scored_items = torch.cat([items, columns[n_users:]], 1)
        loss = bpr_loss(scored_users, scored_items, on_device, extra)
        if self._has_loss:
            further = self._fusion.loss(Batch(*on_device, users, items))
            if further is not None:
                loss = loss + further
        gradients = torch.autograd.grad(loss, list(self._parameters.values()), allow_unused=True)
        self._adam.step(dict(zip(self._parameters, gradients, strict=True)), {"rows": decay})
        return float(loss.detach()) + penalty

    def _regularisation(self, triples: Triples) -> tuple[torch.Tensor, float]:
        """The penalty ``lambda / 2b * sum |e|^2`` over the rows that the step draws: its slope a row, and its value."""
        n_users, n = self._graph.n_users, self._graph.n
        users, positives, negatives = (column.numpy() for column in triples)
        counts = np.bincount(users, minlength=n)
        counts[n_users:] = np.bincount(positives, minlength=self._graph.n_items)
        counts[n_users:] += np.bincount(negatives, minlength=self._graph.n_items)
        slopes = torch.from_numpy((counts * (self._options.regularisation / len(users))).astype(np.float32))
        lengths = torch.linalg.vecdot(self._rows.detach(), self._rows.detach()).cpu()
        return slopes, float(slopes @ lengths) / 2

    def _constant_differences(self, triples: Triples) -> torch.Tensor:
        assert self._constant is not None
        users, items = self._constant.split([self._graph.n_users, self._graph.n_items])
        if self._constant.device.type == "cpu":
            out = torch.empty(len(triples.users))
            row_differences(users.numpy(), items.numpy(), *(column.numpy() for column in triples), out.numpy())
            return out
        difference = items.index_select(0, triples.positives) - items.index_select(0, triples.negatives)
        return (users.index_select(0, triples.users) * difference).sum(1)

    @torch.no_grad()
    def _served(self) -> tuple[NDArray[np.float32], NDArray[np.float32], Placement | None, Placement | None]:
        """Final rows of users and items, ``[n, d + w]``, and the placements of unseen ones."""
        d, n_users = self._options.dim, self._graph.n_users
        own = self._graph.apply(self._rows.detach(), self._layers)
        wide = self._fusion.inputs() if self._widens else None
        columns: torch.Tensor | None = self._constant
        if columns is None and wide is not None:
            columns = self._graph.apply(torch.cat([wide.users, wide.items]).detach(), self._layers)
        rows = own if columns is None else torch.cat([own, columns], 1)
        placements: dict[Kind, Placement | None] = {}
        sides = {}
        kinds: tuple[Kind, Kind] = ("user", "item")
        data = self._data
        vectors = {"user": data.user_vectors, "item": data.item_vectors}
        for kind, part, own_part, mask in zip(
            kinds, rows.split([n_users, data.n_items]), own.split([n_users, data.n_items]), self._trained, strict=True
        ):
            served = part.cpu().numpy() if columns is not None else part.cpu().numpy().copy()
            seen = torch.from_numpy(mask).to(self._device)
            placement = self._fusion.place(kind, own_part[seen])
            known = vectors[kind]
            if placement is not None and self._widens and known is not None:
                scale = _length(served[mask, d:]) / max(_length(placement(known[mask])), 1e-12)
                placement = unseen.beside(placement, served[mask, :d].mean(0), scale)
            unseen.fill(served, mask, known, placement)
            placements[kind], sides[kind] = placement, served
        return sides["user"], sides["item"], placements["user"], placements["item"]

    def factors(self) -> Factors:
        """What the model scores by now."""
        users, items, *_ = self._served()
        return Factors(users, items)

    def fitted(self, outcome: Outcome) -> Fitted:
        """The result of the run."""
        users, items, place_users, place_items = self._served()
        return Fitted(
            factors=Factors(users, items),
            place_items=place_items,
            place_users=place_users,
            epochs=outcome.epochs,
            best_epoch=outcome.best_epoch,
            history=outcome.history,
        )

    def state(self) -> dict[str, torch.Tensor]:
        """Embeddings, fusion and optimiser."""
        state = {"rows": self._rows.detach()}
        state |= {f"fusion.{name}": t for name, t in self._fusion.state().items()}
        return state | {f"optimiser.{name}": t for name, t in self._adam.state().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of :meth:`state`."""
        self._rows.copy_(state["rows"])
        self._fusion.load_state({n.removeprefix("fusion."): t for n, t in state.items() if n.startswith("fusion.")})
        optimiser = {n.removeprefix("optimiser."): t for n, t in state.items() if n.startswith("optimiser.")}
        if optimiser:
            self._adam.load_state(optimiser)


def _length(rows: NDArray[np.float32]) -> float:
    """Mean L2 length of the rows that are not zero."""
    lengths = np.linalg.norm(rows, axis=1)
    lengths = lengths[lengths > 0]
    return float(lengths.mean()) if len(lengths) else 0.0
