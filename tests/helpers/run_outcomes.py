"""Check the outcome of a generation run: stored or quarantined entities. Also the API key that must not leak."""

from __future__ import annotations

from generation import GenerationProject, answer
from loopback import Behaviour

from enhancer.features.generating.reports import GenerationReport
from enhancer.harness import Journal

GOOD = Behaviour(answer=answer)
SECRET = "sk-verysecret-0123456789abcdef"


def quarantine(bench: GenerationProject) -> dict[str, tuple[str, str]]:
    with Journal(bench.store.directory) as journal:
        return {q.id: (q.reason, q.raw) for q in journal.all_quarantined()}


def complete(bench: GenerationProject, report: GenerationReport) -> None:
    """Assert that each entity is either stored or quarantined with a reason."""
    there, failed = set(bench.stored()), quarantine(bench)
    assert there | set(failed) == {row.id for row in bench.rows}
    assert all(reason for reason, _ in failed.values())
    assert report.entities == report.cached + report.generated + report.quarantined == len(bench.rows)
    assert report.quarantined == len(failed)
