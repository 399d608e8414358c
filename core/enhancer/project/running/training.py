"""Train runs through the runner: here from the project's files, elsewhere from tables that the job carries."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.contracts.training import SemanticVectors
from enhancer.errors import EvaluationError
from enhancer.evaluation import Experiment, Workers
from enhancer.features.reading.pooling import pool
from enhancer.project.parts import ProjectParts
from enhancer.project.run_setup import worker_experiment
from enhancer.project.running.connecting import connected, of_arms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from enhancer.config import Settings
    from enhancer.config.inputs import Input
    from enhancer.contracts.record import Kind
    from enhancer.data import ReadFeatures, Split
    from enhancer.evaluation import Arm
    from enhancer.evaluation.measuring.strata import ItemGroup
    from enhancer.evaluation.running.shared_vectors import SharedVectors
    from enhancer.evaluation.running.vectors import Features, FloatMatrix

    Wrap = Callable[[Features], Features]


def training_workers(
    parts: ProjectParts,
    tables: SharedVectors,
    arms: Iterable[Arm],
    groups: Sequence[ItemGroup] = (),
    *,
    wrap: Wrap | None = None,
) -> tuple[Workers, Features]:
    """Return what trains runs, and the function that returns vectors and has them ready for other processes.

    Args:
        parts: The project's parts.
        tables: Folder of the vectors that processes share.
        arms: The arms that will be trained.
        groups: Items that are measured apart.
        wrap: Wraps the function that returns vectors, in this process and in others.

    Raises:
        ConfigError: A machine of the runner cannot be reached or has other software.
    """
    runner, _ = connected(parts, of_arms(parts, arms))
    settings = parts.settings
    wrapped: Wrap = _unchanged if wrap is None else wrap
    if runner.apart:
        carried = CarriedParts(parts, tables, groups, wrapped)
        return Workers(settings.evaluation.workers, carried, runner), wrapped(carried.features)
    # A worker process finds installed plugins only, not those that this process registered by hand.
    count = settings.evaluation.workers if parts.opens_elsewhere else 1
    make = partial(worker_experiment, settings, parts.root, tables, groups, wrap=wrapped)
    return Workers(count, make, runner), wrapped(tables.saving(parts.features) if count > 1 else parts.features)


def _unchanged(features: Features) -> Features:
    return features


class CarriedParts:
    """Everything that an experiment reads, which is pickled as :class:`CarriedExperiment` when a job begins.

    Args:
        parts: The project's parts.
        tables: Folder of vectors: they are read once, from one state of the store, and kept there until a job begins.
        groups: Items that are measured apart.
        wrap: Wraps the function that returns vectors.
    """

    def __init__(self, parts: ProjectParts, tables: SharedVectors, groups: Sequence[ItemGroup], wrap: Wrap) -> None:
        self._parts = parts
        self._saved = tables.saving(parts.features)
        self._load = tables.loading(parts.features)
        self._groups = tuple(groups)
        self._wrap = wrap
        self._inputs: dict[tuple[Input, ...], None] = {}

    def features(self, inputs: tuple[Input, ...]) -> SemanticVectors:
        """Return semantic vectors, and have them carried by jobs."""
        self._inputs[inputs] = None
        return SemanticVectors(*self._saved(inputs))

    def __call__(self) -> Experiment:
        """Make the experiment, as other processes will."""
        return self._carried()()

    def __reduce__(self) -> tuple[Callable[..., CarriedExperiment], tuple[Any, ...]]:
        """Pickle the tables instead of the parts that they were read from."""
        return _made, tuple(vars(self._carried()).values())

    def _carried(self) -> CarriedExperiment:
        parts, spread = self._parts, self._parts.spread
        vectors = {each: SemanticVectors(*self._load(each)) for each in self._inputs}
        names = {view.name for each in vectors.values() for view in each.views}
        return CarriedExperiment(
            settings=parts.settings,
            root=parts.root,
            split=parts.split,
            side_features=parts.side_features,
            vectors={
                each: SemanticVectors(
                    None if found.users is None else np.asarray(found.users), np.asarray(found.items), found.views
                )
                for each, found in vectors.items()
            },
            spreads={} if spread is None else {name: spread((name,)) for name in sorted(names)},
            groups=self._groups,
            wrap=self._wrap,
        )


@dataclass(frozen=True)
class CarriedExperiment:
    """The tables of an experiment, from which it is made where the files of the project cannot be seen."""

    settings: Settings
    root: Path
    split: Split
    side_features: Mapping[Kind, ReadFeatures]
    vectors: Mapping[tuple[Input, ...], SemanticVectors]
    spreads: Mapping[Input, FloatMatrix]
    """How much the samples of each item's notes differ, float32 ``[n_items, 1]``, by input."""
    groups: tuple[ItemGroup, ...] = ()
    wrap: Wrap = field(default=_unchanged)

    def __call__(self) -> Experiment:
        """Return the experiment. It equals that of :func:`~enhancer.project.run_setup.experiment_over`."""
        parts = ProjectParts(self.settings, self.root)
        # Copies, as of the vectors below: arrays of the job may be read-only, and shared by processes.
        parts.split = copy.deepcopy(self.split)
        parts.side_features = copy.deepcopy(dict(self.side_features))
        train = parts.split.train
        pooled = self.settings.prompts.user.source == "pool"
        return Experiment.over(
            parts.split,
            self.wrap(self._features),
            parts.backbone,
            parts.fuser,
            metrics=self.settings.evaluation.metrics,
            pool=partial(pool, users=train.users, items=train.items, n_users=len(train.user_ids)) if pooled else None,
            spread=self._spread if self.spreads else None,
            sides=parts.sides,
            groups=self.groups,
        )

    def _features(self, inputs: tuple[Input, ...]) -> SemanticVectors:
        found = self.vectors.get(inputs)
        if found is None:
            raise EvaluationError(f"the job carries no vectors of {' + '.join(inputs)}")
        return SemanticVectors(None if found.users is None else found.users.copy(), found.items.copy(), found.views)

    def _spread(self, inputs: Sequence[Input]) -> FloatMatrix:
        return np.concatenate([self.spreads[name] for name in inputs], axis=1)


def _made(*values: Any) -> CarriedExperiment:
    return CarriedExperiment(*values)
