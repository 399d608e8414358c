"""Tests of the sums over judged claims and over what a model recalls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.evaluation.diagnosing.claims import Claim, JudgedNote, claim_stats, claims_check
from enhancer.evaluation.diagnosing.memory import Recall, memory_check, recall_shares

LETTERS = {"s": "supported", "a": "absent", "c": "contradicted"}


def judged(*notes):
    """Notes from strings such as ``ssa``: two supported claims and one that is absent."""
    return [
        JudgedNote(str(row), [Claim(f"claim {place} {letter}", LETTERS[letter]) for place, letter in enumerate(note)])
        for row, note in enumerate(notes)
    ]


def test_shares_are_of_claims_and_the_worst_notes_come_first():
    found = claim_stats(judged("ssa", "", "aac", "ss"))
    assert (found.notes, found.claims) == (4, 8)
    assert (found.supported, found.contradicted) == (0.5, 1 / 8)
    assert found.examples == [("2", ["claim 2 c", "claim 0 a", "claim 1 a"]), ("0", ["claim 2 a"])]


def test_the_interval_covers_the_true_share_when_claims_of_a_note_stand_together():
    """Of 200 samples of notes that are right or wrong as a whole, about 95% of the intervals hold the true share."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        notes = judged(*("ssss" if rng.random() < 0.7 else "aaaa" for _ in range(60)))
        low, high = claim_stats(notes).interval
        hits += low <= 0.7 <= high
    assert 180 <= hits <= 198


def test_a_perfect_sample_leaves_room_for_doubt():
    from scipy.stats import binomtest

    wanted = binomtest(20, 20).proportion_ci(method="exact")
    assert claim_stats(judged(*["ss"] * 20)).interval == pytest.approx((wanted.low, wanted.high))
    assert claim_stats(judged(*["aa"] * 20)).interval == pytest.approx((1 - wanted.high, 1 - wanted.low), abs=1e-9)


def test_contradictions_are_faults_whatever_the_knowledge():
    absent, contradicted = claim_stats(judged(*["saaa"] * 20)), claim_stats(judged(*["sssc"] * 20))
    assert claims_check("item", "plot", absent, knowledge="closed", model="m").level == "poor"
    assert claims_check("item", "plot", absent, knowledge="open", model="m").level == "good"
    assert claims_check("item", "plot", contradicted, knowledge="open", model="m").level == "poor"
    nothing = claims_check("item", "mood", claim_stats(judged("", "")), knowledge="closed", model="m")
    assert (nothing.level, nothing.values["supported"]) == ("unknown", None)


# --- memory -----------------------------------------------------------------------------------------------------------


def recalls(given_right, stratum="tail"):
    return [Recall(str(row), stratum, given, right) for row, (given, right) in enumerate(given_right)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=12))
def test_chance_is_the_mean_over_all_exchanges_of_answers(pairs):
    n = len(pairs)
    by_hand = sum(pairs[i][0] == pairs[j][1] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    found = recall_shares(recalls(pairs))["all"]
    assert found.chance == pytest.approx(by_hand)
    assert found.share == sum(a == b for a, b in pairs) / n
    assert found.interval[0] <= found.share <= found.interval[1]


def test_the_interval_is_wilsons():
    from scipy.stats import binomtest

    found = recall_shares(recalls([("a", "a")] * 7 + [("a", "b")] * 13))["all"]
    wanted = binomtest(7, 20).proportion_ci(method="wilson")
    assert found.interval == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_the_same_answer_for_all_is_chance_and_knowledge_is_not():
    years = [str(1990 + i % 5) for i in range(100)]
    guessing = recall_shares(recalls([("1990", year) for year in years]))
    knowing = recall_shares(recalls([(year, year) for year in years[:50]]) + recalls([("?", "1")] * 50, "head"))
    assert not guessing["all"].beyond_chance
    assert memory_check("year", guessing, "m").level == "good"
    assert knowing["tail"].share == 1.0
    assert knowing["head"].share == 0.0
    check = memory_check("year", knowing, "m")
    assert check.level == "unknown"
    assert "hindsight" in check.words
    assert check.values["strata"]["head"]["asked"] == 50
