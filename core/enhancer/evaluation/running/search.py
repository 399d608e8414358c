"""Hyper-parameters of every arm, searched with equal budget on validation alone, so that no arm wins by tuning.

Every arm gets the same number of trials, controls and baseline included. Its first trial is the arm as configured: what
is found is never worse on validation. All trials have one seed, which is none of those that are compared afterwards.
The test part is not looked at.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from enhancer.contracts.options import ignored
from enhancer.errors import ConfigError, EvaluationError, FusionError
from enhancer.evaluation.measuring.metrics import direction, parse_metric
from enhancer.evaluation.running.runs import RunRequest
from enhancer.evaluation.running.search_result import SearchResult, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from enhancer.config.schema import DimensionConfig, SearchConfig
    from enhancer.contracts.options import Options
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.experiment import Experiment
    from enhancer.evaluation.running.runs import ArmRun

    Space = dict[str, dict[str, DimensionConfig]]
    """By ``backbone`` or ``fuser``, then by option."""
    RunAll = Callable[[Sequence[RunRequest]], Iterable[ArmRun]]
    """Does requests, wherever, and gives their runs in order."""

Value = TypeVar("Value")

SPREAD = {
    "learning_rate": 4.0,
    "regularisation": 10.0,
    "regularization": 10.0,
    "weight": 10.0,
    "temperature": 3.0,
    "scale": 3.0,
}
"""Options of any plugin that are searched where the configuration names none: on a log scale, from the value in effect
divided by this to its product with it. A plugin names others in ``Options.searched``."""
_HOPELESS = 10.0
"""A log loss that is worse than any that a trained model has."""
_ROUND = 4
"""Trials of an arm that are drawn at a time, whatever the number of workers: so their number changes no result."""
_AT_RANDOM = 6
"""Trials before the sampler goes by what was found."""
_MOST_REFUSED = 50
"""Draws in a row that cannot work together, after which an arm's space is taken to hold nothing that does."""


def search(
    experiment: Experiment, arms: Sequence[Arm], config: SearchConfig, *, seed: int, run_all: RunAll
) -> list[SearchResult]:
    """Search every arm.

    Args:
        experiment: Its validation part decides; its test part is left alone.
        arms: As configured.
        config: Trials, and what is searched.
        seed: Of all training runs of the search.
        run_all: Trains.

    Returns:
        In the order of the arms.

    Raises:
        ConfigError: Optuna is not installed, a space names an option that is not there, or holds nothing that works.
        EvaluationError: There is no validation part.
    """
    of_labels, views = parse_metric(experiment.metrics[0]).of_labels, experiment.views
    if not len(views.labelled_validation.users if of_labels else views.warm_validation.users):
        raise EvaluationError(
            "hyper-parameters are searched on validation, and the split has none",
            hint="set [evaluation] validation_size, or leave [evaluation.search] out",
        )
    spaces = [space_of(experiment, arm, config) for arm in arms]
    for name in config.backbone or {}:
        if not any(name in space["backbone"] for space in spaces):
            raise ConfigError(
                f"[evaluation.search.backbone] {name} would be searched in vain: no arm's backbone has a use for it",
                hint="take it out, or give an arm what it goes with",
            )
    known = {name for arm in arms for name in (arm.name, arm.fuser)}
    for name in config.fuser:
        if name not in known:
            raise ConfigError(f"[evaluation.search.fuser.{name}] {name!r} is neither an arm nor the fuser of one")
    sign = direction(experiment.metrics[0])
    studies = [_Study(experiment, arm, space, sign) for arm, space in zip(arms, spaces, strict=True)]
    done = 0
    while done < config.trials:
        count = 1 if not done else min(_ROUND, config.trials - done)
        drawn = [study.draw(count) for study in studies]
        requests = [
            RunRequest(arm, seed, trial=done + number)
            for number in range(count)
            for arm in (arms[number] for arms in drawn)
        ]
        for place, run in enumerate(run_all(requests)):
            studies[place % len(studies)].told(run)
        done += count
    return [study.result() for study in studies]


def space_of(experiment: Experiment, arm: Arm, config: SearchConfig) -> Space:
    """What is searched for an arm: what the configuration says, else the well-known options around their values.

    What the configuration names for every arm is left out for one that has no use for it.

    Raises:
        ConfigError: The configuration names an option that the arm's backbone or fuser does not have.
    """
    said = {"backbone": config.backbone, "fuser": config.fuser.get(arm.name, config.fuser.get(arm.fuser))}
    space: Space = {}
    for name, options in _options_of(experiment, arm).items():
        wanted = said[name]
        if wanted is None:
            space[name] = _around(options)
            continue
        if unknown := [key for key in wanted if key not in type(options).model_fields]:
            raise ConfigError(f"[evaluation.search] arm {arm.name!r} has no {name} option {unknown[0]!r}")
        space[name] = _without(wanted, _useless(options, wanted))
    if config.backbone is None and "ranking" in experiment.make_fuser(arm).needs:
        space["backbone"].pop("temperature", None)  # of a loss that the fuser's own takes the place of
    return space


def _options_of(experiment: Experiment, arm: Arm) -> dict[str, Options]:
    return {"backbone": experiment.make_backbone(arm).options, "fuser": experiment.make_fuser(arm).options}


def _around(options: Options) -> dict[str, DimensionConfig]:
    from enhancer.config.schema import DimensionConfig

    found = {}
    for name, factor in {**SPREAD, **options.searched}.items():
        value = options.in_effect(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            continue
        low, high = value / factor, value * factor
        if isinstance(value, int):  # counts: of experts, of layers
            low, high = max(1, math.ceil(low)), math.floor(high)
        found[name] = DimensionConfig(low=low, high=high, log=True)
    return found


def _useless(options: Options, wanted: Mapping[str, DimensionConfig]) -> set[str]:
    """What would be ignored, whatever is drawn of the others: each with their first values, and with each choice."""
    values: dict[str, Sequence[Any]] = {
        name: dimension.choices or [dimension.low] for name, dimension in wanted.items()
    }
    first = {name: own[0] for name, own in values.items()}
    others = [{}, *({name: value} for name, own in values.items() for value in own)]
    return {
        name
        for name, own in values.items()
        if all(
            any(name in _ignored(options, {**first, **other, name: value}) for value in own)
            for other in others
            if name not in other
        )
    }


def _without(values: Mapping[str, Value], names: Collection[str]) -> dict[str, Value]:
    return {name: value for name, value in values.items() if name not in names}


def _ignored(options: Options, changes: Mapping[str, Any]) -> set[str]:
    """Which of all these would be ignored, were ``changes`` made to ``options``."""
    told = {name: getattr(options, name) for name in options.model_fields_set}
    return ignored(type(options), {**told, **changes})


class _Study:
    """The search of one arm. Asks Optuna's sampler, which sees names like ``fuser.weight``."""

    def __init__(self, experiment: Experiment, arm: Arm, space: Space, sign: int) -> None:
        optuna = _optuna()
        self._experiment, self._arm, self._sign = experiment, arm, sign
        self._options = _options_of(experiment, arm)
        self._distributions = {
            f"{part}.{name}": _distribution(optuna, dimension)
            for part, dimensions in space.items()
            for name, dimension in dimensions.items()
        }
        sampler = optuna.samplers.TPESampler(
            seed=zlib.crc32(arm.name.encode()), n_startup_trials=_AT_RANDOM, constant_liar=True
        )
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._waiting: list[tuple[Any, Arm, dict[str, dict[str, Any]]]] = []
        self._tried: list[tuple[Arm, Trial]] = []

    def draw(self, count: int) -> list[Arm]:
        """So many arms to be tried; the very first is the arm as it is."""
        start = len(self._waiting)
        for _ in range(count):
            if not self._tried:
                self._waiting.append((None, self._arm, {"backbone": {}, "fuser": {}}))
                continue
            self._waiting.append(self._drawn())
        return [arm for _, arm, _ in self._waiting[start:]]

    def _drawn(self) -> tuple[Any, Arm, dict[str, dict[str, Any]]]:
        """The next draw that can be trained; what cannot is no trial, and the sampler is told to keep away from it."""
        for _ in range(_MOST_REFUSED):
            asked = self._study.ask(self._distributions)
            tuned, options = self._with(asked.params)
            try:
                fuser = self._experiment.make_fuser(tuned)
                fuser.check(self._experiment.make_backbone(tuned), tuned.fuser)
            except (ConfigError, FusionError) as error:
                self._study.tell(asked, self._nothing)
                last = error
            else:
                return asked, tuned, options
        raise ConfigError(
            f"[evaluation.search] of {_MOST_REFUSED} draws for arm {self._arm.name!r} none can be trained:"
            f" {last.message}",
            hint="leave out of the table what does not go together",
        )

    def _with(self, drawn: Mapping[str, Any]) -> tuple[Arm, dict[str, dict[str, Any]]]:
        """The arm with what was drawn, and that by ``backbone`` and ``fuser``, less what it has no use for."""
        options: dict[str, dict[str, Any]] = {"backbone": {}, "fuser": {}}
        for name, value in drawn.items():
            part, _, option = name.partition(".")
            options[part][option] = value
        given = {"backbone": self._arm.backbone_options, "fuser": self._arm.fuser_options}
        whole: dict[str, dict[str, Any]] = {}
        for part, own in self._options.items():  # no temperature, say, where the loss that was drawn has none
            useless = _ignored(own, options[part])
            whole[part] = _without({**given[part], **options[part]}, useless)
            options[part] = _without(options[part], useless)
        tuned = replace(self._arm, fuser_options=whole["fuser"], backbone_options=whole["backbone"], untuned=self._arm)
        return tuned, options

    @property
    def _nothing(self) -> float:
        """What the sampler is told of a draw that found nothing, so that it keeps away from there."""
        return 0.0 if self._sign > 0 else -_HOPELESS

    def told(self, run: ArmRun) -> None:
        """What became of the trial that was drawn first of those still out."""
        asked, arm, options = self._waiting.pop(0)
        self._tried.append((arm, Trial(options=options, value=run.validation, seconds=run.seconds)))
        if asked is not None:
            self._study.tell(asked, self._nothing if run.validation is None else self._sign * run.validation)

    def result(self) -> SearchResult:
        trials = [trial for _, trial in self._tried]
        found = SearchResult(arm=self._arm, trials=trials, sign=self._sign)
        return replace(found, arm=self._tried[trials.index(found.best)][0])


def _distribution(optuna: Any, dimension: DimensionConfig) -> Any:
    if dimension.choices is not None:
        return optuna.distributions.CategoricalDistribution(dimension.choices)
    low, high = dimension.low, dimension.high
    if isinstance(low, int) and isinstance(high, int):
        return optuna.distributions.IntDistribution(low, high, log=dimension.log)
    return optuna.distributions.FloatDistribution(low, high, log=dimension.log)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "searching hyper-parameters needs Optuna, which is not installed", hint='pip install "enhancer[search]"'
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
