"""Have notes on reviews written before the prompts that show them.

Notes are asked for by the generator of the run, with its budget, gate and retries, and are kept in the journal: a note
is paid for once, whichever items and aspects need it, and again only if the reviews that it is about have changed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from enhancer.contracts.record import Key
from enhancer.features.context.reviews import NOTES_ASPECT, one_note
from enhancer.features.generating.known_answers import settle
from enhancer.harness.answers.entity_task import EntityTask
from enhancer.harness.answers.usage import EntityUsage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence

    from enhancer.features.context.reviews import NoteTree, ReviewNotes
    from enhancer.features.surveying.survey import ToAsk
    from enhancer.harness.generator import Generator
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.harness.journal.journal import Journal

_SHORTEST_WAIT, _LONGEST_WAIT = 0.1, 3.0
"""Seconds between two looks at notes that another process is asking for."""
_TYPICAL_NOTE = "as many words as a note has " * 20
"""Text for the estimate, of as many tokens as a note of 90 words."""
_GLANCE = 0.2
"""Seconds after which to look whether answers are still to be expected."""


class NoteFailure(NamedTuple):
    """Why a note could not be written."""

    reason: str
    transient: bool


class FilledRows(NamedTuple):
    """The rows of a slice, with notes in the prompts that show them."""

    rows: list[ToAsk]
    failed: dict[str, tuple[NoteFailure, list[ToAsk]]]
    """Rows whose notes could not be written, by the id of the item."""
    later: dict[str, list[ToAsk]]
    """Rows whose notes are not written now, because no more items may be asked about."""
    pending: dict[str, list[ToAsk]]
    """Rows whose notes are in batch jobs."""


class ReviewCondenser:
    """Writes the notes that prompts show instead of reviews. For one event loop.

    Args:
        journal: Keeps the notes.
        notes: How they are asked for.
        ask: Asks for a note, or returns why it cannot.
        waits: Whether to wait for answers, for which the run calls :meth:`answered` or :meth:`failed`. Otherwise a
            later pass over the tables finds them in the journal.
        generator: Returns the generator that asks, once there is one.
        retry: Whether to ask again for notes that failed before ``started``.
        started: Time at which the run began.
    """

    def __init__(
        self,
        journal: Journal,
        notes: ReviewNotes,
        *,
        ask: Callable[[EntityTask], Awaitable[NoteFailure | None]],
        waits: bool,
        generator: Callable[[], Generator | None],
        retry: bool,
        started: str,
    ) -> None:
        self._journal = journal
        self._notes = notes
        self._ask = ask
        self._waits = waits
        self._generator = generator
        self._retry = retry
        self._started = started
        self._waiting: dict[str, asyncio.Future[str | NoteFailure]] = {}
        self._usage: dict[str, EntityUsage] = {}
        """Cost of the notes of the current slice, by input hash, until the prompts that show them bear it."""
        self._billed: set[int] = set()
        """Hashes of the ids of items whose records bear what notes from batch jobs have cost."""
        self.written = 0
        """Notes that this run has paid for."""
        self.left_out = 0
        """Notes that could not be written and are missing from prompts."""

    def left_out_words(self) -> str:
        """Return a sentence about the notes that could not be written."""
        return (
            f"{self.left_out:,} notes on reviews could not be written and are missing from the prompts of their items:"
            " the model refused, or gave no answer of the form asked for"
        )

    def answered(self, task: EntityTask) -> bool:
        """Take a valid answer; return whether it is one of the notes that are waited for."""
        assert task.answer is not None
        is_note = self._settle(task, one_note(task.answer.profile))
        self.written += is_note
        return is_note

    def failed(self, task: EntityTask, reason: str, *, transient: bool) -> bool:
        """Take a failure; return whether it is about one of the notes that are waited for."""
        return self._settle(task, NoteFailure(reason, transient))

    def _settle(self, task: EntityTask, result: str | NoteFailure) -> bool:
        future = self._waiting.pop(task.input_hash, None)
        if future is None:
            return False
        self._charge(task)
        if not future.done():
            future.set_result(result)
        return True

    async def fill(
        self,
        rows: Sequence[ToAsk],
        claimed: Container[str],
        paid: Mapping[str, Sequence[PaidAnswer]],
        limit: int | None,
    ) -> FilledRows:
        """Write the notes that prompts show, and put them in.

        Args:
            rows: Notes of items that are not current. Those that are paid for, or that another run asks for, are left
                as they are.
            claimed: Input hashes that this run has claimed.
            paid: Paid answers by input hash.
            limit: Largest number of items to write notes for.
        """
        status = {id(row): settle("item", row, paid)[1] for row in rows if row.input_hash in claimed}
        open_rows = [row for row in rows if status.get(id(row)) == "ask_again"]
        answered = [row for row in rows if status.get(id(row)) == "valid"]
        trees = await asyncio.to_thread(self._notes.trees, [(row.id, row.prompt) for row in open_rows])
        now = dict(islice(trees.items(), limit))
        self._usage.clear()
        notes, failures, pending = await self.write(now)
        filled = FilledRows([], {}, {}, {})
        showing = [row for row in open_rows if row.id in trees and trees[row.id].stand_in in row.prompt]
        needing = set(map(id, showing))
        ready = {id_: tree for id_, tree in now.items() if id_ not in failures and id_ not in pending}
        surcharges = self._surcharges(ready, Counter(row.id for row in showing))
        later_surcharges = {} if self._waits else await asyncio.to_thread(self._bills, answered)
        for row in rows:
            if id(row) in later_surcharges:
                filled.rows.append(row._replace(surcharge=later_surcharges[id(row)]))
            elif id(row) not in needing:
                filled.rows.append(row)
            elif row.id in failures:
                filled.failed.setdefault(row.id, (failures[row.id], []))[1].append(row)
            elif row.id not in now:
                filled.later.setdefault(row.id, []).append(row)
            elif row.id in pending:
                filled.pending.setdefault(row.id, []).append(row)
            else:
                prompt = trees[row.id].fill(row.prompt, notes)
                filled.rows.append(row._replace(prompt=prompt, surcharge=surcharges[row.id].pop()))
        return filled

    def _surcharges(self, trees: Mapping[str, NoteTree], rows: Mapping[str, int]) -> dict[str, list[EntityUsage]]:
        """Divide what was paid for the notes of each item among its rows. A note that items share counts for one."""
        shares = {}
        for id_, tree in trees.items():
            total = EntityUsage()
            for node in tree:
                if (usage := self._usage.pop(node.input_hash, None)) is not None:
                    total.add(usage)
                    self.written += not self._waits  # those that were waited for are counted
            shares[id_] = total.shares(rows[id_])
        return shares

    def _bills(self, rows: Sequence[ToAsk]) -> dict[int, EntityUsage]:
        """Return what batch jobs of this run were paid for the notes in rows that are answered, by identity.

        The notes were read in an earlier pass, for the request; the record is made in this one.
        """
        trees = self._notes.trees((row.id, row.prompt) for row in rows if hash(row.id) not in self._billed)
        bills: dict[int, EntityUsage] = {}
        for id_, tree in trees.items():
            self._billed.add(hash(id_))
            total = EntityUsage()
            for input_hash, answers in self._journal.paid_answers([node.input_hash for node in tree]).items():
                task = self._task(id_, input_hash, "")
                task.receive_all(answers)
                if task.at >= self._started:
                    total.add(task.usage)
            own = [row for row in rows if row.id == id_ and tree.stand_in in row.prompt]
            bills |= {id(row): share for row, share in zip(own, total.shares(len(own)), strict=True)}
        return bills

    async def write(
        self, trees: Mapping[str, NoteTree]
    ) -> tuple[dict[str, str], dict[str, NoteFailure], Container[str]]:
        """Write all notes of some items, level by level.

        A note that the model refuses, or fails to write in the form asked for, is left out. An item fails if none of
        its notes is left, or if one failed for a cause that may pass.

        Args:
            trees: The notes of each item, by id.

        Returns:
            Notes by input hash, the items that failed, by id, and the items that wait for notes.
        """
        notes: dict[str, str] = {}
        failures: dict[str, NoteFailure] = {}
        waiting: set[str] = set()
        for depth in range(max((len(tree.levels) for tree in trees.values()), default=0)):
            todo: dict[str, EntityTask] = {}
            for id_, tree in trees.items():
                for node in tree.levels[depth] if depth < len(tree.levels) else ():
                    if not waiting.isdisjoint(node.children):
                        waiting.add(node.input_hash)
                    elif prompt := self._notes.context.prompt(node, notes):
                        todo[node.input_hash] = self._task(id_, node.input_hash, prompt)
            for input_hash, result in (await self._write_level(todo)).items():
                if result is None:
                    waiting.add(input_hash)
                elif isinstance(result, str):
                    notes[input_hash] = result
                else:
                    failures[input_hash] = result
        pending = {id_ for id_, tree in trees.items() if any(node.input_hash in waiting for node in tree)}
        failed = dict(_failed_items({id_: tree for id_, tree in trees.items() if id_ not in pending}, notes, failures))
        for id_, tree in trees.items():
            if id_ not in pending and id_ not in failed:
                self.left_out += sum(node.input_hash in failures for node in tree)
        return notes, failed, pending

    def _task(self, id_: str, input_hash: str, prompt: str) -> EntityTask:
        return EntityTask(Key("item", id_, NOTES_ASPECT), input_hash, prompt, self._notes.ask)

    async def _write_level(self, todo: dict[str, EntityTask]) -> dict[str, str | NoteFailure | None]:
        """Return the note of each task, or its failure; None if a later pass finds its answer."""
        results: dict[str, str | NoteFailure | None] = {}
        wait = _SHORTEST_WAIT
        while todo:
            claimed = await asyncio.wrap_future(self._journal.claim(list(todo)))
            # Read after the claim: a process that held it before has written its answer by now.
            paid = await asyncio.to_thread(self._journal.paid_answers, list(todo))
            asked: dict[str, asyncio.Future[str | NoteFailure]] = {}
            for input_hash in list(todo):
                result = self._from_journal(todo[input_hash], paid.get(input_hash, ()))
                if result is not None and not (input_hash in claimed and self._asks_again(todo[input_hash])):
                    results[input_hash] = result
                    del todo[input_hash]
                elif input_hash in claimed:
                    task = todo.pop(input_hash)
                    future: asyncio.Future[str | NoteFailure] = asyncio.get_running_loop().create_future()
                    if self._waits:
                        asked[input_hash] = self._waiting[input_hash] = future
                    results[input_hash] = await self._ask(task if result is None else await self._anew(task))
                elif not self._waits:
                    results[input_hash] = None
                    del todo[input_hash]
            await self._wait_for(asked)
            results |= {input_hash: future.result() for input_hash, future in asked.items()}
            # A job, and a request that waits for one, keep the claim.
            await asyncio.wrap_future(self._journal.unclaim([one for one in claimed if results[one] is not None]))
            if todo:  # another process is asking for them
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
        return results

    def _from_journal(self, task: EntityTask, paid: Sequence[PaidAnswer]) -> str | NoteFailure | None:
        """Return a note, or its failure, from answers that are paid for; None if it is to be asked for."""
        status = task.receive_all(paid)
        if status == "ask_again":
            return None
        self._charge(task)
        return NoteFailure(task.error, transient=False) if task.answer is None else one_note(task.answer.profile)

    def _charge(self, task: EntityTask) -> None:
        """Keep what a note has cost, if this run has paid for it."""
        if task.at >= self._started:
            self._usage[task.input_hash] = task.usage

    def _asks_again(self, task: EntityTask) -> bool:
        """Return whether a note failed before this run, and is to be asked for again."""
        return self._retry and task.answer is None and task.at < self._started

    async def _anew(self, task: EntityTask) -> EntityTask:
        """Forget the answers about a note; return a new task."""
        forgotten = [(task.key, task.input_hash)]
        await asyncio.wrap_future(self._journal.release_quarantine(forgotten, forget_answers=True))
        return self._task(task.key.id, task.input_hash, task.prompt)

    async def _wait_for(self, asked: Mapping[str, asyncio.Future[str | NoteFailure]]) -> None:
        """Wait for answers. If no call was answered yet, the generator holds failures back and is asked to decide."""
        pending: set[asyncio.Future[str | NoteFailure]] = set(asked.values())
        while pending:
            _, pending = await asyncio.wait(pending, timeout=_GLANCE)
            generator = self._generator()
            if pending and generator is not None:
                held = {task.input_hash for task in generator.undecided}
                if held.issuperset(input_hash for input_hash, future in asked.items() if not future.done()):
                    await generator.decide()


def _failed_items(
    trees: Mapping[str, NoteTree], notes: Mapping[str, str], failures: Mapping[str, NoteFailure]
) -> Iterable[tuple[str, NoteFailure]]:
    for id_, tree in trees.items():
        own = [failures[node.input_hash] for node in tree if node.input_hash in failures]
        passing = next((failure for failure in own if failure.transient), None)
        if passing is not None or not any(node.input_hash in notes for node in tree.levels[-1]):
            reason, transient = passing or own[-1]
            yield id_, NoteFailure(f"its reviews could not be condensed: {reason}", transient)


def with_written_notes(reviews: ReviewNotes, prompts: Sequence[tuple[str, str]], journal: Journal) -> list[str]:
    """Return prompts with the notes that the journal holds.

    Args:
        reviews: The reviews.
        prompts: Pairs of id and prompt.
        journal: Paid answers.
    """
    trees = reviews.trees(prompts)
    filled = []
    for id_, prompt in prompts:
        tree = trees.get(id_)
        if tree is None:
            filled.append(prompt)
            continue
        notes = {}
        answers = journal.paid_answers([node.input_hash for node in tree.levels[-1]])
        for input_hash, paid in answers.items():
            task = EntityTask(Key("item", id_, NOTES_ASPECT), input_hash, "", reviews.ask)
            if task.receive_all(paid) == "valid" and task.answer is not None:
                notes[input_hash] = one_note(task.answer.profile)
        filled.append(tree.fill(prompt, notes))
    return filled


def notes_to_write(reviews: ReviewNotes, tasks: Sequence[EntityTask], journal: Journal | None) -> list[EntityTask]:
    """Return the notes that a run would write before it asks, and put typical notes into the prompts of ``tasks``.

    Args:
        reviews: The reviews.
        tasks: Tasks of items.
        journal: Paid answers; None if there is no journal yet.
    """
    trees = reviews.trees((task.key.id, task.prompt) for task in tasks)
    missing = []
    for id_, tree in trees.items():
        typical = {node.input_hash: _TYPICAL_NOTE for node in tree}
        paid = journal.paid_answers(list(typical)) if journal is not None else {}
        for node in tree:
            if node.input_hash not in paid:
                prompt = reviews.context.prompt(node, typical)
                missing.append(EntityTask(Key("item", id_, NOTES_ASPECT), node.input_hash, prompt, reviews.ask))
        for task in tasks:
            if task.key.id == id_:
                task.prompt = tree.fill(task.prompt, typical)
    return missing
