"""Epochs, early stopping, checkpoints: what surrounds the training of any model."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from enhancer.errors import DivergenceError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from enhancer.contracts import Factors, Monitor

_log = logging.getLogger(__name__)
_CHECKPOINT_SECONDS = 30.0
"""A checkpoint is written after each validation, and when this long has passed since the last."""
OPTIMISER = "optimiser."
"""Names of a model's state that begin so are needed to train on, but not to use the model."""


class Trainable(Protocol):
    """What the loop trains."""

    def train_epoch(self, epoch: int) -> float:
        """Run epoch ``epoch`` (from 1), drawing from ``epoch`` and the model's seed alone; the mean loss a step."""

    def factors(self) -> Factors:
        """What the model scores by now; the arrays must not change later."""

    def state(self) -> dict[str, torch.Tensor]:
        """Everything needed to go on, by name; tensors may be live (the loop copies what it keeps)."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Inverse of :meth:`state`; names beginning with :data:`OPTIMISER` may be absent."""


@dataclass(frozen=True)
class Schedule:
    """How long to train."""

    epochs: int
    """The most there will be."""
    eval_every: int
    """Epochs between validations."""
    patience: int
    """Validations without a new best after which training stops."""


@dataclass
class Outcome:
    """How training went; the model is left in its best state."""

    epochs: int = 0
    """Epochs run."""
    best_epoch: int = 0
    best_metric: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    model: Trainable, schedule: Schedule, monitor: Monitor, *, identity: str = "", where: str = "training"
) -> Outcome:
    """Train until the last epoch, or until validation stops improving; keep the best state.

    Without a validation split (``monitor.validate`` answers None) the last epoch is the best one.

    Args:
        model: What to train; left in the state of the best epoch.
        schedule: How long.
        monitor: Validates, listens and names the checkpoint, if there is to be one.
        where: Subject of the message about a diverged run, such as ``backbone 'lightgcn'``.
        identity: Names everything that a result depends on. A checkpoint of another identity is not resumed.

    Raises:
        DivergenceError: The loss is no longer a number.
    """
    outcome = Outcome()
    best: dict[str, torch.Tensor] | None = None
    stale = 0
    resumed = _read(monitor.checkpoint, identity) if monitor.checkpoint else None
    if resumed:
        outcome, stale, now, best = resumed
        model.load_state(now)
    written = time.monotonic()
    checkpoint = monitor.checkpoint
    while outcome.epochs < schedule.epochs and stale < schedule.patience:
        started = time.perf_counter()
        epoch = outcome.epochs + 1
        loss = model.train_epoch(epoch)
        if not math.isfinite(loss):
            raise DivergenceError(f"{where} diverged: the loss of epoch {epoch} is {loss}")
        metric = None
        if epoch % schedule.eval_every == 0 or epoch == schedule.epochs:
            metric = monitor.validate(model.factors())
            if metric is None:
                outcome.best_epoch, best = epoch, None
            elif outcome.best_metric is None or metric > outcome.best_metric:
                outcome.best_epoch, outcome.best_metric, stale = epoch, metric, 0
                best = {k: t.detach().clone() for k, t in model.state().items() if not k.startswith(OPTIMISER)}
            else:
                stale += 1
        outcome.epochs = epoch
        entry = {"epoch": float(epoch), "loss": loss, "seconds": time.perf_counter() - started}
        outcome.history.append(entry if metric is None else {**entry, "metric": metric})
        due = epoch % schedule.eval_every == 0 or time.monotonic() - written > _CHECKPOINT_SECONDS
        if checkpoint and due:
            try:
                _write(checkpoint, identity, outcome, stale, model.state(), best)
            except OSError as error:  # a full disk is no reason to lose the run
                _log.warning("%s cannot be written (%s): this run could not be resumed", checkpoint, error)
                checkpoint = None
            written = time.monotonic()
        monitor.epoch_finished(epoch, schedule.epochs, loss, metric)
    if best is not None:
        model.load_state(best)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return outcome


def _write(
    path: Path,
    identity: str,
    outcome: Outcome,
    stale: int,
    now: Mapping[str, torch.Tensor],
    best: Mapping[str, torch.Tensor] | None,
) -> None:
    """Write a checkpoint beside ``path`` and move it there, so that a kill leaves the old one or the new one.

    Raises:
        OSError: It cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    whole = [(f"now.{name}", t) for name, t in now.items()] + [(f"best.{name}", t) for name, t in (best or {}).items()]
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in whole:
        kept = tensor.detach().cpu().contiguous()
        # The format refuses tensors that share memory; all others are written from where they are.
        shared = any(kept.untyped_storage().data_ptr() == t.untyped_storage().data_ptr() for t in tensors.values())
        tensors[name] = kept.clone() if shared else kept
    told = {
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "best_metric": outcome.best_metric,
        "stale": stale,
        "history": outcome.history,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        save_file(tensors, beside, metadata={"identity": identity, "told": json.dumps(told)})
        beside.replace(path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        beside.unlink(missing_ok=True)


def _read(
    path: Path, identity: str
) -> tuple[Outcome, int, dict[str, torch.Tensor], dict[str, torch.Tensor] | None] | None:
    """Read a checkpoint; None where there is none of this run. With a damaged one training starts over."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != identity:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        told = json.loads(metadata["told"])
        outcome = Outcome(int(told["epochs"]), int(told["best_epoch"]), told["best_metric"], list(told["history"]))
        stale = int(told["stale"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        _log.warning("%s is not a readable checkpoint (%s): training starts over", path, error)
        return None
    now = {name.removeprefix("now."): t for name, t in tensors.items() if name.startswith("now.")}
    best = {name.removeprefix("best."): t for name, t in tensors.items() if name.startswith("best.")}
    return outcome, stale, now, best or None
