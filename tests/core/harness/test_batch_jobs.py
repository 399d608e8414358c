"""Test the log of batch jobs, and the migration of journals without one."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from enhancer.contracts import Completion
from enhancer.errors import StoreCorruptError
from enhancer.features.generating.batch_run import PollInterval
from enhancer.harness import Journal
from enhancer.harness.journal.batch_jobs import BatchRequest, BatchResult

OLD = """
PRAGMA application_id=0x656E686A;
PRAGMA user_version=1;
CREATE TABLE completions (id INTEGER PRIMARY KEY, at TEXT NOT NULL, model TEXT NOT NULL, template TEXT NOT NULL,
  request TEXT NOT NULL, attempt INTEGER NOT NULL, entities INTEGER NOT NULL, finish_reason TEXT NOT NULL,
  prompt_tokens INTEGER, completion_tokens INTEGER, estimated_prompt_tokens INTEGER NOT NULL, cost_usd REAL,
  ids TEXT, text TEXT NOT NULL) STRICT;
CREATE TABLE answers (input_hash TEXT NOT NULL, completion INTEGER NOT NULL REFERENCES completions(id),
  place INTEGER NOT NULL, void INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (input_hash, completion)) STRICT, WITHOUT ROWID;
CREATE TABLE quarantine (kind TEXT NOT NULL, id TEXT NOT NULL, aspect TEXT NOT NULL, input_hash TEXT NOT NULL,
  reason TEXT NOT NULL, raw TEXT NOT NULL, transient INTEGER NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (kind, id, aspect)) STRICT, WITHOUT ROWID;
CREATE TABLE claims (input_hash TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO completions VALUES (1, '2026-01-01T00:00:00.000Z', 'm', 't', 'r', 1, 1, 'stop', 10, 5, 9, 0.25, NULL, '{}');
INSERT INTO answers VALUES ('h1', 1, 0, 0);
"""


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path) as opened:
        yield opened


def asked(*hashes, ceiling=1.0):
    return BatchRequest(
        hashes=hashes,
        ids=hashes if len(hashes) > 1 else None,
        template="t",
        request="r",
        attempt=1,
        estimated_prompt_tokens=10,
        max_cost_usd=ceiling,
    )


def submitted(journal, token, *rows):
    journal.batch_jobs.begin(token, "http://x", "m").result()
    journal.batch_jobs.add_requests(token, 0, rows).result()
    journal.batch_jobs.mark_ready(token).result()
    journal.batch_jobs.mark_uploaded(token, "file-1").result()
    journal.batch_jobs.mark_created(token, "batch_1", "validating").result()
    return journal.batch_jobs.open_jobs()[-1]


def old(tmp_path):
    connection = sqlite3.connect(tmp_path / "journal.sqlite")
    connection.executescript(OLD)
    connection.close()


def test_a_journal_of_the_first_version_is_brought_up_to_date(tmp_path):
    old(tmp_path)
    with Journal(tmp_path) as journal:
        paid = journal.paid_answers(["h1"])["h1"][0]
        assert (paid.text, paid.reasoning_tokens) == ("{}", None)
        assert journal.costs()[0].cost_usd == 0.25
        submitted(journal, "a", asked("h2"))
    with Journal(tmp_path) as journal:
        assert journal.batch_jobs.outstanding(["h1", "h2"]) == {"h2"}


def test_many_bring_it_up_to_date_at_once(tmp_path):
    old(tmp_path)
    failures = []

    def work():
        try:
            Journal(tmp_path).close()
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_journal_of_a_later_version_is_refused(tmp_path):
    Journal(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "journal.sqlite")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StoreCorruptError, match="version 99"):
        Journal(tmp_path)


def test_what_is_out_can_be_claimed_by_nobody(journal, tmp_path):
    assert journal.claim(["a", "b"]).result() == {"a", "b"}
    job = submitted(journal, "t", asked("a"))
    with Journal(tmp_path) as other:
        assert other.claim(["a"]).result() == set()
        journal.batch_jobs.close(job.token, "missing", "gone", "completed").result()
        assert other.claim(["a"]).result() == {"a"}


def test_a_file_that_is_being_written_keeps_nobody_out_but_by_claims(journal):
    journal.batch_jobs.begin("t", "http://x", "m").result()
    journal.batch_jobs.add_requests("t", 0, [asked("a")]).result()
    assert journal.batch_jobs.outstanding(["a"]) == set()
    assert journal.batch_jobs.open_jobs() == []
    journal.batch_jobs.release().result()
    assert journal.batch_jobs.unfinished_jobs() == []


def test_an_answer_is_written_once_with_its_outcome(journal):
    job = submitted(journal, "t", asked("a"), asked("b", "c", ceiling=2.0))
    done = Completion(text="{}", prompt_tokens=3, completion_tokens=4)
    error = BatchResult(0, None, None, "failed", "500")
    assert journal.batch_jobs.record_results(job, [error]).result() == []
    new = journal.batch_jobs.record_results(
        job, [BatchResult(1, done, 0.5), BatchResult(1, done, 0.5), BatchResult(0, done, 0.25), error]
    )
    assert [(one.cost_usd, one.max_cost_usd) for one in new.result()] == [(0.5, 2.0), (0.25, 1.0)]
    assert journal.batch_jobs.record_results(job, [BatchResult(0, done, 0.25)]).result() == []
    assert {hash_: [paid.ids for paid in rows] for hash_, rows in journal.paid_answers(["a", "b", "c"]).items()} == {
        "a": [None],
        "b": [("b", "c")],
        "c": [("b", "c")],
    }
    assert journal.batch_jobs.close("t", "missing", "", "completed").result() == 0
    assert journal.costs()[0].calls == 2


def test_troubles_add_up_until_they_are_forgiven(journal):
    for token in ("t1", "t2"):
        job = submitted(journal, token, asked("a"), asked("b"))
        journal.batch_jobs.record_results(job, [BatchResult(1, Completion(text="{}"))]).result()
        journal.batch_jobs.close(token, "expired", "no turn", "expired").result()
    assert [trouble.outcome for trouble in journal.batch_jobs.failed_requests(["a", "b"])["a"]] == [
        "expired",
        "expired",
    ]
    assert set(journal.batch_jobs.failed_requests(["a", "b"])) == {"a"}
    journal.batch_jobs.clear_failed_requests(["a"]).result()
    assert journal.batch_jobs.failed_requests(["a"]) == {}


def test_what_is_withdrawn_counts_for_nothing(journal):
    submitted(journal, "t", asked("a"))
    journal.batch_jobs.close("t", "withdrawn", "", "failed").result()
    assert journal.batch_jobs.failed_requests(["a"]) == {}
    assert journal.batch_jobs.outstanding(["a"]) == set()
    assert journal.batch_jobs.reserved_cost() == 0.0


def test_what_is_out_is_reserved(journal):
    submitted(journal, "t", asked("a", ceiling=1.5), asked("b", ceiling=0.25))
    assert journal.batch_jobs.reserved_cost() == 1.75


def test_a_submission_is_adopted_only_when_its_owner_is_gone(journal, tmp_path):
    journal.batch_jobs.begin("t", "http://x", "m").result()
    journal.batch_jobs.mark_ready("t").result()
    with Journal(tmp_path) as other:
        assert other.batch_jobs.take_over("http://x").result() == []
        journal.batch_jobs.release().result()
        assert other.batch_jobs.take_over("http://elsewhere").result() == []
        assert [job.token for job in other.batch_jobs.take_over("http://x").result()] == ["t"]


def test_the_pace_slows_while_nothing_moves_and_jitters():
    pace = PollInterval(60.0, chance=lambda: 0.5)
    assert [round(pace.next(moved=moved)) for moved in (True, False, False, True)] == [60, 90, 135, 60]
    assert pace.next(moved=False) == pytest.approx(90)
    for _ in range(20):
        longest = pace.next(moved=False)
    assert longest == pytest.approx(600)
    assert PollInterval(60.0, chance=lambda: 0.0).next(moved=True) == pytest.approx(54)
