"""Entities are counted once, whenever their notes are stored."""

from __future__ import annotations

import pytest

from enhancer.contracts.record import Key
from enhancer.features.generating.run_counts import RunCounts
from enhancer.features.generating.tally import EntityTally


@pytest.mark.parametrize("stored_before_the_next_pass_comes_by", [False, True])
def test_an_entity_stored_between_two_passes_counts_in_the_second_alone(
    *, stored_before_the_next_pass_comes_by: bool
) -> None:
    counts = RunCounts()
    tally = EntityTally(counts)
    plot, mood = (Key("item", "a", aspect) for aspect in ("plot", "mood"))

    tally.begin_pass()  # the plot is answered and waits for its vector; the mood is in a batch job
    entity = tally.open("item", "a")
    entity.take("plot")
    tally.answered(plot, is_new=True)
    entity.pending = True
    tally.close("item", "a")

    tally.begin_pass()  # the batch job has ended
    if stored_before_the_next_pass_comes_by:
        tally.stored(plot)
    entity = tally.open("item", "a")
    entity.take("mood")
    tally.answered(mood, is_new=True)
    tally.close("item", "a")
    if not stored_before_the_next_pass_comes_by:
        tally.stored(plot)
    tally.stored(mood)

    assert (counts.generated, counts.pending, counts.quarantined) == (1, 0, 0)
