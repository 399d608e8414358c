"""The frontier finds what was planted: a gain on the tail alone, nowhere, or of one note alone."""

from __future__ import annotations

import pytest
from density_world import NOTES, PRICE, STRATA, Simulated, arm_of, weigh

from enhancer.evaluation.frontier.density import measure_density
from enhancer.evaluation.frontier.ladder import make_ladder
from enhancer.evaluation.frontier.prices import Cost
from enhancer.evaluation.running.arms import Arm


def notes_of(arm):
    return set(arm.inputs) & set(NOTES)


def test_one_note_alone_gains_and_no_rung_beyond_it():
    found, _ = weigh(lambda arm, stratum: 0.06 * ("mood" in arm.inputs and arm.kept is None))
    for name in STRATA:
        assert found.standings[name].frontier == ["nothing", "mood"]
    assert "the note 'mood' gains" in found.verdict["all"]
    assert found.verdict["overall"].startswith("Generated texts pay: the note 'mood' ($0.5000) over all items")


def test_a_gain_on_the_tail_alone_is_on_no_other_frontier():
    found, _ = weigh(lambda arm, stratum: 0.06 * (stratum == "tail" and len(notes_of(arm)) == 3))
    assert found.standings["all"].frontier == found.standings["cold"].frontier == ["nothing"]
    assert len(found.standings["tail"].frontier) > 1
    assert found.verdict["all"] == "Over all items, no rung gains beyond chance: do not buy."
    assert "on rare items" in found.verdict["overall"]
    assert "over all items" not in found.verdict["overall"]


def test_no_gain_anywhere_says_do_not_buy():
    found, executor = weigh(lambda arm, stratum: 0.0)
    assert all(standing.frontier == ["nothing"] for standing in found.standings.values())
    assert found.verdict["overall"] == "No rung gains beyond chance: do not buy."
    assert not [name for name in executor.trained if "shuffled" in name]  # nothing to check


def test_raw_text_that_gains_as_much_costs_nothing():
    found, _ = weigh(lambda arm, stratum: 0.06)
    assert found.standings["all"].frontier == ["nothing", "text"]
    assert "do not buy" in found.verdict["all"]
    assert found.verdict["overall"].startswith("Raw text gains")


def test_a_gain_that_shuffled_vectors_make_too_is_not_on_the_frontier():
    class Regularised(Simulated):
        def train(self, arm, seed):
            shuffle, arm = arm.shuffle, arm if not arm.shuffle else Arm(arm.name, "prior", inputs=arm.inputs)
            del shuffle
            return super().train(arm, seed)

    ladder = make_ladder(["text", *NOTES], NOTES)
    costs = {rung.name: Cost(usd=1.0 * len(rung.generated)) for rung in ladder.rungs}
    executor = Regularised(lambda arm, stratum: 0.06 * bool(arm.inputs))
    found = measure_density(ladder, costs, executor, arm_of, [0, 1, 2])
    assert all(standing.frontier == ["nothing"] for standing in found.standings.values())
    assert "1 shuffled" in executor.trained


def test_a_share_that_brings_most_is_named_with_its_part_of_the_price():
    def gain(arm, stratum):
        share = 1.0 if arm.kept is None else arm.kept.share if arm.kept.order == "rarest" else 0.0
        return {0.0: 0.0, 0.1: 0.1, 0.25: 0.26, 0.5: 0.3, 1.0: 0.3}[share] * (len(notes_of(arm)) == 3)

    found, _ = weigh(gain)
    frontier = found.standings["cold"].frontier
    assert frontier[-1] == "3 notes, rarest 50%"
    assert "3 notes" not in frontier  # as good, and twice as dear
    words = found.verdict["cold"]
    assert "of the rarest 50% of the items gain" in words
    assert "The 3 notes of the rarest 25% of the items bring 8" in words
    assert "of what generated texts add, for 50% of the price ($0.3750)." in words


def test_a_ladder_of_noise_is_on_a_frontier_as_seldom_as_it_should_be():
    frontiers = [
        standing.frontier
        for seed in range(30)
        for standing in weigh(lambda arm, stratum: 0.0, seed)[0].standings.values()
    ]
    assert sum(len(frontier) > 1 for frontier in frontiers) <= 0.1 * len(frontiers)


def test_unknown_prices_are_weighed_in_tokens_or_records_and_never_as_nothing():
    def gain(arm, stratum):
        return 0.06 * ("mood" in arm.inputs and arm.kept is None)

    tokens, _ = weigh(gain, price=None, prompt_tokens=100.0, completion_tokens=50.0)
    assert tokens.unit == "tokens"
    records, _ = weigh(gain, price=None, prompt_tokens=None, completion_tokens=None)
    assert records.unit == "records"
    entry = next(each for each in records.to_json()["frontier"] if each["rung"] == "mood")
    assert (entry["cost_usd"], entry["tokens"], entry["records"]) == (None, None, 100)
    assert "100 generated texts" in records.verdict["all"]


def test_json_has_a_rung_with_share_cost_gain_and_interval():
    found, _ = weigh(lambda arm, stratum: 0.06 * ("mood" in arm.inputs and arm.kept is None))
    entries = {each["rung"]: each for each in found.to_json()["frontier"]}
    mood, half = entries["mood"], entries["3 notes, rarest 50%"]
    assert (mood["share"], half["share"], half["order"]) == (1.0, 0.5, "rarest")
    assert (mood["cost_usd"], half["cost_usd"]) == (PRICE, pytest.approx(1.5 * PRICE))
    assert mood["interval"][0] < mood["gain"] < mood["interval"][1]
    assert mood["gain"] == pytest.approx(0.06, abs=0.02)
    assert mood["strata"]["tail"]["over"].keys() == {"text", "placebo"}
    assert entries["nothing"]["gain"] == 0.0
