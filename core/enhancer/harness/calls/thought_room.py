"""Give models that think room for it: tokens on top of those of the answer, which ``[llm] max_tokens`` limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.llm import Completion, LLMProvider, Request
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.harness.journal.journal import ObservedUsage

MAX_ROOM = 32_768
"""Largest number of tokens for thought that are given without being configured."""
MAX_CUT_OFFS = 3
"""Number of answers cut off for want of tokens after which a note is not asked for again."""
_MAX_TRIALS = 2
"""Number of calls in flight with more room than any valid answer had."""
_AMPLE = 2
"""Room, as a multiple of the longest thought that was seen to its end."""
_CUT = 4
"""Room, as a multiple of a thought that was cut off."""


class _Effort(NamedTuple):
    room: int
    typical: int
    """Tokens of thought before a profile, until there are observations."""


_USUAL = _Effort(8192, 800)
_EFFORTS = {
    "none": _Effort(0, 0),
    "minimal": _Effort(2048, 100),
    "low": _Effort(4096, 300),
    "medium": _USUAL,
    "high": _Effort(16_384, 2500),
    "xhigh": _Effort(MAX_ROOM, 5000),
    "max": _Effort(MAX_ROOM, 8000),
}


class Trial(NamedTuple):
    """Room of a call in flight."""

    tokens: int
    counts: bool
    """Whether no valid answer had as much so far."""


class ThoughtRoom:
    """Room for thought in the requests of a run. For one event loop.

    A model that is known to think gets it from the first request. Another one gets it as soon as an answer, of this run
    or in the journal, shows that it thinks. The room is no part of the cache key: it changes whether there is an
    answer, not which.

    A room that has grown after answers that were cut off is tried by few calls at a time until one of them has a valid
    answer. First requests keep the former room meanwhile if that has led to valid answers, and wait otherwise.

    Args:
        tokens: ``[llm] thought_tokens``.
        effort: ``[llm] reasoning_effort``.
        thinks: Whether the model thinks; None if unknown.
        observed: Earlier calls of the model.
    """

    def __init__(
        self,
        tokens: int | Literal["auto"] = "auto",
        *,
        effort: str | None = None,
        thinks: bool | None = None,
        observed: ObservedUsage | None = None,
    ) -> None:
        self._configured = None if tokens == "auto" else tokens
        self._effort = _EFFORTS.get(effort or "", _USUAL)
        self._tokens = self._effort.room if thinks and self._configured is None else self._configured or 0
        self._seen = self._completion_tokens = 0
        self._proven = self._tokens
        """Largest room that needs no trial."""
        self._worked = observed is not None and observed.calls > 0
        self._trials = 0
        self._waiting: list[asyncio.Future[None]] = []
        if observed is not None:
            self._fit(observed.longest_thought, cut_off=False)
            self._fit(observed.longest_cut_thought, cut_off=True)
            if observed.longest_cut_thought < observed.longest_thought:
                self._proven = self._tokens  # the thought that was cut off has come to its end since

    @classmethod
    def of(cls, provider: LLMProvider, llm: LLMConfig, observed: ObservedUsage | None = None) -> ThoughtRoom:
        """Return the room of the configured model.

        Args:
            provider: The provider.
            llm: ``[llm]``.
            observed: Earlier calls of the model.
        """
        return cls(
            llm.thought_tokens, effort=llm.reasoning_effort, thinks=model_thinks(provider, llm), observed=observed
        )

    def tokens(self, cut_offs: int = 0) -> int:
        """Return the room of a request.

        Args:
            cut_offs: Number of answers to the same request that were cut off. Without a configured room, what they
                need was learned from them.
        """
        if self._configured is not None:
            return self._tokens << cut_offs
        return min(self._tokens, self._proven) if self._worked and cut_offs == 0 else self._tokens

    def needs_trial(self, cut_offs: int) -> bool:
        """Check whether a request has more room than any valid answer had, and should be one of few at first.

        Args:
            cut_offs: Number of answers to the same request that were cut off.
        """
        return self.tokens(cut_offs) > self._proven

    def enter_now(self, cut_offs: int) -> Trial | None:
        """Begin a call; None if it must wait for the trials of a larger room. :meth:`leave` must follow.

        Args:
            cut_offs: Number of answers to the same request that were cut off.
        """
        tokens = self.tokens(cut_offs)
        counts = self.needs_trial(cut_offs)
        if counts and self._trials >= _MAX_TRIALS:
            return None
        self._trials += counts
        return Trial(tokens, counts)

    async def enter(self, cut_offs: int) -> Trial:
        """Begin a call, as :meth:`enter_now`, but wait."""
        while (trial := self.enter_now(cut_offs)) is None:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        return trial

    def leave(self, trial: Trial, *, valid: bool) -> None:
        """End a call.

        Args:
            trial: Its room.
            valid: Whether it has led to a valid answer.
        """
        self._trials -= trial.counts
        if valid:
            self._worked = True
            self._proven = max(self._proven, trial.tokens)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def expected_completion(self, request: Request) -> float:
        """Return the completion tokens that a call is expected to take, for limits on tokens per minute."""
        limit = request.max_tokens or 0
        return limit / 3 if self._seen == 0 else min(limit, self._completion_tokens / self._seen)

    def saw(self, completion: Completion) -> None:
        """Learn from an answer how much the model thinks."""
        if completion.completion_tokens is not None:
            self._seen += 1
            self._completion_tokens += completion.completion_tokens
        self._fit(
            completion.reasoning_tokens or 0, cut_off=completion.finish_reason == "length" and is_thought(completion)
        )

    def _fit(self, thought: int, *, cut_off: bool) -> None:
        if thought <= 0 or self._configured is not None:
            return
        needed = max(_CUT * thought, self._effort.room or _USUAL.room) if cut_off else _AMPLE * thought
        self._tokens = max(self._tokens, min(needed, MAX_ROOM))
        if not cut_off:
            self._proven = max(self._proven, min(needed, MAX_ROOM))


def is_thought(answer: Completion | PaidAnswer) -> bool:
    """Return whether an answer is thought for the most part."""
    return 2 * (answer.reasoning_tokens or 0) >= max(answer.completion_tokens or 0, 1)


def is_last_cut_off(answer: PaidAnswer, cut_offs: int) -> bool:
    """Return whether asking again after an answer that was cut off would be in vain.

    Args:
        answer: The answer.
        cut_offs: Number of answers to the same request that were cut off, this one included.
    """
    return cut_offs >= MAX_CUT_OFFS or (is_thought(answer) and (answer.completion_tokens or 0) >= MAX_ROOM)


def cut_off_reason(answer: PaidAnswer) -> str:
    """Return why an answer that was cut off cannot be used."""
    used = "" if answer.completion_tokens is None else f" after {answer.completion_tokens:,} tokens"
    if is_thought(answer):
        told = ", nearly all of them thought"
        if not answer.text.strip() and answer.reasoning_tokens == answer.completion_tokens:
            told = " without any text, as of a model that thinks"  # the server may not have told so
        return (
            f"the answer was cut off{used}{told}: give more room by [llm] max_tokens or thought_tokens, or have the"
            " model think less by reasoning_effort"
        )
    if answer.text and not answer.text.strip():
        return (
            f"the answer was cut off{used}, all of them blanks: the server's way of enforcing the schema may not suit"
            ' the model; try [llm] structured = "json_object" or "none"'
        )
    if not answer.text:
        return f"the answer was cut off{used} without any text: the model's context may be too small for the prompt"
    return f"the answer was cut off{used}: raise [llm] max_tokens, or the context that the server gives the model"


def model_thinks(provider: LLMProvider, llm: LLMConfig) -> bool | None:
    """Return whether the configured model thinks before it answers; None if unknown."""
    if llm.reasoning_effort is None:
        return provider.thinks(llm.model)
    return llm.reasoning_effort != "none"


def typical_thought(effort: str | None) -> int:
    """Return the tokens of thought before a profile, for a model without observations.

    Args:
        effort: ``[llm] reasoning_effort``.
    """
    return _EFFORTS.get(effort or "", _USUAL).typical
