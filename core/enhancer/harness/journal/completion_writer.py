"""How completions are written: all that wait together, in few statements of many rows each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence, Sized

PARAMETERS = 900
"""Values in one statement: older builds of SQLite take 999."""


class PaidAnswer(NamedTuple):
    """A completion, as seen by one of the entities that it is about."""

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


class PaidCall(NamedTuple):
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


def write_call(connection: sqlite3.Connection, call: PaidCall, at: str) -> PaidAnswer:
    """Write one completion within a transaction; gives it as its first entity sees it."""
    return write_calls(connection, [(at, call)])[0]


def write_calls(connection: sqlite3.Connection, calls: list[tuple[str, PaidCall]]) -> list[PaidAnswer]:
    """Write completions, many rows in one statement."""
    # Nobody else writes within this transaction, so the next numbers are ours.
    last = connection.execute("SELECT coalesce(max(id), 0) FROM completions").fetchone()[0]
    rows: list[object] = []
    answers: list[object] = []
    paid: list[PaidAnswer] = []
    for number, (at, call) in enumerate(calls, last + 1):
        # What is given back is what a later run will read.
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
        rows += (*counts, call.estimated_prompt_tokens, call.cost_usd, ids, text)
        for place, hash_ in enumerate(call.hashes):
            answers += (hash_, number, place)
        paid.append(PaidAnswer(number, 0, call.ids, text, call.finish_reason, *counts, call.cost_usd, call.model, at))
    _insert(
        connection,
        "completions (id, at, model, template, request, attempt, entities, finish_reason,"
        " prompt_tokens, completion_tokens, estimated_prompt_tokens, cost_usd, ids, text)",
        14,
        rows,
    )
    _insert(connection, "answers (input_hash, completion, place)", 3, answers)
    return paid


def _insert(connection: sqlite3.Connection, into: str, width: int, values: Sequence[object]) -> None:
    """Insert rows that lie one after another in ``values``, as many a statement as its parameters allow."""
    row = f"({marks(range(width))})"
    step = PARAMETERS // width * width
    for start in range(0, len(values), step):
        part = values[start : start + step]
        connection.execute(
            f"INSERT INTO {into} VALUES {','.join([row] * (len(part) // width))}",  # noqa: S608 - names of ours
            part,
        )


def storable(text: str) -> str:
    """The text as SQLite can hold it: it takes no lone surrogates, its shell stops at NUL, and models send both."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def marks(values: Sized) -> str:
    """Question marks for so many values."""
    return ",".join("?" * len(values))


def chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Parts that fit into one statement."""
    for start in range(0, len(values), PARAMETERS):
        yield values[start : start + PARAMETERS]
