"""The journal: every completion that was paid for, on disk before it is judged.

One SQLite file in the store's folder (WAL, ``synchronous=FULL``). A single thread writes; what arrives while it commits
goes into its next transaction, so that a hundred answers a second cost few flushes. Readers have a connection each.

Tables::

    completions   one row a paid call: raw text, tokens, cost, model, template, time
    answers       which entities (by input hash) a completion is about
    quarantine    entities that got no valid profile, with the reason and the raw text
    claims        who is asking about an input hash just now, so that two processes do not pay twice
    jobs          offline batches, from before they are created until their results are in
    job_requests  their requests: those that are out, and those that came back without an answer
    job_entities  which entities each of those is about

The last three are :class:`~enhancer.harness.journal.batch_jobs.BatchJobLog`'s.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from enhancer.harness import clock
from enhancer.harness.journal import batch_jobs as jobs
from enhancer.harness.journal.batch_jobs import BatchJobLog
from enhancer.harness.journal.completion_writer import PaidAnswer, PaidCall, chunks, marks, storable, write_calls
from enhancer.harness.journal.database import Database
from enhancer.harness.journal.owner_process import has_ended, owner_name

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from enhancer.contracts.record import Key

JOURNAL_FILE_NAME = "journal.sqlite"
SCHEMA_VERSION = 2
LEASE_SECONDS = 60.0
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
  text TEXT NOT NULL
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
_TABLES = frozenset({"completions", "answers", "quarantine", "claims"})


class Quarantined(NamedTuple):
    """An entity that got no valid profile."""

    kind: str
    id: str
    aspect: str
    input_hash: str
    reason: str
    raw: str
    transient: bool
    """Whether the cause may pass, and was not the entity itself: then the next run asks again unasked."""
    at: str


class ObservedUsage(NamedTuple):
    """What the ledger knows of a model's calls."""

    calls: int
    entities: int
    prompt_tokens: int
    estimated_prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class CostLine:
    """One line of the ledger."""

    group: str
    calls: int
    entities: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """Sum of the known costs; None when none is known."""
    calls_of_unknown_cost: int

    def to_json(self) -> dict[str, Any]:
        """The line as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


class Journal:
    """The journal of one store. Safe for several threads and processes.

    Args:
        directory: The store's folder.
        lease: Seconds that a claim outlives its last renewal.

    Attributes:
        batch_jobs: What is known of offline batches.
    """

    def __init__(self, directory: Path, *, lease: float = LEASE_SECONDS) -> None:
        self.path = Path(directory) / JOURNAL_FILE_NAME
        self.owner = owner_name()
        self.lease = lease
        self._database = Database(
            self.path,
            _SCHEMA + jobs.SCHEMA,
            application_id=_APPLICATION_ID,
            version=SCHEMA_VERSION,
            tables=_TABLES | jobs.TABLES,
            migrations={1: jobs.SCHEMA},
        )
        self._submit = self._database.submit
        self._read = self._database.read
        self.batch_jobs = BatchJobLog(self._database, self.owner, self.lease)

    # -- writing ----------------------------------------------------------------------------------------------------

    def record(self, call: PaidCall) -> Future[PaidAnswer]:
        """Write a completion; the future holds it as its first entity sees it."""
        future: Future[PaidAnswer] = Future()
        self._database.append(write_calls, (clock.now(), call), future)
        return future

    def record_soon(self, call: PaidCall) -> asyncio.Future[PaidAnswer]:
        """Likewise, for the running event loop."""
        future: asyncio.Future[PaidAnswer] = asyncio.get_running_loop().create_future()
        self._database.append(write_calls, (clock.now(), call), future)
        return future

    def quarantine(self, key: Key, input_hash: str, *, reason: str, raw: str, transient: bool = False) -> Future[None]:
        """Note that an entity got no valid profile."""
        row = (*key, input_hash, reason[:2000], storable(raw), int(transient), clock.now())
        return self._submit(
            lambda connection: _discard(
                connection.execute(
                    "INSERT OR REPLACE INTO quarantine (kind, id, aspect, input_hash, reason, raw, transient, at)"
                    " VALUES (?,?,?,?,?,?,?,?)",
                    row,
                )
            )
        )

    def release_quarantine(self, keys: Sequence[tuple[Key, str]], *, forget_answers: bool) -> Future[None]:
        """Take entities out of quarantine.

        Args:
            keys: Pairs of key and input hash.
            forget_answers: Whether the answers so far shall not be looked at again (they stay in the ledger).
        """

        def operation(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM quarantine WHERE kind=? AND id=? AND aspect=?", [k for k, _ in keys])
            if forget_answers:
                connection.executemany("UPDATE answers SET void=1 WHERE input_hash=?", [(h,) for _, h in keys])

        return self._submit(operation)

    def claim(self, hashes: Sequence[str]) -> Future[set[str]]:
        """Claim input hashes; the future holds those that are now ours and were not before.

        A claim of somebody whose lease has run out, or whose process is known to be gone, is taken over. What is out in
        an offline batch cannot be claimed.
        """
        asked = list(dict.fromkeys(hashes))

        def operation(connection: sqlite3.Connection) -> set[str]:
            now = clock.lease_clock()
            held = connection.execute(
                "SELECT input_hash, owner, expires FROM claims"
                " WHERE input_hash IN (SELECT value FROM json_each(?)) AND expires > ? AND expires <= ?",
                # A lease that ends implausibly late was written before the machine restarted, which resets its clock.
                (json.dumps(asked), now, now + 10 * self.lease),
            ).fetchall()
            gone = {owner: has_ended(owner) for owner in {row[1] for row in held}}
            theirs = {hash_ for hash_, owner, _ in held if not gone[owner]}
            theirs |= jobs.outstanding_among(connection, asked)
            ours = [hash_ for hash_ in asked if hash_ not in theirs]
            connection.execute(
                "INSERT OR REPLACE INTO claims (input_hash, owner, expires) SELECT value, ?, ? FROM json_each(?)",
                (self.owner, now + self.lease, json.dumps(ours)),
            )
            return set(ours)

        return self._submit(operation)

    def renew(self) -> Future[None]:
        """Extend the lease of all that we hold."""

        def operation(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE claims SET expires=? WHERE owner=?", (clock.lease_clock() + self.lease, self.owner)
            )
            jobs.renew(connection, self.owner, clock.lease_clock() + self.lease)

        return self._submit(operation)

    def unclaim(self, hashes: Iterable[str] | None = None) -> Future[None]:
        """Give claims back: those of ``hashes``, or all of ours."""
        which = None if hashes is None else json.dumps(list(hashes))

        def operation(connection: sqlite3.Connection) -> None:
            if which is None:
                connection.execute("DELETE FROM claims WHERE owner=?", (self.owner,))
            else:
                connection.execute(
                    "DELETE FROM claims WHERE input_hash IN (SELECT value FROM json_each(?)) AND owner=?",
                    (which, self.owner),
                )

        return self._submit(operation)

    # -- reading ----------------------------------------------------------------------------------------------------

    def paid_answers(self, hashes: Sequence[str]) -> dict[str, list[PaidAnswer]]:
        """What was paid for each of ``hashes``, oldest first; those without are left out."""
        found: dict[str, list[PaidAnswer]] = {}
        for chunk in chunks(hashes):
            rows = self._read(
                "SELECT a.input_hash, c.id, a.place, c.ids, c.text, c.finish_reason,"  # noqa: S608
                " c.prompt_tokens, c.completion_tokens, c.cost_usd, c.model, c.at"
                " FROM answers a JOIN completions c ON c.id = a.completion"
                f" WHERE a.void = 0 AND a.input_hash IN ({marks(chunk)}) ORDER BY c.id",
                chunk,
            )
            for row in rows:
                ids = None if row[3] is None else tuple(json.loads(row[3]))
                found.setdefault(row[0], []).append(PaidAnswer(row[1], row[2], ids, *row[4:]))
        return found

    def quarantined(self, kind: str, ids: Sequence[str], aspect: str = "") -> dict[str, Quarantined]:
        """Those of ``ids`` that are in quarantine."""
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
        """Everything in quarantine, as a stream."""
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
        """The ledger: every call that was paid for, summed by day (UTC), model or template."""
        column = {"day": "substr(at, 1, 10)", "model": "model", "template": "template"}[by]
        rows = self._read(
            f"SELECT {column}, count(*), sum(entities), coalesce(sum(prompt_tokens), 0),"  # noqa: S608 - one of three
            " coalesce(sum(completion_tokens), 0), sum(cost_usd), count(*) - count(cost_usd)"
            " FROM completions GROUP BY 1 ORDER BY 1",
            (),
        )
        return [CostLine(*row) for row in rows]

    def observed_usage(self, model: str, template: str | None = None) -> ObservedUsage:
        """Sums over the calls whose tokens were told, to correct estimates by."""
        where = "model=? AND prompt_tokens IS NOT NULL AND completion_tokens IS NOT NULL AND attempt=1"
        parameters = [model]
        if template is not None:
            where += " AND template=?"
            parameters.append(template)
        rows = self._read(
            "SELECT count(*), sum(entities), sum(prompt_tokens), sum(estimated_prompt_tokens),"  # noqa: S608 - constants
            f" sum(completion_tokens) FROM completions WHERE {where}",
            parameters,
        )
        return ObservedUsage(*(value or 0 for value in rows[0]))

    # -- life -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish what is queued and close; closing twice is fine."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _quarantined(row: tuple[Any, ...]) -> Quarantined:
    kind, id_, aspect, input_hash, reason, raw, transient, at = row
    return Quarantined(kind, id_, aspect, input_hash, reason, raw, bool(transient), at)


def _discard(_: object) -> None:
    return None
