"""Keep the vectors that a server was paid for, so that another store, or the run after a kill, pays for none again.

The table is made by the first vector that is paid for, so that a journal of other projects stays as it is::

    vectors   one row per text and embedder: float32 bytes, by a hash of fingerprint and text

The calls themselves are rows of ``completions`` with the template ``embedding``, beside those to the LLM.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from enhancer.errors import StoreError
from enhancer.harness import clock
from enhancer.harness.journal.completion_writer import chunks, last_number, marks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.operations.journal import JournalConnection
    from enhancer.harness.journal.database import Database

TEMPLATE = "embedding"
"""Value of ``template`` of the calls that embedded texts."""
_CREATE = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) STRICT"


def vector_key(fingerprint: str, text_hash: str) -> bytes:
    """Return the key of a vector: a hash of the embedder's fingerprint and of the hash of the text."""
    return hashlib.blake2b(f"{fingerprint}\0{text_hash}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


class PaidVectors(NamedTuple):
    """The answer of a server to one request."""

    keys: Sequence[bytes]
    vectors: NDArray[np.float32]
    """float32 ``[len(keys), dim]``; rows that are no vectors are left out."""
    texts: int
    """Number of texts that were sent."""
    tokens: int | None
    estimated_tokens: int
    cost_usd: float | None
    model: str


class VectorJournal:
    """Paid vectors of one journal, safe to use from several threads and processes.

    Args:
        database: The file of the journal.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._exists = False

    def record_soon(self, paid: PaidVectors) -> asyncio.Future[None]:
        """Write the vectors of a call, and its cost. The future belongs to the running event loop."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._database.append(write_vectors, (clock.now(), paid), future)
        return future

    def get(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Return the vectors of those keys that have any."""
        if not self._any_table():
            return {}
        found = {}
        for chunk in chunks(keys):
            rows = self._database.read(
                f"SELECT key, vector FROM vectors WHERE key IN ({marks(chunk)})",  # noqa: S608 - marks
                chunk,
            )
            found.update({key: np.frombuffer(vector, np.float32) for key, vector in rows})
        return found

    def count(self) -> int:
        """Return the number of vectors."""
        return int(self._database.read("SELECT count(*) FROM vectors", ())[0][0]) if self._any_table() else 0

    def remove_all_but(self, keys: Iterable[bytes], *, dry_run: bool = False) -> int:
        """Remove the vectors of other keys; return their number.

        Args:
            keys: Keys to keep. Read as a stream.
            dry_run: Only count.
        """
        if not self._any_table():
            return 0

        stream = iter(keys)
        begun: list[bool] = []

        def operation(connection: JournalConnection) -> int:
            if begun:
                # The transaction is repeated, and the keys that were read are gone: without them all would be removed.
                raise StoreError(
                    "the connection was lost while vectors were removed", hint="nothing is removed: repeat it"
                )
            begun.append(True)
            connection.execute("CREATE TEMP TABLE kept (key BLOB PRIMARY KEY)")
            try:
                connection.executemany("INSERT INTO kept VALUES (?) ON CONFLICT DO NOTHING", ((key,) for key in stream))
                which = "FROM vectors WHERE key NOT IN (SELECT key FROM kept)"
                if dry_run:
                    return int(connection.execute(f"SELECT count(*) {which}").fetchone()[0])
                return connection.execute(f"DELETE {which}").rowcount
            finally:
                connection.execute("DROP TABLE kept")

        removed: int = self._database.submit(operation).result()
        return removed

    def _any_table(self) -> bool:
        if not self._exists:
            self._exists = self._database.has_table("vectors")
        return self._exists


def write_vectors(connection: JournalConnection, calls: list[tuple[str, PaidVectors]]) -> list[None]:
    """Write the vectors of calls, and what these cost, within a transaction."""
    connection.execute(_CREATE)
    connection.executemany(
        "INSERT INTO completions (id, at, model, template, request, attempt, entities, finish_reason, prompt_tokens,"
        " completion_tokens, estimated_prompt_tokens, cost_usd, ids, text)"
        " VALUES (?,?,?,?,'',1,?,'stop',?,0,?,?,'[]','')",
        [
            (number, at, one.model, TEMPLATE, one.texts, one.tokens, one.estimated_tokens, one.cost_usd)
            for number, (at, one) in enumerate(calls, last_number(connection) + 1)
        ],
    )
    connection.executemany(
        "INSERT INTO vectors (key, vector) VALUES (?,?) ON CONFLICT (key) DO UPDATE SET vector = excluded.vector",
        [(key, row.tobytes()) for _, one in calls for key, row in zip(one.keys, one.vectors, strict=True)],
    )
    return [None] * len(calls)
