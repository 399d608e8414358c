"""Training loop: epochs, validation, early stopping and checkpoints."""

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
"""Seconds after which a checkpoint is written even without a validation."""
OPTIMISER = "optimiser."
"""Prefix of state that is needed to continue training, but not to use the model."""


class Trainable(Protocol):
    """Model that :func:`train` can train."""

    def train_epoch(self, epoch: int) -> float:
        """Run an epoch (from 1) and return the mean loss per step.

        Random numbers must depend on ``epoch`` and the model's seed alone, so that a run can be resumed.
        """

    def factors(self) -> Factors:
        """Return the current factors, in arrays that do not change later."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything needed to continue training, by name. The loop copies the tensors that it keeps."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the state of :meth:`state`; names that start with :data:`OPTIMISER` may be absent."""


@dataclass(frozen=True)
class Schedule:
    """Length of a run."""

    epochs: int
    """Maximum number of epochs."""
    eval_every: int
    """Epochs between validations."""
    patience: int
    """Validations without improvement after which training stops."""


@dataclass
class Outcome:
    """Progress of a run so far."""

    epochs: int = 0
    """Epochs run."""
    best_epoch: int = 0
    """Epoch with the best validation metric; the last validated one without a validation split."""
    best_metric: float | None = None
    """Best validation metric; None without a validation split."""
    history: list[dict[str, float]] = field(default_factory=list)
    """See :attr:`enhancer.contracts.Fitted.history`."""


def train(
    model: Trainable, schedule: Schedule, monitor: Monitor, *, identity: str = "", where: str = "training"
) -> Outcome:
    """Train until the last epoch, or until the validation metric stops improving.

    Without a validation split (``monitor.validate`` returns None) the last epoch is the best one.

    Args:
        model: Model to train. It is left in the state of the best epoch.
        schedule: Length of the run.
        monitor: Validation, progress and checkpoint path.
        identity: Hash of everything that the result depends on. Checkpoints with another identity are ignored.
        where: Subject of the message about a diverged run, such as ``backbone 'lightgcn'``.

    Raises:
        DivergenceError: The loss is NaN or infinite.
    """
    outcome = Outcome()
    best: dict[str, torch.Tensor] | None = None
    stale = 0
    resumed = _read(monitor.checkpoint, identity) if monitor.checkpoint else None
    if resumed:
        outcome, stale, current, best = resumed
        model.load_state(current)
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
            except OSError as error:  # training continues on a full disk
                _log.warning("cannot write checkpoint %s (%s): this run cannot be resumed", checkpoint, error)
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
    current: Mapping[str, torch.Tensor],
    best: Mapping[str, torch.Tensor] | None,
) -> None:
    """Write a checkpoint to a temporary file and rename it, so that an interruption never leaves a partial one.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = [(f"now.{name}", t) for name, t in current.items()] + [
        (f"best.{name}", t) for name, t in (best or {}).items()
    ]
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in state:
        kept = tensor.detach().cpu().contiguous()
        # safetensors refuses tensors that share memory; those are copied.
        shared = any(kept.untyped_storage().data_ptr() == t.untyped_storage().data_ptr() for t in tensors.values())
        tensors[name] = kept.clone() if shared else kept
    progress = {
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "best_metric": outcome.best_metric,
        "stale": stale,
        "history": outcome.history,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        save_file(tensors, temporary, metadata={"identity": identity, "told": json.dumps(progress)})
        temporary.replace(path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _read(
    path: Path, identity: str
) -> tuple[Outcome, int, dict[str, torch.Tensor], dict[str, torch.Tensor] | None] | None:
    """Read the checkpoint of a run; None if there is none, or if it is damaged (with a warning)."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("identity") != identity:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        progress = json.loads(metadata["told"])
        outcome = Outcome(
            int(progress["epochs"]), int(progress["best_epoch"]), progress["best_metric"], list(progress["history"])
        )
        stale = int(progress["stale"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        _log.warning("cannot read checkpoint %s (%s): training starts over", path, error)
        return None
    current = {name.removeprefix("now."): t for name, t in tensors.items() if name.startswith("now.")}
    best = {name.removeprefix("best."): t for name, t in tensors.items() if name.startswith("best.")}
    return outcome, stale, current, best or None
