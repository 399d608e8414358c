"""Rungs as arms that are really trained: what is not bought is not seen, and each input is read once."""

from __future__ import annotations

import numpy as np
import pytest

from enhancer.contracts.training import View
from enhancer.evaluation import Arm, RunCache
from enhancer.evaluation.executor import Executor
from enhancer.evaluation.frontier.density import measure_density
from enhancer.evaluation.frontier.ladder import make_ladder
from enhancer.evaluation.frontier.prices import Cost
from enhancer.evaluation.frontier.shares import CatalogueShare, without_unbought
from enhancer.evaluation.frontier.wording import describe

INPUTS = ("text", "plot", "mood")


def arm_of(rung):
    return Arm(rung.name, "beside", inputs=rung.inputs, kept=rung.kept, semantic=bool(rung.inputs))


def weigh(experiment, shares=(), orders=("random",), **more):
    ladder = make_ladder(INPUTS, ["plot", "mood"], shares=shares, orders=orders)
    costs = {
        rung.name: Cost(usd=rung.share * len(rung.generated), records=len(rung.generated)) for rung in ladder.rungs
    }
    return measure_density(ladder, costs, Executor(experiment, **more), arm_of, [0, 1])


def test_the_note_that_tells_the_themes_is_on_the_frontier_of_new_items(noted):
    experiment, read = noted("mood")
    found = weigh(experiment)
    assert found.standings["cold"].frontier == ["nothing", "mood"]
    assert "the note 'mood' gains" in found.verdict["cold"]
    assert sorted(read) == sorted(INPUTS)  # each input once, for all rungs


def test_notes_that_tell_nothing_are_not_worth_buying(noted):
    found = weigh(noted(None)[0])
    assert found.standings["cold"].frontier == ["nothing"]
    assert "do not buy" in found.verdict["overall"]


def test_items_outside_a_share_have_their_raw_text_alone(noted):
    experiment, _ = noted()
    whole = experiment.data(Arm("a", "beside", inputs=INPUTS), 0, labelled=False)
    half = experiment.data(Arm("b", "beside", inputs=INPUTS, kept=CatalogueShare("rarest", 0.5)), 0, labelled=False)
    kept = CatalogueShare("rarest", 0.5).kept(experiment.views.popularity)
    text, *notes = half.views
    assert [view.name for view in half.views] == list(INPUTS)
    assert np.array_equal(half.item_vectors[kept], whole.item_vectors[kept])
    assert np.array_equal(half.item_vectors[:, text.columns], whole.item_vectors[:, text.columns])
    for view in notes:
        assert not half.item_vectors[~kept, view.columns].any()
    # Users are pooled from what is left, and the experiment's own vectors are not touched.
    assert not np.array_equal(half.user_vectors, whole.user_vectors)
    again = experiment.data(Arm("a", "beside", inputs=INPUTS), 0, labelled=False)
    assert np.array_equal(again.item_vectors, whole.item_vectors)


def test_a_placebo_of_a_share_has_notes_where_the_share_has_them(noted):
    experiment, _ = noted()
    share = CatalogueShare("commonest", 0.25)
    arm = Arm("a", "beside", inputs=INPUTS, kept=share, shuffle=True)
    shuffled = experiment.data(arm, 0, labelled=False).item_vectors
    real = experiment.data(Arm("b", "beside", inputs=INPUTS, kept=share), 0, labelled=False).item_vectors
    columns = slice(real.shape[1] // 3, None)
    assert np.array_equal(shuffled[:, columns].any(axis=1), real[:, columns].any(axis=1))
    assert not np.array_equal(shuffled, real)


@pytest.mark.parametrize("name", ["text+plot", "mean(text,plot)"])
def test_an_input_that_joins_text_and_notes_falls_back_to_the_text(name):
    items, text = np.full((3, 2), 1, np.float32), np.full((3, 2), 7, np.float32)
    kept = np.array([True, False, True])
    assert without_unbought(items, [View(name, 0, 2)], kept, text).tolist() == [[1, 1], [7, 7], [1, 1]]
    assert without_unbought(items, [View("plot", 0, 2)], kept, text)[1].tolist() == [0, 0]
    assert items.tolist() == [[1, 1]] * 3


def test_finished_runs_are_not_trained_again(noted, tmp_path, toys):
    trained = []

    class Counted(toys["SVD"]):
        def fit(self, data, fuser, *, seed, monitor):
            trained.append(seed)
            return super().fit(data, fuser, seed=seed, monitor=monitor)

    first = weigh(noted("mood", lambda arm: Counted())[0], (0.5,), cache=RunCache(tmp_path))
    assert trained
    trained.clear()
    again = weigh(noted("mood", lambda arm: Counted())[0], (0.5,), cache=RunCache(tmp_path))
    assert not trained
    assert again.to_json()["frontier"] == first.to_json()["frontier"]


def test_the_ladder_has_every_rung_and_names_what_is_left_out():
    ladder = make_ladder(["text", "profile", "plot", "mood", "plot+mood"], ["plot", "mood", "making"])
    names = [rung.name for rung in ladder.rungs if rung.kept is None]
    assert names == ["nothing", "text", "profile", "plot", "mood", "2 notes", "as one text", "everything"]
    assert {rung.inputs for rung in ladder.rungs if rung.kept is not None} == {("text", "plot", "mood")}
    assert sum(rung.kept is not None for rung in ladder.rungs) == 9
    assert list(ladder.left_out) == ["making"]
    assert "as one text" in make_ladder(["text", "plot", "mood"], ["plot", "mood"]).left_out
    assert ladder.richest.name == "everything"


def test_without_notes_a_ladder_has_shares_of_the_profile_and_what_is_configured():
    ladder = make_ladder(["profile"], ["profile"], configured=("profile",), shares=[0.5, 1.0], orders=["rarest"])
    assert [rung.name for rung in ladder.rungs] == ["nothing", "profile", "profile, rarest 50%"]
    assert list(ladder.left_out) == ["text"]
    meant = make_ladder(["text", "plot", "mood"], ["plot", "mood"], configured=("mean(text,plot,mood)",), shares=())
    assert meant.rungs[-1].name == "configured"


def rungs_of(available, notes, **more):
    ladder = make_ladder(available, notes, shares=(), **more)
    return {rung.name: rung.inputs for rung in ladder.rungs}, ladder


def test_long_texts_and_notes_of_other_configurations_are_rungs_where_they_are_stored():
    stored = ["text", "plot", "mood", "text+plot+mood", "plot+making", "making", "profile"]
    rungs, _ = rungs_of(stored, ["plot", "mood"])
    assert rungs["as one text"] == ("text+plot+mood",)
    assert rungs["plot + making, as one text"] == ("text", "plot+making")
    assert rungs["making"] == ("text", "making")
    assert rungs["2 notes"] == ("text", "plot", "mood"), "notes that are not configured are not counted"


def test_notes_from_reviews_are_told_apart_from_others():
    rungs, ladder = rungs_of(
        ["text", "plot", "mood", "praise", "blame"], ["plot", "praise", "mood", "blame"], reviews=["praise", "blame"]
    )
    assert rungs["praise (reviews)"] == ("text", "praise")
    assert rungs["2 notes"] == ("text", "plot", "mood")
    assert rungs["reviews"] == ("text", "praise", "blame")
    assert rungs["everything"] == ladder.richest.inputs == ("text", "plot", "praise", "mood", "blame")
    words = {rung.name: describe(rung) for rung in ladder.rungs}
    assert words["praise (reviews)"] == "the note 'praise', made from reviews"
    assert words["reviews"] == "the notes 'praise' and 'blame', made from reviews"
    only, _ = rungs_of(["text", "praise", "blame"], ["praise", "blame"], reviews=["praise", "blame"])
    assert "reviews" not in only
    assert only["2 notes"] == ("text", "praise", "blame")
    assert list(rungs_of(["profile"], ["profile"], reviews=["profile"])[0]) == ["nothing", "profile (reviews)"]


def test_closed_versions_are_a_rung_of_their_own():
    stored = ["text", "plot", "mood", "plot:closed", "mood:closed", "plot+mood", "plot:closed+mood:closed"]
    rungs, ladder = rungs_of(stored, ["plot", "mood"])
    assert rungs["2 notes, closed"] == ("text", "plot:closed", "mood:closed")
    assert rungs["as one text, closed"] == ("text", "plot:closed+mood:closed")
    assert len(rungs) == 8
    assert describe(ladder.rungs[-1]) == "the notes 'plot' and 'mood' as one text, closed"
    assert "2 notes, closed" not in rungs_of(["text", "plot", "mood", "plot:closed"], ["plot", "mood"])[0]
