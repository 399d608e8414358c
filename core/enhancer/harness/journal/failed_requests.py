"""Count requests without an answer, so that the ledger tells of every request.

The table is made by the first of them, so that the journals of other projects stay as they are::

    failures   number of requests that were refused, failed or ran out of time, by day (UTC), model and template
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from typing import TYPE_CHECKING, Literal

from enhancer.harness import clock

if TYPE_CHECKING:
    from enhancer.contracts.operations.journal import JournalConnection
    from enhancer.harness.journal.database import Database

_CREATE = (
    "CREATE TABLE IF NOT EXISTS failures (day TEXT NOT NULL, model TEXT NOT NULL, template TEXT NOT NULL,"
    " requests INTEGER NOT NULL, PRIMARY KEY (day, model, template)) STRICT, WITHOUT ROWID"
)


class FailureLog:
    """Numbers of requests without an answer, safe to use from several threads and processes.

    Args:
        database: The file of the journal.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, model: str, template: str) -> Future[None]:
        """Count a request.

        Args:
            model: Name of the model.
            template: Version of the template; ``embedding`` for requests to an embedder.
        """
        future: Future[None] = Future()
        self._database.append(_write, (clock.now()[:10], model, template), future)
        return future

    def counts(self, by: Literal["day", "model", "template"]) -> dict[str, int]:
        """Return the numbers by day (UTC), model or template."""
        if not self._database.has_table("failures"):
            return {}
        rows = self._database.read(f"SELECT {by}, sum(requests) FROM failures GROUP BY 1", ())  # noqa: S608 - one of three
        return dict(rows)


def _write(connection: JournalConnection, requests: list[tuple[str, str, str]]) -> list[None]:
    connection.execute(_CREATE)
    connection.executemany(
        "INSERT INTO failures VALUES (?,?,?,?)"
        " ON CONFLICT (day, model, template) DO UPDATE SET requests = failures.requests + excluded.requests",
        [(*which, number) for which, number in Counter(requests).items()],
    )
    return [None] * len(requests)
