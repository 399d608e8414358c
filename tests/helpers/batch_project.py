"""A bench whose generation goes through a batch API on loopback."""

from __future__ import annotations

from collections import Counter
from typing import Any

from generation import GenerationProject
from loopback import LoopbackServer
from loopback_batch import LoopbackBatches

from enhancer.harness import Journal

SECRET = "sk-verysecret-0123456789abcdef"


class BatchProject(GenerationProject):
    """A bench that asks by offline batches."""

    server: LoopbackServer
    batches: LoopbackBatches

    def offline(self, **more: Any) -> Any:
        return self.pipeline().generate_offline(**more)

    def quarantine(self) -> dict[str, tuple[str, bool]]:
        with Journal(self.store.directory) as journal:
            return {q.id: (q.reason, q.transient) for q in journal.all_quarantined()}

    def ledger(self) -> tuple[int, float]:
        with Journal(self.store.directory) as journal:
            lines = journal.costs()
        return sum(line.calls for line in lines), sum(line.cost_usd or 0.0 for line in lines)

    def asked(self) -> Counter[str]:
        """How often each film was asked about alone."""
        return Counter(body["messages"][1]["content"] for body in self.batches.bodies)


def whole(bench: BatchProject, report: Any, *, quarantined: int = 0) -> None:
    """Everybody is stored, or in quarantine with a reason; the ledger holds what the report says."""
    there, failed = set(bench.stored()), bench.quarantine()
    assert there | set(failed) == {row.id for row in bench.rows}
    assert len(failed) == report.quarantined == quarantined
    assert all(reason for reason, _ in failed.values())
    assert report.entities == report.cached + report.generated + report.quarantined == len(bench.rows)
    assert report.pending == 0
    for record in bench.stored().values():
        assert f"number {record.id}," in record.profile
