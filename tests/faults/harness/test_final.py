"""Test permanent faults: refused keys, models and requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from generation import GenerationProject, entities, entity
from loopback import Behaviour, LoopbackServer, fails
from run_outcomes import GOOD, SECRET, complete, quarantine

from enhancer.errors import AuthenticationError, EnhancerError, RequestError
from enhancer.harness import Journal


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
    # Refusals count in the order of sending: the fifth ends the run, and two waves may be out by then.
    assert llm_server.count <= 5 + 2 * bench.llm["concurrency"]
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


# -- refusals of single texts -------------------------------------------------------------------------------------


def _asks_about(body: Any, *films: int) -> bool:
    return any(f"film {film}\\n" in json.dumps(body) for film in films)


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422])
def test_one_flagged_text_never_stops_the_rest(
    bench: GenerationProject, llm_server: LoopbackServer, status: int
) -> None:
    bench.rows = entities(20)
    refusal = fails(status, "flagged by moderation")
    llm_server.script.choose = lambda _, b: refusal if _asks_about(b, 7, 13) else None
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.failed_requests, llm_server.count) == (18, 2, 20)
    failed = quarantine(bench)
    assert set(failed) == {"7", "13"}
    words = f"the provider refused this text: {llm_server.url} answered {status}: flagged by moderation"
    assert failed["7"][0] == words
    assert "OPENAI_API_KEY" not in failed["7"][0]


@pytest.mark.parametrize("films", [(0,), (0, 1, 2, 3)])
def test_flagged_texts_at_the_start_wait_for_the_first_answer(
    bench: GenerationProject, llm_server: LoopbackServer, films: tuple[int, ...]
) -> None:
    bench.llm["concurrency"] = 1
    bench.rows = entities(10)
    llm_server.script.choose = lambda _, b: fails(403, "flagged") if _asks_about(b, *films) else None
    report = bench.generate()
    complete(bench, report)
    assert set(quarantine(bench)) == set(map(str, films))


def test_one_flagged_text_in_a_group_never_stops_the_rest(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(12)
    bench.llm["items_per_request"] = 6
    llm_server.script.choose = lambda _, b: fails(403, "flagged") if _asks_about(b, 3) else None
    report = bench.generate()
    complete(bench, report)
    assert set(quarantine(bench)) == {"3"}


@pytest.mark.parametrize("group", [1, 4])
def test_a_key_that_may_nothing_stops_groups_too(
    bench: GenerationProject, llm_server: LoopbackServer, group: int
) -> None:
    bench.rows = entities(200)
    bench.llm["items_per_request"] = group
    llm_server.script.default = fails(403, "no access")
    with pytest.raises(AuthenticationError, match="no access"):
        bench.generate()
    assert llm_server.count < 15
    assert quarantine(bench) == {}


@pytest.mark.parametrize(("status", "kind"), [(403, AuthenticationError), (400, RequestError), (404, RequestError)])
def test_ten_refusals_in_a_row_stop_the_run(
    bench: GenerationProject, llm_server: LoopbackServer, status: int, kind: type[Exception]
) -> None:
    bench.rows = entities(100)
    bench.llm["concurrency"] = 2
    llm_server.script.choose = lambda number, _: fails(status, "this key is revoked") if number >= 20 else None
    with pytest.raises(kind, match=r"refused 1\d requests in a row, .*this key is revoked"):
        bench.generate()
    assert llm_server.count < 20 + 15
    assert quarantine(bench) == {}, "the key was at fault, and no text"
    llm_server.script.choose = None
    assert bench.generate().generated == 80


@pytest.mark.parametrize(("status", "kind"), [(403, AuthenticationError), (400, RequestError)])
def test_what_was_refused_before_the_run_stopped_for_it_is_asked_again(
    bench: GenerationProject, llm_server: LoopbackServer, status: int, kind: type[Exception]
) -> None:
    bench.rows = entities(100)
    bench.llm["concurrency"] = 8
    flagged = fails(status, "this text is flagged")

    def choose(number: int, body: dict[str, Any]) -> Behaviour | None:
        if _asks_about(body, 2):
            return flagged
        # Some calls are still answered after the key is revoked, and after the first refusals.
        if number in {24, 26}:
            return Behaviour(latency=0.05)
        return fails(status, "this key is revoked", latency=0.2 * (number > 24)) if number >= 20 else None

    llm_server.script.choose = choose
    with pytest.raises(kind, match="this key is revoked"):
        bench.generate()
    with Journal(bench.store.directory) as journal:
        found = {entry.id: (entry.reason, entry.transient) for entry in journal.all_quarantined()}
    reason, transient = found.pop("2")
    assert "this text is flagged" in reason
    assert not transient
    assert found, "an answer after them made some refusals look like those of texts"
    assert all("this key is revoked" in reason and transient for reason, transient in found.values())
    llm_server.script.choose = None
    report = bench.generate()
    assert (len(bench.stored()), report.quarantined) == (99, 1)


def test_nine_refusals_in_a_row_do_not(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(40)
    bench.llm["concurrency"] = 1
    llm_server.script.choose = lambda _, b: fails(403, "flagged") if _asks_about(b, *range(20, 29)) else None
    report = bench.generate()
    complete(bench, report)
    assert report.quarantined == 9


def test_a_stretch_of_flagged_texts_is_passed_by_keep_going(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.rows = entities(40)
    bench.llm["concurrency"] = 1
    llm_server.script.choose = lambda _, b: fails(400, "flagged") if _asks_about(b, *range(25)) else None
    with pytest.raises(RequestError, match="all of the first 5"):
        bench.generate()
    report = bench.generate(keep_going=True)
    complete(bench, report)
    assert (report.generated, report.quarantined) == (15, 25)


def test_a_filter_by_whatever_name_is_asked_once(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    filtered = Behaviour(answer="", finish_reason="PROHIBITED_CONTENT")
    llm_server.script.choose = lambda _, b: filtered if "film 2" in json.dumps(b) else None
    complete(bench, bench.generate())
    assert (llm_server.count, set(quarantine(bench))) == (6, {"2"})


def test_an_answer_that_groq_could_not_validate_is_sampled_again(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    llm_server.script.sequence = [fails(400, "Failed to validate JSON.", code="json_validate_failed")] * 2
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.failed_requests) == (6, 2)


def test_a_refused_text_that_two_entities_share_does_not_keep_the_run_waiting(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.llm["concurrency"] = 1
    bench.rows = [*entities(3), entity("a", "title: cursed"), entity("b", "title: cursed")]
    llm_server.script.choose = lambda _, body: fails(400, "flagged") if "cursed" in json.dumps(body) else GOOD
    report = bench.generate()
    assert (report.generated, report.quarantined) == (3, 2)
    assert set(quarantine(bench)) >= {"a", "b"}
