"""Write completions to the journal, many rows per statement."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Sized

    from enhancer.contracts.operations.journal import JournalConnection

V = TypeVar("V")
MAX_PARAMETERS = 900
"""Maximum number of values in a statement; older builds of SQLite accept 999."""


class PaidAnswer(NamedTuple):
    """A paid completion, as seen by one note of one of its entities."""

    completion: int
    """Number of the completion in the journal."""
    position: int
    """Position of the note among all that the call asked for, from 0."""
    ids: tuple[str, ...] | None
    """Id of the entity of each note, in order, if the call was about a group; None if it was about a single entity."""
    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    model: str
    at: str
    notes: int = 1
    """Number of notes that the call asked for, over all entities."""
    reasoning_tokens: int | None = None
    """Part of the completion tokens that went into thought, for the whole call; None if unknown."""
    earlier_rules: bool = False
    """Whether a release up to 0.5 has judged it, so that it is judged by the same rules again."""


class PaidCall(NamedTuple):
    """A paid call to be written to the journal."""

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
    """Input hashes of its notes: one for each entity and aspect."""
    ids: tuple[str, ...] | None = None
    """Id of the entity of each note, in the same order; None if all are of one entity."""
    reasoning_tokens: int | None = None
    """Part of the completion tokens that went into thought; None if unknown."""


def write_call(connection: JournalConnection, call: PaidCall, at: str) -> PaidAnswer:
    """Write one completion within a transaction. Return it for its first note."""
    return write_calls(connection, [(at, call)])[0]


def write_calls(connection: JournalConnection, calls: list[tuple[str, PaidCall]]) -> list[PaidAnswer]:
    """Write completions within a transaction. Return each for its first note."""
    last = last_number(connection)
    rows: list[object] = []
    answers: list[object] = []
    paid: list[PaidAnswer] = []
    for number, (at, call) in enumerate(calls, last + 1):
        # Return exactly what a later run will read.
        text = storable(call.text)
        ids = None if call.ids is None else json.dumps(call.ids)
        counts = (call.prompt_tokens, call.completion_tokens)
        rows += (
            number,
            at,
            call.model,
            call.template,
            call.request,
            call.attempt,
            len(call.hashes),
            call.finish_reason,
        )
        rows += (*counts, call.estimated_prompt_tokens, call.cost_usd, ids, text, call.reasoning_tokens)
        for place, hash_ in enumerate(call.hashes):
            answers += (hash_, number, place)
        seen = (number, 0, call.ids, text, call.finish_reason, *counts, call.cost_usd, call.model, at)
        paid.append(PaidAnswer(*seen, len(call.hashes), call.reasoning_tokens))
    _insert(
        connection,
        "completions (id, at, model, template, request, attempt, entities, finish_reason,"
        " prompt_tokens, completion_tokens, estimated_prompt_tokens, cost_usd, ids, text, reasoning_tokens)",
        15,
        rows,
    )
    _insert(connection, "answers (input_hash, completion, place)", 3, answers)
    return paid


def last_number(connection: JournalConnection) -> int:
    """Return the number of the last completion. The transaction is the only writer, so the next numbers are free."""
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM completions").fetchone()[0])


def _insert(connection: JournalConnection, into: str, width: int, values: Sequence[object]) -> None:
    """Insert the rows concatenated in ``values``, as many per statement as the parameter limit allows."""
    row = f"({marks(range(width))})"
    step = MAX_PARAMETERS // width * width
    for start in range(0, len(values), step):
        part = values[start : start + step]
        connection.execute(
            f"INSERT INTO {into} VALUES {','.join([row] * (len(part) // width))}",  # noqa: S608 - constants
            part,
        )


def storable(text: str) -> str:
    """Escape lone surrogates and NUL, which models send and SQLite or its shell cannot handle."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def marks(values: Sized) -> str:
    """Return a placeholder list for the values."""
    return ",".join("?" * len(values))


def chunks(values: Sequence[V]) -> Iterator[Sequence[V]]:
    """Yield parts of ``values`` that fit in one statement."""
    for start in range(0, len(values), MAX_PARAMETERS):
        yield values[start : start + MAX_PARAMETERS]
