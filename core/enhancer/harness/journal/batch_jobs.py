"""What the journal knows of offline batches: enough that a job outlives the process that began it.

A job goes through ``writing`` (its file is being written; forgotten if its owner ends), ``ready`` (the file is whole;
it may or may not have been created at the provider: its token tells), ``out`` (created) and ``closed`` (its results are
in).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from enhancer.harness import clock
from enhancer.harness.journal.completion_writer import PaidCall, chunks, marks, write_call
from enhancer.harness.journal.owner_process import has_ended

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from concurrent.futures import Future

    from enhancer.contracts.llm import Completion
    from enhancer.harness.journal.database import Database

State = Literal["writing", "ready", "out", "closed"]
Outcome = Literal["missing", "expired", "failed", "refused", "withdrawn"]
"""Why a request came back without an answer. ``withdrawn`` is nobody's fault, and counts for nothing."""
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
_OUT = (
    "FROM job_entities e JOIN job_requests r ON r.job = e.job AND r.number = e.number JOIN jobs j ON j.token = r.job"
    f" WHERE r.outcome IS NULL AND j.{_OPEN}"
)
"""SQL: the entities that are out in an offline batch, or about to be."""
_COLUMNS = "token, endpoint, model, state, upload, provider_id, said, requests, at"


class BatchJob(NamedTuple):
    """One offline batch."""

    token: str
    """Ours: told to the provider when the job is created, so that it is found again."""
    endpoint: str
    model: str
    state: State
    upload: str | None
    """The provider's name for the file."""
    provider_id: str | None
    said: str
    """The status that the provider last told, in its own words."""
    requests: int
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """One request of a job."""

    hashes: tuple[str, ...]
    ids: tuple[str, ...] | None
    template: str
    request: str
    attempt: int
    estimated_prompt_tokens: int
    ceiling_usd: float
    """The most that it can cost."""


class FailedRequest(NamedTuple):
    """A request about an entity that came back without an answer."""

    outcome: Outcome
    message: str
    shared: bool
    """Whether it was about others too."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came back for one request: an answer with its cost, or an outcome with a message."""

    number: int
    completion: Completion | None
    cost_usd: float | None = None
    outcome: Outcome = "failed"
    message: str = ""


class NewAnswer(NamedTuple):
    """A request whose answer was new."""

    completion: Completion
    cost_usd: float | None
    ceiling_usd: float


class BatchJobLog:
    """The tables of jobs. Made by :class:`~enhancer.harness.journal.journal.Journal`.

    Args:
        database: The journal's.
        owner: This run.
        lease: Seconds that an unfinished submission outlives its owner's last sign of life.
    """

    def __init__(self, database: Database, owner: str, lease: float) -> None:
        self._submit = database.submit
        self._read = database.read
        self._owner = owner
        self._lease = lease

    # -- submission -------------------------------------------------------------------------------------------------

    def begin(self, token: str, endpoint: str, model: str) -> Future[None]:
        """Note that a job's file is about to be written."""
        row = (token, endpoint, model, clock.now(), self._owner, clock.lease_clock() + self._lease)
        sql = "INSERT INTO jobs (token, endpoint, model, state, at, owner, expires) VALUES (?,?,?,'writing',?,?,?)"
        return self._submit(lambda connection: _nothing(connection.execute(sql, row)))

    def add_requests(self, token: str, first: int, rows: Sequence[BatchRequest]) -> Future[None]:
        """Note requests of a job that is being written; the first of them has the number ``first``."""

        def operation(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO job_requests (job, number, hashes, ids, template, request, attempt,"
                " estimated_prompt_tokens, ceiling_usd) VALUES (?,?,?,?,?,?,?,?,?)",
                [
                    (
                        *(token, number, json.dumps(row.hashes), None if row.ids is None else json.dumps(row.ids)),
                        *(row.template, row.request, row.attempt, row.estimated_prompt_tokens, row.ceiling_usd),
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
        """The file is whole. From now on the job itself keeps others from asking; our claims are given back."""

        def operation(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE jobs SET state='ready' WHERE token=?", (token,))
            connection.execute(
                "DELETE FROM claims WHERE owner=? AND input_hash IN (SELECT input_hash FROM job_entities WHERE job=?)",
                (self._owner, token),
            )

        return self._submit(operation)

    def mark_uploaded(self, token: str, upload: str) -> Future[None]:
        """The provider has the file."""
        sql = "UPDATE jobs SET upload=? WHERE token=?"
        return self._submit(lambda connection: _nothing(connection.execute(sql, (upload, token))))

    def mark_created(self, token: str, provider_id: str, said: str) -> Future[None]:
        """The provider has the job."""
        sql = "UPDATE jobs SET state='out', provider_id=?, said=? WHERE token=?"
        return self._submit(lambda connection: _nothing(connection.execute(sql, (provider_id, said, token))))

    def forget(self, token: str) -> Future[None]:
        """Forget a job that was never created."""
        return self._submit(lambda connection: _forget(connection, token))

    def take_over(self, endpoint: str) -> Future[list[BatchJob]]:
        """Take over jobs that others began and did not finish submitting; the future holds them, ours from now on."""

        def operation(connection: sqlite3.Connection) -> list[BatchJob]:
            now = clock.lease_clock()
            left = []
            rows = connection.execute(
                f"SELECT {_COLUMNS}, owner, expires FROM jobs WHERE state IN ('writing', 'ready') AND endpoint=?",  # noqa: S608
                (endpoint,),
            ).fetchall()
            for *columns, owner, expires in rows:
                if owner != self._owner and now < expires <= now + 10 * self._lease and not has_ended(owner):
                    continue
                job = BatchJob(*columns)
                connection.execute(
                    "UPDATE jobs SET owner=?, expires=? WHERE token=?", (self._owner, now + self._lease, job.token)
                )
                left.append(job)
            return left

        return self._submit(operation)

    def release(self) -> Future[None]:
        """Leave unfinished submissions of ours to whoever comes next; forget those whose file is not whole."""

        def operation(connection: sqlite3.Connection) -> None:
            mine = "SELECT token FROM jobs WHERE owner=? AND state='writing'"
            for (token,) in connection.execute(mine, (self._owner,)).fetchall():
                _forget(connection, token)
            connection.execute("UPDATE jobs SET expires=0 WHERE owner=?", (self._owner,))

        return self._submit(operation)

    # -- results ----------------------------------------------------------------------------------------------------

    def set_status(self, token: str, said: str) -> Future[None]:
        """Keep the status that the provider last told."""
        sql = "UPDATE jobs SET said=? WHERE token=?"
        return self._submit(lambda connection: _nothing(connection.execute(sql, (said, token))))

    def record_results(self, job: BatchJob, returned: Sequence[BatchResult]) -> Future[list[NewAnswer]]:
        """Write what came back. Each answer counts once, however often it is told; an answer outweighs an error.

        The future holds the answers that were new.
        """
        at = clock.now()

        def operation(connection: sqlite3.Connection) -> list[NewAnswer]:
            new = []
            for one in returned:
                row = connection.execute(
                    "SELECT hashes, ids, template, request, attempt, estimated_prompt_tokens, ceiling_usd, outcome"
                    " FROM job_requests WHERE job=? AND number=?",
                    (job.token, one.number),
                ).fetchone()
                if row is None or row[7] == "paid" or (row[7] is not None and one.completion is None):
                    continue
                if one.completion is None:
                    _outcome(connection, job.token, one.number, one.outcome, one.message[:2000])
                    continue
                hashes = tuple(json.loads(row[0]))
                call = PaidCall(
                    text=one.completion.text,
                    finish_reason=one.completion.finish_reason,
                    prompt_tokens=one.completion.prompt_tokens,
                    completion_tokens=one.completion.completion_tokens,
                    estimated_prompt_tokens=row[5],
                    cost_usd=one.cost_usd,
                    model=job.model,
                    template=row[2],
                    request=row[3],
                    attempt=row[4],
                    hashes=hashes,
                    ids=None if row[1] is None else tuple(json.loads(row[1])),
                )
                write_call(connection, call, at)
                _outcome(connection, job.token, one.number, "paid", "")
                _forget_troubles(connection, hashes)
                new.append(NewAnswer(one.completion, one.cost_usd, row[6]))
            return new

        return self._submit(operation)

    def close(self, token: str, outcome: Outcome, message: str, said: str) -> Future[int]:
        """End a job; requests without a result get this outcome, and the future holds how many they are."""

        def operation(connection: sqlite3.Connection) -> int:
            left = connection.execute(
                "UPDATE job_requests SET outcome=?, message=? WHERE job=? AND outcome IS NULL",
                (outcome, message[:2000], token),
            ).rowcount
            # Requests without an answer stay: later runs count them against their entities.
            done = "SELECT number FROM job_requests WHERE job=? AND outcome IN ('paid', 'withdrawn')"
            connection.execute(f"DELETE FROM job_entities WHERE job=? AND number IN ({done})", (token, token))  # noqa: S608
            connection.execute("DELETE FROM job_requests WHERE job=? AND outcome IN ('paid', 'withdrawn')", (token,))
            connection.execute("UPDATE jobs SET state='closed', said=? WHERE token=?", (said, token))
            return left

        return self._submit(operation)

    def withdraw_refusals(self, token: str) -> Future[None]:
        """Count the refusals of a job against no entity: the settings were to blame."""
        sql = "UPDATE job_requests SET outcome='withdrawn' WHERE job=? AND outcome='refused'"
        return self._submit(lambda connection: _nothing(connection.execute(sql, (token,))))

    def clear_failed_requests(self, hashes: Sequence[str]) -> Future[None]:
        """Forget what went wrong with these entities."""
        return self._submit(lambda connection: _forget_troubles(connection, hashes))

    # -- reading ----------------------------------------------------------------------------------------------------

    def open_jobs(self, endpoint: str | None = None) -> list[BatchJob]:
        """Jobs that are out, or may be; of one endpoint alone where it is given."""
        rows = self._read(f"SELECT {_COLUMNS} FROM jobs WHERE {_OPEN} ORDER BY at, token", ())  # noqa: S608
        return [job for job in (BatchJob(*row) for row in rows) if endpoint in (None, job.endpoint)]

    def unfinished_jobs(self) -> list[BatchJob]:
        """Jobs that are not closed, those that are being written included."""
        rows = self._read(f"SELECT {_COLUMNS} FROM jobs WHERE state != 'closed'", ())  # noqa: S608
        return [BatchJob(*row) for row in rows]

    def pending_tokens(self) -> set[str]:
        """Tokens of jobs whose file may still be needed."""
        return {row[0] for row in self._read("SELECT token FROM jobs WHERE state IN ('writing', 'ready')", ())}

    def outstanding(self, hashes: Sequence[str]) -> set[str]:
        """Those of ``hashes`` that are out."""
        found: set[str] = set()
        for chunk in chunks(hashes):
            rows = self._read(f"SELECT DISTINCT e.input_hash {_OUT} AND e.input_hash IN ({marks(chunk)})", chunk)
            found.update(row[0] for row in rows)
        return found

    def failed_requests(self, hashes: Sequence[str]) -> dict[str, list[FailedRequest]]:
        """What went wrong with each of ``hashes`` so far; those without are left out."""
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
        """The most that all open requests together can cost, in USD."""
        rows = self._read(
            "SELECT coalesce(sum(r.ceiling_usd), 0.0) FROM job_requests r JOIN jobs j ON j.token = r.job"  # noqa: S608
            f" WHERE r.outcome IS NULL AND j.{_OPEN}",
            (),
        )
        return float(rows[0][0])

    def refusals(self, token: str) -> list[str]:
        """The different messages with which requests of a job were refused; two at most."""
        sql = "SELECT DISTINCT message FROM job_requests WHERE job=? AND outcome='refused' LIMIT 2"
        return [row[0] for row in self._read(sql, (token,))]


def outstanding_among(connection: sqlite3.Connection, hashes: Sequence[str]) -> set[str]:
    """Those of ``hashes`` that are out, within a transaction of the journal."""
    sql = f"SELECT e.input_hash {_OUT} AND e.input_hash IN (SELECT value FROM json_each(?))"  # noqa: S608 - constants
    return {row[0] for row in connection.execute(sql, (json.dumps(hashes),))}


def renew(connection: sqlite3.Connection, owner: str, expires: float) -> None:
    """Extend the lease of an owner's unfinished submissions, within a transaction of the journal."""
    connection.execute("UPDATE jobs SET expires=? WHERE owner=?", (expires, owner))


def _outcome(connection: sqlite3.Connection, token: str, number: int, outcome: str, message: str) -> None:
    sql = "UPDATE job_requests SET outcome=?, message=? WHERE job=? AND number=?"
    connection.execute(sql, (outcome, message, token, number))


def _forget(connection: sqlite3.Connection, token: str) -> None:
    for table, column in (("job_entities", "job"), ("job_requests", "job"), ("jobs", "token")):
        connection.execute(f"DELETE FROM {table} WHERE {column}=?", (token,))  # noqa: S608 - constants


def _forget_troubles(connection: sqlite3.Connection, hashes: Sequence[str]) -> None:
    connection.executemany(
        "DELETE FROM job_entities WHERE input_hash=? AND job IN (SELECT token FROM jobs WHERE state='closed')",
        [(hash_,) for hash_ in hashes],
    )


def _nothing(_: object) -> None:
    return None
