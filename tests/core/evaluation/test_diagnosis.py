"""Tests of the diagnosis of profiles and vectors."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.cli import results
from enhancer.evaluation.diagnosing.agreement import measure_agreement
from enhancer.evaluation.diagnosing.diagnosis import DiagnosisInput, diagnose
from enhancer.evaluation.diagnosing.geometry import effective_rank, mean_cosine, neighbours, principal_axes, unit_rows
from enhancer.evaluation.diagnosing.wording import ProfileAndText, wording_stats, words_of
from enhancer.evaluation.measuring.views import Views


def cloud(n=200, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_mean_cosine_is_that_of_all_pairs():
    from sklearn.metrics.pairwise import cosine_similarity

    vectors = cloud() + 0.7
    upper = cosine_similarity(vectors)[np.triu_indices(len(vectors), 1)]
    assert mean_cosine(unit_rows(vectors)) == pytest.approx(upper.mean(), abs=1e-6)


def test_effective_rank_counts_directions(monkeypatch):
    axes = np.linalg.qr(cloud(8, 8))[0][:3]
    weights = cloud(5000, 3, 1)
    flat = weights @ axes + 5.0
    assert effective_rank(flat.astype(np.float32)) == pytest.approx(3.0, abs=0.05)
    singular = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)[:3]
    p = singular / singular.sum()
    monkeypatch.setattr(
        "enhancer.evaluation.diagnosing.geometry._BLOCK", 64
    )  # the result does not depend on the block size
    assert effective_rank(flat.astype(np.float32)) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
    assert effective_rank(np.ones((5, 3), np.float32)) == 0.0


def test_neighbours_are_those_of_scikit_learn(monkeypatch):
    from sklearn.neighbors import NearestNeighbors

    vectors = unit_rows(cloud(300))
    queries = np.array([0, 7, 299])
    wanted = NearestNeighbors(n_neighbors=6, metric="cosine").fit(vectors).kneighbors(vectors[queries])[1][:, 1:]
    assert (neighbours(vectors, queries, 5) == wanted).all()
    monkeypatch.setattr("enhancer.evaluation.diagnosing.geometry._BLOCK", 300)
    assert (neighbours(vectors, queries, 5) == wanted).all()


def test_principal_axes_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    vectors = cloud() * np.array([3, 2, 1, 1, 1, 1, 1, 1], np.float32)
    found, wanted = principal_axes(vectors, 2), PCA(2, svd_solver="full").fit_transform(vectors)
    assert np.abs(found) == pytest.approx(np.abs(wanted), abs=1e-4)
    assert principal_axes(vectors[:1], 2).tolist() == [[0, 0]]


# --- words ------------------------------------------------------------------------------------------------------------


def test_equal_near_and_echoing_profiles_are_counted():
    base = "a slow warm story of two old friends who cross the country by train and find out what they have lost"
    near = base.replace("lost", "won")
    found = wording_stats(
        [
            ProfileAndText("1", base.upper(), "Friends"),
            ProfileAndText("2", base + ".", "Trains"),
            ProfileAndText("3", near, ""),
            ProfileAndText("4", "something else entirely, loud and quick and full of robots", ""),
            ProfileAndText("5", "Heat crime drama", "Heat, a crime drama of 1995"),
        ]
    )
    assert (found.profiles, found.duplicates, found.near_duplicates) == (5, 2, 3)
    assert found.examples == [["1", "2"]]
    assert (found.with_text, found.echoes) == (3, 1)
    assert 0.3 < found.echo < 0.5
    assert wording_stats([]).profiles == 0


@given(st.lists(st.text(max_size=40), max_size=12), st.integers(1, 12))
def test_any_text_can_be_examined_and_equal_ones_are_near(texts, sample):
    found = wording_stats((ProfileAndText(str(i), text, text) for i, text in enumerate(texts)), sample=sample)
    assert found.profiles == len(texts)
    assert found.compared == min(sample, len(texts))
    assert 0 <= found.near_duplicates <= found.compared
    assert found.duplicates != 1
    assert found.echoes == found.with_text


def test_a_thousand_equal_profiles_are_all_near_duplicates():
    found = wording_stats(ProfileAndText(str(i), "the very same words again and again", "") for i in range(1000))
    assert found.duplicates == found.near_duplicates == 1000


def test_near_duplicates_are_those_of_all_pairs():
    rng = np.random.default_rng(3)
    words = [f"word{i}" for i in range(40)]
    base = [[words[j] for j in rng.integers(0, 40, 60)] for _ in range(12)]
    texts = []
    for each in base:
        texts.append(each)
        texts.append([word if rng.random() > 0.03 else "changed" for word in each])
    phrases = [{tuple(text[i : i + 3]) for i in range(len(text) - 2)} for text in texts]
    near = {
        i
        for i, one in enumerate(phrases)
        for j, other in enumerate(phrases)
        if i != j and len(one & other) / len(one | other) >= 0.8
    }
    assert 0 < len(near) < len(texts)
    found = wording_stats(ProfileAndText(str(i), " ".join(text), "") for i, text in enumerate(texts))
    assert found.near_duplicates == len(near)


def test_writing_without_spaces_has_words_too():
    assert words_of("温かい物語") == ["温か", "かい", "い物", "物語"]
    assert wording_stats([ProfileAndText("1", "温かい物語", "とても温かい物語です")]).echoes == 1


# --- agreement --------------------------------------------------------------------------------------------------------


def test_agreement_is_that_of_plain_loops(world):
    """A direct computation gives the same overlap, up to ties, which are broken at random."""
    split, vectors = world
    train = split.train
    x = np.zeros((60, 80))
    x[train.users, train.items] = 1
    able = np.flatnonzero(x.sum(axis=0) >= 5)
    counts = x.sum(axis=0)
    co = (x.T @ x) / np.sqrt(np.outer(counts, counts) + 1e-12)
    shared = []
    for item in able:
        others = able[able != item]
        by_vector = others[np.argsort(-(unit_rows(vectors)[others] @ unit_rows(vectors)[item]))[:10]]
        by_people = others[np.argsort(-co[item, others])[:10]]
        shared.append(len(set(by_vector) & set(by_people)) / 10)
    found = measure_agreement(vectors, (train.items, train.users), 60)
    assert found.queries == found.candidates == len(able)
    assert found.overlap == pytest.approx(np.mean(shared), abs=0.02)
    assert found.overlap > found.shuffled
    assert found.interval[0] > 0


def test_shuffled_vectors_agree_by_chance_alone(world):
    split, vectors = world
    noise = cloud(80, 6, 4)
    found = measure_agreement(noise, (split.train.items, split.train.users), 60)
    assert found.interval[0] < 0 < found.interval[1]
    assert measure_agreement(np.zeros_like(vectors), (split.train.items, split.train.users), 60) is None


def test_samples_bound_the_work(world, monkeypatch):
    split, vectors = world
    for name, value in {"QUERIES": 7, "CANDIDATES": 40, "_CO_ENTITIES": 3, "_CO_INTERACTIONS": 20}.items():
        monkeypatch.setattr(f"enhancer.evaluation.diagnosing.agreement.{name}", value)
    found = measure_agreement(vectors, (split.train.items, split.train.users), 60)
    assert (found.queries, found.candidates) == (7, 40)


# --- diagnosis --------------------------------------------------------------------------------------------------------


def subject(split, vectors, words=None, **tables):
    return DiagnosisInput(
        kind="item",
        ids=split.train.item_ids,
        vectors={"profile": vectors, **tables},
        profiles=words,
    )


def test_a_feature_that_tells_themes_stands_a_chance(world, toys):
    split, vectors = world
    words = [
        ProfileAndText(f"i{i}", f"profile number {i} of its own kind and words {i * 7}", "Some film") for i in range(80)
    ]
    found = diagnose([subject(split, vectors, words)], Views(split), pool=toys["pooling"](split))
    assert found.level == "good"
    assert "stands a chance" in found.verdict
    assert found.find("coverage").values["share"] == 1.0
    assert (
        found.find("recommendations by profile alone").values["recall@20"]
        > 1.2 * found.find("recommendations by profile alone").values["shuffled"]
    )
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["level"] == "good"
    assert {check.name for check in found.checks} == {
        "coverage",
        "duplicate profiles",
        "near-duplicate profiles",
        "echo of the text",
        "spread of vectors (profile)",
        "neighbours by profile and by interactions",
        "recommendations by profile alone",
    }


def test_what_is_wrong_with_a_feature_is_said(world, toys):
    split, vectors = world
    pool = toys["pooling"](split)
    noise = diagnose([subject(split, cloud(80, 6, 4))], Views(split), pool=pool)
    assert noise.level == "poor"
    assert "hardly stands a chance" in noise.verdict
    collapsed = vectors * 1e-3 + 1.0
    found = diagnose([subject(split, collapsed, [ProfileAndText("i1", "same", "same")] * 80)], Views(split))
    assert found.find("spread of vectors (profile)").level == "poor"
    assert "collapsed" in found.find("spread of vectors (profile)").words
    assert found.find("duplicate profiles").level == found.find("echo of the text").level == "poor"
    assert "Problems: duplicate profiles (items)" in found.verdict
    assert found.level == "fair"
    half = vectors.copy()
    half[::2] = 0
    assert diagnose([subject(split, half)], Views(split)).find("coverage").level == "poor"
    nothing = diagnose([subject(split, np.zeros_like(vectors))], Views(split))
    assert nothing.level == "unknown"
    assert "No verdict" in nothing.verdict


def test_coverage_counts_entities_with_every_input_that_is_trained_on(world):
    split, vectors = world
    ids, counts = split.train.item_ids, Views(split).popularity
    profiles = np.arange(len(ids)) % 4 == 0
    tables = {"profile + text": np.hstack([vectors * profiles[:, None], vectors]), "text": vectors}
    one = DiagnosisInput(
        kind="item", ids=ids, vectors=tables, present={"profile": profiles, "text": np.ones(len(ids), np.bool_)}
    )
    check = diagnose([one], Views(split)).find("coverage")
    assert check.level == "poor"
    assert check.values["share"] == 0.25
    assert check.values["of_interactions"] == pytest.approx(counts[profiles].sum() / counts.sum())
    assert check.values["by_input"] == {"profile": 0.25, "text": 1.0}
    assert "25% of 80 items have a vector of profile and of text" in check.words
    assert "without all of them: i1, i2, i3, i5, i6" in check.words


def test_notes_of_each_aspect_are_examined(world, toys):
    split, vectors = world
    own = [
        ProfileAndText(f"i{i}", f"note number {i} of its own kind and words {i * 7}", "Some film") for i in range(80)
    ]
    same = [ProfileAndText(f"i{i}", "always the very same words", "Some film") for i in range(80)]
    tables = {"plot + mood": vectors, "plot": vectors, "mood": cloud(80, 6, 4)}
    one = DiagnosisInput(kind="item", ids=split.train.item_ids, vectors=tables, notes={"plot": own, "mood": same})
    found = diagnose([one], Views(split), pool=toys["pooling"](split))
    assert found.find("duplicate notes (plot)").level == "good"
    assert found.find("duplicate notes (mood)").level == "poor"
    assert found.find("duplicate notes (mood)").source == "mood"
    assert "Problems: duplicate notes (mood) (items)" in found.verdict
    # An aspect that is weak by itself is no problem of the vectors that are trained on.
    assert found.find("recommendations by mood alone").level == "poor"
    assert "recommendations" not in found.verdict
    shown = results.diagnosis(found.to_json())
    assert re.search(r"item +duplicates +good \(plot\); poor \(mood\)", shown)
    assert re.search(r"item +coverage +good\n", shown)


def test_raw_text_that_agrees_as_well_is_named(world):
    split, vectors = world
    worse = vectors + 0.3 * cloud(80, 6, 2)
    found = diagnose([subject(split, worse, text=vectors)], Views(split))
    assert "the LLM has yet to show what it adds" in found.verdict
    assert "the LLM" not in diagnose([subject(split, vectors, text=worse)], Views(split)).verdict


def test_the_test_part_is_not_looked_at(world, toys):
    split, vectors = world

    class Sealed:
        def __getattr__(self, name):
            raise AssertionError(f"the test split was read: {name}")

    sealed = toys["Split"](split.train, split.validation, Sealed(), split.cold_items, split.cold_users)
    diagnose([subject(split, vectors)], Views(sealed), pool=toys["pooling"](split))
