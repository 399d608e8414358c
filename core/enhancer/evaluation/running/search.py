"""Search the hyper-parameters of every arm on the validation part, with the same number of trials for each.

Controls and baseline are searched as well, so no arm wins by tuning alone. The first trial of an arm is the arm as
configured, so the result is never worse on validation. All trials use one seed that differs from the seeds compared
afterwards. The test part is not used.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from enhancer.contracts.options import ignored
from enhancer.errors import ConfigError, EvaluationError, FusionError
from enhancer.evaluation.measuring.metrics import direction, parse_metric
from enhancer.evaluation.measuring.views import training_data
from enhancer.evaluation.running.runs import RunRequest
from enhancer.evaluation.running.search_result import SearchResult, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from enhancer.config.evaluation import DimensionConfig, SearchConfig
    from enhancer.contracts.backbone import Backbone
    from enhancer.contracts.options import Options
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.experiment import Experiment
    from enhancer.evaluation.running.runs import ArmRun

    Space = dict[str, dict[str, DimensionConfig]]
    """Search space: dimensions by ``backbone`` or ``fuser``, then by option."""
    RunTrials = Callable[[Sequence[RunRequest]], Iterable[ArmRun]]
    """Function that trains requested runs and returns them in order."""

Value = TypeVar("Value")

DEFAULT_FACTORS = {
    "learning_rate": 4.0,
    "regularisation": 10.0,
    "regularization": 10.0,
    "weight": 10.0,
    "temperature": 3.0,
    "scale": 3.0,
}
"""Options that are searched by default, on a log scale from the value in effect divided by this factor to its product
with it. A plugin adds others in ``Options.searched``."""
_FAILED_LOG_LOSS = 10.0
"""Log loss reported to the sampler for a failed trial; worse than that of any trained model."""
_TRIALS_PER_ROUND = 4
"""Trials of an arm drawn at a time. It does not depend on the number of workers, so neither do the results."""
_RANDOM_TRIALS = 6
"""Trials drawn at random before the sampler uses results."""
_MAX_REJECTED = 50
"""Number of consecutive draws that cannot be trained after which the search gives up."""


def search(
    experiment: Experiment, arms: Sequence[Arm], config: SearchConfig, *, seed: int, run_trials: RunTrials
) -> list[SearchResult]:
    """Search the hyper-parameters of every arm.

    Args:
        experiment: The experiment. Its validation part decides; its test part is not used.
        arms: The arms as configured.
        config: Number of trials, and the options to search.
        seed: Seed of all trials.
        run_trials: Trains the requested trials.

    Returns:
        Results in the order of the arms.

    Raises:
        ConfigError: Optuna is not installed, a searched option does not exist or has no effect in any arm, or no draw
            can be trained.
        EvaluationError: The split has no validation part.
    """
    uses_labels, views = parse_metric(experiment.metrics[0]).uses_labels, experiment.views
    if not len(views.labelled_validation.users if uses_labels else views.warm_validation.users):
        raise EvaluationError(
            "hyper-parameters are searched on the validation part, but the split has none",
            hint="raise [evaluation] validation_size (a user needs three interactions to be in every part),"
            " or remove [evaluation.search]",
        )
    studies = [_Study(experiment, arm, config) for arm in arms]
    for name in config.backbone or {}:
        if not any(name in study.space["backbone"] for study in studies):
            raise ConfigError(
                f"[evaluation.search.backbone] {name} has no effect on the backbone of any arm",
                hint="remove it, or add an arm whose backbone options use it",
            )
    known = {name for arm in arms for name in (arm.name, arm.fuser)}
    for name in config.fuser:
        if name not in known:
            raise ConfigError(f"[evaluation.search.fuser.{name}] {name!r} is neither an arm nor the fuser of one")
    done = 0
    while done < config.trials:
        count = 1 if not done else min(_TRIALS_PER_ROUND, config.trials - done)
        drawn = [study.draw(count) for study in studies]
        requests = [RunRequest(tuned[number], seed, trial=done + number) for number in range(count) for tuned in drawn]
        for place, run in enumerate(run_trials(requests)):
            studies[place % len(studies)].record(run)
        done += count
    return [study.result() for study in studies]


def space_of(experiment: Experiment, arm: Arm, config: SearchConfig) -> Space:
    """Return the search space of an arm: the configured options, else the default ones around their values.

    Options configured for every arm are left out if they have no effect in this one.

    Raises:
        ConfigError: A configured option does not exist in the arm's backbone or fuser.
    """
    backbone, fuser = experiment.make_backbone(arm), experiment.make_fuser(arm)
    configured = {"backbone": config.backbone, "fuser": config.fuser.get(arm.name, config.fuser.get(arm.fuser))}
    space: Space = {}
    for name, options in {"backbone": backbone.options, "fuser": fuser.options}.items():
        dimensions = configured[name]
        if dimensions is None:
            space[name] = _default_dimensions(_resolved(experiment, backbone) if name == "backbone" else options)
            continue
        if name == "backbone" and arm.backbone is not None:  # arms may be on different backbones
            dimensions = {key: each for key, each in dimensions.items() if key in type(options).model_fields}
        if unknown := [key for key in dimensions if key not in type(options).model_fields]:
            raise ConfigError(f"[evaluation.search] arm {arm.name!r} has no {name} option {unknown[0]!r}")
        space[name] = _without(dimensions, _without_effect(options, dimensions))
    if config.backbone is None and "ranking" in fuser.needs:
        space["backbone"].pop("temperature", None)  # the fuser replaces the loss that has the temperature
    return space


def _resolved(experiment: Experiment, backbone: Backbone) -> Options:
    labelled = "labels" in backbone.takes
    return backbone.resolved(training_data(experiment.views.split, sides=experiment.sides, labelled=labelled))


def _default_dimensions(options: Options) -> dict[str, DimensionConfig]:
    from enhancer.config.evaluation import DimensionConfig

    dimensions = {}
    for name, factor in {**DEFAULT_FACTORS, **options.searched}.items():
        value = options.in_effect(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            continue
        low, high = value / factor, value * factor
        if isinstance(value, int):  # a count, such as of experts or layers
            low, high = max(1, math.ceil(low)), math.floor(high)
        dimensions[name] = DimensionConfig(low=low, high=high, log=True)
    return dimensions


def _without_effect(options: Options, dimensions: Mapping[str, DimensionConfig]) -> set[str]:
    """Return the dimensions that would be ignored whatever values the others take.

    The others are tried at their first values, and with each single choice of each of them.
    """
    values: dict[str, Sequence[Any]] = {
        name: dimension.choices or [dimension.low] for name, dimension in dimensions.items()
    }
    first = {name: choices[0] for name, choices in values.items()}
    variations = [{}, *({name: value} for name, choices in values.items() for value in choices)]
    return {
        name
        for name, choices in values.items()
        if all(
            any(name in _ignored(options, {**first, **variation, name: value}) for value in choices)
            for variation in variations
            if name not in variation
        )
    }


def _without(values: Mapping[str, Value], names: Collection[str]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if name not in names}


def _ignored(options: Options, changes: Mapping[str, Any]) -> set[str]:
    """Return the names of the options set explicitly or in ``changes`` that would be ignored after the changes."""
    explicit = {name: getattr(options, name) for name in options.model_fields_set}
    return ignored(type(options), {**explicit, **changes})


class _Study:
    """The search of one arm with Optuna's sampler, for which options have names such as ``fuser.weight``."""

    def __init__(self, experiment: Experiment, arm: Arm, config: SearchConfig) -> None:
        self.space = space_of(experiment, arm, config)
        self._experiment, self._arm = experiment, arm
        self._sign = direction(experiment.metrics[0])
        self._options = {
            "backbone": experiment.make_backbone(arm).options,
            "fuser": experiment.make_fuser(arm).options,
        }
        optuna = _optuna()
        self._distributions = {
            f"{part}.{name}": _distribution(optuna, dimension)
            for part, dimensions in self.space.items()
            for name, dimension in dimensions.items()
        }
        sampler = optuna.samplers.TPESampler(
            seed=zlib.crc32(arm.name.encode()), n_startup_trials=_RANDOM_TRIALS, constant_liar=True
        )
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._pending: list[tuple[Any, Arm, dict[str, dict[str, Any]]]] = []
        self._tried: list[tuple[Arm, Trial]] = []

    def draw(self, count: int) -> list[Arm]:
        """Draw arms to try. The very first one is the arm as configured."""
        start = len(self._pending)
        for _ in range(count):
            if not self._tried:
                self._pending.append((None, self._arm, {"backbone": {}, "fuser": {}}))
                continue
            self._pending.append(self._draw_trainable())
        return [arm for _, arm, _ in self._pending[start:]]

    def _draw_trainable(self) -> tuple[Any, Arm, dict[str, dict[str, Any]]]:
        """Draw until backbone and fuser can work together. Rejected draws are reported to the sampler as failures."""
        for _ in range(_MAX_REJECTED):
            sampled = self._study.ask(self._distributions)
            tuned, options = self._tune(sampled.params)
            try:
                fuser = self._experiment.make_fuser(tuned)
                fuser.check(self._experiment.make_backbone(tuned), tuned.fuser)
            except (ConfigError, FusionError) as error:
                self._study.tell(sampled, self._failure)
                last = error
            else:
                return sampled, tuned, options
        raise ConfigError(
            f"[evaluation.search] none of {_MAX_REJECTED} draws for arm {self._arm.name!r} can be trained:"
            f" {last.message}",
            hint="remove options or values from the search space that do not go together",
        )

    def _tune(self, drawn: Mapping[str, Any]) -> tuple[Arm, dict[str, dict[str, Any]]]:
        """Return the arm with the drawn options, and these options by ``backbone`` and ``fuser``.

        Drawn options without effect are left out, for example the temperature of a loss that has none.
        """
        options: dict[str, dict[str, Any]] = {"backbone": {}, "fuser": {}}
        for name, value in drawn.items():
            part, _, option = name.partition(".")
            options[part][option] = value
        configured = {"backbone": self._arm.backbone_options, "fuser": self._arm.fuser_options}
        merged: dict[str, dict[str, Any]] = {}
        for part, own in self._options.items():
            unused = _ignored(own, options[part])
            merged[part] = _without({**configured[part], **options[part]}, unused)
            options[part] = _without(options[part], unused)
        tuned = replace(
            self._arm, fuser_options=merged["fuser"], backbone_options=merged["backbone"], untuned=self._arm
        )
        return tuned, options

    @property
    def _failure(self) -> float:
        """Value reported to the sampler for a failed trial, so that it avoids similar ones."""
        return 0.0 if self._sign > 0 else -_FAILED_LOG_LOSS

    def record(self, run: ArmRun) -> None:
        """Record the run of the earliest pending trial."""
        sampled, arm, options = self._pending.pop(0)
        self._tried.append((arm, Trial(options=options, value=run.validation, seconds=run.seconds)))
        if sampled is not None:
            self._study.tell(sampled, self._failure if run.validation is None else self._sign * run.validation)

    def result(self) -> SearchResult:
        """Return all trials, and the arm with the best options."""
        trials = [trial for _, trial in self._tried]
        result = SearchResult(arm=self._arm, trials=trials, sign=self._sign)
        return replace(result, arm=self._tried[trials.index(result.best)][0])


def _distribution(optuna: Any, dimension: DimensionConfig) -> Any:
    if dimension.choices is not None:
        return optuna.distributions.CategoricalDistribution(dimension.choices)
    low, high = dimension.low, dimension.high
    if isinstance(low, int) and isinstance(high, int):
        return optuna.distributions.IntDistribution(low, high, log=dimension.log)
    return optuna.distributions.FloatDistribution(low, high, log=dimension.log)


def require_optuna() -> None:
    """Raise an error if the library of the search is missing.

    Raises:
        ConfigError: Optuna is not installed.
    """
    _optuna()


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "hyper-parameter search needs Optuna, which is not installed", hint='pip install "enhancer[search]"'
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
