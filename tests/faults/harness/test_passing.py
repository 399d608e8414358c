"""Test transient faults of the provider and the network."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from generation import GenerationProject, answer, entities
from loopback import Behaviour, LoopbackServer, Script, fails
from run_outcomes import GOOD, complete, quarantine

from enhancer.errors import CircuitOpenError

PASSING: dict[str, list[Behaviour]] = {
    "500": [fails(500)] * 3,
    "503": [fails(503)] * 3,
    "429": [fails(429)] * 5,
    "429 retry-after seconds": [fails(429, retry_after="0.2")],
    "429 retry-after date": [fails(429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")],
    "429 retry-after negative": [fails(429, retry_after="-5")],
    "429 retry-after junk": [fails(429, retry_after="soonish")],
    "429 retry-after nan": [fails(429, retry_after="nan")],
    "429 retry-after 1e9": [fails(429, retry_after="1e9")],
    "503 retry-after 1e9": [fails(503, retry_after="1e9")],
    "429 retry-after empty": [fails(429, retry_after="")],
    "504": [fails(504)] * 2,
    "408": [fails(408)] * 2,
    "error object with 200": [Behaviour(fault="error_200", error={"message": "upstream", "code": "502"})] * 2,
    "reset before": [Behaviour(fault="reset_before")] * 2,
    "reset in": [Behaviour(fault="reset_in", answer=answer)] * 2,
    "half a body": [Behaviour(fault="half_body", answer=answer)] * 2,
    "truncated json": [Behaviour(fault="truncated_json", answer=answer)] * 2,
    "not json": [Behaviour(fault="not_json")] * 2,
    "empty body": [Behaviour(fault="empty_body")] * 2,
    "no choices": [Behaviour(fault="no_choices")] * 2,
    "not an object": [Behaviour(fault="not_object")] * 2,
    "bad utf-8": [Behaviour(fault="bad_utf8", answer=answer)] * 2,
    "gzip bomb": [Behaviour(fault="gzip_bomb")],
    "flood": [Behaviour(fault="flood")],
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_waited_out(
    bench: GenerationProject, llm_server: LoopbackServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enhancer.harness.calls.gate.MAX_PAUSE", 0.2)
    llm_server.script.sequence = list(PASSING[name])
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.quarantined, report.requests) == (6, 0, 6)
    assert llm_server.count == 6 + len(PASSING[name])


def test_a_reset_after_the_whole_answer_loses_no_answer(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    llm_server.script.sequence = [Behaviour(fault="reset_after", answer=answer)] * 3
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.requests, llm_server.count) == (6, 6, 6)


@pytest.mark.parametrize("form", ["seconds", "date", "milliseconds"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_holds_every_worker(
    bench: GenerationProject, llm_server: LoopbackServer, status: int, form: str
) -> None:
    bench.llm["concurrency"] = 1
    wait = {"seconds": 0.4, "date": 1.0, "milliseconds": 0.4}[form]
    told = {
        "seconds": {"Retry-After": "0.4"},
        "milliseconds": {"retry-after-ms": "400"},
        # Relative to the clock of the server, which may differ from the local one.
        "date": {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Fri, 31 Dec 1999 23:59:58 GMT"},
    }[form]
    llm_server.script.sequence = [fails(status, headers=told)]
    complete(bench, bench.generate())
    first, second, *_ = (request.at for request in llm_server.requests)
    assert wait <= second - first < wait + 5


def test_an_empty_allowance_is_waited_for(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.llm["concurrency"] = 1
    told = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "300ms"}
    llm_server.script.sequence = [Behaviour(answer=answer, headers=told)]
    complete(bench, bench.generate())
    first, second, *_ = (request.at for request in llm_server.requests)
    assert second - first >= 0.3


def test_a_503_halves_what_is_in_flight(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(40)
    bench.llm["concurrency"] = 16
    llm_server.script = Script(default=Behaviour(answer=answer, latency=0.05))
    llm_server.script.choose = lambda number, _: fails(503, latency=0.05) if number < 16 else None
    in_flight: list[int] = []
    plain = llm_server.script.choose

    def watch(number: int, body: Any) -> Behaviour | None:
        if number >= 16:
            in_flight.append(llm_server.in_flight)
        return plain(number, body)

    llm_server.script.choose = watch
    complete(bench, bench.generate())
    assert max(in_flight[:8]) <= 9


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_deadline_holds_for_the_whole_call(bench: GenerationProject, llm_server: LoopbackServer, fault: Any) -> None:
    bench.llm["timeout"] = 0.4
    llm_server.script.sequence = [Behaviour(fault=fault, answer=answer, drip_every=0.1)] * 2
    began = time.monotonic()
    report = bench.generate()
    complete(bench, report)
    assert report.generated == 6
    assert time.monotonic() - began < 20


def test_a_storm_of_429_is_sat_out(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(40)
    bench.llm["concurrency"] = 16
    chance = random.Random(7)
    llm_server.script.choose = lambda number, _: fails(429, retry_after="0.01") if chance.random() < 0.5 else None
    report = bench.generate()
    complete(bench, report)
    assert report.generated == report.requests == 40


def test_nothing_getting_through_stops_the_run(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    llm_server.script.default = fails(500)
    bench.llm["max_attempts"] = 3
    with pytest.raises(CircuitOpenError, match="cannot be reached") as caught:
        bench.generate()
    assert caught.value.report.generated == 0
    assert llm_server.count < 30
    llm_server.script.default = GOOD
    assert bench.generate().generated == 6


def test_no_server_at_all(bench: GenerationProject) -> None:
    bench.url = "http://127.0.0.1:9/v1"
    bench.llm["max_attempts"] = 2
    with pytest.raises(CircuitOpenError):
        bench.generate()


def test_one_that_always_fails_is_set_aside_and_asked_again_next_time(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.llm["max_attempts"] = 2
    bench.rows = entities(20)
    bench.llm["concurrency"] = 1
    llm_server.script.choose = lambda _, body: fails(500) if "film 3\n" in body["messages"][1]["content"] else None
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.quarantined) == (19, 1)
    llm_server.script.choose = None
    assert bench.plan().to_generate == 1
    report = bench.generate()
    assert (report.generated, report.quarantined) == (1, 0)
    assert quarantine(bench) == {}
