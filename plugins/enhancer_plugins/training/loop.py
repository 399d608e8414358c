"""Training loop: starts, epochs, validation, early stopping and checkpoints."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Protocol

from enhancer.errors import DivergenceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
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
class Flatness:
    """When a training loss counts as flat: its mean over a window of epochs is hardly below that over the one before.

    A mean over a window is compared, because the loss of a single epoch of sampled examples is noisy.
    """

    window: int = 50
    """Epochs of a window."""
    tolerance: float = 1e-4
    """Relative decrease from one window to the next below which the loss is flat; with 0, it never is."""
    may_rise: bool = False
    """Whether an increase as large as the tolerance is progress, too: for a loss that is not the whole objective."""

    def reached(self, losses: Sequence[float]) -> bool:
        """Check whether the loss is flat after its last epoch.

        Args:
            losses: Loss of each epoch so far.
        """
        if not self.tolerance or len(losses) < 2 * self.window:
            return False
        before, last = (sum(losses[end - self.window : end or None]) for end in (-self.window, 0))
        change = abs(before - last) if self.may_rise else before - last
        return change < self.tolerance * abs(before)

    def __str__(self) -> str:
        moved = "changed" if self.may_rise else "fell"
        return (
            f"the training loss was flat: it {moved} by less than {100 * self.tolerance:.3g} % in {self.window} epochs"
        )


@dataclass(frozen=True)
class Schedule:
    """Length of a run."""

    epochs: int
    """Maximum number of epochs."""
    eval_every: int
    """Epochs between validations."""
    patience: int
    """Validations without improvement after which training stops."""
    flatness: Flatness = field(default_factory=Flatness)
    """When the training loss counts as flat, at which training stops."""


@dataclass
class Outcome:
    """Progress of a run so far."""

    epochs: int = 0
    """Epochs run."""
    best_epoch: int = 0
    """Epoch with the best validation metric, 0 for a start; the last validated one without a validation split."""
    best_metric: float | None = None
    """Best validation metric; None without a validation split."""
    history: list[dict[str, float]] = field(default_factory=list)
    """See :attr:`enhancer.contracts.Fitted.history`."""
    stopped: str | None = None
    """See :attr:`enhancer.contracts.Fitted.stopped`."""


def train(
    model: Trainable,
    schedule: Schedule,
    monitor: Monitor,
    *,
    identity: str = "",
    where: str = "training",
    starts: Iterable[Mapping[str, torch.Tensor]] = (),
) -> Outcome:
    """Train until the last epoch, or until the validation metric or the training loss stops improving.

    Without a validation split (``monitor.validate`` returns None) the last epoch is the best one. A run that repeats
    the epochs of an earlier one (``monitor.repeats``) trains so many, without validation, and keeps the last.

    Args:
        model: Model to train. It is left in the state of the best epoch.
        schedule: Length of the run.
        monitor: Validation, progress and checkpoint path.
        identity: Hash of everything that the result depends on. Checkpoints with another identity are ignored.
        where: Subject of the message about a diverged run, such as ``backbone 'lightgcn'``.
        starts: Simple models that need no training, as states to put in place of parts of the model's. They are
            validated as epoch 0, and the best one is kept if no epoch is better. Training does not begin from them,
            and they do not count for ``patience``. With no epoch to run and no validation split, the first is kept.

    Raises:
        DivergenceError: The loss is NaN or infinite.
    """
    repeats = monitor.repeats is not None
    last = schedule.epochs if monitor.repeats is None else monitor.repeats
    run = _read(monitor.checkpoint, identity) if monitor.checkpoint else None
    if run is None:
        run = _begin(model, monitor, () if repeats and last else starts)
    else:
        model.load_state(run.current)
    outcome, checkpoint = run.outcome, monitor.checkpoint
    written = time.monotonic()
    while outcome.epochs < last and outcome.stopped is None:
        started = time.perf_counter()
        epoch = outcome.epochs + 1
        loss = model.train_epoch(epoch)
        if not math.isfinite(loss):
            raise DivergenceError(f"{where} diverged: the loss of epoch {epoch} is {loss}")
        metric, flat = None, False
        if repeats:
            outcome.best_epoch = epoch
        else:
            flat = schedule.flatness.reached([*(entry["loss"] for entry in outcome.history if entry["epoch"]), loss])
            if epoch % schedule.eval_every == 0 or epoch == last or flat:
                metric = monitor.validate(model.factors())
                run.validated(epoch, metric, model)
        if epoch < last and run.stale >= schedule.patience:
            outcome.stopped = f"validation did not improve in {run.stale} validations"
        elif epoch < last and flat:
            outcome.stopped = str(schedule.flatness)
        outcome.epochs = epoch
        entry = {"epoch": float(epoch), "loss": loss, "seconds": time.perf_counter() - started}
        outcome.history.append(entry if metric is None else {**entry, "metric": metric})
        due = epoch % schedule.eval_every == 0 or time.monotonic() - written > _CHECKPOINT_SECONDS
        if checkpoint and due:
            try:
                _write(checkpoint, identity, run, model.state())
            except OSError as error:  # training continues on a full disk
                _log.warning("cannot write checkpoint %s (%s): this run cannot be resumed", checkpoint, error)
                checkpoint = None
            written = time.monotonic()
        monitor.epoch_finished(epoch, last, loss, metric)
    if outcome.stopped is not None:
        _log.info("%s stopped after epoch %d of %d: %s", where, outcome.epochs, last, outcome.stopped)
    if run.best is not None:
        model.load_state(run.best)
    if checkpoint:
        checkpoint.unlink(missing_ok=True)
    return outcome


@dataclass
class _Run:
    """State of the loop, which a checkpoint stores."""

    outcome: Outcome = field(default_factory=Outcome)
    stale: int = 0
    """Validations since the best one of a trained epoch."""
    reached: float | None = None
    """Best validation metric of a trained epoch."""
    best: dict[str, torch.Tensor] | None = None
    """State of the best epoch; None for the current one."""
    current: dict[str, torch.Tensor] = field(default_factory=dict)
    """State that a checkpoint was read with."""

    def validated(self, epoch: int, metric: float | None, model: Trainable) -> None:
        """Record a validation."""
        outcome = self.outcome
        if metric is None:
            outcome.best_epoch, self.best = epoch, None
            return
        if self.reached is None or metric > self.reached:
            self.reached, self.stale = metric, 0
        else:
            self.stale += 1
        if outcome.best_metric is None or metric > outcome.best_metric:
            outcome.best_epoch, outcome.best_metric, self.best = epoch, metric, _kept(model)


def _kept(model: Trainable) -> dict[str, torch.Tensor]:
    """Return a copy of the model's state without the optimiser's part."""
    return {k: t.detach().clone() for k, t in model.state().items() if not k.startswith(OPTIMISER)}


def _begin(model: Trainable, monitor: Monitor, starts: Iterable[Mapping[str, torch.Tensor]]) -> _Run:
    """Validate the starts, and leave the model as it is."""
    run, begun = _Run(), time.perf_counter()
    initial: dict[str, torch.Tensor] | None = None
    for start in starts:
        initial = initial or {name: tensor.detach().clone() for name, tensor in model.state().items()}
        model.load_state({**initial, **start})
        metric, best = monitor.validate(model.factors()), run.outcome.best_metric
        if run.best is None or (metric is not None and best is not None and metric > best):
            run.outcome.best_metric, run.best = metric, _kept(model)
        if metric is None:
            break
    if initial is not None:
        model.load_state(initial)
    if run.outcome.best_metric is not None:
        entry = {"epoch": 0.0, "seconds": time.perf_counter() - begun, "metric": run.outcome.best_metric}
        run.outcome.history.append(entry)
    return run


def _write(path: Path, identity: str, run: _Run, current: Mapping[str, torch.Tensor]) -> None:
    """Write a checkpoint to a temporary file and rename it, so that an interruption never leaves a partial one.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = [(f"now.{name}", t) for name, t in current.items()] + [
        (f"best.{name}", t) for name, t in (run.best or {}).items()
    ]
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in state:
        kept = tensor.detach().cpu().contiguous()
        # safetensors refuses tensors that share memory; those are copied.
        shared = any(kept.untyped_storage().data_ptr() == t.untyped_storage().data_ptr() for t in tensors.values())
        tensors[name] = kept.clone() if shared else kept
    progress = {"outcome": asdict(run.outcome), "stale": run.stale, "reached": run.reached}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        save_file(tensors, temporary, metadata={"identity": identity, "progress": json.dumps(progress)})
        temporary.replace(path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path, identity: str) -> _Run | None:
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
        progress = json.loads(metadata["progress"])
        outcome, stale, reached = Outcome(**progress["outcome"]), int(progress["stale"]), progress["reached"]
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        _log.warning("cannot read checkpoint %s (%s): training starts over", path, error)
        return None
    parts: dict[str, dict[str, torch.Tensor]] = {"now": {}, "best": {}}
    for name, tensor in tensors.items():
        part, _, own = name.partition(".")
        parts[part][own] = tensor
    return _Run(outcome, stale, reached, parts["best"] or None, parts["now"])
