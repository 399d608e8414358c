"""A run of ``generate --batch``: the same survey, claims, quarantine and store as direct calls, in rounds.

::

    pick up ──> look at jobs ──> collect into the journal ──> survey ──┬─ answered in the journal ──> embed, store
                     ^                                                 ├─ out in a job ──> later
                     │                                                 ├─ out of rounds ──> quarantine
                     └────────── wait <── submit <── file of lines <───┘

Between two rounds nothing is remembered but the journal: a run that is killed goes on with the next one's first round.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enhancer.contracts.record import PROFILE_ASPECT, Key
from enhancer.errors import BudgetError, StoreError
from enhancer.features.generating.counts import Tally
from enhancer.features.generating.direct_run import Run
from enhancer.features.generating.survey import survey
from enhancer.harness.answers.case import Case
from enhancer.harness.batches.submission import NoMoneyError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from enhancer.features.generating.direct_run import Asking, Parts
    from enhancer.features.generating.reports import GenerationReport
    from enhancer.features.generating.survey import ToAsk, Work
    from enhancer.harness.batches.collection import Collector
    from enhancer.harness.batches.submission import Submitter
    from enhancer.harness.calls.budget import Budget
    from enhancer.harness.calls.spending import Spent
    from enhancer.harness.journal.batch_jobs import Trouble
    from enhancer.progress import Detail

_log = logging.getLogger(__name__)
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 3.0
_SLOWEST = 10.0
"""Times the configured interval between two looks that a wait grows to while nothing changes."""
_PATIENCE = 10
"""Passes without a change after which a run that does not wait leaves the rest to the next."""
_TOO_LARGE = "its request is larger than the file of a batch may be"


class _Tally(Tally):
    """Counts, and how the jobs stand."""

    jobs: Callable[[], dict[str, Detail]] | None = None

    def detail(self, spent: Spent | None) -> dict[str, Detail]:
        """What progress shows beside the count."""
        shown = super().detail(spent)
        return shown if self.jobs is None else {**shown, **self.jobs()}


class Pace:
    """Seconds between two looks at jobs: the interval while something moves, longer while nothing does, with jitter.

    Args:
        interval: Seconds.
        chance: Gives numbers between 0 and 1.
    """

    def __init__(self, interval: float, chance: Callable[[], float] = random.random) -> None:
        self._interval = interval
        self._chance = chance
        self._factor = 1.0

    def next(self, *, moved: bool) -> float:
        """Seconds to wait now: a tenth more or less, so that many runs do not ask at once."""
        self._factor = 1.0 if moved else min(self._factor * 1.5, _SLOWEST)
        return self._interval * self._factor * (0.9 + 0.2 * self._chance())


@dataclass(frozen=True, slots=True)
class Batching:
    """The part of a run that talks to the batch API; made when the first job is to be looked at or written."""

    submitter: Submitter
    collector: Collector
    spent: Spent
    budget: Budget


class OfflineRun(Run):
    """Made for one run and one event loop.

    Args:
        parts: What it works with.
        open_batching: Opens the way to the batch API.
        any_open: Whether jobs of this endpoint may be out.
        rounds: Batches that may bring an entity no answer, until it is set aside.
        pace: How often jobs are looked at.
        wait: Whether to stay until everything is collected.
        abandon: Have everything that is out end early, collect that, and submit nothing.
        close: Ends the connections.
        limit: New entities that are asked about at most.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        open_batching: Callable[[], Batching],
        any_open: Callable[[], bool],
        rounds: int,
        pace: Pace,
        wait: bool,
        abandon: bool,
        close: Callable[[], Awaitable[None]],
        limit: int | None,
    ) -> None:
        super().__init__(parts, make_asking=_no_asking, limit=None)
        self._open_batching = open_batching
        self._any_open = any_open
        self._rounds = rounds
        self._pace = pace
        self._wait = wait
        self._abandon = abandon
        self._close_provider = close
        self._new_left = limit
        self._batching: Batching | None = None
        self._unasked = 0
        self._short: float | None = None
        self.tally = _Tally()
        self.tally.jobs = self._jobs_shown

    async def main(self) -> GenerationReport:
        """Do the work."""
        try:
            return await super().main()
        finally:
            with contextlib.suppress(StoreError):
                if self._batching is not None:
                    await self._batching.submitter.close()
            await self._close_provider()

    def report(self) -> GenerationReport:
        """What was done so far, and what is still out."""
        stopped = self._error is not None or self._stopped.is_set() or self._unasked > 0
        return self.tally.report(self._spent, finished=not stopped)

    @property
    def _spent(self) -> Spent | None:
        return None if self._batching is None else self._batching.spent

    def _jobs_shown(self) -> dict[str, Detail]:
        if self._batching is None or not self._batching.collector.looks:
            return {}
        looks = list(self._batching.collector.looks.values())
        said = ", ".join(sorted({look.said for look in looks}))
        done, total = sum(look.done or 0 for look in looks), sum(look.total or 0 for look in looks)
        jobs = f"{len(looks)} jobs {said}" if len(looks) > 1 else said
        return {"batch": f"{jobs} {done}/{total}" if total else jobs}

    # -- rounds -----------------------------------------------------------------------------------------------------

    async def _scout(self) -> None:
        if self._any_open():
            await self._opened().submitter.pick_up()
        if self._abandon:
            collector = self._opened().collector
            collector.expect_cancelled()
            await collector.abandon()
        put_aside = patience = 0
        fresh, first, wait = True, True, _FIRST_WAIT
        while True:
            ended = moved = False
            if self._batching is not None:
                ended, moved = await self._batching.collector.look()
            if fresh or ended or put_aside:
                before, put_aside = put_aside, await self._round(first=first)
                fresh = first = False
                wait = _FIRST_WAIT if put_aside != before else min(wait * 2, _LONGEST_WAIT)
                patience = 0 if put_aside != before else patience + 1
            is_open = bool(self._batching is not None and self._batching.collector.open())
            if put_aside and (self._wait or patience < _PATIENCE):
                await asyncio.sleep(wait)
            elif not is_open or not self._wait:
                break
            else:
                await asyncio.sleep(self._pace.next(moved=moved or ended))
        if self._short is not None and not is_open:
            assert self._batching is not None
            budget = self._batching.budget
            if budget.fits(self._short):  # not even one request fits beside what is out at other endpoints
                out = await self._in_thread(self._journal.jobs.reserved)
                raise BudgetError(
                    f"stopped at [llm] max_cost: batch jobs at other endpoints can still cost {out:.6f} USD, and the"
                    f" next request here {self._short:.6f} USD",
                    hint="collect those jobs by the configuration that submitted them, or raise max_cost",
                )
            await budget.reserve(self._short)

    async def _round(self, *, first: bool) -> int:
        """Survey everything once, store what is answered, submit what is not; gives how many to look at again soon."""
        self.tally.quarantined = self.tally.pending = self._unasked = 0
        self._short = None
        if self._batching is not None:
            self._batching.submitter.count_reserved()
        put_aside = 0
        for work in self._works:
            chunks = survey(work, self._store, self._fingerprint)
            while (found := await self._in_thread(next, chunks, None)) is not None:
                put_aside += await self._take(found, first=first)
            await self._grouping.close()
        if self._batching is not None:
            await self._batching.submitter.send()
        return put_aside

    def _opened(self) -> Batching:
        if self._batching is None:
            self._batching = self._open_batching()
            self._batching.submitter.count_reserved()
        return self._batching

    async def _take_slice(self, work: Work, rows: Sequence[ToAsk]) -> int:
        assert work.ask is not None
        rows = await self._leave_out(await self._leave_quarantined(work, rows))
        jobs = self._journal.jobs
        hashes = list(dict.fromkeys(row.input_hash for row in rows))
        ours = await asyncio.wrap_future(self._journal.claim(hashes))
        # Only after the claim: what was out a moment ago is answered by now, or has come back without an answer.
        paid = await self._in_thread(self._journal.paid, list(ours))
        troubles = await self._in_thread(jobs.troubles, list(ours))
        put_aside = 0
        written: set[str] = set()
        for row in rows:
            if row.input_hash not in ours:
                put_aside += 1
                continue
            if row.input_hash in written:
                # Of equal questions one is asked; its answer is the others' as well.
                self.tally.pending += 1
                continue
            case = Case(Key(work.kind, row.id, PROFILE_ASPECT), row.input_hash, row.prompt, work.ask)
            verdict = case.review(paid.get(row.input_hash, ()))
            if verdict == "answered":
                await self._answered_by_now(case)
                continue
            if verdict != "again":
                await self._failed(case, case.error, transient=False)
                continue
            past = troubles.get(row.input_hash, [])
            over = _given_up(past, self._rounds)
            if over is not None:
                reason, transient = over
                # The next time that it is asked about, it begins anew.
                await asyncio.wrap_future(jobs.forgive([row.input_hash]))
                await self._failed(case, reason, transient=transient)
                continue
            written.add(row.input_hash)
            await self._write(case, past)
        return put_aside

    async def _answered_by_now(self, case: Case) -> None:
        """Its answer is in the journal: of this run, or of one before."""
        is_new = case.at >= self.tally.started
        if not is_new:
            self.tally.passed += 1
        await self._embed(case, is_new=is_new)

    # -- writing ----------------------------------------------------------------------------------------------------

    async def _write(self, case: Case, past: Sequence[Trouble]) -> None:
        """Have the next job ask about an entity, with others where that is wanted."""
        is_new = not (case.heard or past)
        congested = self._batching is not None and self._batching.collector.congested
        if self._abandon or congested or (is_new and self._new_left == 0):
            await self._leave([case])
            return
        if is_new and self._new_left is not None:
            self._new_left -= 1
        await self._grouping.add(case, asked_before=not is_new)

    async def _ask_together(self, group: list[Case]) -> None:
        if self._short is not None:
            await self._leave(group)
            return
        try:
            await self._opened().submitter.write(group)
        except NoMoneyError as short:
            # What is out may cost less than was reserved: the rest is looked at again when it is in.
            self._short = short.ceiling
            await self._leave(group)
        except TooLargeError:
            if len(group) > 1:
                for case in group:
                    await self._ask_together([case])
                return
            await self._failed(group[0], _TOO_LARGE, transient=False)
        else:
            self.tally.pending += len(group)

    async def _leave(self, cases: Sequence[Case]) -> None:
        """Leave entities to a later round, or to another run."""
        self._unasked += len(cases)
        await asyncio.wrap_future(self._journal.unclaim([case.input_hash for case in cases]))


def _given_up(past: Sequence[Trouble], rounds: int) -> tuple[str, bool] | None:
    """Why an entity is not asked about again, and whether that may pass by itself; None where it is."""
    refused = [trouble for trouble in past if trouble.outcome == "refused" and not trouble.together]
    if refused:
        return refused[-1].message, False
    if len(past) >= rounds:
        return f"{len(past)} batches brought no answer; the last: {past[-1].message}", True
    return None


def _no_asking(_: Run) -> Asking:
    raise AssertionError("an offline run makes no calls of its own")
