from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from processes import run

from enhancer.contracts import Key
from enhancer.errors import StoreCorruptError, StoreError
from enhancer.harness import JOURNAL_FILE_NAME, Journal, PaidCall
from enhancer.harness.journal.journal import ObservedUsage
from enhancer.harness.journal.owner_process import has_ended, owner_name


def call(*hashes: str, **more: Any) -> PaidCall:
    values: dict[str, Any] = {
        "text": "{}",
        "finish_reason": "stop",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "estimated_prompt_tokens": 8,
        "cost_usd": 0.001,
        "model": "m",
        "template": "t@1",
        "request": "r",
        "attempt": 1,
        **more,
    }
    return PaidCall(hashes=hashes, **values)


def test_what_was_paid_for_is_found_by_another_process_in_order(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.record(call("a", text="first"))
        journal.record(call("a", "b", text="second", ids=("1", "2"))).result()
    with Journal(tmp_path) as journal:
        paid = journal.paid_answers(["a", "b", "c"])
        assert [p.text for p in paid["a"]] == ["first", "second"]
        assert paid["b"][0].ids == ("1", "2")
        assert paid["b"][0].position == 1
        assert "c" not in paid


def test_lone_surrogates_and_nul_survive_as_escapes(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        written = journal.record(call("a", text="x\ud800y\0z")).result()
        assert journal.paid_answers(["a"])["a"][0].text == written.text == r"x\ud800y\x00z"


def test_many_threads_write_and_nothing_is_lost(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:

        def work(n: int) -> None:
            for i in range(50):
                journal.record(call(f"{n}-{i}")).result()

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert journal.costs()[0].calls == 400


def test_the_ledger_sums_by_day_model_and_template(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.record(call("a"))
        journal.record(call("b", "c", ids=("1", "2"), model="n", cost_usd=None))
        journal.record(call("d", model="n", cost_usd=None, prompt_tokens=None)).result()
        first, second = journal.costs("model")
        assert first.to_json() == {
            "group": "m",
            "calls": 1,
            "entities": 1,
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "cost_usd": 0.001,
            "calls_of_unknown_cost": 0,
            "texts": 0,
            "failed": 0,
        }
        assert (second.calls, second.entities, second.cost_usd, second.calls_of_unknown_cost) == (2, 3, None, 2)
        assert [line.group for line in journal.costs("template")] == ["t@1"]
        assert len(journal.costs("day")[0].group) == 10
        assert journal.observed_usage("n").calls == 1
        assert journal.observed_usage("nobody") == ObservedUsage(0, 0, 0, 0, 0)


def test_the_ledger_counts_requests_without_an_answer(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, Journal(tmp_path) as other:
        assert journal.costs() == []
        journal.record(call("a"))
        for model, template in (("m", "t@1"), ("m", "t@1"), ("n", "embedding")):
            journal.failures.add(model, template)
        other.failures.add("m", "embedding").result()
        journal.failures.add("m", "t@1").result()
        by_model = {line.group: (line.calls, line.failed, line.cost_usd) for line in journal.costs("model")}
        assert by_model == {"m": (1, 4, 0.001), "n": (0, 1, 0.0)}
        assert {line.group: line.failed for line in other.costs("template")} == {"embedding": 2, "t@1": 3}
        assert [line.failed for line in journal.costs("day")] == [5]


def test_observed_usage_holds_what_was_spent_on_thought(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.record(call("a", completion_tokens=400, reasoning_tokens=400, finish_reason="length"))
        journal.record(call("a", completion_tokens=3000, reasoning_tokens=2900, attempt=2))
        journal.record(call("b", completion_tokens=1000, reasoning_tokens=900))
        journal.record(call("c", completion_tokens=5000, reasoning_tokens=5000, finish_reason="length"))
        journal.record(call("d", completion_tokens=None, reasoning_tokens=7000)).result()
        assert journal.paid_answers(["a"])["a"][1].reasoning_tokens == 2900
        seen = journal.observed_usage("m")
    # An answer of 400 tokens was cut off for want of room; one of 5,000 is what the model sometimes costs.
    assert (seen.calls, seen.completion_tokens, seen.reasoning_tokens) == (2, 9000, 8800)
    assert (seen.longest_thought, seen.longest_cut_thought) == (2900, 5000)


def test_quarantine_holds_reason_and_raw_text_and_can_be_left(tmp_path: Path) -> None:
    key = Key("item", "1")
    with Journal(tmp_path) as journal:
        journal.record(call("h"))
        journal.quarantine(key, "h", reason="bad", raw="raw \ud800").result()
        found = journal.quarantined("item", ["1", "2"])["1"]
        assert (found.reason, found.raw, found.input_hash, found.transient) == ("bad", "raw \\ud800", "h", False)
        assert [q.id for q in journal.all_quarantined()] == ["1"]
        journal.release_quarantine([(key, "h")], forget_answers=True).result()
        assert not journal.quarantined("item", ["1"])
        assert not journal.paid_answers(["h"])
        assert journal.costs()[0].calls == 1, "the ledger forgets nothing"


def test_all_quarantined_is_a_stream_over_any_number(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for n in range(600):
            written = journal.quarantine(Key("user", f"{n:04}"), "h", reason="r", raw="")
        written.result()
        assert [q.id for q in journal.all_quarantined()] == [f"{n:04}" for n in range(600)]


def test_a_claim_holds_until_it_is_given_back_or_runs_out(tmp_path: Path) -> None:
    with Journal(tmp_path) as one, Journal(tmp_path) as two:
        assert one.claim(["a", "b"]).result() == {"a", "b"}
        assert two.claim(["a", "c"]).result() == {"c"}
        assert one.claim(["a"]).result() == set(), "our own claim is no new one"
        one.unclaim(["a"]).result()
        assert two.claim(["a"]).result() == {"a"}
        one.unclaim().result()
        assert two.claim(["b"]).result() == {"b"}
    with Journal(tmp_path, lease=-1) as dead, Journal(tmp_path) as other:
        dead.claim(["z"]).result()
        assert other.claim(["z"]).result() == {"z"}


def test_a_lease_from_the_far_future_is_not_believed(tmp_path: Path) -> None:
    with Journal(tmp_path, lease=1e9) as ahead, Journal(tmp_path) as other:
        ahead.claim(["z"]).result()
        assert other.claim(["z"]).result() == {"z"}


def test_the_claim_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    script = (
        "import sys, os, pathlib; from enhancer.harness import Journal;"
        "j = Journal(pathlib.Path(sys.argv[1])); j.claim(['a']).result(); print(j.owner, flush=True); os._exit(9)"
    )
    done = run([sys.executable, "-c", script, str(tmp_path)])
    assert has_ended(done.stdout.strip()) is Path("/proc/self/stat").exists()
    if Path("/proc/self/stat").exists():
        with Journal(tmp_path) as journal:
            assert journal.claim(["a"]).result() == {"a"}


@pytest.mark.parametrize("owner", ["", "x", "a:b:c:d", "otherhost:1:2:3"])
def test_who_cannot_be_looked_up_counts_as_alive(owner: str) -> None:
    assert not has_ended(owner)
    assert not has_ended(owner_name())


# -- damage -------------------------------------------------------------------------------------------------------


def filled(folder: Path) -> Path:
    with Journal(folder) as journal:
        for n in range(200):
            written = journal.record(call(f"h{n}", text="x" * 500))
        written.result()
    return folder / JOURNAL_FILE_NAME


def test_an_empty_file_is_damage_not_a_new_journal(tmp_path: Path) -> None:
    filled(tmp_path).write_bytes(b"")
    with pytest.raises(StoreCorruptError, match=r"empty.*move"):
        Journal(tmp_path)


def test_junk_is_named_as_such(tmp_path: Path) -> None:
    filled(tmp_path).write_bytes(b"junk" * 5000)
    with pytest.raises(StoreCorruptError, match=r"journal.*damaged.*move"):
        Journal(tmp_path)


def test_a_torn_page_is_a_typed_error(tmp_path: Path) -> None:
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    data[4096 * 3 :] = os.urandom(len(data) - 4096 * 3)
    path.write_bytes(data)
    with pytest.raises(StoreCorruptError), Journal(tmp_path) as journal:
        journal.paid_answers([f"h{n}" for n in range(200)])


def test_another_database_or_version_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / JOURNAL_FILE_NAME)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreCorruptError, match="not a journal"):
        Journal(tmp_path)
    other = tmp_path / "other"
    path = filled(other)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreCorruptError, match="version 99"):
        Journal(other)


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    journal.close()
    with pytest.raises(StoreError, match="closed"):
        journal.record(call("a"))


def test_one_bad_operation_spoils_only_itself(tmp_path: Path) -> None:
    def bad(_: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    with Journal(tmp_path) as journal:
        futures = [journal.record(call(f"{n}")) for n in range(20)]
        broken = journal._database.submit(bad)
        futures += [journal.record(call(f"{n}")) for n in range(20, 40)]
        with pytest.raises(ZeroDivisionError):
            broken.result()
        assert all(future.result() for future in futures)
        assert journal.costs()[0].calls == 40


def test_what_a_cancelled_caller_paid_for_is_written_all_the_same(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for n in range(50):
            journal.record(call(f"{n}")).cancel()
    with Journal(tmp_path) as journal:
        assert journal.costs()[0].calls == 50


def test_ids_of_a_batch_keep_any_form(tmp_path: Path) -> None:
    ids = ("é", '"', "1", "a,b")
    with Journal(tmp_path) as journal:
        journal.record(call("a", "b", "c", "d", ids=ids)).result()
        assert journal.paid_answers(["d"])["d"][0].ids == ids
        assert json.dumps(ids)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot create .*taken") as caught:
        Journal(tmp_path / "taken" / "features")
    assert "[store] path" in (caught.value.hint or "")
