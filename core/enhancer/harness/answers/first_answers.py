"""Notice that a run is in vain: most of its first answers are not valid, and asking again does not help."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enhancer.errors import FutileRunError

if TYPE_CHECKING:
    from enhancer.harness.answers.entity_task import AnswerStatus, EntityTask

_MIN_ANSWERS = 20
"""Number of answers before which no run is in vain."""
_MIN_HOPELESS = 5
"""Number of answers that must have been the last about their note, or not valid although one before was not."""
_FEW = 20
"""Notes up to which two thirds of them must be without a valid answer, and not just most."""
_DEAR = 20
"""Multiple of the expected completion tokens from which answers without a valid one among them are in vain."""
_MIN_DEAR = 3
"""Number of notes before which no run is in vain for its tokens."""
_SHOWN = 300
"""Length of the reason that is shown."""
_WEAK = (
    "the model may be too weak for the prompt, or [llm] structured not what it supports: try another on a few items"
    " by `enhancer generate --limit 20`; --keep-going goes on regardless"
)
_CUT_OFF = (
    "raise [llm] max_tokens; if the tokens go into thought, give it more room by thought_tokens, or less of it by"
    " reasoning_effort; --keep-going goes on regardless"
)
_REFUSES = "choose another model or prompt; --keep-going goes on regardless"


@dataclass(slots=True)
class _Tally:
    """Counts of the notes of one prompt."""

    answers: int = 0
    valid: int = 0
    tokens: int = 0
    lost: int = 0
    open: set[str] = field(default_factory=set)
    """Input hashes of notes whose last answer was not valid, and that are asked for again."""
    hopeless: int = 0
    helped: int = 0
    """Notes with a valid answer after one that was not."""
    refused: int = 0
    cut_off: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def bad(self) -> int:
        return self.lost + len(self.open)


class FirstAnswers:
    """Counts valid and other answers of one run, by prompt.

    Args:
        re_asks: Whether a run is in vain only once answers to re-asks are known. Otherwise, as for batch jobs, whose
            re-asks would be for all of them at once, the first answers alone decide.
        expected_tokens: Completion tokens that a note is expected to take. A run is also in vain once answers without a
            valid one among them have taken 20 times as many, and a note was given up. None for no such limit.
    """

    def __init__(self, *, re_asks: bool = True, expected_tokens: float | None = None) -> None:
        self._re_asks = re_asks
        self._expected_tokens = expected_tokens
        self._tallies: dict[str, _Tally] = {}

    def count(self, version: str, task: EntityTask, status: AnswerStatus) -> None:
        """Count an answer about a note.

        Args:
            version: Version of the prompt.
            task: The note, which has received the answer.
            status: Result of receiving it.
        """
        if not self._re_asks and status == "ask_again" and task.cut_offs == 1 and not task.invalid_answers:
            return  # the next request allows more tokens
        tally = self._tallies.setdefault(version, _Tally())
        tally.answers += 1
        again = task.input_hash in tally.open
        if status == "valid":
            tally.valid += 1
            tally.helped += again
            tally.open.discard(task.input_hash)
            return
        tally.hopeless += again or status != "ask_again"
        tally.refused += status == "refused"
        tally.cut_off += task.cut_offs > 0 and not task.invalid_answers
        tally.reasons[task.error[:_SHOWN]] += 1
        if status == "ask_again":
            tally.open.add(task.input_hash)
        else:
            tally.open.discard(task.input_hash)
            tally.lost += 1

    def spend(self, version: str, tokens: int) -> None:
        """Count the completion tokens of an answer.

        Args:
            version: Version of the prompt.
            tokens: The tokens.
        """
        self._tallies.setdefault(version, _Tally()).tokens += tokens

    def _is_dear(self, tally: _Tally) -> bool:
        if self._expected_tokens is None or tally.valid or not tally.lost or tally.bad < _MIN_DEAR:
            return False
        return tally.tokens >= _DEAR * self._expected_tokens * tally.bad

    def check(self, version: str) -> None:
        """Raise an error if the run is in vain.

        Raises:
            FutileRunError: Most of the first answers are not valid.
        """
        tally = self._tallies.get(version)
        if tally is None:
            return
        judged = tally.valid + tally.bad
        dear = self._is_dear(tally)
        if not dear:
            if tally.answers < _MIN_ANSWERS:
                return
            if 3 * tally.bad < 2 * judged if judged < _FEW else 2 * tally.bad <= judged:
                return
            if self._re_asks and (tally.hopeless < _MIN_HOPELESS or tally.hopeless <= tally.helped):
                return
        reason, _ = tally.reasons.most_common(1)[0]
        hint = _WEAK
        if 2 * tally.refused > tally.bad:
            hint = _REFUSES
        elif 2 * tally.cut_off > sum(tally.reasons.values()):
            hint = _CUT_OFF
        spent = f" of {tally.tokens:,} completion tokens, far more than profiles take" if dear else ""
        raise FutileRunError(
            f"stopped after {tally.answers} answers{spent}: {tally.bad} of the first {judged} notes have no valid one"
            f" (most often: {reason})",
            hint=hint,
        )

    def check_all(self) -> None:
        """Raise an error if the run is in vain for any of its prompts; see :meth:`check`."""
        for version in self._tallies:
            self.check(version)
