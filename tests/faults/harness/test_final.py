"""Test permanent faults: refused keys, models and requests."""

from __future__ import annotations

import json

import pytest
from generation import GenerationProject, entities
from loopback import Behaviour, LoopbackServer, fails
from run_outcomes import GOOD, SECRET, complete, quarantine

from enhancer.errors import AuthenticationError, EnhancerError, RequestError


def test_a_refused_key_stops_at_once_and_is_told_without_the_key(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    llm_server.script.default = Behaviour(status=401, fault="echo_key")
    with pytest.raises(AuthenticationError) as caught:
        bench.generate()
    assert caught.value.exit_code == 2
    assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert llm_server.count <= 4


@pytest.mark.parametrize("status", [400, 500])
def test_a_proxy_that_echoes_the_key(bench: GenerationProject, llm_server: LoopbackServer, status: int) -> None:
    bench.llm["max_attempts"] = 1
    llm_server.script.choose = lambda number, _: Behaviour(status=status, fault="echo_key") if number == 1 else None
    report = bench.generate()
    complete(bench, report)
    assert SECRET not in json.dumps(quarantine(bench))


@pytest.mark.parametrize(
    "refusal",
    [
        fails(403, "no access to this model"),
        fails(402, "pay first"),
        fails(429, "You exceeded your current quota", code="insufficient_quota"),
        Behaviour(fault="error_200", error={"message": "no access", "code": "403"}),
        Behaviour(fault="redirect"),
    ],
    ids=["403", "402", "quota", "403 in a 200", "redirect"],
)
def test_what_cannot_pass_is_never_tried_again(
    bench: GenerationProject, llm_server: LoopbackServer, refusal: Behaviour
) -> None:
    bench.rows = entities(60)
    llm_server.script.default = refusal
    with pytest.raises(EnhancerError):
        bench.generate()
    assert llm_server.count <= 8, "nobody insisted"
    assert len(set(map(json.dumps, llm_server.bodies))) == llm_server.count, "nothing was sent twice"
    assert quarantine(bench) == {}
    llm_server.script.default = GOOD
    assert bench.generate().generated == 60


def test_a_model_that_is_not_there_stops_at_once(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    llm_server.script.default = fails(404, "The model `loopback-model` does not exist")
    with pytest.raises(RequestError, match="does not exist") as caught:
        bench.generate()
    assert "/v1" in (caught.value.hint or ""), "a base without it is answered the same"
    assert llm_server.count <= 4
    assert quarantine(bench) == {}


def test_all_refused_stops_rather_than_quarantine_a_million(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.rows = entities(500)
    llm_server.script.default = fails(400, "unsupported parameter: seed")
    with pytest.raises(RequestError, match=r"refused all of the first .*unsupported parameter"):
        bench.generate()
    assert llm_server.count < 12
    assert quarantine(bench) == {}


def test_one_refused_request_is_one_quarantined_entity(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    llm_server.script.choose = lambda _, b: fails(400, "too long") if "film 2" in json.dumps(b) else None
    report = bench.generate()
    complete(bench, report)
    assert llm_server.count == 6
    assert "too long" in quarantine(bench)["2"][0]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Behaviour(refusal="I cannot help with that."), "refused"),
        (Behaviour(answer="", finish_reason="content_filter"), "content filter"),
    ],
)
def test_a_refusal_is_final_and_kept(
    bench: GenerationProject, llm_server: LoopbackServer, behaviour: Behaviour, reason: str
) -> None:
    llm_server.script.choose = lambda _, b: behaviour if "film 2" in json.dumps(b) else None
    report = bench.generate()
    complete(bench, report)
    assert llm_server.count == 6
    assert reason in quarantine(bench)["2"][0]
    bench.generate()
    assert llm_server.count == 6
    llm_server.script.choose = None
    assert bench.plan(retry_quarantined=True).requests == 1
    report = bench.generate(retry_quarantined=True)
    assert (report.generated, report.quarantined, llm_server.count) == (1, 0, 7)
    assert quarantine(bench) == {}
