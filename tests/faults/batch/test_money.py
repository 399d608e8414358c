"""Test the cost of batch jobs with implausible token counts: it is unknown, as for direct calls, and never 0."""

from __future__ import annotations

from typing import Any

import pytest
from batch_project import whole
from generation import GenerationProject, answer
from loopback import Behaviour

from enhancer.contracts import Price
from enhancer.errors import BudgetError
from enhancer.harness import Journal

NO_TOKENS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def costs(bench: GenerationProject) -> list[Any]:
    with Journal(bench.store.directory) as journal:
        return [line.to_json() for line in journal.costs(by="model")]


@pytest.fixture
def direct(bench):
    """Run the same project with direct calls."""
    made = GenerationProject(bench.folder / "direct", bench.url, bench.rows, **bench.llm)
    yield made
    made.store.close()
    bench.server.reset_counts()


@pytest.mark.parametrize(
    "told", [NO_TOKENS, {"prompt_tokens": 0}, {"completion_tokens": 0}, {"prompt_tokens": 10**12}], ids=str
)
def test_tokens_that_no_answer_has_make_the_cost_unknown(bench, direct, told):
    bench.server.script.default = Behaviour(answer=answer, usage_override=told)
    batched, asked = bench.offline(), direct.generate()
    whole(bench, batched)
    assert batched.cost_usd is None
    assert [line["calls_of_unknown_cost"] for line in costs(bench)] == [8]
    assert costs(bench) == costs(direct)
    assert (batched.prompt_tokens, batched.completion_tokens) == (asked.prompt_tokens, asked.completion_tokens)


def test_an_unknown_cost_counts_as_the_most_that_it_could_be(bench, direct, batches):
    """The budget fits three of eight requests: after three answers of unknown cost, no request may follow."""
    bench.server.script.default = Behaviour(answer=answer, usage_override=NO_TOKENS)
    direct.llm |= {"max_cost": 0.5, "concurrency": 1}
    with pytest.raises(BudgetError):
        direct.generate()
    bench.llm |= {"max_cost": 0.25, "batch_discount": 0.5}
    with pytest.raises(BudgetError, match="is spent"):
        bench.offline()
    assert 0 < batches.submitted == len(bench.stored()) == bench.server.count < 8


@pytest.mark.parametrize("known", [True, False])
def test_a_job_costs_what_its_own_model_costs_though_another_is_configured_by_now(bench, known):
    bench.offline(wait=False)
    bench.llm |= {"model": "a-cheap-one", "price": {"input": 0.001, "output": 0.002}}

    def provider() -> Any:
        made = bench.provider()
        made.price = lambda model: Price(100.0, 200.0) if known and model == "loopback-model" else None
        return made

    whole(bench, bench.pipeline(provider=provider).generate_offline())
    dear, cheap = sorted(costs(bench), key=lambda line: line["group"] != "loopback-model")
    assert (dear["group"], dear["calls"], cheap["group"], cheap["calls"]) == ("loopback-model", 8, "a-cheap-one", 8)
    if known:
        assert dear["cost_usd"] == pytest.approx(1e5 * cheap["cost_usd"])
    else:
        assert dear["calls_of_unknown_cost"] == 8


def test_a_cap_that_jobs_elsewhere_fill_is_said_and_nothing_is_asked(bench, batches):
    bench.offline(wait=False)
    with Journal(bench.store.directory) as journal:
        out = journal.batch_jobs.reserved_cost()
    assert out > 0
    here, bench.url = bench.url, bench.url.replace("127.0.0.1", "localhost")
    bench.llm |= {"max_cost": out}
    with pytest.raises(BudgetError, match="jobs at other endpoints") as stopped:
        bench.offline()
    assert "collect those jobs" in stopped.value.hint
    assert batches.submitted == 8
    bench.url = here
    whole(bench, bench.offline())
