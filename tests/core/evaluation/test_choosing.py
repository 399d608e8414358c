"""The parts of the choice of a backbone: the search over neighbouring options, and the end of lost trials."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.contracts import Backbone, Factors, Fitted, Options
from enhancer.evaluation import Views
from enhancer.evaluation.choosing.choice import Candidate
from enhancer.evaluation.choosing.choose import BackboneChooser
from enhancer.evaluation.choosing.neighbours import climb, steps_of


def climbed(value, trials, start=1.0, step=3.16):
    """Options tried, in order, for a function of one option."""
    tried = []

    def evaluate(changes):
        tried.append(changes.get("strength", start))
        return value(tried[-1])

    climb({"strength": start}, {"strength": step}, evaluate, lambda: len(tried) < trials)
    return tried


@given(st.floats(-3, 3))
def test_twelve_trials_come_within_a_fifth_of_the_best_of_a_curve_with_one_peak(peak):
    def value(strength):
        return -abs(math.log10(strength) - peak)

    tried = climbed(value, 12)
    assert len(tried) == len(set(tried)) <= 12
    best = max(tried, key=value)
    assert abs(math.log10(best) - peak) < math.log10(1.8) if abs(peak) < 2 else abs(math.log10(best) - peak) < 0.5


def test_the_first_trial_is_the_default_and_a_failed_one_ends_the_search():
    assert climbed(lambda _: None, 6) == [1.0]


def test_counts_stay_counts():
    tried = []
    climb(
        {"dim": 1},
        {"dim": 2.0},
        lambda changes: tried.append(changes.get("dim", 1)) or -tried[-1],
        lambda: len(tried) < 4,
    )
    assert tried == [1, 2]  # one is the least


class _Varied(Options):
    searched = {"blur": 9.0, "off": 4.0}  # noqa: RUF012 - read only
    blur: float = 2.0
    off: float | None = None
    regularisation: float = 0.1
    learning_rate: float = 1.0


def test_the_penalty_is_varied_before_what_the_plugin_declares():
    steps = steps_of(_Varied())
    assert list(steps) == ["regularisation", "blur"]
    assert steps["blur"] == pytest.approx(3)
    grid = {"blur": (1.0, 8.0), "learning_rate": (4.0, 1.0, 0.5), "off": ("none", 1.0)}
    assert steps_of(_Varied(), grid) == pytest.approx(steps | {"learning_rate": 2.0})
    assert steps_of(_Varied(regularisation=0.0, blur=1e-9)).keys() == {"blur"}


def ranked(split, share):
    """Factors that rank a share of each user's validation items first."""
    users, items = np.zeros((60, 80), np.float32), np.eye(80, dtype=np.float32)
    pairs = split.validation
    keep = np.arange(len(pairs.users)) % 100 < 100 * share
    users[pairs.users[keep], pairs.items[keep]] = 1
    return Factors(users, items)


class CurveOptions(Options):
    searched = {"scale": 16.0}  # noqa: RUF012 - read only
    scale: float = 1.0
    epochs: int = 29
    speed: float = 0.02


class Curve(Backbone):
    """Learns ``speed`` more of the validation items at each epoch, up to ``limit``; slower at other scales than 1."""

    options_class = CurveOptions
    limit = 0.6

    def __init__(self, options, split):
        self.options, self._split, self.epochs_done = options, split, 0

    def fit(self, data, fuser, *, seed, monitor):
        own = self.options
        for epoch in range(1, own.epochs + 1):
            share = min(self.limit, own.speed * epoch) / (1 + abs(math.log(own.scale)))
            factors = ranked(self._split, share)
            self.epochs_done = epoch
            metric = monitor.validate(factors)
            monitor.epoch_finished(epoch, own.epochs, 1 / epoch, metric)
        return Fitted(factors=factors)


class Flat(Curve):
    limit = 0.7

    def fit(self, data, fuser, *, seed, monitor):
        self.epochs_done = 1
        return Fitted(factors=ranked(self._split, self.limit))


def chosen(world, *candidates, trials=6, **more):
    split, _ = world
    made = []

    def candidate(label, cls, options):
        def make(changes):
            made.append((label, cls(cls.options_class(**changes), split)))
            return made[-1][1]

        return Candidate(label=label, backbone=label, options=options, make=make)

    chooser = BackboneChooser(Views(split), ["recall@20"], trials=trials, **more)
    choice = chooser.choose(*chooser.examine([candidate(*each) for each in candidates]))
    return choice, made


def test_neighbours_that_cannot_win_are_ended_before_their_last_epoch(world):
    choice, made = chosen(world, ("curve", Curve, {}))
    first, *others = choice.winner.trials
    assert (first.stopped, made[0][1].epochs_done) == (False, 29)
    assert len(others) == 5
    assert all(trial.stopped and trial.value < first.value for trial in others)
    assert all(4 <= backbone.epochs_done < 25 for _, backbone in made[1:])
    assert choice.winner.options == {}


def test_a_first_trial_goes_on_while_it_may_reach_the_best_and_ends_where_it_cannot(world):
    quick, slow = ("quick", Curve, {"speed": 0.03, "epochs": 40}), ("slow", Curve, {"speed": 0.001, "epochs": 50})
    choice, made = chosen(world, ("flat", Flat, {"epochs": 1}), quick, slow, trials=1)
    done = {label: backbone.epochs_done for label, backbone in made}
    assert [each.label for each in choice.tried] == ["flat", "quick", "slow"]
    assert done == {"flat": 1, "quick": pytest.approx(26, abs=3), "slow": pytest.approx(5, abs=2)}


def test_a_trial_that_goes_on_gaining_ends_after_thirty_validations(world):
    choice, made = chosen(world, ("curve", Curve, {"speed": 0.01, "epochs": 60}), trials=1)
    assert [backbone.epochs_done for label, backbone in made if backbone.epochs_done] == [30]
    assert choice.winner.trials[0].stopped


def test_the_order_of_candidates_is_the_number_of_epochs_and_ties_go_to_the_first(world):
    choice, _ = chosen(world, ("long", Flat, {"epochs": 9}), ("short", Flat, {"epochs": 2}), trials=1)
    assert [each.label for each in choice.tried] == ["short", "long"]


def test_a_closed_form_that_validates_several_fits_is_never_ended(world):
    class Several(Flat):
        def fit(self, data, fuser, *, seed, monitor):
            fits = [ranked(self._split, share) for share in (0.1, 0.1, 0.1, 0.1, 0.1, 0.9)]
            values = [monitor.validate(factors) for factors in fits]
            return Fitted(factors=fits[int(np.argmax(values))])

    choice, _ = chosen(world, ("flat", Flat, {"epochs": 1}), ("several", Several, {"epochs": 2}), trials=1)
    assert [each.label for each in choice.tried] == ["several", "flat"]


def test_a_penalty_that_follows_from_the_data_is_where_the_search_starts(world):
    class Resolved(Flat):
        def resolved(self, data):
            return self.options.model_copy(update={"scale": float(data.n_items)})

    choice, _ = chosen(world, ("flat", Resolved, {}), trials=3)
    assert [trial.options for trial in choice.winner.trials] == [{}, {"scale": 320.0}, {"scale": 20.0}]


def test_labels_decide_with_a_metric_of_labels(world):
    split, _ = world
    views = SimpleNamespace(labelled_validation=SimpleNamespace(users=np.empty(0)), split=split)
    with pytest.raises(Exception, match="compares backbones on the validation part"):
        BackboneChooser(views, ["auc"]).examine([])
