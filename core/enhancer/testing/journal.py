"""Conformance suite for databases of the journal.

Subclass :class:`JournalConformance` in a test module and override :meth:`~JournalConformance.open_database`::

    class TestMyJournal(JournalConformance):
        def open_database(self, root):
            return MyJournal(MyOptions(schema=root.name))
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from enhancer.contracts.llm import Completion
from enhancer.contracts.record import Key
from enhancer.harness.journal.batch_jobs import BatchRequest, BatchResult
from enhancer.harness.journal.completion_writer import PaidCall
from enhancer.harness.journal.journal import Journal
from enhancer.harness.journal.paid_vectors import PaidVectors, vector_key

if TYPE_CHECKING:
    from pathlib import Path

    from enhancer.contracts.operations.journal import JournalConnection, JournalDatabase


def paid_call(*hashes: str, **more: Any) -> PaidCall:
    """Return a call about notes, with plausible values for the rest."""
    values: dict[str, Any] = {
        "text": "{}",
        "finish_reason": "stop",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "estimated_prompt_tokens": 8,
        "cost_usd": 0.25,
        "model": "m",
        "template": "t@1",
        "request": "r",
        "attempt": 1,
    }
    return PaidCall(hashes=hashes, **values | more)


class JournalConformance:
    """Promises of a journal, whatever its database. Two journals of one folder are two runs of one project."""

    def open_database(self, root: Path) -> JournalDatabase | None:
        """Open the database that belongs to a folder; None for the file that is the default."""
        del root
        return None

    def journal(self, root: Path, **more: Any) -> Journal:
        """Open the journal that belongs to a folder."""
        return Journal(root, database=self.open_database(root), **more)

    def test_an_answer_is_found_by_another_run_in_the_order_of_payment(self, tmp_path: Path) -> None:
        """An answer that is written is there for every run."""
        with self.journal(tmp_path) as journal:
            journal.record(paid_call("a", text="first"))
            written = journal.record(paid_call("a", "b", text="second", ids=("1", "2"), reasoning_tokens=3)).result()
            with self.journal(tmp_path) as other:
                paid = other.paid_answers(["a", "b", "c"])
        assert [one.text for one in paid["a"]] == ["first", "second"]
        assert paid["a"][1] == written
        assert (paid["b"][0].ids, paid["b"][0].position, paid["b"][0].notes) == (("1", "2"), 1, 2)
        assert "c" not in paid

    @pytest.mark.parametrize("text", ["x\ud800y\0z", "100% ? $1 %s {a}", "\N{GRINNING FACE}\n\t'\"\\", ""])
    def test_any_text_comes_back_as_it_was_returned(self, tmp_path: Path, text: str) -> None:
        """Text of any form is kept; what cannot be stored is escaped."""
        with self.journal(tmp_path) as journal:
            written = journal.record(paid_call("a", text=text)).result()
            assert journal.paid_answers(["a"])["a"][0].text == written.text
            assert written.text == text or "\0" in text
            journal.quarantine(Key("item", "1", ""), "a", reason=text, raw=text).result()
            assert journal.quarantined("item", ["1"])["1"].raw == written.text

    def test_threads_of_two_runs_write_and_nothing_is_lost(self, tmp_path: Path) -> None:
        """Numbers are given once, and no answer is lost."""
        with self.journal(tmp_path) as one, self.journal(tmp_path) as two, ThreadPoolExecutor(8) as threads:

            def work(number: int) -> list[int]:
                journal = (one, two)[number % 2]
                return [journal.record(paid_call(f"{number}-{i}")).result().completion for i in range(20)]

            numbers = [each for some in threads.map(work, range(8)) for each in some]
            assert len(set(numbers)) == 160
            assert one.spending_after(0) == two.spending_after(0) == (max(numbers), 40.0, 0)
            assert len(two.paid_answers([f"{number}-{i}" for number in range(8) for i in range(20)])) == 160

    def test_a_failed_operation_changes_nothing_and_spoils_no_other(self, tmp_path: Path) -> None:
        """A transaction is whole or not at all."""

        def fails(connection: JournalConnection) -> None:
            connection.execute("DELETE FROM completions")
            raise ValueError("not this one")

        with self.journal(tmp_path) as journal:
            first = journal.record(paid_call("a"))
            bad = journal._submit(fails)  # noqa: SLF001 - no operation of the journal fails by itself
            second = journal.record(paid_call("b"))
            with pytest.raises(ValueError, match="not this one"):
                bad.result()
            assert first.result().completion != second.result().completion
            assert set(journal.paid_answers(["a", "b"])) == {"a", "b"}

    def test_one_of_two_runs_owns_a_claim(self, tmp_path: Path) -> None:
        """Each input hash has one owner, until it is released."""
        hashes = [f"h{i}" for i in range(200)]
        with self.journal(tmp_path) as one, self.journal(tmp_path) as two:
            parts = [(run, hashes[start : start + 40]) for start in range(0, 200, 20) for run in (one, two)]
            claimed = [(run, run.claim(part)) for run, part in parts]
            owned: dict[int, set[str]] = {id(one): set(), id(two): set()}
            for run, future in claimed:
                owned[id(run)] |= future.result()
            assert not owned[id(one)] & owned[id(two)]
            assert owned[id(one)] | owned[id(two)] == set(hashes)
            one.unclaim().result()
            assert two.claim(hashes).result() == owned[id(one)]  # the others are its own already
            two.renew().result()
            two.unclaim(hashes[:1]).result()
            assert one.claim(hashes).result() == {"h0"}

    def test_the_claim_of_a_process_that_has_ended_is_taken_over(self, tmp_path: Path) -> None:
        """Nothing waits for a process that has ended."""
        with self.journal(tmp_path) as dead, self.journal(tmp_path) as other:
            place = dead.owner.rsplit(":", 3)[0]
            dead.owner = f"{place}:{2**22 + 1}:1:gone"  # above the largest process id
            assert dead.claim(["a"]).result() == {"a"}
            assert other.claim(["a"]).result() == {"a"}

    def test_quarantine_holds_reason_and_text_until_it_is_left(self, tmp_path: Path) -> None:
        """An entity stays in quarantine until it is released."""
        key = Key("item", "7", "plot")
        with self.journal(tmp_path) as journal:
            journal.record(paid_call("h")).result()
            journal.quarantine(key, "h", reason="first", raw="")
            journal.quarantine(key, "h", reason="no JSON", raw="hm", transient=True).result()
            for i in range(300):
                journal.quarantine(Key("user", f"{i}", ""), "u", reason="x", raw="").result() if i == 299 else None
            entry = journal.quarantined("item", ["7", "8"], "plot")["7"]
            assert (entry.reason, entry.raw, entry.transient) == ("no JSON", "hm", True)
            assert [(one.kind, one.id) for one in journal.all_quarantined()] == [("item", "7"), ("user", "299")]
            journal.release_quarantine([(key, "h")], forget_answers=True).result()
            assert not journal.quarantined("item", ["7"], "plot")
            assert not journal.paid_answers(["h"])
            assert journal.spending_after(0).cost_usd == 0.25

    def test_the_ledger_sums_by_day_model_and_template(self, tmp_path: Path) -> None:
        """Sums are those of all calls, in whole numbers where these are whole."""
        with self.journal(tmp_path) as journal:
            journal.record(paid_call("a"))
            journal.record(paid_call("b", "c", "d", ids=("1", "1", "2"), model="n", cost_usd=None))
            journal.record(paid_call("e", model="n", cost_usd=None, prompt_tokens=None))
            journal.failures.add("n", "t@1")
            journal.failures.add("n", "t@1").result()
            first, second = journal.costs("model")
            assert (first.group, first.calls, first.entities, first.cost_usd) == ("m", 1, 1, 0.25)
            assert (second.calls, second.entities, second.prompt_tokens, second.failed) == (2, 3, 10, 2)
            assert (second.cost_usd, second.calls_of_unknown_cost) == (None, 2)
            assert all(isinstance(value, int) for value in (second.entities, second.prompt_tokens, second.failed))
            assert [line.calls for line in journal.costs("day")] == [3]
            used = journal.observed_usage("m")
            assert (used.calls, used.prompt_tokens, used.completion_tokens) == (1, 10, 5)

    def test_a_job_keeps_others_out_and_its_answers_count_once(self, tmp_path: Path) -> None:
        """Entities of an open job are asked about by nobody else."""
        request = BatchRequest(
            hashes=("a", "b"),
            ids=("1", "2"),
            template="t@1",
            request="r",
            attempt=1,
            estimated_prompt_tokens=9,
            max_cost_usd=0.5,
        )
        with self.journal(tmp_path) as one, self.journal(tmp_path) as two:
            assert one.claim(["a", "b"]).result() == {"a", "b"}
            one.batch_jobs.begin("tok", "https://api", "m").result()
            one.batch_jobs.add_requests("tok", 0, [request, request]).result()
            one.batch_jobs.mark_ready("tok").result()
            assert two.claim(["a", "b", "c"]).result() == {"c"}
            assert two.batch_jobs.take_over("https://api").result() == []
            one.batch_jobs.mark_created("tok", "batch_1", "in_progress").result()
            (job,) = two.batch_jobs.open_jobs("https://api")
            assert (job.token, job.state, job.requests, two.batch_jobs.reserved_cost()) == ("tok", "out", 2, 1.0)
            answer = Completion(text="{}", finish_reason="stop", prompt_tokens=3, completion_tokens=2)
            results = [BatchResult(0, answer, 0.125), BatchResult(1, None, outcome="failed", message="no")]
            assert len(two.batch_jobs.record_results(job, results).result()) == 1
            assert one.batch_jobs.record_results(job, results).result() == []
            assert one.batch_jobs.close("tok", "missing", "", "completed").result() == 0
            assert one.batch_jobs.failed_requests(["a"])["a"][0].message == "no"
            assert one.spending_after(0).cost_usd == 0.125
            assert two.claim(["a"]).result() == {"a"}

    def test_a_paid_vector_is_kept_until_it_is_removed(self, tmp_path: Path) -> None:
        """Vectors are found by their keys."""
        keys = [vector_key("e", text) for text in "abc"]
        rows = np.arange(6, dtype=np.float32).reshape(3, 2)
        with self.journal(tmp_path) as journal:
            assert journal.vectors.count() == 0
            assert journal.vectors.get(keys) == {}

            def write(connection: JournalConnection) -> None:
                from enhancer.harness.journal.paid_vectors import write_vectors

                paid = PaidVectors(keys, rows, 3, 12, 12, 0.5, "emb")
                write_vectors(connection, [("2026-01-01T00:00:00.000Z", paid)])

            journal._submit(write).result()  # noqa: SLF001 - record_soon() needs an event loop
            assert journal.vectors.get(keys)[keys[1]].tolist() == [2.0, 3.0]
            assert journal.costs("model")[0].texts == 3
            assert journal.vectors.remove_all_but(keys[:1], dry_run=True) == 2
            assert journal.vectors.remove_all_but(iter(keys[:1])) == 2
            assert journal.vectors.count() == 1
