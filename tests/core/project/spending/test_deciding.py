"""Test the decisions of a round, from appraisals that are made up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.evaluation.frontier.gains import Gain
from enhancer.evaluation.valuing.bounds import Appraisal, Offer
from enhancer.evaluation.valuing.gains import NEW
from enhancer.project.spending.deciding import decide, level_of, next_orders, offers, pilot_sizes
from enhancer.project.spending.strata import Stratum

RNG = np.random.default_rng(0)
EXCESS = np.sort(RNG.standard_normal(199))


def stratum(name, items=100, pairs=2.0, taken=0, chain=(), aspects=("profile",), measurable=None):
    made = Stratum(name, np.arange(items), pairs, items if measurable is None else measurable)
    made.taken = dict.fromkeys(aspects, taken)
    made.chain = [tuple(step) for step in chain]
    return made


def appraisal(offer, gain, error=0.001, *, without=0.0, tells=True):
    over = {"ids": Gain(delta=gain, error=error, df=60, users=61), "text": Gain(delta=gain, error=error, df=60)}
    draws = without + 0.0001 * RNG.standard_normal(199)
    explained = np.r_[0.1 if tells else 0.0, 0.001 * RNG.standard_normal(199)]
    return Appraisal(offer, 61, 400, over, without + gain, draws, explained, 0.25, EXCESS, EXCESS)


def decided(strata, gains, round_number=1, cost=0.01, **kinds):
    appraisals = [appraisal(Offer(*offer), gain, **kinds) for offer, gain in gains.items()]
    costs = {(one.offer.group, one.offer.aspects): cost * len(one.offer.aspects) for one in appraisals}
    return decide(strata, appraisals, costs, round_number)


def rates(decisions):
    return {one.appraisal.offer: one.bound_per_usd for one in decisions}


def test_a_pilot_buys_as_many_of_each_stratum_and_no_new_items():
    strata = [stratum("head", 5_000), stratum("tail", 15_000), stratum(NEW, 10_000, measurable=0)]
    assert pilot_sizes(strata) == {"head": 300, "tail": 300}
    assert pilot_sizes([stratum("head", 50, measurable=30), stratum("tail", 500)]) == {"head": 30, "tail": 40}


def test_strata_with_a_positive_bound_double_and_others_wait():
    strata = [stratum("head", taken=40), stratum("tail", 500, taken=40)]
    found = decided(strata, {("head", ("profile",)): 0.001, ("tail", ("profile",)): 0.02}, without=0.8)
    assert [(one.verdict, one.bound > 0) for one in found] == [("wait", False), ("buy", True)]
    assert "not certain" in found[0].reason
    orders, short = next_orders(strata, rates(found), 100.0, lambda *_: 0.01)
    assert [(one.stratum, one.start, one.stop) for one in orders] == [("tail", 40, 80)]
    assert not short


def looked(gain, *, taken=40, items=500, measurable=None, round_number=1, money=100.0, **kinds):
    """Decide about the tail alone, and return the decision and the orders."""
    strata = [stratum("tail", items, taken=taken, measurable=measurable)]
    (one,) = decided(strata, {("tail", ("profile",)): gain}, round_number, **kinds)
    looks = [one.appraisal.offer] if one.verdict == "look" else []
    orders, short = next_orders(strata, rates([one]), money, lambda *_: 0.01, looks)
    assert strata[0].chain == []
    return one, [(order.start, order.stop) for order in orders], short


def test_vectors_that_tell_of_items_get_another_look_where_a_gain_is_not_certain():
    one, orders, _ = looked(0.001, without=0.12)
    assert one.verdict == "look"
    assert "tells more of items than placebo" in one.reason
    assert one.to_json()["explained_bound"] > 0
    assert orders == [(40, 80)]
    # The gain may even be below 0, as long as its error does not rule out one that matters.
    assert looked(-0.001, error=0.002, without=0.12)[1] == [(40, 80)]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"tells": False}, "tells no more of items"),
        ({"without": 0.6}, "not certain"),  # half a percent of 0.6 is beyond 0.001 and its error
        ({"round_number": 4}, "not certain"),
        ({"measurable": 40}, "not certain"),
    ],
)
def test_no_other_look_is_bought_where_it_would_not_help(changed, words):
    one, orders, _ = looked(0.001, **{"without": 0.12, **changed})
    assert (one.verdict, orders) == ("wait", [])
    assert words in one.reason


def test_looks_leave_half_of_a_stratum_to_save_and_cost_no_more_than_there_is():
    assert looked(0.001, items=100, without=0.12)[1:] == ([(40, 50)], False)
    assert looked(0.001, without=0.12, money=0.305)[1:] == ([(40, 70)], True)


@pytest.mark.parametrize(("new", "orders"), [(300, {"head": (40, 80), "tail": (40, 60)}), (100, {})])
def test_a_look_at_new_items_doubles_their_stand_ins_unless_there_are_few_new_ones(new, orders):
    strata = [stratum("head", 500, taken=40), stratum("tail", 120, taken=40), stratum(NEW, new, measurable=0)]
    offer = Offer(NEW, ("profile",))
    (one,) = decided(strata, {tuple(offer): 0.001}, without=0.12)
    assert one.verdict == ("look" if orders else "wait")
    looks = [offer] if orders else []
    found, short = next_orders(strata, rates([one]), 100.0, lambda *_: 0.01, looks)
    assert {order.stratum: (order.start, order.stop) for order in found} == orders
    assert not short
    # A stratum that is bought or looked at anyway is not bought twice.
    found, _ = next_orders(strata, rates([one]), 100.0, lambda *_: 0.01, [Offer("tail", ("profile",)), *looks])
    assert [order.stratum for order in found] == ["tail", "head"][: 1 + len(looks)]


def test_what_tells_nothing_is_not_bought_whatever_chance_gains():
    one, orders, _ = looked(0.02, tells=False)
    assert (one.verdict, orders) == ("wait", [])


def test_new_items_begin_with_as_many_as_the_pilot():
    strata = [stratum("tail", taken=40), stratum(NEW, 300)]
    found = decided(strata, {("tail", ("profile",)): 0.02, (NEW, ("profile",)): 0.02})
    orders, _ = next_orders(strata, rates(found), 100.0, lambda *_: 0.01)
    assert {one.stratum: (one.start, one.stop) for one in orders} == {"tail": (40, 80), NEW: (0, 40)}


def test_new_items_are_bought_at_once_where_nothing_else_teaches_more():
    strata = [stratum("tail", taken=40), stratum(NEW, 300)]
    found = decided(strata, {("tail", ("profile",)): 0.0, (NEW, ("profile",)): 0.02})
    orders, _ = next_orders(strata, rates(found), 100.0, lambda *_: 0.01)
    assert [(one.stratum, one.start, one.stop) for one in orders] == [(NEW, 0, 300)]


def test_what_is_no_longer_certain_gets_no_more():
    strata = [stratum("tail", 500, taken=80, chain=[("profile",)])]
    (one,) = decided(strata, {("tail", ("profile",)): 0.001}, round_number=2)
    assert one.verdict == "stop"
    assert next_orders(strata, rates([one]), 100.0, lambda *_: 0.01) == ([], False)


def test_the_aspect_with_the_most_per_dollar_comes_first_and_another_must_gain_beside_it():
    both = ("mood", "plot")
    strata = [stratum("tail", 500, taken=40, aspects=both)]
    assert offers(strata, both) == [Offer("tail", ("mood",)), Offer("tail", ("plot",)), Offer("tail", both)]
    decided(strata, {("tail", ("mood",)): 0.02, ("tail", ("plot",)): 0.001, ("tail", both): 0.022})
    assert strata[0].chain == [("mood",)]
    assert offers(strata, both) == [Offer("tail", ("mood",)), Offer("tail", ("plot",), ("mood",))]
    gains = {("tail", ("mood",)): 0.02, ("tail", ("plot",), ("mood",)): 0.02}
    found = decided(strata, gains, round_number=2)
    assert strata[0].chain == [("mood",), ("plot",)]
    orders, _ = next_orders(strata, rates(found), 100.0, lambda *_: 0.01)
    assert [(one.aspects, one.start, one.stop) for one in orders] == [(["mood"], 40, 80), (["plot"], 40, 80)]


def test_a_certain_gain_may_be_too_small_to_be_worth_its_price():
    strata = [stratum("tail", 500, taken=40)]
    one = appraisal(Offer("tail", ("profile",)), 0.02, without=0.4)
    for least, verdict in ((0.1, "wait"), (0.01, "buy")):
        (found,) = decide(strata, [one], {("tail", ("profile",)): 0.01}, 1, least)
        assert found.verdict == verdict
        assert ("less than 0.1 of 0.4" in found.reason) == (verdict == "wait")


def test_money_for_what_gains_more_per_dollar_is_set_aside():
    strata = [stratum("tail", 100, taken=40), stratum("head", 100, taken=40)]
    found = decided(strata, {("tail", ("profile",)): 0.02, ("head", ("profile",)): 0.04})
    for money, bought in ((0.5, {"head": 80}), (0.705, {"head": 80, "tail": 50}), (9, {"head": 80, "tail": 80})):
        orders, short = next_orders(strata, rates(found), money, lambda *_: 0.01)
        assert {order.stratum: order.stop for order in orders} == bought
        assert short == (money < 9)


def test_later_looks_are_stricter_and_end():
    levels = [level_of(number, proven=False) for number in range(1, 8)]
    assert sum(levels) == pytest.approx(0.05)
    strata = [stratum("tail", taken=40)]
    (one,) = decided(strata, {("tail", ("profile",)): 0.02}, round_number=7)
    assert one.verdict == "wait"


money = st.floats(0, 50, allow_nan=False)
prices = st.floats(0, 2, allow_nan=False)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), money, prices), min_size=1, max_size=5), money)
def test_orders_never_cost_more_than_there_is(cases, budget):
    strata, cost, rate = [], {}, {}
    for number, (items, taken, each, price) in enumerate(cases):
        name = f"s{number}"
        strata.append(stratum(name, items, taken=min(taken, items), chain=[("profile",)]))
        cost[name], rate[Offer(name, ("profile",))] = price, each
    orders, short = next_orders(strata, rate, budget, lambda one, _: cost[one.name])
    assert sum(order.planned_usd for order in orders) <= budget * (1 + 1e-9)
    for order in orders:
        own = next(one for one in strata if one.name == order.stratum)
        assert own.taken["profile"] == order.start < order.stop <= len(own)
    wanted = [one for one in strata if one.taken["profile"] < min(len(one), 2 * one.taken["profile"])]
    if not short:
        assert {order.stratum for order in orders} >= {one.name for one in wanted}
