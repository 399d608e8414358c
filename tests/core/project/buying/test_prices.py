"""Test the costs of the records of a project."""

from __future__ import annotations

import numpy as np
import pytest

from enhancer import Project
from enhancer.contracts.record import Record
from enhancer.project.buying.prices import record_prices

CONFIG = """
[data]
items = "items.csv"
[prompts.item]
template = "item/films"
aspects = ["plot", "mood"]
[llm]
use = "replay"
[store]
use = "sqlite"
"""
NOTE = "A cowboy doll grows jealous of a space ranger."


@pytest.fixture
def prices(tmp_path):
    """Return a function from overrides to the prices of the project."""
    (tmp_path / "enhancer.toml").write_text(CONFIG)
    (tmp_path / "items.csv").write_text("item_id,title\n1,Toy Story\n2,Heat\n")

    def make(*overrides):
        project = Project.load(tmp_path / "enhancer.toml", overrides=list(overrides))
        return record_prices(project.parts)

    return make


def record(aspect="plot", **fields):
    about = {"id": "1", "aspect": aspect, "profile": NOTE, "vector": np.ones(2, np.float32), "embedder": "e"}
    return Record(**(about | {"generated_at": "", "input_hash": "", "cost_usd": 0.0} | fields))


PRICED = ("llm.price.input=1", "llm.price.output=4")


def test_a_replayed_note_costs_what_the_configured_price_says(prices):
    cost = prices(*PRICED).of(record())
    assert cost.estimated == cost.priced == 1
    assert cost.usd == pytest.approx((cost.prompt_tokens + 4 * cost.completion_tokens) / 1e6)
    assert 15 < cost.completion_tokens < 40
    assert prices(*PRICED).of(record(cost_usd=0.25)).usd == 0.25


def test_notes_of_one_call_share_its_prompt(prices):
    together, each = (prices(*PRICED, f"prompts.item.calls={how}").of(record()) for how in ("together", "each"))
    assert 0.5 < together.prompt_tokens / each.prompt_tokens < 0.7  # the call for both asks for a little more
    assert together.completion_tokens == each.completion_tokens


def test_replayed_answers_are_free_and_imported_ones_unknown_without_a_price(prices):
    assert prices().of(record()).usd == 0.0
    assert prices().of(record(cost_usd=None)).usd is None
    free = prices("llm.price.input=0", "llm.price.output=0")
    assert free.of(record(cost_usd=None)).usd == 0.0


def test_a_note_that_is_asked_for_no_more_is_priced_like_one_that_is(prices):
    known, old = prices(*PRICED).of(record()), prices(*PRICED).of(record("sound"))
    assert old.prompt_tokens > known.prompt_tokens  # alone, it would not share the call


def test_a_template_without_the_notes_leaves_tokens_unknown_with_a_warning(prices, caplog):
    made = prices(*PRICED, "prompts.item.template=item/v1")
    cost = made.of(record())
    assert (cost.usd, cost.tokens) == (None, None)
    assert "tokens of items that were not recorded are unknown" in caplog.text
    assert made.of(record(prompt_tokens=100, completion_tokens=50)).usd == pytest.approx(300e-6)
