"""Whole campaigns over a catalogue of whose tail alone profiles tell anything, with a shop in place of an LLM."""

from __future__ import annotations

import numpy as np
import pytest
from planted_catalogue import PlantedCatalogue
from planted_shop import PRICE, PlantedShop, WideEmbedder

from enhancer.errors import BudgetError
from enhancer.evaluation.measuring.strata import popularity_groups
from enhancer.project import Project
from enhancer.project.spending.campaign import Campaign
from enhancer.project.spending.state import CampaignState

CATALOGUE = PlantedCatalogue.make(6, users=300, items=600, each=40, skew=0.2)
PILOT = 30


@pytest.fixture
def project(tmp_path):
    CATALOGUE.write(tmp_path, "http://127.0.0.1:9")
    overrides = ["embedder={use = 'sentence-transformers'}"]
    opened = Project.load(tmp_path / "enhancer.toml", overrides=overrides, environ={})
    yield opened
    opened.close()


class Killed(BaseException):
    """A process that ends in the middle of a purchase."""


class Shop(PlantedShop):
    """A shop that is killed in its purchase of a number, from 1."""

    fatal = 0

    def buy(self, ids, aspects, *rest):
        self.fatal -= 1
        if not self.fatal:
            super().buy(ids[: len(ids) // 2], aspects, *rest)
            raise Killed
        return super().buy(ids, aspects, *rest)


@pytest.fixture
def shop(project, tmp_path):
    train = project.parts.split.train
    assert train.item_ids[:3] == ["0", "1", "2"]
    items = np.array(train.item_ids, np.int64)[train.items]
    groups = popularity_groups(np.bincount(items, minlength=len(CATALOGUE.traits)))
    rare = groups["tail"] | groups["cold"]
    profiles = [CATALOGUE.words(item, knows=bool(rare[item])) for item in range(len(rare))]
    texts = [f"thing {item}" for item in range(len(rare))]
    return Shop(
        tmp_path,
        {"profile": WideEmbedder(name="hashing").encode(profiles), "text": WideEmbedder(name="text").encode(texts)},
    )


def test_a_gain_of_the_tail_alone_is_found_after_another_look(project, shop):
    report = Campaign(project.parts, 100.0, shop=shop, pilot=PILOT).run()
    strata = {one["stratum"]: one for one in report.strata}
    assert strata["tail"]["worth"] == [["profile"]]
    assert strata["tail"]["bought"]["profile"] == strata["tail"]["items"]
    for name in ("head", "middle"):
        assert strata[name]["worth"] == []
        assert strata[name]["bought"]["profile"] == PILOT
    pilot = {gain["stratum"]: gain for gain in report.rounds[0]["gains"]}
    assert pilot["tail"]["decision"] == "look"
    assert pilot["tail"]["explained"] > pilot["tail"]["explained_bound"] > 0
    assert pilot["head"]["explained_bound"] <= 0
    assert report.spent_usd < 0.5 * len(CATALOGUE.traits) * PRICE


def test_a_pilot_that_the_budget_cuts_short_before_some_groups_decides_nothing_of_them(project, shop):
    def buy(ids, aspects, money, *rest):
        report = PlantedShop.buy(shop, ids, aspects, money, *rest)
        error = BudgetError("the next call does not fit")
        error.report = report
        raise error

    shop.buy = buy
    with pytest.raises(BudgetError) as caught:
        Campaign(project.parts, 100.0, shop=shop, pilot=PILOT).run()
    (one,) = caught.value.report.rounds
    assert not one["finished"]
    measured = {gain["stratum"] for gain in one["gains"] if gain["gain"] is not None}
    assert len(measured) <= 1


def test_a_look_that_was_killed_continues_with_the_same_items(project, shop):
    shop.fatal = 4  # after the three orders of the pilot
    with pytest.raises(Killed):
        Campaign(project.parts, 100.0, shop=shop, pilot=PILOT).run()
    before = CampaignState.read(shop.folder)
    assert before is not None
    assert before.open is not None
    (order,) = before.open
    assert (order.stratum, order.start, order.stop, order.done) == ("tail", PILOT, 2 * PILOT, False)
    # What was in flight counts as spent, and nothing is bought twice.
    report = Campaign(project.parts, 100.0, shop=shop, pilot=PILOT).run()
    assert report.rounds[0] == before.rounds[0]
    assert [(one["stratum"], one["items"]) for one in report.rounds[1]["orders"]] == [("tail", PILOT)]
    assert report.lost_usd > 0
    bought = sum(order["items"] for one in report.rounds for order in one["orders"])
    assert report.spent_usd == pytest.approx(bought * PRICE + report.lost_usd)
