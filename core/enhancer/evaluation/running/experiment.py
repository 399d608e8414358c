"""The experiment: everything that a training run needs besides its arm and seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enhancer.config.inputs import TEXT
from enhancer.contracts.training import SemanticVectors
from enhancer.errors import EvaluationError
from enhancer.evaluation.frontier.shares import needs_text, without_unbought
from enhancer.evaluation.measuring.panels import Panel, make_panels
from enhancer.evaluation.measuring.views import Views, training_data
from enhancer.evaluation.running.preconditions import check_metrics
from enhancer.evaluation.running.vectors import shuffled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from enhancer.config.inputs import Input
    from enhancer.contracts.backbone import Backbone, TrainingData
    from enhancer.contracts.features import Sides
    from enhancer.contracts.fuser import Fuser
    from enhancer.contracts.training import View
    from enhancer.evaluation.measuring.strata import ItemGroup
    from enhancer.evaluation.measuring.views import SplitLike
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.vectors import Features, FloatMatrix, Spread

KEPT_BYTES = 2 << 30
"""Largest size of the vectors that are kept for other arms, in bytes. Those of the present arm are kept in any case."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Reference:
    """A backbone that is a reference line."""

    make: Callable[[Mapping[str, Any]], Backbone]
    """Returns a new backbone with the given options."""
    grid: Mapping[str, Sequence[Any]]
    """Options to tune; see :attr:`enhancer.contracts.Backbone.reference`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Experiment:
    """A split, the vectors, the metrics, and the functions that make backbones and fusers. Shared by all arms."""

    views: Views
    panels: list[Panel]
    features: Features
    pool: Callable[[FloatMatrix], FloatMatrix] | None
    spread: Spread | None
    make_backbone: Callable[[Arm], Backbone]
    make_fuser: Callable[[Arm], Fuser]
    metrics: list[str]
    sides: Sides | None = None
    references: Mapping[str, Reference] = field(default_factory=dict)
    """Reference lines, by name."""
    groups: tuple[ItemGroup, ...] = ()
    """Items that are measured apart."""
    _vectors: dict[tuple[Input, ...], SemanticVectors] = field(default_factory=dict, init=False, repr=False)
    _spreads: dict[tuple[Input, ...], FloatMatrix] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def over(
        cls,
        split: SplitLike,
        features: Features,
        make_backbone: Callable[[Arm], Backbone],
        make_fuser: Callable[[Arm], Fuser],
        *,
        metrics: Sequence[str],
        pool: Callable[[FloatMatrix], FloatMatrix] | None = None,
        spread: Spread | None = None,
        sides: Sides | None = None,
        references: Mapping[str, Reference] | None = None,
        groups: Sequence[ItemGroup] = (),
    ) -> Experiment:
        """Set up an experiment on a split.

        Args:
            split: Train, validation and test part, shared by all arms.
            features: Returns user and item vectors for a combination of embedded inputs. Called once per combination,
                and again for one that was let go of because all combinations together need too much memory.
            make_backbone: Returns a new backbone for an arm.
            make_fuser: Returns a new fuser for an arm.
            metrics: Names such as ``ndcg@10``. The first one drives early stopping and the verdict.
            pool: Computes user vectors from item vectors, using training interactions only. None uses the user vectors
                of ``features``.
            spread: Returns how much the samples of each item's notes differ; None if notes have one sample.
            sides: Side features of users and items, the same for every arm.
            references: Backbones to show as reference lines, by name. The rates of labelled pairs need none.
            groups: Items that are measured apart.

        Raises:
            ConfigError: A metric is unknown, or needs labels that the interactions do not have.
            EvaluationError: No test pair can be scored, or all labels that a metric needs are equal.
        """
        views = Views(split)
        check_metrics(views, metrics)
        panels = make_panels(views, metrics, groups)
        if not panels or panels[0].strata[0].name != "all":
            hint = "check [evaluation] split, min_rating and k_core"
            if len(views.cold_test.users):
                hint = "the test part has held-out items only: add interactions with items of the training part"
            raise EvaluationError(
                "no test interaction has both a user and an item with training interactions", hint=hint
            )
        return cls(
            views=views,
            panels=panels,
            features=features,
            pool=pool,
            spread=spread,
            make_backbone=make_backbone,
            make_fuser=make_fuser,
            metrics=list(metrics),
            sides=sides,
            references=references or {},
            groups=tuple(groups),
        )

    def data(self, arm: Arm, seed: int, *, labelled: bool) -> TrainingData:
        """Return the training data of a run.

        Args:
            arm: Decides which vectors are included.
            seed: Shuffles the vectors of a placebo arm, before user vectors are pooled from them.
            labelled: Whether to include negative interactions, with labels.
        """
        if not arm.semantic:
            return training_data(self.views.split, sides=self.sides, labelled=labelled)
        users, items, views = self._tables(arm.inputs)
        if arm.shuffle:
            items = shuffled(items, seed)
            users = None if users is None else shuffled(users, seed)
        if arm.kept is not None:
            items = self._bought(arm, items, views, seed)
        spread = self._spread_of(views)
        if spread is not None and arm.shuffle:
            spread = shuffled(spread, seed, like=self._tables(arm.inputs).items)
        if self.pool is not None:
            users = self.pool(items)
        return training_data(
            self.views.split, users, items, views, item_spread=spread, sides=self.sides, labelled=labelled
        )

    def _spread_of(self, views: Sequence[View]) -> FloatMatrix | None:
        """Return how much the samples of each item's notes differ, float32 ``[n_items, n_views]``."""
        if self.spread is None:
            return None
        names = tuple(view.name for view in views)
        if names not in self._spreads:
            self._spreads[names] = self.spread(names)
        return self._spreads[names]

    def item_vectors(self, inputs: tuple[Input, ...]) -> FloatMatrix:
        """Return the vectors of all items, float32 ``[n_items, d]``."""
        return self._tables(inputs).items

    def _bought(self, arm: Arm, items: FloatMatrix, views: Sequence[View], seed: int) -> FloatMatrix:
        """Return item vectors as if generated texts had been bought for a share of the catalogue alone."""
        assert arm.kept is not None
        text = None
        if any(needs_text(view.name) for view in views):
            text = self.item_vectors((TEXT,))
            text = shuffled(text, seed) if arm.shuffle else text
        return without_unbought(items, views, arm.kept.kept(self.views.popularity), text)

    def _tables(self, inputs: tuple[Input, ...]) -> SemanticVectors:
        found = self._vectors.pop(inputs, None)
        if found is None:
            found = SemanticVectors(*self.features(inputs))
        self._vectors[inputs] = found  # the last one is the most recent
        while len(self._vectors) > 1 and sum(map(_size, self._vectors.values())) > KEPT_BYTES:
            del self._vectors[next(iter(self._vectors))]
        return found


def _size(vectors: SemanticVectors) -> int:
    return vectors.items.nbytes + (0 if vectors.users is None else vectors.users.nbytes)
