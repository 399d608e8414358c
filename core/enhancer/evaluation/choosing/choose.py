"""Try backbones on the validation part, and choose the best one.

Every candidate gets the same number of trials at most: the first with its defaults, the others with neighbouring
strengths of its penalty and other options that its plugin declares in ``Options.searched``. A candidate that is far
behind the best one gets fewer. All trials use the training part, one seed and no vectors. The test part is not used.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.contracts.training import Factors
from enhancer.errors import ConfigError, EnhancerError, EvaluationError
from enhancer.evaluation.choosing.choice import BackboneChoice, BackboneTrial, Candidate, TriedBackbone
from enhancer.evaluation.choosing.neighbours import climb, steps_of
from enhancer.evaluation.choosing.trial_run import TrialMonitor, run_trial
from enhancer.evaluation.measuring.metrics import direction, evaluate, parse_metric
from enhancer.evaluation.measuring.views import training_data
from enhancer.evaluation.running.preconditions import check_task
from enhancer.files import atomic_replace
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Backbone, TrainingData
    from enhancer.contracts.features import Sides
    from enhancer.evaluation.measuring.views import Views
    from enhancer.progress import Listener

_log = logging.getLogger(__name__)
_SIGNIFICANT = 1.645
"""Standard errors by which a personalised candidate must lead a list for all users: 5%, one-sided."""
_SLACK = 0.05
"""A candidate gets trial ``n + 1`` if its best of ``n`` trials is at most this share, divided by ``n``, below the best
of all candidates: neighbouring options may gain that much."""


class BackboneChooser:
    """Tries candidates on one split.

    Args:
        views: The split. Its validation part decides.
        metrics: Names such as ``ndcg@10``. The first one decides; a candidate must be able to give all of them.
        sides: Side features of users and items.
        seed: Seed of all trials.
        trials: Largest number of trials of one candidate.
    """

    def __init__(
        self,
        views: Views,
        metrics: Sequence[str],
        *,
        sides: Sides | None = None,
        seed: int = 0,
        trials: int = 8,
    ) -> None:
        self._views, self._metrics, self._sides = views, list(metrics), sides
        self._seed, self._trials = seed, trials
        self._data: dict[bool, TrainingData] = {}

    def examine(self, candidates: Sequence[Candidate]) -> tuple[list[tuple[Candidate, Backbone]], list[TriedBackbone]]:
        """Separate the candidates that can be tried, in the order in which to try them, from the others.

        Returns:
            Candidates with their backbones, those with the fewest epochs first, and the others with the reasons.

        Raises:
            EvaluationError: The split has no validation part.
        """
        labelled = parse_metric(self._metrics[0]).uses_labels
        views = self._views
        if not len(views.labelled_validation.users if labelled else views.warm_validation.users):
            raise EvaluationError(
                "[backbone] use = 'auto' compares backbones on the validation part, but the split has none",
                hint="raise [evaluation] validation_size (a user needs three interactions to be in every part),"
                " or name a backbone, such as use = 'lightgcn'",
            )
        able: list[tuple[Candidate, Backbone]] = []
        left_out = []
        for candidate in candidates:
            made = self._prepared(candidate)
            if isinstance(made, str):
                left_out.append(TriedBackbone(candidate=candidate, options=candidate.options, reason=made))
            else:
                able.append((candidate, made))
        # Closed forms have no epochs. Quick candidates come first, so that slower ones are measured against them.
        able.sort(key=lambda pair: getattr(pair[1].options, "epochs", 0))
        return able, left_out

    def _prepared(self, candidate: Candidate) -> Backbone | str:
        """Return the backbone of a candidate, or why it cannot be tried."""
        if candidate.unavailable is not None:
            return candidate.unavailable
        try:
            backbone = candidate.make(candidate.options)
            data = self.data_for(backbone)
            check_task(backbone, data, self._views, self._metrics, candidate.backbone)
            if (reason := backbone.unsuited(data)) is not None:
                return reason
            backbone.check_memory(data)
        except EnhancerError as error:
            return str(error)
        return backbone

    def data_for(self, backbone: Backbone) -> TrainingData:
        """Return the training data of a backbone: with labels if it takes them, without vectors."""
        labelled = "labels" in backbone.takes
        if labelled not in self._data:
            self._data[labelled] = training_data(self._views.split, sides=self._sides, labelled=labelled)
        return self._data[labelled]

    def choose(
        self,
        able: Sequence[tuple[Candidate, Backbone]],
        left_out: Sequence[TriedBackbone] = (),
        *,
        remember: Path | None = None,
        listener: Listener = silent,
    ) -> BackboneChoice:
        """Try candidates, and return them in the order of their quality.

        Args:
            able: Candidates with their backbones, as :meth:`examine` returns them.
            left_out: Those that cannot be tried.
            remember: File of finished trials, which are not run again. The caller chooses it by all that they depend
                on.
            listener: Called with progress after every epoch and trial: stage ``choose``.

        Raises:
            ConfigError: No candidate can be tried, or all failed.
        """
        finished = _FinishedTrials(remember)
        found: list[TriedBackbone] = []
        total, any_ran = len(able) * self._trials, False
        for place, (candidate, backbone) in enumerate(able):
            leader = max((self._signed(each.value) for each in found if each.value is not None), default=None)
            trier = _Trier(self, candidate, backbone, finished, listener, (place * self._trials, total), leader)
            found.append(trier.run())
            any_ran = any_ran or trier.ran
            _log.info("%s", found[-1].to_json())
        if any_ran:
            listener(Progress("choose", total, total))
        tried = [each for each in found if each.value is not None]
        failed = [*(each for each in found if each.value is None), *left_out]
        if not tried:
            raise ConfigError(
                f"[backbone] use = 'auto' could try no backbone: {_reasons(failed)}",
                hint='name one, such as use = "lightgcn", to see what it lacks',
            )
        tried.sort(key=lambda each: -self._signed(each.value))  # stable: the quicker one among equals
        alike = {candidate.label for candidate, backbone in able if not backbone.personalised}
        tried = self._unless_by_chance(tried, alike)
        return BackboneChoice(metric=self._metrics[0], seed=self._seed, tried=tuple(tried), left_out=tuple(failed))

    def _unless_by_chance(self, tried: list[TriedBackbone], alike: Collection[str]) -> list[TriedBackbone]:
        """Put the best list for all users first if no personalised candidate is significantly better.

        The best of many trials on few validation pairs is the luckiest one.
        """
        plain = next((each for each in tried if each.label in alike), None)
        if plain is None or plain is tried[0]:
            return tried
        better = [each for each in tried[: tried.index(plain)] if each.error is None or self._leads(each, plain)]
        if better:
            return tried
        rest = [
            replace(each, reason=f"not significantly better than {plain.label}")
            if self._signed(each.value) > self._signed(plain.value)
            else each
            for each in tried
            if each is not plain
        ]
        return [plain, *rest]

    def _leads(self, each: TriedBackbone, plain: TriedBackbone) -> bool:
        lead = self._signed(each.value) - self._signed(plain.value)
        return lead > _SIGNIFICANT * (each.error or 0.0)

    @cached_property
    def _bestsellers(self) -> NDArray[np.float64] | None:
        """Metric of each validation user by a list of bestsellers; None for metrics of labelled pairs."""
        metric, views = self._metrics[0], self._views
        if parse_metric(metric).uses_labels:
            return None
        counts = views.popularity.astype(np.float32)[:, None]
        scores = evaluate(
            Factors(np.ones((views.n_users, 1), np.float32), counts),
            views.warm_validation,
            seen=views.seen_validating,
            candidates=views.warm_items,
            metrics=(metric,),
        )
        return scores.values[metric]

    def _signed(self, value: float | None) -> float:
        assert value is not None
        return direction(self._metrics[0]) * value

    def monitor(
        self, best: list[float], leader: float | None, run: str, listener: Listener, runs: tuple[int, int]
    ) -> TrialMonitor:
        """Return the monitor of a trial."""
        done, total = runs
        return TrialMonitor(
            best,
            leader,
            self._bestsellers,
            self._views,
            self._metrics[0],
            run=run,
            listener=listener,
            stage="choose",
            runs_done=done,
            runs=total,
        )

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return self._metrics[0]

    @property
    def seed(self) -> int:
        """Seed of all trials."""
        return self._seed

    @property
    def trials(self) -> int:
        """Largest number of trials of one candidate."""
        return self._trials


class _Trier:
    """Runs the trials of one candidate."""

    def __init__(
        self,
        chooser: BackboneChooser,
        candidate: Candidate,
        backbone: Backbone,
        finished: _FinishedTrials,
        listener: Listener,
        runs: tuple[int, int],
        leader: float | None,
    ) -> None:
        self._chooser, self._candidate, self._backbone = chooser, candidate, backbone
        self._finished, self._listener, self._leader = finished, listener, leader
        self._before, self._total = runs
        self._data = chooser.data_for(backbone)
        self._sign = direction(chooser.metric)
        self._trials: list[BackboneTrial] = []
        self._best: BackboneTrial | None = None
        self._curve: list[float] = []
        self._reason: str | None = None
        self.ran = False
        """Whether a trial was run, not recalled."""

    def run(self) -> TriedBackbone:
        """Run the trials, and return the candidate with its best options."""
        options = self._backbone.resolved(self._data)
        steps = steps_of(options, self._backbone.reference)
        climb({name: options.in_effect(name) for name in steps}, steps, self._evaluate, self._may_go_on)
        best = self._best
        return TriedBackbone(
            candidate=self._candidate,
            options=self._candidate.options if best is None else {**self._candidate.options, **best.options},
            value=None if best is None else best.value,
            trials=tuple(self._trials),
            reason=self._trials[0].failure if best is None else self._reason,
        )

    def _evaluate(self, changes: Mapping[str, Any]) -> float | None:
        """Run one trial; return its validation, higher is better."""
        name = f"{self._candidate.label}/trial{len(self._trials)}"
        runs = (self._before + len(self._trials), self._total)
        curve, trial = self._finished.recall(self._candidate, changes)
        recalled = trial is not None
        if trial is None:
            try:
                backbone = self._candidate.make({**self._candidate.options, **changes}) if changes else self._backbone
            except ConfigError:  # a neighbouring value beyond the bounds of the option
                return None
            monitor = self._chooser.monitor(self._curve, self._leader, name, self._listener, runs)
            trial = run_trial(
                backbone, self._data, changes, monitor, metric=self._chooser.metric, seed=self._chooser.seed
            )
            curve = monitor.curve
            self._finished.keep(self._candidate, changes, curve, trial)
        self._trials.append(trial)
        if not recalled:
            self.ran = True
            self._listener(Progress("choose", runs[0] + 1, self._total, {"run": name, "metric": trial.value}))
        if trial.value is None:
            return None
        value = self._sign * trial.value
        if self._best is None or (self._best.value is not None and value > self._sign * self._best.value):
            self._best, self._curve = trial, curve
        return value

    def _may_go_on(self) -> bool:
        done = len(self._trials)
        if self._best is None or self._best.value is None or done >= self._chooser.trials:
            return False
        if self._leader is None or self._backbone.reference is not None:
            return True  # a reference line must be tuned anyway, and it is the result of these trials
        behind = self._leader - self._sign * self._best.value
        if behind <= _SLACK / done * abs(self._leader):
            return True
        self._reason = f"after {done} of {self._chooser.trials} trials too far behind for more"
        return False


class _FinishedTrials:
    """Finished trials, in a file."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._trials: dict[str, dict[str, Any]] = {}
        if path is not None:
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                for key, entry in stored["trials"].items():
                    BackboneTrial.from_json(entry["trial"])
                    self._trials[key] = {"curve": [float(value) for value in entry["curve"]], "trial": entry["trial"]}
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                self._trials = {}  # absent, or damaged: the trials are run again

    def recall(self, candidate: Candidate, changes: Mapping[str, Any]) -> tuple[list[float], BackboneTrial | None]:
        """Return the validations of a finished trial and the trial; an empty list and None if there is none."""
        entry = self._trials.get(_key(candidate, changes))
        return ([], None) if entry is None else (entry["curve"], BackboneTrial.from_json(entry["trial"]))

    def keep(
        self, candidate: Candidate, changes: Mapping[str, Any], curve: Sequence[float], trial: BackboneTrial
    ) -> None:
        """Remember a finished trial. If the file cannot be written, the choice goes on without it.

        A failed one is not remembered: what it lacked may be there the next time.
        """
        if self._path is None or trial.failure is not None:
            return
        self._trials[_key(candidate, changes)] = {"curve": list(curve), "trial": trial.to_json()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_replace(self._path) as draft:
                draft.write_text(json.dumps({"trials": self._trials}), encoding="utf-8")
        except OSError as error:
            _log.warning("cannot write %s (%s): the backbones will be tried again the next time", self._path, error)
            self._path = None


def _reasons(failed: Sequence[TriedBackbone]) -> str:
    """Tell why candidates could not be tried; those with the same reason are named together."""
    labels: dict[str | None, list[str]] = {}
    for each in failed:
        labels.setdefault(each.reason, []).append(each.label)
    told = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in labels.items())
    return told or "no installed backbone offers itself"


def _key(candidate: Candidate, changes: Mapping[str, Any]) -> str:
    return json.dumps([candidate.label, candidate.backbone, dict(changes)], sort_keys=True, default=str)
