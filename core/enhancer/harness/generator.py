"""The workers: each pulls a few entities, asks about them until they have a profile or a reason, and pulls again."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from typing import TYPE_CHECKING

from enhancer.errors import AuthenticationError, CircuitOpenError, DeadlineError, ProviderError, RequestError
from enhancer.harness.calls.caller import StoppedError
from enhancer.harness.calls.entity_request import request_about
from enhancer.harness.calls.retry import is_transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from enhancer.config.schema import LLMConfig
    from enhancer.harness.answers.entity_task import EntityTask
    from enhancer.harness.calls.caller import Caller
    from enhancer.harness.calls.gate import Gate

_log = logging.getLogger(__name__)
_ALL_REFUSED = 5
"""If the first so many requests are all refused, the run stops instead of putting every entity into quarantine."""
_IN_VAIN = 5
"""If so many requests about several entities bring no profile, and none does, each entity is asked about alone."""
_ABSENT = re.compile(r"model[^.]{0,80}(?:not found|does not exist|not exist)", re.IGNORECASE)

Group = list["EntityTask"]


class Generator:
    """Runs the workers of one kind of work. For one event loop.

    Args:
        caller: Makes the calls.
        gate: Told when a call has used up its attempts.
        llm: ``[llm]``.
        answered: Given each case with a valid answer.
        failed: Given each case without, the reason, and whether the fault may pass by itself.
    """

    def __init__(
        self,
        caller: Caller,
        gate: Gate,
        llm: LLMConfig,
        *,
        answered: Callable[[EntityTask], Awaitable[None]],
        failed: Callable[[EntityTask, str, bool], Awaitable[None]],
    ) -> None:
        self._caller = caller
        self._gate = gate
        self._llm = llm
        self._answered = answered
        self._failed = failed
        self._any_answer = False
        self._in_vain = 0
        self._together_works = False
        self._refused: list[tuple[EntityTask, RequestError]] = []
        self._unreached: list[tuple[EntityTask, ProviderError]] = []
        """Cases without an answer while no call had any yet; few, because the gate soon stops such a run."""
        self._workers: list[asyncio.Task[None]] = []
        self._error: BaseException | None = None

    async def run(self, pull: Callable[[], Awaitable[Group | None]]) -> None:
        """Work until ``pull`` gives None, or until something stops the run.

        Args:
            pull: Gives the next group: entities of one kind that share a request.

        Raises:
            EnhancerError: What stopped the run; answers that were in flight are kept.
        """
        # More workers than calls in flight: while some judge answers, others wait at the gate to take their place.
        workers = self._llm.concurrency + self._llm.concurrency // 4
        self._workers = [asyncio.create_task(self._work(pull)) for _ in range(workers)]
        try:
            await asyncio.wait(self._workers)
        finally:
            for worker in self._workers:
                worker.cancel()
        if self._error is None:
            await self._end_unreached()
        if self._error is None:
            await self._end_refused()
        if self._error is not None:
            raise self._error

    @property
    def throttling(self) -> str | None:
        """How the provider slows the run; None while it does not."""
        return self._gate.throttling()

    def stop(self, error: BaseException | None = None) -> None:
        """Make no further call; calls in flight may still be answered."""
        if error is not None and self._error is None:
            self._error = error
        self._caller.stopping = True
        for worker in self._workers:
            if worker in self._caller.idle:
                worker.cancel()

    def abort(self) -> None:
        """Cancel the calls in flight, too."""
        self._caller.stopping = True
        for worker in self._workers:
            worker.cancel()

    # -- a worker ---------------------------------------------------------------------------------------------------

    async def _work(self, pull: Callable[[], Awaitable[Group | None]]) -> None:
        try:
            while not self._caller.stopping:
                with self._caller.waiting():
                    group = await pull()
                if group is None:
                    return
                # Parts of a group that must be asked again wait here, so that nothing recurses.
                todo: deque[Group] = deque([[case] for case in group] if self._apart else [group])
                while todo:
                    cases = todo.popleft()
                    if len(cases) == 1:
                        await self._alone(cases[0])
                    else:
                        todo.extendleft(reversed(await self._together(cases)))
        except (StoppedError, asyncio.CancelledError):
            return
        except Exception as error:  # noqa: BLE001 - handed to whoever started the run
            self.stop(error)

    @property
    def _apart(self) -> bool:
        """Whether this model has shown that it cannot answer about several at once."""
        return self._in_vain >= _IN_VAIN and not self._together_works

    def _vain(self) -> None:
        self._in_vain += 1
        if self._apart and self._in_vain == _IN_VAIN:
            _log.warning(
                "%d requests about several entities brought no profile at all: each entity is asked about alone from "
                "here on; [llm] items_per_request = 1 saves these calls",
                _IN_VAIN,
            )

    async def _alone(self, case: EntityTask) -> None:
        while True:
            try:
                paid = await self._caller.call(
                    request_about([case], self._llm),
                    hashes=(case.input_hash,),
                    ids=None,
                    attempt=case.answer_count + 1,
                    template=case.ask.template.version,
                )
            except ProviderError as error:
                await self._no_answer(case, error)
                return
            await self._got_through()
            verdict = case.receive(paid)
            if verdict == "valid":
                await self._answered(case)
                return
            if verdict != "ask_again":
                await self._failed(case, case.error, False)
                return

    async def _together(self, cases: Group) -> list[Group]:
        """Ask about several at once; gives the groups that are to be asked again."""
        try:
            paid = await self._caller.call(
                request_about(cases, self._llm),
                hashes=tuple(case.input_hash for case in cases),
                ids=tuple(case.key.id for case in cases),
                attempt=max(case.answer_count for case in cases) + 1,
                template=cases[0].ask.template.version,
            )
        except ProviderError as error:
            if isinstance(error, RequestError | DeadlineError) and not _absent(error):
                self._vain()
                return _halves(cases)
            self._raise_if_fatal(error)
            for case in cases:
                await self._not_reached(case, error)
            return []
        await self._got_through()
        again_together: Group = []
        again_alone: list[Group] = []
        for place, case in enumerate(cases):
            verdict = case.receive(paid._replace(place=place))
            if verdict == "valid":
                self._together_works = True
                await self._answered(case)
            elif verdict != "ask_again":
                await self._failed(case, case.error, False)
            elif case.invalid_answers:
                again_alone.append([case])
            else:
                again_together.append(case)
        if len(again_together) == len(cases):
            self._vain()
            return _halves(again_together)
        return [*([again_together] if again_together else []), *again_alone]

    # -- no answer --------------------------------------------------------------------------------------------------

    def _raise_if_fatal(self, error: ProviderError) -> None:
        """Stop the run where no single entity is at fault."""
        if isinstance(error, AuthenticationError) or not (isinstance(error, RequestError) or is_transient(error)):
            raise error
        if isinstance(error, RequestError) and _absent(error):
            raise error
        if is_transient(error):
            self._gate.exhausted(error)

    async def _no_answer(self, case: EntityTask, error: ProviderError) -> None:
        self._raise_if_fatal(error)
        if not isinstance(error, RequestError):
            await self._not_reached(case, error)
        elif self._any_answer:
            await self._failed(case, str(error), False)
        else:
            # Until something is answered, it is not known whether this entity or the settings are at fault.
            self._refused.append((case, error))
            if len(self._refused) >= _ALL_REFUSED:
                raise self._all_refused()

    async def _not_reached(self, case: EntityTask, error: ProviderError) -> None:
        """Leave a case to another run; but while no call got through, wait: the whole run may be at fault."""
        if self._any_answer:
            await self._failed(case, str(error), True)
        else:
            self._unreached.append((case, error))

    async def _end_unreached(self) -> None:
        """Where nothing at all got through, the run has failed, and nobody is in quarantine for it."""
        if self._unreached and not self._any_answer and not self._refused:
            error = self._unreached[-1][1]
            self._error = CircuitOpenError(
                f"nothing got through to the LLM: {error.message}",
                hint=error.hint or "nothing is in quarantine for it; run again when the provider answers",
            )
        else:
            await self._flush_unreached()

    async def _flush_unreached(self) -> None:
        unreached, self._unreached = self._unreached, []
        for case, error in unreached:
            await self._failed(case, str(error), True)

    async def _got_through(self) -> None:
        if self._any_answer:
            return
        self._any_answer = True
        await self._flush_unreached()
        await self._flush_refused()

    async def _flush_refused(self) -> None:
        refused, self._refused = self._refused, []
        for case, error in refused:
            await self._failed(case, str(error), False)

    async def _end_refused(self) -> None:
        if len(self._refused) > 1 and len({str(error) for _, error in self._refused}) == 1:
            self._error = self._all_refused()
        else:
            await self._flush_refused()

    def _all_refused(self) -> RequestError:
        error = self._refused[0][1]
        return RequestError(
            f"the provider refused all of the first {len(self._refused)} requests: {error.message}",
            hint=error.hint or "the fault seems to be in the settings, not in the entities; see [llm]",
            status=error.status,
        )


def _absent(error: ProviderError) -> bool:
    """Whether the model or the endpoint is not there: then no entity is to blame."""
    return error.status in (404, 405) or bool(_ABSENT.search(error.message))


def _halves(cases: Group) -> list[Group]:
    middle = (len(cases) + 1) // 2
    return [cases[:middle], cases[middle:]]
