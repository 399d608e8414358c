"""Record batch jobs in the journal, so that a job survives the process that began it.

The states of a job are ``writing`` (its file is being written; the job is forgotten if its owner ends), ``ready`` (the
file is complete; the job may or may not exist at the provider, where its token identifies it), ``out`` (created) and
``closed`` (its results are collected).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from enhancer.harness import clock
from enhancer.harness.journal.completion_writer import PaidCall, chunks, marks, write_call
from enhancer.harness.journal.leases import LeaseWatch
from enhancer.harness.journal.paid_vectors import PaidVectors, write_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts.llm import Completion
    from enhancer.contracts.operations.journal import JournalConnection
    from enhancer.harness.journal.database import Database

JobState = Literal["writing", "ready", "out", "closed"]
Outcome = Literal["missing", "expired", "failed", "refused", "withdrawn"]
"""Reason why a request has no answer. ``withdrawn`` requests do not count against their entities."""
SCHEMA = """
CREATE TABLE jobs (
  token TEXT PRIMARY KEY,
  endpoint TEXT NOT NULL,
  model TEXT NOT NULL,
  state TEXT NOT NULL,
  upload TEXT,
  provider_id TEXT,
  said TEXT NOT NULL DEFAULT '',
  requests INTEGER NOT NULL DEFAULT 0,
  at TEXT NOT NULL,
  owner TEXT NOT NULL,
  expires REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE job_requests (
  job TEXT NOT NULL REFERENCES jobs(token),
  number INTEGER NOT NULL,
  hashes TEXT NOT NULL,
  ids TEXT,
  template TEXT NOT NULL,
  request TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  estimated_prompt_tokens INTEGER NOT NULL,
  ceiling_usd REAL NOT NULL,
  outcome TEXT,
  message TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE job_entities (
  input_hash TEXT NOT NULL,
  job TEXT NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (input_hash, job, number)
) STRICT, WITHOUT ROWID
"""
TABLES = frozenset({"jobs", "job_requests", "job_entities"})
_OPEN = "state IN ('ready', 'out')"
_OUTSTANDING = (
    "FROM job_entities e JOIN job_requests r ON r.job = e.job AND r.number = e.number JOIN jobs j ON j.token = r.job"
    f" WHERE r.outcome IS NULL AND j.{_OPEN}"
)
"""SQL clause: entities in open batch jobs."""
_COLUMNS = "token, endpoint, model, state, upload, provider_id, said, requests, at"


class BatchJob(NamedTuple):
    """A batch job."""

    token: str
    """Token that is sent to the provider with the job and identifies it there."""
    endpoint: str
    model: str
    state: JobState
    upload: str | None
    """Id of the uploaded file at the provider."""
    provider_id: str | None
    """Id of the job at the provider."""
    said: str
    """Last status reported by the provider, in its own words."""
    requests: int
    """Number of requests."""
    at: str
    """Time at which the job was begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """One request of a job."""

    hashes: tuple[str, ...]
    """Input hashes of its notes: one for each entity and aspect."""
    ids: tuple[str, ...] | None
    """Id of the entity of each note, in the same order; None if all are of one entity."""
    template: str
    """Version of the template."""
    request: str
    """Hash of the messages."""
    attempt: int
    """Number of this request about its entities, from 1."""
    estimated_prompt_tokens: int
    max_cost_usd: float
    """Maximum cost in USD."""


class FailedRequest(NamedTuple):
    """A request about an entity that was not answered."""

    outcome: Outcome
    message: str
    shared: bool
    """Whether the request was about a group."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Result of one request: an answer with its cost, or an outcome with a message."""

    number: int
    completion: Completion | None
    cost_usd: float | None = None
    outcome: Outcome = "failed"
    message: str = ""


class NewAnswer(NamedTuple):
    """An answer that was not in the journal before."""

    completion: Completion
    cost_usd: float | None
    max_cost_usd: float


class VectorResult(NamedTuple):
    """Answer to a request for the vector of a text."""

    number: int
    vector: NDArray[np.float32]
    """float32 ``[1, dim]``; ``[0, dim]`` if the text has none."""
    tokens: int | None
    cost_usd: float | None
    message: str = ""
    """Why the text has no vector."""


class BatchJobLog:
    """Tables of batch jobs in the journal. Created by :class:`~enhancer.harness.journal.journal.Journal`.

    Args:
        database: Database of the journal.
        owner: Name of this run.
        lease: Seconds after its last renewal at which an unfinished submission may be taken over.
    """

    def __init__(self, database: Database, owner: str, lease: float) -> None:
        self._submit = database.submit
        self._read = database.read
        self._shared_time = database.shared_time
        self._owner = owner
        self._lease = lease
        self._leases = LeaseWatch(lease)

    # -- submission -------------------------------------------------------------------------------------------------

    def begin(self, token: str, endpoint: str, model: str) -> Future[None]:
        """Record a job whose file is about to be written."""
        row = (token, endpoint, model, clock.now(), self._owner)
        sql = "INSERT INTO jobs (token, endpoint, model, state, at, owner, expires) VALUES (?,?,?,'writing',?,?,?)"
        return self._submit(
            lambda connection: _nothing(connection.execute(sql, (*row, self._end(self._shared_time(connection)))))
        )

    def add_requests(self, token: str, first: int, rows: Sequence[BatchRequest]) -> Future[None]:
        """Record requests of a job that is being written, numbered from ``first``."""

        def operation(connection: JournalConnection) -> None:
            connection.executemany(
                "INSERT INTO job_requests (job, number, hashes, ids, template, request, attempt,"
                " estimated_prompt_tokens, ceiling_usd) VALUES (?,?,?,?,?,?,?,?,?)",
                [
                    (
                        *(token, number, json.dumps(row.hashes), None if row.ids is None else json.dumps(row.ids)),
                        *(row.template, row.request, row.attempt, row.estimated_prompt_tokens, row.max_cost_usd),
                    )
                    for number, row in enumerate(rows, first)
                ],
            )
            connection.executemany(
                "INSERT INTO job_entities (input_hash, job, number) VALUES (?,?,?)",
                [(hash_, token, number) for number, row in enumerate(rows, first) for hash_ in row.hashes],
            )
            connection.execute("UPDATE jobs SET requests=? WHERE token=?", (first + len(rows), token))

        return self._submit(operation)

    def mark_ready(self, token: str) -> Future[None]:
        """Record that the file is complete. The job replaces the claims of this run on its entities."""

        def operation(connection: JournalConnection) -> None:
            connection.execute("UPDATE jobs SET state='ready' WHERE token=?", (token,))
            connection.execute(
                "DELETE FROM claims WHERE owner=? AND input_hash IN (SELECT input_hash FROM job_entities WHERE job=?)",
                (self._owner, token),
            )

        return self._submit(operation)

    def mark_uploaded(self, token: str, upload: str) -> Future[None]:
        """Record that the file was uploaded."""
        sql = "UPDATE jobs SET upload=? WHERE token=?"
        return self._submit(lambda connection: _nothing(connection.execute(sql, (upload, token))))

    def mark_created(self, token: str, provider_id: str, said: str) -> Future[None]:
        """Record that the job was created at the provider."""
        sql = "UPDATE jobs SET state='out', provider_id=?, said=? WHERE token=?"
        return self._submit(lambda connection: _nothing(connection.execute(sql, (provider_id, said, token))))

    def forget(self, token: str) -> Future[None]:
        """Delete a job that was never created."""
        return self._submit(lambda connection: _delete_job(connection, token))

    def take_over(self, endpoint: str) -> Future[list[BatchJob]]:
        """Take over unfinished submissions of other owners that have ended or expired. The future holds these jobs."""

        def operation(connection: JournalConnection) -> list[BatchJob]:
            shared = self._shared_time(connection)
            taken = []
            rows = connection.execute(
                f"SELECT {_COLUMNS}, owner, expires FROM jobs WHERE state IN ('writing', 'ready') AND endpoint=?",  # noqa: S608
                (endpoint,),
            ).fetchall()
            ends: dict[str, float] = {}
            for *_, owner, expires in rows:
                ends[owner] = max(expires, ends.get(owner, expires))
            held = self._leases.held(ends, shared)
            for *columns, owner, expires in rows:
                if owner == self._owner or (owner in held and expires > 0):  # 0: released by its owner
                    continue
                job = BatchJob(*columns)
                connection.execute(
                    "UPDATE jobs SET owner=?, expires=? WHERE token=?", (self._owner, self._end(shared), job.token)
                )
                taken.append(job)
            return taken

        return self._submit(operation)

    def release(self) -> Future[None]:
        """Let the next run take over unfinished submissions; delete jobs whose file is incomplete."""

        def operation(connection: JournalConnection) -> None:
            mine = "SELECT token FROM jobs WHERE owner=? AND state='writing'"
            for (token,) in connection.execute(mine, (self._owner,)).fetchall():
                _delete_job(connection, token)
            connection.execute("UPDATE jobs SET expires=0 WHERE owner=?", (self._owner,))

        return self._submit(operation)

    def _end(self, shared: float | None) -> float:
        return (clock.lease_clock() if shared is None else shared) + self._lease

    # -- results ----------------------------------------------------------------------------------------------------

    def set_status(self, token: str, said: str) -> Future[None]:
        """Record the last status reported by the provider."""
        sql = "UPDATE jobs SET said=? WHERE token=?"
        return self._submit(lambda connection: _nothing(connection.execute(sql, (said, token))))

    def record_results(self, job: BatchJob, returned: Sequence[BatchResult]) -> Future[list[NewAnswer]]:
        """Write results to the journal. Each answer counts once, and an answer replaces an error.

        Args:
            job: The job.
            returned: Its results.

        Returns:
            A future of the answers that were new.
        """
        at = clock.now()

        def operation(connection: JournalConnection) -> list[NewAnswer]:
            new = []
            for result in returned:
                row = connection.execute(
                    "SELECT hashes, ids, template, request, attempt, estimated_prompt_tokens, ceiling_usd, outcome"
                    " FROM job_requests WHERE job=? AND number=?",
                    (job.token, result.number),
                ).fetchone()
                if row is None or row[7] == "paid" or (row[7] is not None and result.completion is None):
                    continue
                if result.completion is None:
                    _set_outcome(connection, job.token, result.number, result.outcome, result.message[:2000])
                    continue
                hashes = tuple(json.loads(row[0]))
                call = PaidCall(
                    text=result.completion.text,
                    finish_reason=result.completion.finish_reason,
                    prompt_tokens=result.completion.prompt_tokens,
                    completion_tokens=result.completion.completion_tokens,
                    estimated_prompt_tokens=row[5],
                    cost_usd=result.cost_usd,
                    model=job.model,
                    template=row[2],
                    request=row[3],
                    attempt=row[4],
                    hashes=hashes,
                    ids=None if row[1] is None else tuple(json.loads(row[1])),
                    reasoning_tokens=result.completion.reasoning_tokens,
                )
                write_call(connection, call, at)
                _set_outcome(connection, job.token, result.number, "paid", "")
                _delete_failed_requests(connection, hashes)
                new.append(NewAnswer(result.completion, result.cost_usd, row[6]))
            return new

        return self._submit(operation)

    def record_vectors(self, job: BatchJob, returned: Sequence[VectorResult]) -> Future[list[float | None]]:
        """Write vectors to the journal, and their cost to the ledger. Each counts once.

        Args:
            job: The job, of requests for one vector each.
            returned: Answers to them. One without a vector is paid for, and counts as refused.

        Returns:
            A future of the largest cost of each answer, in order; None for those that are not new.
        """
        at = clock.now()

        def operation(connection: JournalConnection) -> list[float | None]:
            ceilings: list[float | None] = []
            calls = []
            for result in returned:
                row = connection.execute(
                    "SELECT hashes, estimated_prompt_tokens, ceiling_usd, outcome FROM job_requests"
                    " WHERE job=? AND number=?",
                    (job.token, result.number),
                ).fetchone()
                if row is None or row[3] == "paid" or (row[3] is not None and not len(result.vector)):
                    ceilings.append(None)
                    continue
                hashes = json.loads(row[0])
                keys = [bytes.fromhex(one) for one in hashes[: len(result.vector)]]
                paid = PaidVectors(keys, result.vector, 1, result.tokens, row[1], result.cost_usd, job.model)
                calls.append((at, paid))
                if keys:
                    _set_outcome(connection, job.token, result.number, "paid", "")
                    _delete_failed_requests(connection, hashes)
                else:
                    _set_outcome(connection, job.token, result.number, "refused", result.message[:2000])
                ceilings.append(row[2])
            if calls:
                write_vectors(connection, calls)
            return ceilings

        return self._submit(operation)

    def close(self, token: str, outcome: Outcome, message: str, said: str) -> Future[int]:
        """Close a job. Requests without a result get ``outcome``; the future holds their number."""

        def operation(connection: JournalConnection) -> int:
            left = connection.execute(
                "UPDATE job_requests SET outcome=?, message=? WHERE job=? AND outcome IS NULL",
                (outcome, message[:2000], token),
            ).rowcount
            # Requests without an answer are kept: later runs count them against their entities.
            done = "SELECT number FROM job_requests WHERE job=? AND outcome IN ('paid', 'withdrawn')"
            connection.execute(f"DELETE FROM job_entities WHERE job=? AND number IN ({done})", (token, token))  # noqa: S608
            connection.execute("DELETE FROM job_requests WHERE job=? AND outcome IN ('paid', 'withdrawn')", (token,))
            connection.execute("UPDATE jobs SET state='closed', said=? WHERE token=?", (said, token))
            return left

        return self._submit(operation)

    def withdraw_refusals(self, token: str) -> Future[None]:
        """Withdraw the refused requests of a job, because the settings were the cause."""
        sql = "UPDATE job_requests SET outcome='withdrawn' WHERE job=? AND outcome='refused'"
        return self._submit(lambda connection: _nothing(connection.execute(sql, (token,))))

    def clear_failed_requests(self, hashes: Sequence[str]) -> Future[None]:
        """Delete the failed requests of these entities."""
        return self._submit(lambda connection: _delete_failed_requests(connection, hashes))

    # -- reading ----------------------------------------------------------------------------------------------------

    def open_jobs(self, endpoint: str | None = None) -> list[BatchJob]:
        """Return the jobs that are or may be at the provider, optionally of one endpoint only."""
        rows = self._read(f"SELECT {_COLUMNS} FROM jobs WHERE {_OPEN} ORDER BY at, token", ())  # noqa: S608
        return [job for job in (BatchJob(*row) for row in rows) if endpoint in (None, job.endpoint)]

    def unfinished_jobs(self) -> list[BatchJob]:
        """Return the jobs that are not closed, including those being written."""
        rows = self._read(f"SELECT {_COLUMNS} FROM jobs WHERE state != 'closed'", ())  # noqa: S608
        return [BatchJob(*row) for row in rows]

    def provider_ids(self, endpoint: str) -> set[str]:
        """Return the provider's ids of all jobs at an endpoint, also of closed ones."""
        sql = "SELECT provider_id FROM jobs WHERE endpoint=? AND provider_id IS NOT NULL"
        return {row[0] for row in self._read(sql, (endpoint,))}

    def pending_tokens(self) -> set[str]:
        """Return the tokens of jobs whose file may still be needed."""
        return {row[0] for row in self._read("SELECT token FROM jobs WHERE state IN ('writing', 'ready')", ())}

    def outstanding(self, hashes: Sequence[str]) -> set[str]:
        """Return the input hashes that are in open jobs."""
        found: set[str] = set()
        for chunk in chunks(hashes):
            rows = self._read(
                f"SELECT DISTINCT e.input_hash {_OUTSTANDING} AND e.input_hash IN ({marks(chunk)})", chunk
            )
            found.update(row[0] for row in rows)
        return found

    def failed_requests(self, hashes: Sequence[str]) -> dict[str, list[FailedRequest]]:
        """Return the failed requests of each input hash, for those that have any."""
        found: dict[str, list[FailedRequest]] = {}
        for chunk in chunks(hashes):
            rows = self._read(
                "SELECT e.input_hash, r.outcome, r.message, r.ids IS NOT NULL FROM job_entities e"  # noqa: S608 - marks
                " JOIN job_requests r ON r.job = e.job AND r.number = e.number JOIN jobs j ON j.token = r.job"
                " WHERE r.outcome NOT IN ('paid', 'withdrawn') AND j.state = 'closed'"
                f" AND e.input_hash IN ({marks(chunk)}) ORDER BY j.at, j.token",
                chunk,
            )
            for hash_, outcome, message, shared in rows:
                found.setdefault(hash_, []).append(FailedRequest(outcome, message, bool(shared)))
        return found

    def reserved_cost(self) -> float:
        """Return the maximum cost of all open requests in USD."""
        rows = self._read(
            "SELECT coalesce(sum(r.ceiling_usd), 0.0) FROM job_requests r JOIN jobs j ON j.token = r.job"  # noqa: S608
            f" WHERE r.outcome IS NULL AND j.{_OPEN}",
            (),
        )
        return float(rows[0][0])

    def refusals(self, token: str) -> list[str]:
        """Return up to two distinct messages of the refused requests of a job."""
        sql = "SELECT DISTINCT message FROM job_requests WHERE job=? AND outcome='refused' LIMIT 2"
        return [row[0] for row in self._read(sql, (token,))]


def permanent_failure(past: Sequence[FailedRequest], rounds: int) -> tuple[str, bool] | None:
    """Return why nothing is asked again and whether the failure is transient; None if it is to be asked again.

    Args:
        past: Failed requests about one input.
        rounds: Batch jobs in which it may get no answer.
    """
    refused = [trouble for trouble in past if trouble.outcome == "refused" and not trouble.shared]
    if refused:
        return refused[-1].message, False
    if len(past) >= rounds:
        return f"{len(past)} batch jobs brought no answer; the last: {past[-1].message}", True
    return None


def outstanding_among(connection: JournalConnection, hashes: Sequence[str]) -> set[str]:
    """Return the input hashes that are in open jobs, within a transaction of the journal."""
    sql = f"SELECT e.input_hash {_OUTSTANDING} AND e.input_hash IN (SELECT value FROM json_each(?))"  # noqa: S608 - constants
    return {row[0] for row in connection.execute(sql, (json.dumps(hashes),))}


def renew(connection: JournalConnection, owner: str, expires: float) -> None:
    """Extend the leases of unfinished submissions of an owner, within a transaction of the journal."""
    connection.execute("UPDATE jobs SET expires=? WHERE owner=?", (expires, owner))


def _set_outcome(connection: JournalConnection, token: str, number: int, outcome: str, message: str) -> None:
    sql = "UPDATE job_requests SET outcome=?, message=? WHERE job=? AND number=?"
    connection.execute(sql, (outcome, message, token, number))


def _delete_job(connection: JournalConnection, token: str) -> None:
    for table, column in (("job_entities", "job"), ("job_requests", "job"), ("jobs", "token")):
        connection.execute(f"DELETE FROM {table} WHERE {column}=?", (token,))  # noqa: S608 - constants


def _delete_failed_requests(connection: JournalConnection, hashes: Sequence[str]) -> None:
    connection.executemany(
        "DELETE FROM job_entities WHERE input_hash=? AND job IN (SELECT token FROM jobs WHERE state='closed')",
        [(hash_,) for hash_ in hashes],
    )


def _nothing(_: object) -> None:
    return None
