"""Decide what to do about notes, from the answers and claims that the journal holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.contracts.record import Key
from enhancer.harness.answers.entity_task import EntityTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from enhancer.contracts.record import Kind
    from enhancer.features.surveying.survey import ToAsk
    from enhancer.harness.answers.entity_task import AnswerStatus
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.harness.journal.journal import Journal, Quarantined


def all_hashes(rows: Iterable[ToAsk]) -> list[str]:
    """Return the input hashes of all requests that may be made for the rows, each once."""
    return list(dict.fromkeys(input_hash for row in rows for input_hash in row.hashes))


def quarantined_rows(journal: Journal, kind: Kind, rows: Sequence[ToAsk]) -> dict[tuple[str, str], Quarantined]:
    """Return the quarantine entries of the rows by id and aspect."""
    ids: dict[str, list[str]] = {}
    for row in rows:
        ids.setdefault(row.spec.note.aspect, []).append(row.id)
    return {
        (id_, aspect): known
        for aspect, some in ids.items()
        for id_, known in journal.quarantined(kind, some, aspect).items()
    }


def leave_claims(task: EntityTask, rows: Iterable[ToAsk]) -> None:
    """Leave claims on requests that other notes of the entity ask for to these notes.

    The request that would follow an open note of low confidence may be that for its closed version.
    """
    others = {row.input_hash for row in rows if row.spec.note.aspect != task.key.aspect}
    task.claims = tuple(one for one in task.claims if one not in others)


def settle(kind: Kind, row: ToAsk, paid: Mapping[str, Sequence[PaidAnswer]]) -> tuple[EntityTask, AnswerStatus]:
    """Judge the answers that were paid for; after one of low confidence, those to the request that follows it."""
    key = Key(kind, row.id, row.spec.note.aspect)
    task = EntityTask(key, row.input_hash, row.prompt, row.spec, claims=row.hashes)
    if row.surcharge is not None:
        task.usage.add(row.surcharge)
    follow_ups = paid.get(row.fallback_hash, ()) if row.fallback_hash is not None else ()
    task.paid_follow_ups = follow_ups
    status = task.receive_all(paid.get(row.input_hash, ()))
    follow_up = task.follow_up if status == "valid" else None
    return (task, status) if follow_up is None else (follow_up, follow_up.receive_all(follow_ups))
