from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, strategies as st

from enhancer.contracts import Message, Price, Request
from enhancer.errors import BudgetError, ConfigError
from enhancer.harness import Budget
from enhancer.harness.calls.token_estimate import estimate_tokens, upper_bound

PRICE = Price(input=1.0, output=2.0)


def test_a_cap_without_a_price_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"llm.price") as caught:
        Budget(5.0, None, model="mystery")
    assert "mystery" in str(caught.value)
    assert caught.value.exit_code == 2
    Budget(None, None)


async def test_what_does_not_fit_is_refused_before_it_is_spent() -> None:
    budget = Budget(1.0, PRICE)
    await budget.reserve(0.6)
    budget.settle(0.6, 0.5)
    with pytest.raises(BudgetError, match=r"0\.5") as caught:
        await budget.reserve(0.6)
    assert caught.value.exit_code == 4
    await budget.reserve(0.5)


async def test_a_call_waits_for_those_in_flight() -> None:
    budget = Budget(1.0, PRICE)
    await budget.reserve(0.9)
    second = asyncio.ensure_future(budget.reserve(0.5))
    await asyncio.sleep(0)
    assert not second.done()
    budget.settle(0.9, 0.1)
    await second


@given(st.lists(st.tuples(st.floats(0.001, 0.3), st.floats(0, 1)), max_size=60), st.floats(0, 2), st.integers(1, 8))
def test_the_cap_is_never_passed(calls: list[tuple[float, float]], cap: float, workers: int) -> None:
    async def main() -> None:
        budget = Budget(cap, PRICE)
        todo = list(calls)

        async def work() -> None:
            while todo:
                ceiling, share = todo.pop()
                try:
                    await budget.reserve(ceiling)
                except BudgetError:
                    return
                assert budget.spent + budget.reserved <= cap + 1e-9
                await asyncio.sleep(0)
                budget.settle(ceiling, ceiling * share)

        await asyncio.gather(*(work() for _ in range(workers)))
        assert budget.spent <= cap + 1e-9

    asyncio.run(main())


@given(st.text(max_size=300))
def test_the_ceiling_is_above_one_token_a_byte(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    request = Request(messages=(Message("user", text),), model="m")
    assert upper_bound(request) >= max(len(text.encode()), estimate_tokens(text))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A toy cowboy fears that a space ranger will replace him.", 12),
        ("The quick brown fox jumps over the lazy dog, twice in 1995.", 16),
        ('{"profile": "A warm story.", "tags": ["warm"]}', 17),
    ],
)
def test_estimates_of_english_are_near_those_of_a_real_vocabulary(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == pytest.approx(tokens, rel=0.15)
