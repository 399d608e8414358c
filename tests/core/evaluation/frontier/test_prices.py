"""Costs of records: recorded, by tokens, estimated, or unknown."""

from __future__ import annotations

import numpy as np
import pytest

from enhancer.contracts.llm import Price
from enhancer.contracts.record import Record
from enhancer.evaluation.frontier.prices import Cost, CostTable, RecordPrices, total

PRICE = Price(input=1.0, output=2.0)


def record(**fields):
    vector = np.ones(2, np.float32)
    about = {"id": "1", "profile": "a note", "vector": vector, "embedder": "e", "generated_at": "", "input_hash": ""}
    return Record(**(about | fields))


@pytest.mark.parametrize(
    ("fields", "price", "usd"),
    [
        ({"cost_usd": 0.5, "prompt_tokens": 10, "completion_tokens": 10}, PRICE, 0.5),
        ({"prompt_tokens": 100, "completion_tokens": 50}, PRICE, 200e-6),
        ({"prompt_tokens": 100, "completion_tokens": 50}, None, None),
        ({"prompt_tokens": 100}, PRICE, None),
        ({}, None, None),
        ({"cost_usd": 0.0, "prompt_tokens": 100, "completion_tokens": 50}, PRICE, 200e-6),
        ({"cost_usd": 0.0, "prompt_tokens": 100, "completion_tokens": 50}, Price(0.0, 0.0), 0.0),
        ({"cost_usd": 0.0}, PRICE, None),
        ({"cost_usd": 0.0}, Price(0.0, 0.0), 0.0),
    ],
)
def test_the_recorded_cost_counts_and_otherwise_tokens_times_price(fields, price, usd):
    assert RecordPrices(price).of(record(**fields)).usd == (None if usd is None else pytest.approx(usd))


def test_tokens_that_were_not_recorded_are_estimated_and_said_to_be():
    prices = RecordPrices(PRICE, estimate=lambda each: (100.0, float(len(each.profile))))
    cost = prices.of(record(cost_usd=0.0))
    assert cost.usd == pytest.approx((100 + 2 * 6) / 1e6)
    assert (cost.estimated, cost.priced) == (1, 1)
    paid = prices.of(record(cost_usd=0.25))
    assert (paid.usd, paid.estimated) == (0.25, 0)


def test_a_sum_with_an_unknown_part_is_unknown_and_nothing_costs_nothing():
    known, unknown = Cost(records=1, usd=0.1), Cost(records=1, usd=None, prompt_tokens=None)
    assert total([known, known]).usd == pytest.approx(0.2)
    both = total([known, unknown])
    assert (both.usd, both.tokens, both.records) == (None, None, 2)
    assert total([]).to_json()["cost_usd"] == 0.0


def test_all_aspects_of_an_item_cost_together(tmp_path):
    from enhancer.contracts import Context
    from enhancer.plugin_host import load_plugins

    store = load_plugins().create("store", "sqlite", {"path": "features"}, Context(root=tmp_path))
    store.put([record(aspect="mood", cost_usd=0.1), record(aspect="plot", cost_usd=0.2), record(id="2", cost_usd=None)])
    table = CostTable.read(store, ["1", "2", "3"], "item", ["mood", "plot"], RecordPrices(None))
    assert table.sum().usd == pytest.approx(0.3)
    assert table.records.tolist() == [2, 0, 0]
    profiles = CostTable.read(store, ["1", "2", "3"], "item", [""], RecordPrices(None))
    assert (profiles.sum().usd, profiles.sum().records) == (None, 1)
    assert profiles.sum(np.array([True, False, True])).usd == 0.0
    store.close()
