"""The journal: every completion that was paid for, on disk before it is judged.

One SQLite file in the store's folder (WAL, ``synchronous=FULL``). A single thread writes; what arrives while it commits
goes into its next transaction, so that a hundred answers a second cost few flushes. Readers have a connection each.

Tables::

    completions   one row a paid call: raw text, tokens, cost, model, template, time
    answers       which entities (by input hash) a completion is about
    quarantine    entities that got no valid profile, with the reason and the raw text
    claims        who is asking about an input hash just now, so that two processes do not pay twice
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sqlite3
import threading
import time
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from enhancer.errors import StoreCorruptError, StoreError
from enhancer.harness import clock
from enhancer.harness.owner import is_gone, owner_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from enhancer.contracts.record import Key

FILE_NAME = "journal.sqlite"
SCHEMA_VERSION = 1
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
_PARAMETERS = 500
"""Values in one ``IN (…)``."""


class Paid(NamedTuple):
    """A completion, as it bears on one entity."""

    completion: int
    place: int
    """The entity's place among those of the request."""
    ids: tuple[str, ...] | None
    """The ids of a batched request, in order; None when the entity was asked about alone."""
    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    model: str
    at: str


class Quarantined(NamedTuple):
    """An entity that got no valid profile."""

    kind: str
    id: str
    aspect: str
    input_hash: str
    reason: str
    raw: str
    transient: bool
    """Whether the fault was not the entity's: the next run asks again by itself."""
    at: str


class Observed(NamedTuple):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidCall:
    """What is to be written about one completion."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    estimated_prompt_tokens: int
    cost_usd: float | None
    model: str
    template: str
    request: str
    attempt: int
    hashes: tuple[str, ...]
    """The input hashes that it is about."""
    ids: tuple[str, ...] | None = None
    """The ids of a batched request, in the same order."""


class Journal:
    """The journal of one store. Safe for several threads and processes.

    Args:
        directory: The store's folder.
        lease: Seconds that a claim outlives its last renewal.
    """

    def __init__(self, directory: Path, *, lease: float = LEASE_SECONDS) -> None:
        self.path = Path(directory) / FILE_NAME
        self.owner = owner_name()
        self.lease = lease
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Callable[[sqlite3.Connection], Any], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._writer: threading.Thread | None = None
        self._closed = False
        if not self.path.exists():
            self._create()
        self._check()

    # -- writing ----------------------------------------------------------------------------------------------------

    def submit(self, operation: Callable[[sqlite3.Connection], Any]) -> Future[Any]:
        """Have the writer run ``operation`` in its next transaction; the future is done when that is on disk."""
        future: Future[Any] = Future()
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.path} is closed")
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="enhancer-journal", daemon=True)
                self._writer.start()
            self._queue.put((operation, future))
        return future

    def record(self, call: PaidCall) -> Future[Paid]:
        """Write a completion; the future holds it as its first entity sees it."""
        at = clock.now()
        # What is given back is what a later run will read.
        text = _storable(call.text)
        ids = None if call.ids is None else json.dumps(call.ids)
        values = (
            *(at, call.model, call.template, call.request, call.attempt, len(call.hashes), call.finish_reason),
            *(call.prompt_tokens, call.completion_tokens, call.estimated_prompt_tokens, call.cost_usd, ids, text),
        )

        def operation(connection: sqlite3.Connection) -> Paid:
            row = connection.execute(
                "INSERT INTO completions (at, model, template, request, attempt, entities, finish_reason,"
                " prompt_tokens, completion_tokens, estimated_prompt_tokens, cost_usd, ids, text)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                values,
            ).lastrowid
            connection.executemany(
                "INSERT INTO answers (input_hash, completion, place) VALUES (?,?,?)",
                [(hash_, row, place) for place, hash_ in enumerate(call.hashes)],
            )
            tokens = (call.prompt_tokens, call.completion_tokens, call.cost_usd)
            return Paid(row or 0, 0, call.ids, text, call.finish_reason, *tokens, call.model, at)

        return self.submit(operation)

    def quarantine(self, key: Key, input_hash: str, *, reason: str, raw: str, transient: bool = False) -> Future[None]:
        """Note that an entity got no valid profile."""
        row = (*key, input_hash, reason[:2000], _storable(raw), int(transient), clock.now())
        return self.submit(
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

        return self.submit(operation)

    def claim(self, hashes: Sequence[str]) -> Future[set[str]]:
        """Claim input hashes; the future holds those that are now ours and were not before.

        A claim of somebody whose lease has run out, or whose process is known to be gone, is taken over.
        """

        def operation(connection: sqlite3.Connection) -> set[str]:
            now = time.time()
            ours = set()
            for hash_ in hashes:
                row = connection.execute("SELECT owner, expires FROM claims WHERE input_hash=?", (hash_,)).fetchone()
                # A lease that ends implausibly late was written under another clock.
                if row is not None and now < row[1] <= now + 10 * self.lease and not is_gone(row[0]):
                    continue
                connection.execute(
                    "INSERT OR REPLACE INTO claims (input_hash, owner, expires) VALUES (?,?,?)",
                    (hash_, self.owner, now + self.lease),
                )
                ours.add(hash_)
            return ours

        return self.submit(operation)

    def renew(self) -> Future[None]:
        """Extend the lease of all that we hold."""
        return self.submit(
            lambda connection: _discard(
                connection.execute("UPDATE claims SET expires=? WHERE owner=?", (time.time() + self.lease, self.owner))
            )
        )

    def unclaim(self, hashes: Iterable[str] | None = None) -> Future[None]:
        """Give claims back: those of ``hashes``, or all of ours."""
        rows = None if hashes is None else [(hash_, self.owner) for hash_ in hashes]

        def operation(connection: sqlite3.Connection) -> None:
            if rows is None:
                connection.execute("DELETE FROM claims WHERE owner=?", (self.owner,))
            else:
                connection.executemany("DELETE FROM claims WHERE input_hash=? AND owner=?", rows)

        return self.submit(operation)

    # -- reading ----------------------------------------------------------------------------------------------------

    def paid(self, hashes: Sequence[str]) -> dict[str, list[Paid]]:
        """What was paid for each of ``hashes``, oldest first; those without are left out."""
        found: dict[str, list[Paid]] = {}
        for chunk in _chunks(hashes):
            rows = self._read(
                "SELECT a.input_hash, c.id, a.place, c.ids, c.text, c.finish_reason, c.prompt_tokens,"  # noqa: S608 - marks
                " c.completion_tokens, c.cost_usd, c.model, c.at FROM answers a JOIN completions c ON c.id = a.completion"
                f" WHERE a.void = 0 AND a.input_hash IN ({_marks(chunk)}) ORDER BY c.id",
                chunk,
            )
            for row in rows:
                ids = None if row[3] is None else tuple(json.loads(row[3]))
                found.setdefault(row[0], []).append(Paid(row[1], row[2], ids, *row[4:]))
        return found

    def quarantined(self, kind: str, ids: Sequence[str], aspect: str = "") -> dict[str, Quarantined]:
        """Those of ``ids`` that are in quarantine."""
        found = {}
        for chunk in _chunks(ids):
            rows = self._read(
                "SELECT kind, id, aspect, input_hash, reason, raw, transient, at FROM quarantine"  # noqa: S608 - marks
                f" WHERE kind=? AND aspect=? AND id IN ({_marks(chunk)})",
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

    def observed(self, model: str, template: str | None = None) -> Observed:
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
        return Observed(*(value or 0 for value in rows[0]))

    # -- life -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish what is queued and close; closing twice is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            writer = self._writer
            self._queue.put(None)
        if writer is not None:
            writer.join()
        for connection in self._connections:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside -----------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        """Build it under another name and link it: nobody ever sees half a journal, so an empty one is a fault."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{FILE_NAME}.{os.getpid()}.{threading.get_ident()}")
        try:
            connection = sqlite3.connect(temporary, isolation_level=None)
            try:
                connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                connection.executescript(_SCHEMA)
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            finally:
                connection.close()
            with contextlib.suppress(FileExistsError):
                os.link(temporary, self.path)
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot create {self.path}: {error}") from None
        finally:
            temporary.unlink(missing_ok=True)

    def _check(self) -> None:
        """Refuse a file that is not the journal it should be.

        Raises:
            StoreCorruptError: It is empty, damaged, or no journal.
        """
        hint = f"move {self.path} away to go on: profiles in the store are kept, answers only in the journal are lost"
        if self.path.stat().st_size == 0:
            raise StoreCorruptError(f"the journal {self.path} is empty: something truncated it", hint=hint)
        rows = self._read("SELECT * FROM pragma_application_id, pragma_user_version", ())
        if rows[0][0] != _APPLICATION_ID:
            raise StoreCorruptError(f"{self.path} is not a journal of enhancer", hint=hint)
        if rows[0][1] != SCHEMA_VERSION:
            raise StoreCorruptError(
                f"the journal {self.path} has version {rows[0][1]}, and this enhancer knows version {SCHEMA_VERSION}",
                hint="use the version of enhancer that wrote it",
            )
        tables = {row[0] for row in self._read("SELECT name FROM sqlite_master WHERE type='table'", ())}
        if not {"completions", "answers", "quarantine", "claims"} <= tables:
            raise StoreCorruptError(f"the journal {self.path} lacks a table", hint=hint)

    def _connect(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            # Closed by another thread than the one that reads, at the end.
            connection = sqlite3.connect(self.path, isolation_level=None, timeout=60, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        return connection

    def _read(self, sql: str, parameters: Sequence[object]) -> list[Any]:
        try:
            return self._connect().execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._typed(error) from None

    def _typed(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorname", "") or ""
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return StoreCorruptError(
                f"the journal {self.path} is damaged: {error}",
                hint="move it away to go on: profiles in the store are kept, answers that are only in it are lost",
            )
        if code.startswith("SQLITE_FULL") or "disk is full" in str(error):
            return StoreError(f"the disk is full: cannot write {self.path}", hint="make room and run again")
        return StoreError(f"the journal {self.path}: {error}")

    def _write(self) -> None:
        """The writer thread: everything that waits goes into one transaction."""
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch = [first]
            last = False
            with contextlib.suppress(queue.Empty):
                while len(batch) < 4096:
                    more = self._queue.get_nowait()
                    if more is None:
                        last = True
                        break
                    batch.append(more)
            self._transact(batch)
            if last:
                return

    def _transact(self, batch: list[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]]) -> None:
        results: list[Any] = []
        try:
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                results.extend(operation(connection) for operation, _ in batch)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            failure: BaseException = self._typed(error)
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
            failure = error
        else:
            for (_, future), result in zip(batch, results, strict=True):
                # Whoever asked may have been cancelled meanwhile; what was paid for is written all the same.
                with contextlib.suppress(InvalidStateError):
                    future.set_result(result)
            return
        if len(batch) > 1 and not isinstance(failure, StoreError):
            # One bad operation spoils only itself.
            for one in batch:
                self._transact([one])
            return
        for _, future in batch:
            with contextlib.suppress(InvalidStateError):
                future.set_exception(failure)


def _storable(text: str) -> str:
    """SQLite takes no lone surrogate, and its shell stops at NUL; what a model sent may hold either."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _quarantined(row: tuple[Any, ...]) -> Quarantined:
    kind, id_, aspect, input_hash, reason, raw, transient, at = row
    return Quarantined(kind, id_, aspect, input_hash, reason, raw, bool(transient), at)


def _discard(_: object) -> None:
    return None


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _PARAMETERS):
        yield values[start : start + _PARAMETERS]
