"""Backbones: models whose scores are inner products of user and item factors."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from enhancer.contracts.options import Context, Options
from enhancer.contracts.training import (
    Capability,
    Factors,
    Fitted,
    Material,
    Monitor,
    TrainingData,
    check_factors,
)
from enhancer.errors import ConfigError, DivergenceError, MemoryLimitError, PluginError
from enhancer.memory import available_memory, shown_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.contracts.fuser import Fuser

__all__ = ["Backbone", "Capability", "Factors", "Fitted", "Material", "Monitor", "TrainingData"]


class Backbone(ABC):
    """A collaborative model whose scores are inner products of user and item factors.

    A plugin implements :meth:`fit`. The framework calls :meth:`fit_checked`.
    """

    options_class: ClassVar[type[Options]] = Options
    accepts: frozenset[Capability] = frozenset()
    """Extension points offered to fusers; may depend on the options."""
    takes: frozenset[Material] = frozenset()
    """Optional training data that this backbone uses; may depend on the options. With ``"labels"``, scores must be
    logits: the sigmoid of a score is a probability."""
    candidates: ClassVar[tuple[Mapping[str, object], ...]] = ()
    """Options with which ``[backbone] use = "auto"`` tries this backbone: one mapping per candidate, ``({},)`` for the
    defaults. Empty if ``"auto"`` does not try it."""
    reference: ClassVar[Mapping[str, Sequence[object]] | None] = None
    """Declares a line that every ablation shows for comparison, fitted without vectors: the options to tune on
    validation, each with the values to try in ascending or descending order, the default among them. If the first or
    last of them is the best, values beyond it are tried, too, unless it is a whole number. Empty to use the defaults;
    None for no such line."""
    personalised: ClassVar[bool] = True
    """Whether users get different rankings. ``"auto"`` prefers a backbone that ranks alike for all users to others
    whose lead on validation may be chance."""
    plugin_name: str = ""
    """Name that the plugin is registered under; set by the plugin host."""
    memory_hint: str = "choose another [backbone] use"
    """Advice for training that would need too much memory; may depend on the options."""

    options: Options
    """Options of this instance. Finished runs and hyper-parameter searches are identified by them."""

    def __init__(self, options: Options, context: Context) -> None:
        """Store the options. A constructor that overrides this one must do so too, and must load nothing heavy."""
        del context
        self.options = options

    @property
    def display_name(self) -> str:
        """Name for error messages, such as ``backbone 'lightgcn'``."""
        return f"backbone {self.plugin_name or type(self).__name__!r}"

    @abstractmethod
    def fit(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Train on checked data with a fuser that this backbone accepts.

        Equal arguments must give equal factors. Runs with the same seed and different fusers must start from the same
        initial parameters.

        Args:
            data: Interactions, vectors and side features. :meth:`fit_checked` has checked them.
            fuser: Call its :meth:`~enhancer.contracts.Fuser.build_checked` once.
            seed: Seed of all random numbers. A deterministic backbone ignores it.
            monitor: Validation, progress and checkpoint path.
        """

    def resolved(self, data: TrainingData) -> Options:
        """Return the options with those replaced by numbers that follow from the data, such as an ``"auto"``.

        Args:
            data: Training data. Only their numbers of users, items and interactions should matter.
        """
        del data
        return self.options

    def unsuited(self, data: TrainingData) -> str | None:
        """Return why ``[backbone] use = "auto"`` should not try this backbone on the data; None to try it.

        Missing libraries, memory and labels are checked without this method.

        Args:
            data: Training data.
        """
        del data
        return None

    def ignores_seed(self, data: TrainingData) -> bool:
        """Return whether :meth:`fit` has the same result for every seed, with a fuser that ignores it as well.

        Such a model is trained once for all seeds of an ablation.

        Args:
            data: Training data.
        """
        del data
        return False

    def memory(self, data: TrainingData) -> int | None:
        """Estimate the peak memory of :meth:`fit` beside its data, in bytes; None if unknown.

        Args:
            data: Training data. Only their numbers of users, items and interactions should matter.
        """
        del data
        return None

    def check_memory(self, data: TrainingData) -> None:
        """Check that the estimate of :meth:`memory` is not above what this process may still allocate.

        Args:
            data: Training data.

        Raises:
            MemoryLimitError: It is. The message gives both numbers of bytes.
        """
        needed, available = self.memory(data), available_memory()
        if needed is None or available is None or needed <= available:
            return
        raise MemoryLimitError(
            f"{self.display_name} would need {shown_bytes(needed)} of memory for {data.n_users:,} users, "
            f"{data.n_items:,} items and {len(data.users):,} interactions, but {shown_bytes(available)} are available",
            hint=f"{self.memory_hint}, or train where there is more memory",
        )

    def fit_checked(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Check the arguments, call :meth:`fit`, and check its result.

        A result without history, as from a closed form, is validated once and gets one entry.

        Args:
            data: Interactions, vectors and side features.
            fuser: Adds semantic vectors to the model.
            seed: Seed of all random numbers.
            monitor: Validation, progress and checkpoint path. Factors are checked before they are validated.

        Raises:
            ConfigError: The data contain side features or labels that this backbone cannot use, or lack labels that it
                needs.
            DataError: There are no interactions, or the arrays do not fit each other.
            FusionError: The fuser needs an extension point that this backbone does not offer, or vectors that the data
                do not have.
            PluginError: Factors or placements have a wrong type, shape or dtype.
            MemoryLimitError: Training needs more memory than is available; see :meth:`check_memory`.
            DivergenceError: A factor is NaN or infinite.
        """
        fuser.check(self)
        self.check_data(data)
        data.check()
        fuser.check_vectors(data)
        self.check_memory(data)
        checked = _CheckedMonitor(monitor, data, where=self.display_name)
        started = time.perf_counter()
        try:
            fitted = self.fit(data, fuser, seed=seed, monitor=checked)
            seconds = time.perf_counter() - started
            if not isinstance(fitted, Fitted):
                raise PluginError(f"{self.display_name}: fit() returned {type(fitted).__name__}, not Fitted")
            fitted.check(data, where=self.display_name)
        except DivergenceError as error:
            if error.hint is None:
                error.hint = self._hint_if_not_finite()
            raise
        if fitted.history or checked.validated:
            return fitted
        metric = monitor.validate(fitted.factors)
        entry = {"epoch": float(fitted.best_epoch), "seconds": seconds}
        return replace(fitted, history=[entry if metric is None else {**entry, "metric": metric}])

    def check_data(self, data: TrainingData, name: str | None = None) -> None:
        """Check that this backbone uses all side features and labels in the data, and has the labels it needs.

        Args:
            data: Training data.
            name: Name of the plugin in messages, by default its own.

        Raises:
            ConfigError: There are side features or labels that it cannot use, or no labels although it needs them.
        """
        sides = [part for part in (data.user_features, data.item_features) if part is not None]
        columns = dict.fromkeys(each.partition("=")[0] for part in sides for each in part.names)
        self.check_material(features=list(columns), labelled=data.labels is not None, name=name)
        if data.labels is not None and "labels" not in self.takes:
            raise ConfigError(f"{self._called(name)} cannot use labels", hint="pass the positive interactions alone")

    def check_material(self, *, features: Sequence[str], labelled: bool, name: str | None = None) -> None:
        """Check configured side features and labels before any data are read.

        Args:
            features: Names of the configured side-feature columns.
            labelled: Whether interactions have labels. A backbone without labels gets the positive ones alone.
            name: Name of the plugin in messages, by default its own.

        Raises:
            ConfigError: There are side features that it cannot use, or no labels although it needs them.
        """
        if features and "features" not in self.takes:
            raise ConfigError(
                f"{self._called(name)} cannot use side features, but [data.features] names {', '.join(features)}",
                hint="set [backbone] use = 'fm', or remove [data.features]",
            )
        if not labelled and "labels" in self.takes:
            raise ConfigError(
                f"{self._called(name)} learns from labels, but the interactions have none",
                hint="set [data.columns] label, such as label = 'click' or label = 'rating >= 4'",
            )

    def _hint_if_not_finite(self) -> str | None:
        """Return the option that may keep factors finite, among those that this backbone has."""
        known = self.options_class.model_fields
        options = {"learning_rate": "lower", "regularisation": "raise"}
        verbs = [f"{verb} [backbone] {option}" for option, verb in options.items() if option in known]
        return ", or ".join(verbs) or None

    def _called(self, name: str | None) -> str:
        return self.display_name if name is None else f"backbone {name!r}"


class _CheckedMonitor:
    """Monitor that checks factors before it validates them."""

    def __init__(self, monitor: Monitor, data: TrainingData, *, where: str) -> None:
        self.checkpoint = monitor.checkpoint
        self.repeats: int | None = getattr(monitor, "repeats", None)  # a monitor of others may lack it
        self.epoch_finished = monitor.epoch_finished
        self.validated = False
        self._monitor, self._data, self._where = monitor, data, where

    def validate(self, factors: Factors) -> float | None:
        """Return the validation metric of factors that have the right type, shape and dtype."""
        check_factors(factors, self._data, where=self._where)
        self.validated = True
        return self._monitor.validate(factors)
