"""Build the request for notes of an entity or of a group of entities, for direct calls and batch jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.contracts.llm import Request
from enhancer.contracts.record import PROFILE_ASPECT, Key
from enhancer.harness.answers.entity_task import request_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.config.schema import LLMConfig
    from enhancer.harness.answers.entity_task import EntityTask
    from enhancer.harness.calls.thought_room import ThoughtRoom


def by_entity(tasks: Sequence[EntityTask]) -> dict[str, list[EntityTask]]:
    """Return tasks of one kind by the id of their entity, in order."""
    found: dict[str, list[EntityTask]] = {}
    for task in tasks:
        found.setdefault(task.key.id, []).append(task)
    return found


def request_ids(tasks: Sequence[EntityTask]) -> tuple[str, ...] | None:
    """Return the id of the entity of each task for the journal; None if all are of one entity."""
    if len(tasks) == 1:
        return None
    ids = tuple(task.key.id for task in tasks)
    return ids if len(set(ids)) > 1 else None


def call_version(tasks: Sequence[EntityTask]) -> str:
    """Return the version of the template under which the ledger lists a call."""
    note = tasks[0].spec.note
    return note.template.request(note.field, knowledge=note.knowledge).version


def entity_request(tasks: Sequence[EntityTask], llm: LLMConfig, room: ThoughtRoom) -> Request:
    """Build a request.

    Args:
        tasks: Notes of one entity, or the same notes of several entities of one kind. All belong to one lane (see
            :attr:`~enhancer.prompts.Note.lane`). A request about one entity is a re-ask after invalid answers.
        llm: ``[llm]``.
        room: Room for thought, on top of ``max_tokens``.
    """
    entities = by_entity(tasks)
    first = next(iter(entities.values()))
    note = first[0].spec.note
    text = note.template.request(*(task.spec.note.field for task in first), knowledge=note.knowledge)
    cut_offs = max(task.cut_offs for task in tasks)
    max_tokens = llm.max_tokens * len(tasks) * 2**cut_offs + room.tokens(cut_offs)
    if len(entities) == 1:
        return Request(
            messages=request_messages(tasks),
            schema=text.schema,
            subjects=(_subject(first),),
            max_tokens=max_tokens,
            **_sampling(llm, note.sample),
        )
    return Request(
        messages=text.group_messages([(id_, own[0].prompt) for id_, own in entities.items()]),
        schema=text.group_schema,
        schema_name="profiles",
        subjects=tuple(_subject(own) for own in entities.values()),
        grouped=True,
        max_tokens=max_tokens,
        **_sampling(llm, note.sample),
    )


def _subject(tasks: Sequence[EntityTask]) -> Key:
    """Return the key of the note that is asked for; that of the entity's profile if there are several."""
    key = tasks[0].key
    return key if len(tasks) == 1 else Key(key.kind, key.id, PROFILE_ASPECT)


def _sampling(llm: LLMConfig, sample: int) -> dict[str, Any]:
    return {
        "model": llm.model,
        "temperature": llm.temperature,
        "top_p": llm.top_p,
        "reasoning_effort": llm.reasoning_effort,
        # With one seed for all, the samples of a note would be alike.
        "seed": None if llm.seed is None else llm.seed + sample - 1,
        "timeout": llm.timeout,
    }
