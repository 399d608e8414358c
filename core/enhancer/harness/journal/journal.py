"""Keep a journal of all paid completions, which are on disk before they are validated.

The journal is one SQLite file in the folder of the store (write-ahead log, ``synchronous=FULL``). A single thread
writes and groups the operations that arrive during a commit, so a hundred answers per second need few flushes. Each
reading thread has its own connection.

Tables::

    completions   one row per paid call: raw text, tokens, cost, model, template, time
    answers       the notes (by input hash) that each completion answers: a profile, or an aspect of an entity
    quarantine    notes without a valid answer, with the reason and the raw text
    rules         the last completion that releases up to 0.5 have judged
    claims        the run that is working on an input hash, so that two processes do not pay twice
    jobs          batch jobs, from before their creation until their results are collected
    job_requests  requests of these jobs that are open or have no answer
    job_entities  the notes of each of these requests, or the key of the vector that it asks for

:class:`~enhancer.harness.journal.batch_jobs.BatchJobLog` manages the last three. Paid vectors, and the numbers of
requests without an answer, are in tables that are made when they are needed.
"""

from __future__ import annotations

import asyncio
import json
import math
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self

from enhancer.harness import clock
from enhancer.harness.journal import batch_jobs as jobs
from enhancer.harness.journal.batch_jobs import BatchJobLog
from enhancer.harness.journal.completion_writer import PaidAnswer, PaidCall, chunks, marks, storable, write_calls
from enhancer.harness.journal.database import Database
from enhancer.harness.journal.failed_requests import FailureLog
from enhancer.harness.journal.leases import LeaseWatch
from enhancer.harness.journal.owner_process import owner_name
from enhancer.harness.journal.paid_vectors import TEMPLATE, VectorJournal
from enhancer.harness.journal.sqlite_file import SqliteFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from enhancer.contracts.operations.journal import JournalConnection, JournalDatabase
    from enhancer.contracts.record import Key

JOURNAL_FILE_NAME = "journal.sqlite"
"""Name of the file in the folder of the store."""
SCHEMA_VERSION = 4
_APPLICATION_ID = 0x656E686A  # "enhj"
_SCHEMA = """
CREATE TABLE completions (
  id INTEGER PRIMARY KEY,
  at TEXT NOT NULL,
  model TEXT NOT NULL,
  template TEXT NOT NULL,
  request TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  entities INTEGER NOT NULL,
  finish_reason TEXT NOT NULL,
  prompt_tokens INTEGER,
  completion_tokens INTEGER,
  estimated_prompt_tokens INTEGER NOT NULL,
  cost_usd REAL,
  ids TEXT,
  text TEXT NOT NULL,
  reasoning_tokens INTEGER
) STRICT;
CREATE TABLE answers (
  input_hash TEXT NOT NULL,
  completion INTEGER NOT NULL REFERENCES completions(id),
  place INTEGER NOT NULL,
  void INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (input_hash, completion)
) STRICT, WITHOUT ROWID;
CREATE TABLE quarantine (
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  aspect TEXT NOT NULL,
  input_hash TEXT NOT NULL,
  reason TEXT NOT NULL,
  raw TEXT NOT NULL,
  transient INTEGER NOT NULL,
  at TEXT NOT NULL,
  PRIMARY KEY (kind, id, aspect)
) STRICT, WITHOUT ROWID;
CREATE TABLE claims (
  input_hash TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  expires REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""
_RULES = """
CREATE TABLE rules (earlier INTEGER NOT NULL) STRICT;
INSERT INTO rules SELECT coalesce(max(id), 0) FROM completions;
"""
# The column `entities` counts the hashes of a call, of which an entity has several if several notes were asked for.
_ENTITIES = "CASE WHEN ids IS NULL THEN 1 ELSE (SELECT count(DISTINCT value) FROM json_each(ids)) END"
_ADD_REASONING = "ALTER TABLE completions ADD COLUMN reasoning_tokens INTEGER"
_TABLES = frozenset({"completions", "answers", "quarantine", "claims", "rules"})


class Quarantined(NamedTuple):
    """An entity in quarantine."""

    kind: str
    id: str
    aspect: str
    input_hash: str
    reason: str
    raw: str
    transient: bool
    """Whether the cause was transient and not the entity; the next run then retries it."""
    at: str


class ObservedUsage(NamedTuple):
    """Totals of the calls to a model in the ledger."""

    calls: int
    entities: int
    """Notes asked for: one for each entity and aspect."""
    prompt_tokens: int
    estimated_prompt_tokens: int
    completion_tokens: int
    """Those of answers that were cut off count if they are longer than the mean: shorter ones had too little room."""
    reasoning_tokens: int = 0
    """Part of the completion tokens that went into thought."""
    longest_thought: int = 0
    """Most tokens of thought in an answer that was not cut off."""
    longest_cut_thought: int = 0
    """Most tokens of thought in an answer that was cut off and is mostly thought."""


class Spending(NamedTuple):
    """Payments after one completion."""

    last: int
    """Number of the last completion."""
    cost_usd: float
    """Sum of the known costs in USD."""
    unknown: int
    """Number of calls whose cost is unknown."""


@dataclass(frozen=True, slots=True)
class CostLine:
    """Totals of a group of calls in the ledger."""

    group: str
    """Day, model or template."""
    calls: int
    entities: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """Sum of the known costs in USD; None if no cost is known."""
    calls_of_unknown_cost: int
    texts: int = 0
    """Texts embedded by a remote embedder, which are not among the entities."""
    failed: int = 0
    """Requests without an answer, which are not among the calls."""

    def to_json(self) -> dict[str, Any]:
        """Convert the line to JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


class HasJournal(Protocol):
    """A store, as the journal sees it."""

    @property
    def directory(self) -> Path:
        """Folder of the journal, unless it is in a database."""

    def journal_database(self) -> JournalDatabase | None:
        """Open the database of the journal; None if the journal is a file."""


class Journal:
    """Journal of one store, safe to use from several threads and processes.

    Args:
        directory: Folder of the store.
        lease: Seconds after its last renewal at which a claim expires; None for those of the database.
        database: Database of the journal; None for a file in the folder.

    Attributes:
        path: Path of the file, unless the journal is in a database.
        owner: Unique name of this run.
        lease: Seconds after its last renewal at which a claim expires.
        batch_jobs: Log of batch jobs.
        vectors: Vectors that a server was paid for.
        failures: Numbers of requests without an answer.
    """

    def __init__(self, directory: Path, *, lease: float | None = None, database: JournalDatabase | None = None) -> None:
        self.path = Path(directory) / JOURNAL_FILE_NAME
        self.owner = owner_name()
        place = _file(self.path) if database is None else database
        self.lease = place.lease if lease is None else lease
        try:
            place.prepare(_SCHEMA + _RULES + jobs.SCHEMA, SCHEMA_VERSION)
        except BaseException:
            place.close()
            raise
        self._database = Database(place)
        self._submit = self._database.submit
        self._read = self._database.read
        self._leases = LeaseWatch(self.lease)
        self.batch_jobs = BatchJobLog(self._database, self.owner, self.lease)
        self.vectors = VectorJournal(self._database)
        self.failures = FailureLog(self._database)

    @classmethod
    def of(cls, store: HasJournal) -> Self:
        """Open the journal of a store: in the database that the store names, or else a file in its folder."""
        return cls(store.directory, database=store.journal_database())

    @classmethod
    def find(cls, store: HasJournal) -> Self | None:
        """Open the journal of a store if there is one. Creates none."""
        database = store.journal_database()
        if database is None:
            return cls(store.directory) if (store.directory / JOURNAL_FILE_NAME).exists() else None
        if not database.has_table("completions"):
            database.close()
            return None
        return cls(store.directory, database=database)

    # -- writing ----------------------------------------------------------------------------------------------------

    def record(self, call: PaidCall) -> Future[PaidAnswer]:
        """Write a completion. The future holds it for its first note."""
        future: Future[PaidAnswer] = Future()
        self._database.append(write_calls, (clock.now(), call), future)
        return future

    def record_soon(self, call: PaidCall) -> asyncio.Future[PaidAnswer]:
        """Write a completion. The future belongs to the running event loop."""
        future: asyncio.Future[PaidAnswer] = asyncio.get_running_loop().create_future()
        self._database.append(write_calls, (clock.now(), call), future)
        return future

    def quarantine(self, key: Key, input_hash: str, *, reason: str, raw: str, transient: bool = False) -> Future[None]:
        """Put an entity in quarantine.

        Args:
            key: Key of the entity.
            input_hash: Its input hash.
            reason: Reason to show.
            raw: Text of the last answer.
            transient: Whether the next run should retry it.
        """
        row = (*key, input_hash, storable(reason)[:2000], storable(raw), int(transient), clock.now())
        return self._submit(
            lambda connection: _discard(
                connection.execute(
                    "INSERT INTO quarantine (kind, id, aspect, input_hash, reason, raw, transient, at)"
                    " VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (kind, id, aspect) DO UPDATE SET"
                    " input_hash = excluded.input_hash, reason = excluded.reason, raw = excluded.raw,"
                    " transient = excluded.transient, at = excluded.at",
                    row,
                )
            )
        )

    def release_quarantine(self, keys: Sequence[tuple[Key, str]], *, forget_answers: bool) -> Future[None]:
        """Remove entities from quarantine.

        Args:
            keys: Pairs of key and input hash.
            forget_answers: Whether to ignore their answers in future runs (they stay in the ledger).
        """

        def operation(connection: JournalConnection) -> None:
            connection.executemany("DELETE FROM quarantine WHERE kind=? AND id=? AND aspect=?", [k for k, _ in keys])
            if forget_answers:
                connection.executemany("UPDATE answers SET void=1 WHERE input_hash=?", [(h,) for _, h in keys])

        return self._submit(operation)

    def claim(self, hashes: Sequence[str]) -> Future[set[str]]:
        """Claim input hashes. The future holds those that this run now owns.

        Claims whose owner no longer renews them, or whose process is known to have ended, are taken over. Input hashes
        in open batch jobs cannot be claimed.
        """
        requested = list(dict.fromkeys(hashes))

        def operation(connection: JournalConnection) -> set[str]:
            shared = self._database.shared_time(connection)
            found = connection.execute(
                "SELECT input_hash, owner FROM claims WHERE input_hash IN (SELECT value FROM json_each(?))",
                (json.dumps(requested),),
            ).fetchall()
            ends = connection.execute(
                "SELECT owner, max(expires) FROM claims WHERE owner IN (SELECT value FROM json_each(?)) GROUP BY owner",
                (json.dumps(list({owner for _, owner in found})),),
            ).fetchall()
            held = self._leases.held(dict(ends), shared)
            theirs = {hash_ for hash_, owner in found if owner in held}
            theirs |= jobs.outstanding_among(connection, requested)
            ours = [hash_ for hash_ in requested if hash_ not in theirs]
            connection.execute(
                # "WHERE true" tells SQLite that "ON" begins no join.
                "INSERT INTO claims (input_hash, owner, expires) SELECT value, ?, ? FROM json_each(?) WHERE true"
                " ON CONFLICT (input_hash) DO UPDATE SET owner = excluded.owner, expires = excluded.expires",
                (self.owner, self._end(shared), json.dumps(ours)),
            )
            return set(ours)

        return self._submit(operation)

    def renew(self) -> Future[None]:
        """Extend the leases of all claims and submissions of this run."""

        def operation(connection: JournalConnection) -> None:
            end = self._end(self._database.shared_time(connection))
            connection.execute("UPDATE claims SET expires=? WHERE owner=?", (end, self.owner))
            jobs.renew(connection, self.owner, end)

        return self._submit(operation)

    def unclaim(self, hashes: Iterable[str] | None = None) -> Future[None]:
        """Release claims of this run: those of ``hashes``, or all."""
        which = None if hashes is None else json.dumps(list(hashes))

        def operation(connection: JournalConnection) -> None:
            if which is None:
                connection.execute("DELETE FROM claims WHERE owner=?", (self.owner,))
            else:
                connection.execute(
                    "DELETE FROM claims WHERE input_hash IN (SELECT value FROM json_each(?)) AND owner=?",
                    (which, self.owner),
                )

        return self._submit(operation)

    def _end(self, shared: float | None) -> float:
        return (clock.lease_clock() if shared is None else shared) + self.lease

    # -- reading ----------------------------------------------------------------------------------------------------

    def paid_answers(self, hashes: Sequence[str]) -> dict[str, list[PaidAnswer]]:
        """Return the paid answers of each input hash, oldest first, for those that have any."""
        found: dict[str, list[PaidAnswer]] = {}
        for chunk in chunks(hashes):
            rows = self._read(
                "SELECT a.input_hash, c.id, a.place, c.ids, c.text, c.finish_reason,"  # noqa: S608
                " c.prompt_tokens, c.completion_tokens, c.cost_usd, c.model, c.at, c.entities, c.reasoning_tokens,"
                " c.id <= (SELECT max(earlier) FROM rules)"
                " FROM answers a JOIN completions c ON c.id = a.completion"
                f" WHERE a.void = 0 AND a.input_hash IN ({marks(chunk)}) ORDER BY c.id",
                chunk,
            )
            for row in rows:
                ids = None if row[3] is None else tuple(json.loads(row[3]))
                found.setdefault(row[0], []).append(PaidAnswer(row[1], row[2], ids, *row[4:]))
        return found

    def quarantined(self, kind: str, ids: Sequence[str], aspect: str = "") -> dict[str, Quarantined]:
        """Return the quarantine entries of the given ids."""
        found = {}
        for chunk in chunks(ids):
            rows = self._read(
                "SELECT kind, id, aspect, input_hash, reason, raw, transient, at FROM quarantine"  # noqa: S608 - marks
                f" WHERE kind=? AND aspect=? AND id IN ({marks(chunk)})",
                [kind, aspect, *chunk],
            )
            found.update({row[1]: _quarantined(row) for row in rows})
        return found

    def all_quarantined(self) -> Iterator[Quarantined]:
        """Stream all quarantine entries."""
        last = ("", "", "")
        while True:
            rows = self._read(
                "SELECT kind, id, aspect, input_hash, reason, raw, transient, at FROM quarantine"
                " WHERE (kind, id, aspect) > (?,?,?) ORDER BY kind, id, aspect LIMIT 256",
                last,
            )
            if not rows:
                return
            for row in rows:
                yield _quarantined(row)
            last = rows[-1][:3]

    def costs(self, by: Literal["day", "model", "template"] = "day") -> list[CostLine]:
        """Return the totals of all paid calls by day (UTC), model or template, with the requests that had no answer."""
        column = {"day": "substr(at, 1, 10)", "model": "model", "template": "template"}[by]
        rows = self._read(
            f"SELECT {column}, count(*), sum({_ENTITIES}), coalesce(sum(prompt_tokens), 0),"  # noqa: S608 - one of three
            " coalesce(sum(completion_tokens), 0), sum(cost_usd), count(*) - count(cost_usd),"
            " sum(CASE WHEN template = ? THEN entities ELSE 0 END) FROM completions GROUP BY 1 ORDER BY 1",
            (TEMPLATE,),
        )
        lines = {row[0]: CostLine(*row) for row in rows}
        for group, failed in self.failures.counts(by).items():
            lines[group] = replace(lines.get(group) or CostLine(group, 0, 0, 0, 0, 0.0, 0), failed=failed)
        return [lines[group] for group in sorted(lines)]

    def spending_after(self, completion: int) -> Spending:
        """Return what was paid after a completion, of whatever model and template; after 0, everything."""
        rows = self._read(
            "SELECT coalesce(max(id), ?), coalesce(sum(cost_usd), 0.0), count(*) - count(cost_usd)"
            " FROM completions WHERE id > ?",
            (completion, completion),
        )
        return Spending(*rows[0])

    def observed_usage(self, model: str, template: str | None = None) -> ObservedUsage:
        """Return totals of the calls with known token counts, which correct token estimates.

        Calls and entities are those of complete answers.
        """
        condition = "model=? AND prompt_tokens IS NOT NULL AND completion_tokens IS NOT NULL"
        parameters: list[object] = [model]
        if template is not None:
            condition += " AND template=?"
            parameters.append(template)
        complete = self._read(
            "SELECT count(*), sum(entities), sum(prompt_tokens), sum(estimated_prompt_tokens),"  # noqa: S608 - constants
            " sum(completion_tokens), sum(reasoning_tokens), max(reasoning_tokens)"
            f" FROM completions WHERE {condition} AND finish_reason <> 'length'",
            parameters,
        )[0]
        calls, entities, prompt, estimated, completion, reasoning, longest = (value or 0 for value in complete)
        mean = completion / calls if calls else math.inf
        lost, lost_reasoning, longest_cut = self._read(
            "SELECT sum(CASE WHEN completion_tokens > ? THEN completion_tokens ELSE 0 END),"  # noqa: S608 - constants
            " sum(CASE WHEN completion_tokens > ? THEN reasoning_tokens ELSE 0 END),"
            " max(CASE WHEN 2 * reasoning_tokens >= completion_tokens THEN reasoning_tokens ELSE 0 END)"
            f" FROM completions WHERE {condition} AND finish_reason = 'length'",
            [mean, mean, *parameters],
        )[0]
        return ObservedUsage(
            calls,
            entities,
            prompt,
            estimated,
            completion + (lost or 0),
            reasoning + (lost_reasoning or 0),
            longest,
            longest_cut or 0,
        )

    # -- life -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish queued operations and close. Can be called twice."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _file(path: Path) -> SqliteFile:
    return SqliteFile(
        path,
        application_id=_APPLICATION_ID,
        tables=_TABLES | jobs.TABLES,
        migrations={1: jobs.SCHEMA, 2: _ADD_REASONING, 3: _RULES},
    )


def _quarantined(row: tuple[Any, ...]) -> Quarantined:
    kind, id_, aspect, input_hash, reason, raw, transient, at = row
    return Quarantined(kind, id_, aspect, input_hash, reason, raw, bool(transient), at)


def _discard(_: object) -> None:
    return None
