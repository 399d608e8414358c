"""Base class of models that are trained by gradient steps: fusion, optimiser, state, and served factors."""

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
from enhancer_plugins.training import run
from enhancer_plugins.training.adam import Adam
from enhancer_plugins.training.compiled import threads, worker
from enhancer_plugins.training.compiled.kernels import row_differences
from enhancer_plugins.training.interactions import trained
from enhancer_plugins.training.losses.bpr import bpr_loss, bpr_reference
from enhancer_plugins.training.losses.multinomial import Multinomial
from enhancer_plugins.training.losses.softmax import SampledSoftmax
from enhancer_plugins.training.placing import unseen
from enhancer_plugins.training.placing.calibration import calibrate
from enhancer_plugins.training.sampler import PrefetchedEpochs, Triples, TripletSampler, occurrences, split_into_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from enhancer.contracts import Fuser, Monitor, Placement, TrainingData, TrainingStep
    from enhancer.contracts.record import Kind
    from enhancer_plugins.training.loop import Outcome
    from enhancer_plugins.training.placing.calibration import Weigh
    from enhancer_plugins.training.run import Engine

    Loss = float | torch.Tensor

_SMALL = 100_000
"""Embedding values of all rows and a step, below which several threads are slower than one."""


@dataclass(frozen=True)
class SoftmaxConfig:
    """Parameters of a softmax ranking loss."""

    negatives: int | None
    """Items sampled per step, without the user's own; None for a likelihood over all items, the user's own included."""
    in_batch: bool
    """Whether positives of the step's other interactions are negatives, too."""
    temperature: float
    similarity: Literal["dot", "cosine"]


@dataclass(frozen=True)
class Recipe:
    """Training parameters that do not depend on the model."""

    dim: int
    learning_rate: float
    regularisation: float
    batch_size: int | None
    init_std: float
    device: str
    engine: Engine = "auto"
    softmax: SoftmaxConfig | None = None
    """Parameters of a softmax ranking loss; None for BPR."""
    cosine_epochs: int | None = None
    """Epochs over which the learning rate falls to zero along half a cosine; None for a constant one."""
    by_user: bool = False
    """Whether each positive is drawn by its user; see :class:`~enhancer_plugins.training.sampler.TripletSampler`."""

    def rate_factor(self, epoch: int) -> float:
        """Return the factor of the learning rate in ``epoch`` (from 1)."""
        return 1.0 if self.cosine_epochs is None else (1 + math.cos(math.pi * (epoch - 1) / self.cosine_epochs)) / 2

    def step_size(self, interactions: int) -> int:
        """Return the number of interactions per step: as configured, or a fortieth of all, but at least 512.

        A step propagates over the whole graph. With a fixed number of steps, the cost of an epoch is linear in the
        number of interactions; with a fixed step size it would be quadratic.
        """
        return self.batch_size or max(interactions // 40, 512)


class Gradients(NamedTuple):
    """Loss and gradients of a training step."""

    loss: Loss
    """Loss without the penalty: a number, or a scalar tensor."""
    by: Mapping[str, torch.Tensor | None]
    """Gradient by each parameter; None or missing if the loss does not depend on the parameter."""
    decay: Mapping[str, torch.Tensor]
    """L2 penalty, as :meth:`RankingModel.decay` returns it."""


@dataclass(frozen=True, eq=False)
class ServedRows:
    """Served factors of users or of items, before unseen entities are placed."""

    rows: NDArray[np.float32]
    """float32 ``[n, k]``, newly allocated."""
    placement: Placement | None
    """Maps ``ds`` to ``k`` columns; None if the fuser does not place."""
    placed: NDArray[np.bool_] | None = None
    """bool ``[n]``: untrained rows that the model has placed itself, by their side features."""
    left_out: Callable[[NDArray[np.int64]], NDArray[np.float32] | None] | None = None
    """Returns the rows at which trained entities would be placed without having been seen, float32 ``[r, k]`` without
    the constant tail of ``placement``; None if that is unknown."""
    weigh: Weigh | None = None
    """Chooses by validation how the placement weighs what it reads; None if there is nothing to choose."""


class RankingModel(ABC):
    """One training run of a model with a fuser; implements :class:`~enhancer_plugins.training.loop.Trainable`.

    A subclass creates its parameters in ``__init__`` and passes them to :meth:`set_parameters`. It implements
    :meth:`score_rows` and :meth:`served_rows`, and overrides :meth:`gradients` to compute gradients itself or
    :meth:`steps` to learn from something other than triples.

    Args:
        recipe: Training parameters.
        data: Interactions and vectors.
        fuser: Fuser of the run.
        seed: Seed of all random numbers.
    """

    def __init__(self, recipe: Recipe, data: TrainingData, fuser: Fuser, seed: int) -> None:
        self.recipe, self.data, self.fuser_name = recipe, data, fuser.display_name
        self.device = run.choose_device(recipe.device)
        self.engine = run.choose_engine(recipe.engine, self.device)
        self.trained = trained(data)
        self.fusion = fuser.build_checked(data, recipe.dim, seed=seed, device=self.device)
        self._seed = seed
        self.adds_loss = "loss" in fuser.needs
        self.replaces_loss = "ranking" in fuser.needs
        self.replaces_embeddings = "embeddings" in fuser.needs
        self.adjusts_served = "served" in fuser.needs
        self._sampler = TripletSampler(data, seed, by_user=recipe.by_user)
        epoch = self._sampler.epoch
        self._epochs = epoch if self.device == "cpu" else PrefetchedEpochs(epoch, self.device)
        self.step_size = recipe.step_size(len(self._sampler))
        self._over_all_items = recipe.softmax is not None and recipe.softmax.negatives is None
        self._penalty = recipe.regularisation
        """L2 penalty per interaction. With a likelihood over all items, ``regularisation`` is the precision of the
        normal prior of an embedding with the mean number of interactions; this is the share of one interaction."""
        if self._over_all_items:
            self._penalty *= sum(int(mask.sum()) for mask in self.trained) / (2 * len(self._sampler))
        self._single_step: Triples | None = None
        if self._over_all_items and not recipe.by_user and self.step_size >= len(self._sampler):
            self._single_step = Triples(*(column.to(self.device) for column in self._sampler.positives()))
        self.widens = "input" in fuser.needs
        wide = self.fusion.inputs()
        self.constant_columns = (
            None if wide is None or not wide.constant else (wide.users.detach(), wide.items.detach())
        )

    def set_parameters(self, parameters: Mapping[str, torch.Tensor], rates: Mapping[str, float] | None = None) -> None:
        """Set up the optimiser of the model's and the fusion's parameters.

        Args:
            parameters: Parameters of the model, by name.
            rates: Learning rates that differ from the recipe's, by name.
        """
        self.parameters = dict(parameters)
        fused = {f"fusion.{n}": p for n, p in enumerate(self.fusion.parameters())}
        self.trainable = self.parameters | fused
        """Parameters of the model and of the fusion, by name."""
        for parameter in self.trainable.values():
            parameter.requires_grad_()
        own = self.fusion.learning_rate
        rates = dict(rates or {}) | ({} if own is None else dict.fromkeys(fused, own))
        small = (self.data.n_users + self.data.n_items + self.step_size) * self.recipe.dim < _SMALL
        # Torch gets several threads only for a fusion's own products, and only with more than two cores: with two, a
        # second thread gains a tenth on an idle machine and costs ten times as much on a busy one.
        single = self.device == "cpu" and (small or not fused or torch.get_num_threads() <= 2)
        self._tuner = threads.ThreadTuner(1 if small else numba.get_num_threads(), halves=single and bool(fused))
        self._threads = {"torch_threads": 1 if single else None, "kernel_threads": 1 if small else None}
        self._adam = Adam(self.trainable, self.recipe.learning_rate, rates=rates, reference=self.engine == "torch")
        self._softmax = None if self.recipe.softmax is None else self._softmax_loss(self.recipe.softmax)
        self.plain_bpr = self._softmax is None and not (
            fused or self.adds_loss or self.replaces_loss or self.replaces_embeddings
        )
        """Whether a step is BPR on the model's own parameters, without any part of a fusion."""

    def _softmax_loss(self, config: SoftmaxConfig) -> SampledSoftmax | Multinomial:
        cosine, reference = config.similarity == "cosine", self.engine == "torch"
        if config.negatives is None:
            # The reference keeps all scores in memory; on other devices than the CPU, blocks bound the memory.
            reference = reference and self.device == "cpu"
            return Multinomial(
                self.data, temperature=config.temperature, cosine=cosine, device=self.device, reference=reference
            )
        return SampledSoftmax(
            self.data,
            negatives=config.negatives,
            temperature=config.temperature,
            cosine=cosine,
            seed=self._seed,
            device=self.device,
            in_batch=config.in_batch,
            reference=reference,
        )

    def wide_columns(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the current widening columns of users and items; None without any."""
        if self.constant_columns is not None or not self.widens:
            return self.constant_columns
        wide = self.fusion.inputs()
        return None if wide is None else (wide.users, wide.items)

    @property
    def needs_whole_scores(self) -> bool:
        """Whether products of :meth:`score_rows` must be whole scores, with nothing to be added to them."""
        return self.recipe.softmax is not None

    @property
    def cosine(self) -> bool:
        """Whether scores are cosines, so that served rows have unit length."""
        softmax = self.recipe.softmax
        return self.fusion.similarity == "cosine" or (softmax is not None and softmax.similarity == "cosine")

    @abstractmethod
    def score_rows(self, triples: Triples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, TrainingStep]:
        """Return the rows whose products are the scores of a step, with gradient.

        Returns:
            Rows of all users ``[n_users, k]`` and of all items ``[n_items, k]``; a term to add to the score difference
            of each triple, ``[b]``, or None (always None with :attr:`needs_whole_scores`); and the step for the
            fusion's loss.
        """

    @abstractmethod
    def decay(self, users: torch.Tensor, items: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the L2 penalty of a step: a weight for each row of each parameter.

        Args:
            users: float32 ``[n_users]``: how often the step draws each user, times ``regularisation / b``.
            items: float32 ``[n_items]``: how often the step draws each item, times ``regularisation / b``.
        """

    @abstractmethod
    def served_rows(self, *, placements: bool) -> dict[Kind, ServedRows]:
        """Return the factors to serve.

        Args:
            placements: Whether placements are needed even if no unseen entity has a vector. Validation does not need
                them.
        """

    def train_epoch(self, epoch: int) -> float:
        """Run one epoch and return the mean loss per step."""
        total: Loss = 0.0
        count = 0
        self._adam.rate_factor = self.recipe.rate_factor(epoch)
        if isinstance(self._softmax, SampledSoftmax):  # an epoch depends on its number and the seed alone
            self._softmax.random = run.generator(self._seed, f"softmax {epoch}")
        with threads.limited(**self._threads), run.repeatable(self.device):
            for step in self.steps(epoch):
                started = time.perf_counter()
                numba.set_num_threads(self._tuner.start_step())
                with worker.enabled(self._tuner.use_worker):
                    total = total + self.step(step)
                self._tuner.finish_step(time.perf_counter() - started)
                count += 1
            return float(total) / count

    def steps(self, epoch: int) -> Iterator[Any]:
        """Iterate over the training examples of each step of an epoch, on the device of the run."""
        if self._single_step is not None:
            return iter([self._single_step])
        triples = self._epochs(epoch)
        if self._over_all_items:  # a fusion must not use negatives that the loss does not use
            triples = triples._replace(negatives=triples.negatives[:0])
        return split_into_steps(triples, self.step_size)

    def step(self, examples: Any) -> Loss:
        """Train on the examples of one step and return the loss with the penalty."""
        found = self.gradients(examples)
        penalty = self._adam.step(found.by, found.decay)
        loss = found.loss.detach().double() if isinstance(found.loss, torch.Tensor) else found.loss
        # Reading a number from another device would wait for it, so that the loss stays a tensor there.
        return float(loss + penalty) if self.device == "cpu" else loss + penalty

    def gradients(self, examples: Any) -> Gradients:
        """Return loss and gradients of one step; here of triples, by automatic differentiation."""
        users, items, extra, step = self.score_rows(examples)
        loss = self.fusion.ranking_loss(step) if self.replaces_loss else None
        if loss is None and self._softmax is not None:
            loss = self._softmax(users, items, examples.users, examples.positives)
        elif loss is None:
            bpr = bpr_reference if self.engine == "torch" else bpr_loss
            loss = bpr(users, items, examples, extra)
        if self.adds_loss and (further := self.fusion.loss(step)) is not None:
            loss = loss + further
        return self.differentiated(loss, self.decay_of(examples))

    def differentiated(self, loss: torch.Tensor, decay: Mapping[str, torch.Tensor]) -> Gradients:
        """Return the gradients of a loss by all trainable parameters."""
        found = torch.autograd.grad(loss, list(self.trainable.values()), allow_unused=True)
        return Gradients(loss, dict(zip(self.trainable, found, strict=True)), decay)

    def decay_of(self, triples: Triples) -> dict[str, torch.Tensor]:
        """Return the penalty of a step: ``regularisation / 2b`` times the squared lengths of the rows of each triple.

        With a softmax over all items, a triple has no negative.
        """
        scale = self._penalty / len(triples.users)
        if scale == 0:
            return {}
        users = occurrences(triples.users, self.data.n_users)
        items = occurrences(triples.positives, self.data.n_items)
        if not self._over_all_items:
            items += occurrences(triples.negatives, self.data.n_items)
        return self.decay(*((counts.double() * scale).float() for counts in (users, items)))

    @torch.no_grad()
    def _served(self, *, placements: bool) -> dict[Kind, ServedRows]:
        limits = {**self._threads, "kernel_threads": self._tuner.best_threads}
        with threads.limited(**limits), run.repeatable(self.device):
            served = self.served_rows(placements=placements)
        vectors = {"user": self.data.user_vectors, "item": self.data.item_vectors}
        for (kind, side), mask in zip(served.items(), self.trained, strict=True):
            trust = None if side.placement is None else self.fusion.trust(kind)
            unseen.fill(
                side.rows, mask, vectors[kind], side.placement, seed=self._seed, placed=side.placed, trust=trust
            )
        return served

    def factors(self) -> Factors:
        """Return the current factors."""
        served = self._served(placements=False)
        return Factors(served["user"].rows, served["item"].rows)

    def close(self) -> None:
        """Stop the thread that draws epochs ahead, if there is one."""
        if isinstance(self._epochs, PrefetchedEpochs):
            self._epochs.close()

    def fitted(self, outcome: Outcome, monitor: Monitor) -> Fitted:
        """Return the result of the run, with the placement of unseen items calibrated on validation."""
        served = self._served(placements=True)
        factors, item = Factors(served["user"].rows, served["item"].rows), served["item"]
        place_items, vectors = item.placement, self.data.item_vectors
        if place_items is not None and item.left_out is not None and vectors is not None:
            known = self.trained[1] & vectors.any(axis=1)
            place_items = calibrate(
                place_items, factors, known, item.left_out, monitor.validate, seed=self._seed, weigh=item.weigh
            )
            unseen.fill(
                item.rows,
                self.trained[1],
                vectors,
                place_items,
                seed=self._seed,
                placed=item.placed,
                trust=self.fusion.trust("item"),
            )
        return Fitted(
            factors=factors,
            place_items=place_items,
            place_users=served["user"].placement,
            epochs=outcome.epochs,
            best_epoch=outcome.best_epoch,
            history=outcome.history,
            stopped=outcome.stopped,
        )

    def starts(self) -> Iterator[Mapping[str, torch.Tensor]]:
        """Yield simple models that need no training, for :func:`~enhancer_plugins.training.loop.train`; here none."""
        return iter(())

    def state(self) -> dict[str, torch.Tensor]:
        """Return the state of parameters, fusion and optimiser."""
        state = {f"model.{name}": p.detach() for name, p in self.parameters.items()}
        state |= {f"fusion.{name}": t for name, t in self.fusion.state().items()}
        return state | {f"optimiser.{name}": t for name, t in self._adam.state().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of :meth:`state`; the optimiser's part may be absent."""
        for name, parameter in self.parameters.items():
            parameter.copy_(state[f"model.{name}"])
        self.fusion.load_state(_with_prefix(state, "fusion."))
        optimiser = _with_prefix(state, "optimiser.")
        if optimiser:
            self._adam.load_state(optimiser)


def _with_prefix(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


def score_differences(users: torch.Tensor, items: torch.Tensor, triples: Triples) -> torch.Tensor:
    """Return ``users[u] @ (items[i] - items[j])`` of each triple, float32 ``[b]``, without gradient."""
    if users.device.type == "cpu":
        out = torch.empty(len(triples.users))
        row_differences(users.numpy(), items.numpy(), *(column.numpy() for column in triples), out.numpy())
        return out
    difference = items.index_select(0, triples.positives) - items.index_select(0, triples.negatives)
    return (users.index_select(0, triples.users) * difference).sum(1)


def mean_length(rows: NDArray[np.float32]) -> float:
    """Return the mean L2 length of the non-zero rows; 0 if there are none."""
    lengths = np.linalg.norm(rows, axis=1)
    lengths = lengths[lengths > 0]
    return float(lengths.mean()) if len(lengths) else 0.0
