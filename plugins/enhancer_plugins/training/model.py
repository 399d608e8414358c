"""What every model trained by triples shares: batches, the fuser's part, the optimiser, state, and the final rows."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numba
import numpy as np
import torch

from enhancer.contracts import Factors, Fitted
from enhancer_plugins.training import pairs, run, unseen
from enhancer_plugins.training.adam import Adam
from enhancer_plugins.training.compiled import threads
from enhancer_plugins.training.compiled.kernels import row_differences
from enhancer_plugins.training.interactions import trained
from enhancer_plugins.training.losses.bpr import bpr_loss, bpr_reference
from enhancer_plugins.training.losses.multinomial import Multinomial
from enhancer_plugins.training.losses.softmax import SampledSoftmax
from enhancer_plugins.training.sampler import Ahead, Triples, TripletSampler, in_steps, occurrences

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from enhancer.contracts import Fuser, Placement, TrainingData, TrainingStep
    from enhancer.contracts.record import Kind
    from enhancer_plugins.training.loop import Outcome
    from enhancer_plugins.training.run import Engine

    Loss = float | torch.Tensor

_SMALL = 100_000
"""Numbers in all rows and a batch below which a step is too small to share among threads."""


@dataclass(frozen=True)
class Softmax:
    """How to rank by a softmax."""

    negatives: int | None
    """Items drawn a step, without those that the user has taken; None: all items, and nothing left out."""
    in_batch: bool
    temperature: float
    similarity: Literal["dot", "cosine"]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained, whatever it is."""

    dim: int
    learning_rate: float
    regularisation: float
    batch_size: int | None
    init_std: float
    device: str
    engine: Engine = "auto"
    softmax: Softmax | None = None
    """Rank by a softmax; by BPR if None."""
    fades_over: int | None = None
    """Epochs over which step sizes fall to nothing along half a cosine; None: they stay."""
    by_user: bool = False
    """Draw each positive by its user; see :class:`~enhancer_plugins.training.sampler.TripletSampler`."""

    def pace(self, epoch: int) -> float:
        """What step sizes are multiplied by in ``epoch`` (from 1)."""
        return 1.0 if self.fades_over is None else (1 + math.cos(math.pi * (epoch - 1) / self.fades_over)) / 2

    def steps(self, interactions: int) -> int:
        """Interactions a step: as asked for, or a fortieth of them all, 512 at least.

        A step propagates over the whole graph. With a fixed number of steps an epoch costs in proportion to the
        interactions; with a fixed size of step it would cost in proportion to their square.
        """
        return self.batch_size or max(interactions // 40, 512)


class Gradients(NamedTuple):
    """What a step finds."""

    loss: Loss
    """Without the penalty: a number, or a scalar tensor."""
    by: Mapping[str, torch.Tensor | None]
    """By parameter, of its shape; None, or left out, for one that takes no part."""
    decay: Mapping[str, torch.Tensor]
    """The L2 penalty, as :meth:`RankingModel.decay` gives it."""


@dataclass(frozen=True, eq=False)
class Side:
    """Final rows of users or items, before unseen ones are placed."""

    rows: NDArray[np.float32]
    """float32 ``[n, k]``, freshly allocated."""
    placement: Placement | None
    """``ds`` to ``k``."""
    placed: NDArray[np.bool_] | None = None
    """bool ``[n]``: untrained rows that the model has placed by itself, by their side features."""


class RankingModel(ABC):
    """One run of a model with a fuser, trained to rank; a :class:`~enhancer_plugins.training.loop.Trainable`.

    A subclass makes its parameters in ``__init__`` and calls :meth:`begin`; it then says what a step's scores are
    made of (:meth:`rows`) and what is served (:meth:`sides`). One that computes its gradients by itself, or learns from
    something else than triples, has its own :meth:`gradients`, and :meth:`batches`.

    Args:
        recipe: How to train.
        data: Interactions and vectors.
        fuser: Its run begins here.
        seed: Draws everything.
    """

    def __init__(self, recipe: Recipe, data: TrainingData, fuser: Fuser, seed: int) -> None:
        self.recipe, self.data = recipe, data
        self.device = run.choose_device(recipe.device)
        self.engine = run.choose_engine(recipe.engine, self.device)
        self.trained = trained(data)
        self.fusion = fuser.build_checked(data, recipe.dim, seed=seed, device=self.device)
        self._seed = seed
        self.adds_loss = "loss" in fuser.needs
        self.ranks = "ranking" in fuser.needs
        self.changes = "embeddings" in fuser.needs
        self.settles = "served" in fuser.needs
        self._sampler = TripletSampler(data, seed, by_user=recipe.by_user)
        self._epochs = self._sampler.epoch if self.device == "cpu" else Ahead(self._sampler.epoch, self.device)
        self.batch_size = recipe.steps(len(self._sampler))
        self._whole = recipe.softmax is not None and recipe.softmax.negatives is None
        self._penalty = recipe.regularisation
        """Of an interaction. With a likelihood over all items ``regularisation`` is the precision of the normal prior
        of an embedding with the mean number of interactions, and this what that leaves for each of them."""
        if self._whole:
            self._penalty *= sum(int(mask.sum()) for mask in self.trained) / (2 * len(self._sampler))
        self._everything: Triples | None = None
        if self._whole and not recipe.by_user and self.batch_size >= len(self._sampler):
            self._everything = Triples(*(column.to(self.device) for column in self._sampler.everything()))
        self.widens = "input" in fuser.needs
        wide = self.fusion.inputs()
        self.constant = None if wide is None or not wide.constant else (wide.users.detach(), wide.items.detach())

    def begin(self, parameters: Mapping[str, torch.Tensor], rates: Mapping[str, float] | None = None) -> None:
        """Take the model's parameters and the fuser's to the optimiser; ``rates`` are step sizes that differ."""
        self.parameters = dict(parameters)
        fused = {f"fusion.{n}": p for n, p in enumerate(self.fusion.parameters())}
        self.moved = self.parameters | fused
        """All that the optimiser moves, by name: the model's parameters and the fuser's."""
        for parameter in self.moved.values():
            parameter.requires_grad_()
        own = self.fusion.learning_rate
        rates = dict(rates or {}) | ({} if own is None else dict.fromkeys(fused, own))
        # Torch needs more than one thread for a fuser's own products; a small problem needs one thread in all.
        small = (self.data.n_users + self.data.n_items + self.batch_size) * self.recipe.dim < _SMALL
        # With two cores a second thread of torch brings a tenth when idle, and costs tenfold when something else runs.
        alone = self.device == "cpu" and (small or not fused or torch.get_num_threads() <= 2)
        self._pace = threads.Pace(1 if small else numba.get_num_threads(), pieces=alone and bool(fused))
        self._threads = {"torch_threads": 1 if alone else None, "kernel_threads": 1 if small else None}
        self._adam = Adam(self.moved, self.recipe.learning_rate, rates=rates, reference=self.engine == "torch")
        self._softmax = None if self.recipe.softmax is None else self._made(self.recipe.softmax)
        self.plain = self._softmax is None and not (fused or self.adds_loss or self.ranks or self.changes)
        """Whether steps are BPR over the model's own parameters, and nothing else."""

    def _made(self, wanted: Softmax) -> SampledSoftmax | Multinomial:
        cosine, reference = wanted.similarity == "cosine", self.engine == "torch"
        if wanted.negatives is None:
            # On other devices blocks bound the memory; the reference keeps a score for each user and item.
            reference = reference and self.device == "cpu"
            return Multinomial(
                self.data, temperature=wanted.temperature, cosine=cosine, device=self.device, reference=reference
            )
        return SampledSoftmax(
            self.data,
            negatives=wanted.negatives,
            temperature=wanted.temperature,
            cosine=cosine,
            seed=self._seed,
            device=self.device,
            in_batch=wanted.in_batch,
            reference=reference,
        )

    def wide(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The widening columns of users and items now; None for none."""
        if self.constant is not None or not self.widens:
            return self.constant
        wide = self.fusion.inputs()
        return None if wide is None else (wide.users, wide.items)

    @property
    def whole(self) -> bool:
        """Whether :meth:`rows` must hold all that a score is made of, with nothing left to be added."""
        return self.recipe.softmax is not None

    @property
    def cosine(self) -> bool:
        """Whether scores are cosines, so that rows of unit length are served."""
        wanted = self.recipe.softmax
        return self.fusion.similarity == "cosine" or (wanted is not None and wanted.similarity == "cosine")

    @abstractmethod
    def rows(self, triples: Triples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, TrainingStep]:
        """What a step scores by, with gradient.

        Returns:
            Rows of all users ``[n_users, k]`` and of all items ``[n_items, k]``; what is to be added to the score
            difference of each triple, ``[b]``, or None (always None where :attr:`whole`); and the step as the fuser's
            loss sees it.
        """

    @abstractmethod
    def decay(self, users: torch.Tensor, items: torch.Tensor) -> dict[str, torch.Tensor]:
        """L2 penalty of a step, as a slope for each row of each parameter, from how often the step draws each row.

        Args:
            users: float32 ``[n_users]``, times ``regularisation / b``.
            items: float32 ``[n_items]``, likewise.
        """

    @abstractmethod
    def sides(self, *, placements: bool) -> dict[Kind, Side]:
        """What is served.

        Args:
            placements: Whether they are wanted for their own sake. Without, one that would place nobody may be left
                out: a look between two epochs needs none.
        """

    def train_epoch(self, epoch: int) -> float:
        """Run one epoch; the mean loss a step."""
        total: Loss = 0.0
        steps = 0
        self._adam.pace = self.recipe.pace(epoch)
        if isinstance(self._softmax, SampledSoftmax):  # an epoch draws from its number and the seed alone
            self._softmax.random = run.generator(self._seed, f"softmax {epoch}")
        with threads.bounded(**self._threads), run.repeatable(self.device):
            for batch in self.batches(epoch):
                started = time.perf_counter()
                numba.set_num_threads(self._pace.begin())
                with pairs.shared(at_once=self._pace.sharing):
                    total = total + self.step(batch)
                self._pace.end(time.perf_counter() - started)
                steps += 1
            return float(total) / steps

    def batches(self, epoch: int) -> Iterator[Any]:
        """What the steps of an epoch learn from, one after another, on the device of the run."""
        if self._everything is not None:
            return iter([self._everything])
        drawn = self._epochs(epoch)
        if self._whole:  # fusers shall not take for negatives what the loss does not
            drawn = drawn._replace(negatives=drawn.negatives[:0])
        return in_steps(drawn, self.batch_size)

    def step(self, batch: Any) -> Loss:
        """Learn from one of :meth:`batches`; its loss with the penalty."""
        found = self.gradients(batch)
        penalty = self._adam.step(found.by, found.decay)
        loss = found.loss.detach().double() if isinstance(found.loss, torch.Tensor) else found.loss
        # A number, or what will be one, where asking for it would stop the device.
        return float(loss + penalty) if self.device == "cpu" else loss + penalty

    def gradients(self, batch: Any) -> Gradients:
        """The loss of one of :meth:`batches` and its gradients, here of triples and by automatic differentiation."""
        users, items, extra, step = self.rows(batch)
        loss = self.fusion.ranking_loss(step) if self.ranks else None
        if loss is None and self._softmax is not None:
            loss = self._softmax(users, items, batch.users, batch.positives)
        elif loss is None:
            bpr = bpr_reference if self.engine == "torch" else bpr_loss
            loss = bpr(users, items, batch, extra)
        if self.adds_loss and (further := self.fusion.loss(step)) is not None:
            loss = loss + further
        return self.differentiated(loss, self.decay_of(batch))

    def differentiated(self, loss: torch.Tensor, decay: Mapping[str, torch.Tensor]) -> Gradients:
        """What automatic differentiation finds for all that is moved."""
        found = torch.autograd.grad(loss, list(self.moved.values()), allow_unused=True)
        return Gradients(loss, dict(zip(self.moved, found, strict=True)), decay)

    def decay_of(self, triples: Triples) -> dict[str, torch.Tensor]:
        """The penalty of a step's triples, as :meth:`decay` gives it.

        It is ``regularisation / 2b`` times the squared lengths of the rows that each triple draws. A softmax over all
        items draws no negative.
        """
        scale = self._penalty / len(triples.users)
        if scale == 0:
            return {}
        drawn = occurrences(triples.users, self.data.n_users)
        taken = occurrences(triples.positives, self.data.n_items)
        if not self._whole:
            taken += occurrences(triples.negatives, self.data.n_items)
        return self.decay(*((counts.double() * scale).float() for counts in (drawn, taken)))

    @torch.no_grad()
    def _served(self, *, placements: bool) -> dict[Kind, Side]:
        pace = {**self._threads, "kernel_threads": self._pace.choice}
        with threads.bounded(**pace), run.repeatable(self.device):
            sides = self.sides(placements=placements)
        vectors = {"user": self.data.user_vectors, "item": self.data.item_vectors}
        for (kind, side), mask in zip(sides.items(), self.trained, strict=True):
            unseen.fill(side.rows, mask, vectors[kind], side.placement, seed=self._seed, placed=side.placed)
        return sides

    def factors(self) -> Factors:
        """What the model scores by now."""
        sides = self._served(placements=False)
        return Factors(sides["user"].rows, sides["item"].rows)

    def close(self) -> None:
        """Draw no further epochs: training is over, or was broken off."""
        if isinstance(self._epochs, Ahead):
            self._epochs.close()

    def fitted(self, outcome: Outcome) -> Fitted:
        """The result of the run."""
        sides = self._served(placements=True)
        return Fitted(
            factors=Factors(sides["user"].rows, sides["item"].rows),
            place_items=sides["item"].placement,
            place_users=sides["user"].placement,
            epochs=outcome.epochs,
            best_epoch=outcome.best_epoch,
            history=outcome.history,
        )

    def state(self) -> dict[str, torch.Tensor]:
        """Parameters, fusion and optimiser."""
        state = {f"model.{name}": p.detach() for name, p in self.parameters.items()}
        state |= {f"fusion.{name}": t for name, t in self.fusion.state().items()}
        return state | {f"optimiser.{name}": t for name, t in self._adam.state().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of :meth:`state`."""
        for name, parameter in self.parameters.items():
            parameter.copy_(state[f"model.{name}"])
        self.fusion.load_state(_named(state, "fusion."))
        optimiser = _named(state, "optimiser.")
        if optimiser:
            self._adam.load_state(optimiser)


def _named(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


def score_differences(users: torch.Tensor, items: torch.Tensor, triples: Triples) -> torch.Tensor:
    """``users[u] @ (items[i] - items[j])`` of each triple, float32 ``[b]``, for rows that are not trained."""
    if users.device.type == "cpu":
        out = torch.empty(len(triples.users))
        row_differences(users.numpy(), items.numpy(), *(column.numpy() for column in triples), out.numpy())
        return out
    difference = items.index_select(0, triples.positives) - items.index_select(0, triples.negatives)
    return (users.index_select(0, triples.users) * difference).sum(1)


def mean_length(rows: NDArray[np.float32]) -> float:
    """Mean L2 length of the rows that are not zero; 0 if there are none."""
    lengths = np.linalg.norm(rows, axis=1)
    lengths = lengths[lengths > 0]
    return float(lengths.mean()) if len(lengths) else 0.0
