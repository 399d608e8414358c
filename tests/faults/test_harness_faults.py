"""Everything that a provider, a network or a machine can do to a run, each its own test.

In all of them: every entity ends stored and valid, or in quarantine with a reason; no call is paid twice beyond those in
flight at a kill; no secret is anywhere.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from generation import Bench, answer, asked_ids, entities, entity, profile_of
from loopback import Behaviour, LoopbackServer, Script, fails, returns

from enhancer.errors import AuthenticationError, CircuitOpenError, EnhancerError, RequestError, StoreCorruptError
from enhancer.features.report import GenerationReport
from enhancer.harness import Journal
from enhancer.harness.validate import AnswerValidator
from enhancer.prompts import PROFILE_SCHEMA

GOOD = Behaviour(answer=answer)
SECRET = "sk-verysecret-0123456789abcdef"


@pytest.fixture
def bench(tmp_path: Path, llm_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    # Back-off is real time; a hundredth of it shows the same.
    monkeypatch.setattr("enhancer.harness.caller.BACKOFF_SECONDS", 0.005)
    llm_server.script = Script(default=GOOD)
    made = Bench(tmp_path, llm_server.url, entities(6), timeout=2.0, concurrency=4)
    yield made
    judge = AnswerValidator(PROFILE_SCHEMA, "x")
    for record in made.store.scan():
        judge.judge({"profile": record.profile, "tags": list(record.tags)}, "")
    made.store.close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def quarantine(bench: Bench) -> dict[str, tuple[str, str]]:
    with Journal(bench.store.directory) as journal:
        return {q.id: (q.reason, q.raw) for q in journal.all_quarantined()}


def complete(bench: Bench, report: GenerationReport) -> None:
    """Everybody is stored, or in quarantine with a reason."""
    there, failed = set(bench.stored()), quarantine(bench)
    assert there | set(failed) == {row.id for row in bench.rows}
    assert all(reason for reason, _ in failed.values())
    assert report.entities == report.cached + report.generated + report.quarantined == len(bench.rows)
    assert report.quarantined == len(failed)


# -- faults that pass ---------------------------------------------------------------------------------------------

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
    bench: Bench, llm_server: LoopbackServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enhancer.harness.gate.MAX_PAUSE", 0.2)
    llm_server.script.sequence = list(PASSING[name])
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.quarantined, report.requests) == (6, 0, 6)
    assert llm_server.count == 6 + len(PASSING[name])


def test_a_reset_after_the_whole_answer_loses_no_answer(bench: Bench, llm_server: LoopbackServer) -> None:
    llm_server.script.sequence = [Behaviour(fault="reset_after", answer=answer)] * 3
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.requests, llm_server.count) == (6, 6, 6)


@pytest.mark.parametrize("form", ["seconds", "date", "milliseconds"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_holds_every_worker(bench: Bench, llm_server: LoopbackServer, status: int, form: str) -> None:
    bench.llm["concurrency"] = 1
    wait = {"seconds": 0.4, "date": 1.0, "milliseconds": 0.4}[form]
    told = {
        "seconds": {"Retry-After": "0.4"},
        "milliseconds": {"retry-after-ms": "400"},
        # Compared with the server's own clock, however wrong ours is.
        "date": {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT", "Date": "Fri, 31 Dec 1999 23:59:58 GMT"},
    }[form]
    llm_server.script.sequence = [fails(status, headers=told)]
    complete(bench, bench.generate())
    first, second, *_ = (request.at for request in llm_server.requests)
    assert wait <= second - first < wait + 5


def test_an_empty_allowance_is_waited_for(bench: Bench, llm_server: LoopbackServer) -> None:
    bench.llm["concurrency"] = 1
    told = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "300ms"}
    llm_server.script.sequence = [Behaviour(answer=answer, headers=told)]
    complete(bench, bench.generate())
    first, second, *_ = (request.at for request in llm_server.requests)
    assert second - first >= 0.3


def test_a_503_halves_what_is_in_flight(bench: Bench, llm_server: LoopbackServer) -> None:
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
def test_a_deadline_holds_for_the_whole_call(bench: Bench, llm_server: LoopbackServer, fault: Any) -> None:
    bench.llm["timeout"] = 0.4
    llm_server.script.sequence = [Behaviour(fault=fault, answer=answer, drip_every=0.1)] * 2
    began = time.monotonic()
    report = bench.generate()
    complete(bench, report)
    assert report.generated == 6
    assert time.monotonic() - began < 20


def test_a_storm_of_429_is_sat_out(bench: Bench, llm_server: LoopbackServer) -> None:
    bench.rows = entities(40)
    bench.llm["concurrency"] = 16
    chance = random.Random(7)
    llm_server.script.choose = lambda number, _: fails(429, retry_after="0.01") if chance.random() < 0.5 else None
    report = bench.generate()
    complete(bench, report)
    assert report.generated == report.requests == 40


def test_nothing_getting_through_stops_the_run(bench: Bench, llm_server: LoopbackServer) -> None:
    llm_server.script.default = fails(500)
    bench.llm["max_attempts"] = 3
    with pytest.raises(CircuitOpenError, match="nothing gets through") as caught:
        bench.generate()
    assert caught.value.report.generated == 0
    assert llm_server.count < 30
    llm_server.script.default = GOOD
    assert bench.generate().generated == 6


def test_no_server_at_all(bench: Bench) -> None:
    bench.url = "http://127.0.0.1:9/v1"
    bench.llm["max_attempts"] = 2
    with pytest.raises(CircuitOpenError):
        bench.generate()


def test_one_that_always_fails_is_set_aside_and_asked_again_next_time(bench: Bench, llm_server: LoopbackServer) -> None:
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


# -- faults that do not pass --------------------------------------------------------------------------------------


def test_a_refused_key_stops_at_once_and_is_told_without_the_key(bench: Bench, llm_server: LoopbackServer) -> None:
    llm_server.script.default = Behaviour(status=401, fault="echo_key")
    with pytest.raises(AuthenticationError) as caught:
        bench.generate()
    assert caught.value.exit_code == 2
    assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert llm_server.count <= 4


@pytest.mark.parametrize("status", [400, 500])
def test_a_proxy_that_echoes_the_key(bench: Bench, llm_server: LoopbackServer, status: int) -> None:
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
def test_what_cannot_pass_is_never_tried_again(bench: Bench, llm_server: LoopbackServer, refusal: Behaviour) -> None:
    bench.rows = entities(60)
    llm_server.script.default = refusal
    with pytest.raises(EnhancerError):
        bench.generate()
    assert llm_server.count <= 8, "nobody insisted"
    assert len(set(map(json.dumps, llm_server.bodies))) == llm_server.count, "nothing was sent twice"
    assert quarantine(bench) == {}
    llm_server.script.default = GOOD
    assert bench.generate().generated == 60


def test_a_model_that_is_not_there_stops_at_once(bench: Bench, llm_server: LoopbackServer) -> None:
    llm_server.script.default = fails(404, "The model `loopback-model` does not exist")
    with pytest.raises(RequestError, match="does not exist") as caught:
        bench.generate()
    assert "/v1" in (caught.value.hint or ""), "a base without it is answered the same"
    assert llm_server.count <= 4
    assert quarantine(bench) == {}


def test_all_refused_stops_rather_than_quarantine_a_million(bench: Bench, llm_server: LoopbackServer) -> None:
    bench.rows = entities(500)
    llm_server.script.default = fails(400, "unsupported parameter: seed")
    with pytest.raises(RequestError, match=r"refused all of the first .*unsupported parameter"):
        bench.generate()
    assert llm_server.count < 12
    assert quarantine(bench) == {}


def test_one_refused_request_is_one_quarantined_entity(bench: Bench, llm_server: LoopbackServer) -> None:
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
    bench: Bench, llm_server: LoopbackServer, behaviour: Behaviour, reason: str
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


# -- answers that are no profiles ---------------------------------------------------------------------------------

GOOD_TEXT = json.dumps(profile_of("it"))
BAD: dict[str, str | Callable[[Any], str]] = {
    "prose": "I am afraid I have no opinion.",
    "truncated": GOOD_TEXT[:-8],
    "wrong types": '{"profile": 3, "tags": "x"}',
    "missing key": json.dumps({"profile": profile_of("x")["profile"]}),
    "extra key": json.dumps({**profile_of("x"), "mood": "wry"}),
    "nan": '{"profile": NaN, "tags": ["a"]}',
    "1e999": '{"profile": 1e999, "tags": ["a"]}',
    "deep": '{"profile": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "brackets": "[" * 200_000,
    "duplicate keys": '{"profile": "x", "profile": "y", "tags": ["a"]}',
    "empty profile": '{"profile": "", "tags": ["a"]}',
    "blank": "",
    "fenced nonsense": "```json\n{profile: x}\n```",
    "two objects": GOOD_TEXT + GOOD_TEXT,
    "a list": f"[{GOOD_TEXT}]",
    "null": '{"profile": null, "tags": null}',
    "deep objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "echo of a short text": '{"profile": "title: film 1", "tags": ["a"]}',
    "echo with a preface": lambda body: json.dumps(
        {"profile": "Here: " + body["messages"][1]["content"], "tags": ["a"]}
    ),
    "echo": lambda body: json.dumps({"profile": body["messages"][0]["content"][:200], "tags": ["a"]}),
    "surrogate": '{"profile": "a story with half a character in it \\ud800", "tags": ["a"]}',
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_profile_is_asked_again_with_the_error_and_then_set_aside(
    bench: Bench, llm_server: LoopbackServer, name: str
) -> None:
    bench.rows = entities(2)
    llm_server.script.choose = lambda _, b: returns(BAD[name]) if "film 1" in json.dumps(b) else None
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.quarantined, report.requests) == (1, 1, 4)
    again = [b["messages"] for b in llm_server.bodies if len(b["messages"]) == 4]
    assert len(again) == 2
    assert again[0][2]["role"] == "assistant"
    assert "cannot be used: " in again[0][3]["content"]
    assert set(bench.stored()) == {"0"}
    bench.generate()
    assert llm_server.count == 4, "what failed is not paid for again"


def test_a_re_ask_that_helps_is_stored_with_what_it_cost(bench: Bench, llm_server: LoopbackServer) -> None:
    bench.rows = entities(1)
    llm_server.script.sequence = [returns("no")]
    report = bench.generate()
    record = bench.stored()["0"]
    assert (report.generated, report.requests) == (1, 2)
    assert record.prompt_tokens == report.prompt_tokens


def test_a_cut_off_answer_gets_more_room_once(bench: Bench, llm_server: LoopbackServer) -> None:
    bench.rows = entities(1)
    llm_server.script.sequence = [Behaviour(answer=GOOD_TEXT[:30], finish_reason="length")]
    report = bench.generate()
    assert (report.generated, report.requests) == (1, 2)
    first, second = (body.get("max_tokens") or body["max_completion_tokens"] for body in llm_server.bodies)
    assert second == 2 * first
    assert len(llm_server.bodies[1]["messages"]) == 2


def test_a_refused_batch_spoils_nobody_but_whom_it_is_about(bench: Bench, llm_server: LoopbackServer) -> None:
    bench.llm["items_per_request"] = 6
    refused = Behaviour(refusal="I cannot help with that.")
    llm_server.script.choose = lambda _, b: refused if "film 2" in json.dumps(b) else None
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.quarantined) == (5, 1)
    assert quarantine(bench)["2"] == ("the model refused", "I cannot help with that.")


def test_more_room_is_given_once_and_no_more(bench: Bench, llm_server: LoopbackServer) -> None:
    bench.rows = entities(1)
    llm_server.script.choose = lambda number, _: (
        Behaviour(answer=GOOD_TEXT[:30], finish_reason="length") if number < 20 else None
    )
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.quarantined, report.requests) == (0, 1, 4)
    rooms = [body.get("max_tokens") or body["max_completion_tokens"] for body in llm_server.bodies]
    assert rooms == [rooms[0]] + 3 * [2 * rooms[0]]
    assert "not complete" in quarantine(bench)["0"][0]


def test_a_model_that_cannot_answer_about_several_is_asked_about_each_alone(
    bench: Bench, llm_server: LoopbackServer, caplog: pytest.LogCaptureFixture
) -> None:
    bench.rows = entities(80)
    bench.llm |= {"items_per_request": 4, "concurrency": 4}

    def invents_ids(body: Any) -> str:
        ids = asked_ids(body)
        return answer(body) if not ids else json.dumps({"items": [{"id": f"x{n}", **profile_of(n)} for n in ids]})

    llm_server.script.default = Behaviour(answer=invents_ids)
    report = bench.generate()
    complete(bench, report)
    assert report.generated == 80
    assert llm_server.count <= 80 + 30, "not seven requests for every four entities to the end"
    assert [r.getMessage() for r in caplog.records if "items_per_request = 1" in r.getMessage()]


def test_tokens_that_nobody_tells_are_unknown_and_not_0(bench: Bench, llm_server: LoopbackServer) -> None:
    llm_server.script.default = Behaviour(answer=answer, usage=False)
    report = bench.generate()
    told = report.to_json()
    assert report.generated == 6
    assert (told["prompt_tokens"], told["completion_tokens"], told["cost_usd"]) == (None, None, None)
    assert bench.generate().to_json()["prompt_tokens"] == 0, "no call, no tokens"


def test_a_batch_that_fails_whole_is_halved(bench: Bench, llm_server: LoopbackServer) -> None:
    bench.rows = entities(8)
    bench.llm["items_per_request"] = 8
    llm_server.script.choose = lambda _, b: returns("oops") if b["messages"][1]["content"].count("<entry") > 2 else None
    report = bench.generate()
    complete(bench, report)
    assert report.generated == 8
    assert llm_server.count == 1 + 2 + 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda items: items[1:],
        lambda items: [*items, items[0]],
        lambda items: [*items, {**items[0], "profile": "another story altogether, and not the same"}],
        lambda items: [*items, {"id": "nobody", **profile_of("x")}],
        lambda items: items[::-1],
        lambda items: [{**item, "id": int(item["id"])} for item in items],
        lambda items: [{**items[0], "tags": None}, *items[1:]],
        lambda items: [None, 3, *items],
        lambda items: [{k: v for k, v in items[0].items() if k != "id"}, *items[1:]],
    ],
    ids=["dropped", "doubled", "contradicted", "added", "reordered", "numbers", "invalid", "junk", "nameless"],
)
def test_a_batch_is_sorted_out_by_id(bench: Bench, llm_server: LoopbackServer, spoil: Callable[[Any], Any]) -> None:
    def spoiled(body: Any) -> str:
        reply = json.loads(answer(body))
        if "items" in reply:
            reply["items"] = spoil(reply["items"])
        return json.dumps(reply)

    llm_server.script.default = returns(spoiled)
    bench.llm["items_per_request"] = 3
    report = bench.generate()
    complete(bench, report)
    assert report.generated == 6
    for record in bench.stored().values():
        assert record.profile == profile_of(f"number {record.id}")["profile"]


# -- the machine --------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from generation import Bench, entities
bench = Bench(Path(sys.argv[2]), sys.argv[3], entities(int(sys.argv[4])), concurrency=4)
report = bench.generate()
print(report.generated, report.cached, flush=True)
"""


def start(bench: Bench, n: int) -> subprocess.Popen[str]:
    here = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", SCRIPT, here, str(bench.folder), bench.url, str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_share_the_work_and_pay_once(bench: Bench, llm_server: LoopbackServer) -> None:
    llm_server.script.default = Behaviour(answer=answer, latency=0.02)
    n = 200
    processes = [start(bench, n) for _ in range(2)]
    told = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    counts = [tuple(map(int, out.split())) for out, _ in told]
    assert all(generated + cached == n for generated, cached in counts)
    assert sum(generated for generated, _ in counts) == n
    assert llm_server.count == n
    bench.rows = entities(n)
    assert bench.generate().cached == n


def test_a_damaged_journal_is_an_error_that_says_what_to_do(bench: Bench) -> None:
    bench.generate()
    (bench.store.directory / "journal.sqlite").write_bytes(b"")
    for verb in (bench.plan, bench.generate):
        with pytest.raises(StoreCorruptError, match="move"):
            verb()


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(bench: Bench, llm_server: LoopbackServer) -> None:
    put = bench.store.put

    def full(records: Any) -> None:
        from enhancer.errors import StoreError

        raise StoreError("the disk is full", hint="make room and run again")

    bench.store.put = full  # type: ignore[method-assign]
    with pytest.raises(EnhancerError, match="disk is full"):
        bench.generate()
    bench.store.put = put  # type: ignore[method-assign]
    report = bench.generate()
    complete(bench, report)
    assert llm_server.count == 6, "what was paid for before the disk was full came from the journal"


def test_a_claim_outlives_any_setting_of_the_clock(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(bench.store.directory) as one, Journal(bench.store.directory) as other:
        assert one.claim(["a"]).result() == {"a"}
        real = time.time
        for jump in (1e6, -1e6, 120.0, -120.0):
            monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
            assert other.claim(["a"]).result() == set()


def test_clocks_that_run_backwards_ask_nobody_again(
    bench: Bench, llm_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run takes several passes when questions are equal; what failed in the first must not look old in the next."""
    from enhancer.harness import clock

    real, begun = clock.datetime, time.monotonic()

    class Backwards(real):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.fromtimestamp(4e9 - 1000 * (time.monotonic() - begun), tz)

    monkeypatch.setattr(clock, "datetime", Backwards)
    monkeypatch.setattr(clock, "_latest", "")
    bench.rows = [*entities(4), *(entity(f"same{n}", "title: the same") for n in range(3))]
    llm_server.script.choose = lambda _, b: returns("no") if "film 2" in json.dumps(b) else None
    report = bench.generate(retry_quarantined=True)
    complete(bench, report)
    assert (report.generated, report.cached, report.quarantined) == (4, 2, 1)
    assert llm_server.count == 3 + 3 + 1


def test_clocks_that_jump_change_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    jumps = iter([0.0, 1e6, -1e6, 5e7, -5e7] * 1000)
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    report = bench.generate()
    complete(bench, report)
    assert report.generated == 6
