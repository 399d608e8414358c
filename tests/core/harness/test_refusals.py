"""Test which refusals belong to single texts, and which stop a run."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from enhancer.errors import AuthenticationError, ProviderError, RequestError
from enhancer.harness.calls.refusals import MAX_AT_START, MAX_IN_ROW, Refusals

FLAGGED = RequestError("flagged", status=400)
DENIED = AuthenticationError("denied", hint="check KEY", status=403)


def refuse(refusals: Refusals[int], times: int, error: ProviderError) -> list[int]:
    return [one for n in range(times) for one, _ in refusals.add(refusals.send(), n, error)]


def test_refusals_that_come_back_before_slow_answers_are_no_row() -> None:
    refusals: Refusals[int] = Refusals(64)
    refusals.answered(refusals.send())
    sent = [refusals.send() for _ in range(40)]
    flagged = sent[::3]
    for number in flagged:  # fourteen refusals before the first of the answers
        assert refusals.add(number, number, FLAGGED) == []
    released = []
    for number in sent:
        if number not in flagged:
            released += [subject for subject, _ in refusals.answered(number)]
    released += [subject for subject, _ in refusals.at_end()]
    assert released == flagged


def test_a_row_stops_the_run_once_no_earlier_request_may_be_answered() -> None:
    refusals: Refusals[int] = Refusals(64)
    refusals.answered(refusals.send())
    slow = refusals.send()
    for _ in range(MAX_IN_ROW):
        refusals.add(refusals.send(), 0, DENIED)
    with pytest.raises(AuthenticationError, match=r"10 requests in a row.*denied") as caught:
        refusals.unanswered(slow)
    assert "revoked" in (caught.value.hint or "")


def test_an_answer_to_an_earlier_request_does_not_break_a_row() -> None:
    refusals: Refusals[int] = Refusals(64)
    early = refusals.send()
    for n in range(MAX_AT_START - 1):
        refusals.add(refusals.send(), n, DENIED)
    assert refusals.answered(early) == []
    for n in range(MAX_IN_ROW - MAX_AT_START):
        refusals.add(refusals.send(), n, DENIED)
    with pytest.raises(AuthenticationError):
        refusals.add(refusals.send(), 0, DENIED)


def test_a_request_that_hangs_holds_nobody_up_for_ever() -> None:
    refusals: Refusals[int] = Refusals(4)
    refusals.answered(refusals.send())
    refusals.send()
    with pytest.raises(RequestError):
        refuse(refusals, MAX_IN_ROW + 4, FLAGGED)


def test_going_on_refuses_texts_but_not_a_denied_key() -> None:
    refusals: Refusals[int] = Refusals(4, keep_going=True)
    assert refuse(refusals, 20, FLAGGED) == list(range(20))
    with pytest.raises(AuthenticationError):
        refuse(refusals, 20, DENIED)


@given(st.lists(st.sampled_from(["answer", "flag", "fail"]), max_size=60), st.randoms(), st.integers(1, 8))
def test_nothing_is_lost_and_nothing_refused_twice(outcomes: list[str], order: object, in_flight: int) -> None:
    refusals: Refusals[int] = Refusals(in_flight)
    flagged: list[int] = []
    released: list[int] = []
    flying: list[tuple[int, str]] = []
    try:
        while outcomes or flying:
            if outcomes and len(flying) < in_flight:
                flying.append((refusals.send(), outcomes.pop()))
                continue
            number, outcome = flying.pop(order.randrange(len(flying)))  # type: ignore[attr-defined]
            if outcome == "answer":
                done = refusals.answered(number)
            elif outcome == "flag":
                flagged.append(number)
                done = refusals.add(number, number, FLAGGED)
            else:
                done = refusals.unanswered(number)
            released += [subject for subject, _ in done]
        released += [subject for subject, _ in refusals.at_end()]
    except ProviderError:
        assert len(refusals) >= min(2, len(flagged))
        assert set(released).isdisjoint(refusals)
        assert sorted([*released, *refusals]) == sorted(flagged)
    else:
        assert sorted(released) == sorted(flagged)
