"""Tests of the checks of notes that need no LLM."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.evaluation.diagnosing.facts import Vocabulary, fact_stats, unsupported_facts
from enhancer.evaluation.diagnosing.note_checks import Notes, note_checks
from enhancer.evaluation.diagnosing.overlap import aspect_overlap
from enhancer.evaluation.diagnosing.sameness import shared_frames
from enhancer.evaluation.diagnosing.wording import ProfileAndText

ENGLISH = [
    "A warm story by Tom Hanks about before and after the war in Prague.",
    "Dark comedy with Tom Hanks, who moves to Prague with his family before it ends.",
    "Some say that Pixar made it, and that Hitchcock would have liked it; a bond between two brothers.",
    "The music of James Bond films, laid-back and low, set in Hong Kong with gothic scenes.",
    "We see a country torn by war; American soldiers, the Czech army, and a spy such as Bond.",
    *(f"An American story of love number {word}, set in America." for word in "abcdefghijkl"),
]


def missing(note, text, others=ENGLISH):
    return [fact.words for fact in unsupported_facts(note, text, Vocabulary([*others, note]))]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("note", "text", "found"),
    [
        ("A comedy with Tom Hanks in Prague.", "Big, a comedy", ["Tom Hanks", "Prague"]),
        ("A comedy with Tom Hanks in Prague.", "TOM HANKS and the Prague spring", []),
        ("Tom Hanks moves out.", "Big", ["Tom Hanks"]),  # opens the sentence, but is known as a name
        ("Before Tom Hanks moves out.", "Big", ["Tom Hanks"]),
        ("Moves out. Before long, some see it. Dark!", "Big", []),
        ("Stunning: Laid-back. Post-war scenes.", "Big", []),
        ("It was made by Pixar\u2019s own hands.", "pixar", []),
        ("Hitchcock's spirit, made Hitchcockian.", "a film by Hitchcock", []),
        ("Set in Hong Kong.", "HongKong nights", []),
        ("A spy like James Bond.", "James Bond", []),
        ("American soldiers and an American story.", "Platoon", []),  # general vocabulary
        ("A film by J. R. Tolkien of Prague.", "Tolkien's Prague", []),
        ("The crew of Apollo 13 comes home.", "Apollo 13 (1995)", []),
        ("The crew of Apollo 13 comes home.", "Gravity", ["Apollo 13"]),
        ("Directed by José Núñez.", "Jose Nunez", []),
    ],
)
def test_names_are_found_and_ordinary_words_are_not(note, text, found):
    assert missing(note, text) == found


def test_german_nouns_are_not_names():
    german = [
        f"Ein junger {a} sucht mit seinem {b} nach der Wahrheit über den {c} und findet die Liebe in der Stadt."
        for a in ("Cowboy", "Ritter", "Maler", "Bauer")
        for b in ("Bruder", "Freund", "Hund")
        for c in ("Krieg", "Mord", "Schatz")
    ]
    vocabulary = Vocabulary([*german, "Der Film mit Bruno Ganz spielt in Berlin."])
    assert vocabulary.nouns_have_capitals
    assert [f.words for f in unsupported_facts(german[0], "Film", vocabulary)] == []
    found = unsupported_facts("Der Film mit Bruno Ganz spielt in Berlin.", "Der Untergang", vocabulary)
    assert [fact.words for fact in found] == ["Bruno Ganz"]
    assert not Vocabulary(ENGLISH).nouns_have_capitals


def test_notes_without_capitals_have_years_only():
    notes = [ProfileAndText(str(i), "1995年の温かい物語、おもちゃの冒険", f"玩具 {1990 + i}") for i in range(8)]
    stats = fact_stats(notes, Vocabulary(note.profile for note in notes))
    assert (stats.names, stats.facts, stats.unsupported) == ("none", {"year": 8}, {"year": 7})


def test_names_are_not_compared_between_scripts():
    assert missing("Directed by Tom Hanks.", "七人の侍") == []


# --- years and numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("note", "text", "found"),
    [
        ("Set in 1944.", "Released in 1995", ["1944"]),
        ("Set in 1944.", "Released on 1944-06-06", []),
        ("A classic of the 1990s, and of 90s style.", "Heat (1995)", []),
        ("Ein Klassiker der 1990er und der 70er.", "Heat (1995)", ["70er"]),
        ("A classic of the 1980s.", "Heat (1995)", ["1980s"]),
        ("A romance of the 19th century.", "Emma, 1815", []),
        ("A romance of the 18th century.", "Emma, 1815", ["18th"]),
        ("It lasts 90 minutes.", "A film", ["90"]),
        ("It lasts 90 minutes.", "runtime: 90", []),
        ("With 7 samurai.", "Seven Samurai", []),
        ("Part 4 of the series.", "Rocky IV", []),
        ("A budget of 1,000,000 crowns.", "1000000", []),
        ("A score of 7.5 in all.", "rated 7,5", []),
        ("It has U2, R2-D2, 2Pac, 4AD and blink-182 in 3D, 24/7.", "a film", []),
        ("A man in his forties with two friends.", "a film", []),
    ],
)
def test_years_and_numbers_are_found_in_many_forms(note, text, found):
    assert [fact for fact in missing(note, text) if any(c.isdigit() for c in fact)] == found


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
def test_a_note_that_repeats_its_text_has_no_unsupported_fact(texts):
    vocabulary = Vocabulary(texts)
    for text in texts:
        assert unsupported_facts(text, text, vocabulary) == []


def test_the_worst_notes_come_first_and_shares_are_of_notes_with_a_text():
    notes = [
        ProfileAndText("1", "With Tom Hanks in Prague, made by Pixar in 1944.", "Big"),
        ProfileAndText("2", "With Tom Hanks.", "Big"),
        ProfileAndText("3", "With a dog.", "Big"),
        ProfileAndText("4", "With Tom Hanks.", "  "),
    ]
    stats = fact_stats(notes, Vocabulary([*ENGLISH, *(note.profile for note in notes)]))
    assert (stats.notes, stats.notes_with_unsupported, stats.share) == (3, 2, pytest.approx(2 / 3))
    assert stats.examples == [("1", ["Tom Hanks", "Prague", "Pixar", "1944"]), ("2", ["Tom Hanks"])]
    assert stats.unsupported == {"name": 4, "year": 1}


# --- frames -----------------------------------------------------------------------------------------------------------


def nonsense(rng, n):
    return " ".join("".join(rng.choice(list("bcdfgklmnprst"), 6)) for _ in range(n))


def test_a_frame_is_found_whatever_fills_it():
    rng = np.random.default_rng(0)
    notes = [f"A {nonsense(rng, 2)} of {nonsense(rng, 1)} for fans of {nonsense(rng, 1)}." for _ in range(30)]
    notes += [f"{nonsense(rng, 9)}." for _ in range(70)]
    found = shared_frames(notes)
    assert found.share == found.sentence_share == pytest.approx(0.3)
    assert found.sentence == "a … of … for fans of …"
    assert shared_frames(notes[:19]) is None


def test_lone_function_words_are_no_frame():
    rng = np.random.default_rng(1)
    notes = [
        f"{nonsense(rng, 2)} of {nonsense(rng, 1)} and {nonsense(rng, int(rng.integers(1, 9)))}" for _ in range(50)
    ]
    assert shared_frames(notes).share == 0


@given(st.lists(st.text(max_size=40), min_size=20, max_size=25))
def test_any_text_can_be_examined_for_frames(texts):
    found = shared_frames(texts)
    assert 0 <= found.share <= 1
    assert shared_frames(texts[::-1]) == found


# --- aspects ----------------------------------------------------------------------------------------------------------


def test_aspects_of_one_entity_are_compared_with_those_of_another():
    rng = np.random.default_rng(2)
    plots = [nonsense(rng, 8) for _ in range(40)]
    moods = [nonsense(rng, 8) for _ in range(40)]
    echoes = [f"{plot} {nonsense(rng, 3)}" for plot in plots]
    table = rng.standard_normal((40, 16)).astype(np.float32)
    apart = aspect_overlap(("plot", "mood"), (plots, moods), (table, rng.standard_normal((40, 16)).astype(np.float32)))
    alike = aspect_overlap(("plot", "echo"), (plots, echoes), (table, table))
    assert apart.excess == pytest.approx(0, abs=0.1)
    assert (alike.words, alike.chance_words, alike.cosine) == (1.0, 0.0, pytest.approx(1.0))
    assert alike.excess == pytest.approx(1.0)
    assert alike.chance_cosine == pytest.approx(0, abs=0.15)
    assert aspect_overlap(("plot", "mood"), (plots[:30], [*moods[:19], *[""] * 11])) is None


# --- checks -----------------------------------------------------------------------------------------------------------


def notes_of(knowledge="closed"):
    rng = np.random.default_rng(3)
    plots, moods = [], []
    for i in range(40):
        plots.append(ProfileAndText(f"i{i}", f"a film with Tom{'x' * (i % 9)} Hanks, {nonsense(rng, 6)}.", f"Film {i}"))
        moods.append(ProfileAndText(f"i{i}", f"A warm and quiet film of {nonsense(rng, 2)}.", f"Film {i}"))
    return Notes(kind="item", by_aspect={"plot": plots, "mood": moods}, knowledge=knowledge)


def test_every_aspect_is_judged_and_the_worst_notes_are_named():
    checks = {(check.topic, check.source): check for check in note_checks(notes_of())}
    assert checks.keys() == {
        ("facts", "plot"),
        ("facts", "mood"),
        ("frames", "plot"),
        ("frames", "mood"),
        ("aspects", ""),
    }
    assert checks["facts", "plot"].level == "poor"
    assert checks["facts", "plot"].values["examples"][0]["facts"][0].startswith("Tom")
    assert checks["facts", "mood"].level == "good"
    assert checks["frames", "mood"].level == "poor"
    assert "warm and quiet film" in checks["frames", "mood"].words
    assert checks["aspects", ""].level == "good"
    json.dumps([dict(check.values) for check in checks.values()], allow_nan=False)


def test_with_open_knowledge_outside_facts_are_expected():
    check = next(check for check in note_checks(notes_of("open")) if (check.topic, check.source) == ("facts", "plot"))
    assert check.level == "unknown"
    assert 'expected with knowledge = "open"' in check.words
