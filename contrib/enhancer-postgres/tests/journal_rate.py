"""Compare the rates of the journals in a file and in a database, in turns: ``python …/journal_rate.py [TURNS]``."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import postgres_server
from enhancer_postgres.journal import PostgresJournal
from enhancer_postgres.options import PostgresOptions

from enhancer.harness import Journal
from enhancer.testing.journal import paid_call

CALLS = 8000
AT_ONCE = 256


def rate(journal: Journal) -> float:
    """Return the calls a second that are written."""
    journal.record(paid_call("first")).result()
    began = time.perf_counter()
    written = []
    for number in range(CALLS):
        written.append(journal.record(paid_call(f"h{number}", text="x" * 600)))
        if number >= AT_ONCE:
            written[number - AT_ONCE].result()
    for future in written:
        future.result()
    return CALLS / (time.perf_counter() - began)


def main() -> None:
    """Print the rates and their ratio."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with postgres_server.running(postgres_server.installed()[-1].folder) as server:
        os.environ["ENHANCER_POSTGRES_URL"] = server.url
        for turn in range(turns):
            with tempfile.TemporaryDirectory() as folder:
                with Journal(Path(folder)) as local:
                    file = rate(local)
                database = PostgresJournal(PostgresOptions(journal=f"rate{turn}"))
                with Journal(Path(folder), database=database) as shared:
                    ours = rate(shared)
            print(f"SQLite {file:,.0f}/s, PostgreSQL {ours:,.0f}/s, ratio {ours / file:.2f}")


if __name__ == "__main__":
    main()
