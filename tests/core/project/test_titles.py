"""Items are found by id or by title, and near misses are suggested."""

from __future__ import annotations

import pytest

from enhancer.errors import DataError
from enhancer.project.inspecting.titles import item_called

TITLES = {
    "1": "Toy Story (1995)",
    "2": "Heat (1995)",
    "3": "Heat (1986)",
    "4": "Orcs Must Die!",
    "5": None,
    "Heat": "An id that looks like a title",
    "7": "GoldenEye (1995)",
    "8": "(500) Days of Summer",
}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("1", "1"),
        ("5", "5"),
        ("Heat", "Heat"),
        ("Toy Story (1995)", "1"),
        ("7.0", "7"),
        ("008", "8"),
        ("toy  story", "1"),
        ("Orcs must die!", "4"),
        ("goldeneye", "7"),
        ("(500) days of summer", "8"),
        ("99", "99"),
        ("nothing like it", "nothing like it"),
    ],
)
def test_an_id_or_a_title_names_an_item(given, wanted):
    assert item_called(given, TITLES) == wanted


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("Orcs Must Dye", "did you mean 'Orcs Must Die!' (4)?"),
        ("summer", "did you mean '(500) Days of Summer' (8)?"),
        ("Golden Eye", "did you mean 'GoldenEye (1995)' (7)?"),
    ],
)
def test_near_misses_are_suggested(given, hint):
    with pytest.raises(DataError, match="no item has the id or title") as caught:
        item_called(given, TITLES)
    assert caught.value.hint == hint


def test_a_title_of_several_items_needs_an_id():
    with pytest.raises(DataError, match="2 items have the title 'heat'") as caught:
        item_called("heat", TITLES)
    assert caught.value.hint == "pass an id: 2 (Heat (1995)), 3 (Heat (1986))"
