"""Notice that a run is in vain: most of its first answers are not valid, and asking again does not help."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from enhancer.errors import FutileRunError

if TYPE_CHECKING:
    from enhancer.harness.answers.entity_task import AnswerStatus

_MIN_ANSWERS = 20
"""Number of answers before which no run is in vain."""
_MIN_WITHOUT_ANY = 8
"""Number of notes from which a run is in vain without any valid answer, however few answers there are."""
_PROVEN = 8
"""Number of valid answers that prove that the model can answer, unless most notes have none."""
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
    " by `enhancer generate --limit 20`"
)
_CUT_OFF = (
    "raise [llm] max_tokens; if the tokens go into thought, give it more room by thought_tokens, or less of it by"
    " reasoning_effort"
)
_REFUSES = "choose another model or prompt"
KEEP_GOING = "; --keep-going goes on regardless"
"""End of the hint, for commands that have the option."""


class Asked(Protocol):
    """A note or a question, which is asked until it has a valid answer."""

    input_hash: str
    cut_offs: int
    """Number of answers that were cut off."""
    invalid_answers: int
    error: str
    """Error of the last answer."""


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
        noun: What is asked, in the plural.
        lenient: Whether a run is in vain only without any valid answer.
        way_on: What the hint says about going on regardless.
    """

    def __init__(
        self,
        *,
        re_asks: bool = True,
        expected_tokens: float | None = None,
        noun: str = "notes",
        lenient: bool = False,
        way_on: str = KEEP_GOING,
    ) -> None:
        self._re_asks = re_asks
        self._noun = noun
        self._lenient = lenient
        self._way_on = way_on
        self._stopped_by = ""
        self._expected_tokens = expected_tokens
        self._tallies: dict[str, _Tally] = {}

    def count(self, version: str, task: Asked, status: AnswerStatus) -> None:
        """Count an answer about a note.

        Args:
            version: Version of the prompt.
            task: The note or question, which has received the answer.
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

    def is_proven(self, version: str) -> bool:
        """Check whether the model has shown that it can answer a prompt.

        Args:
            version: Version of the prompt.
        """
        tally = self._tallies.get(version)
        return tally is not None and tally.valid >= _PROVEN and tally.bad <= tally.valid

    def check(self, version: str, calls: int | None = None) -> None:
        """Raise an error if the run is in vain.

        Args:
            version: Version of the prompt.
            calls: Calls of the run that were answered, for the message; :meth:`error` tells those at its end.

        Raises:
            FutileRunError: Most of the first answers are not valid.
        """
        tally = self._tallies.get(version)
        if tally is not None and self._is_in_vain(tally):
            self._stopped_by = version
            raise self.error(calls)

    def check_all(self, calls: int | None = None) -> None:
        """Raise an error if the run is in vain for any of its prompts; see :meth:`check`."""
        for version in self._tallies:
            self.check(version, calls)

    def error(self, calls: int | None = None) -> FutileRunError:
        """Return the error of the run that :meth:`check` has found in vain, with the counts of now.

        Args:
            calls: Calls of the run that were answered; by default, answers about notes are told.
        """
        tally = self._tallies[self._stopped_by]
        judged = tally.valid + tally.bad
        reason, _ = tally.reasons.most_common(1)[0]
        hint = _WEAK
        if 2 * tally.refused > tally.bad:
            hint = _REFUSES
        elif 2 * tally.cut_off > sum(tally.reasons.values()):
            hint = _CUT_OFF
        answered = f"{tally.answers:,} answers" if calls is None else f"{calls:,} answered calls"
        spent = f" of {tally.tokens:,} completion tokens, far more than answers take" if self._is_dear(tally) else ""
        return FutileRunError(
            f"stopped after {answered}{spent}: {tally.bad:,} of the first {judged:,} {self._noun} have no valid one"
            f" (most often: {reason})",
            hint=f"{hint}{self._way_on}",
        )

    def _is_in_vain(self, tally: _Tally) -> bool:
        if self._is_dear(tally):
            return True
        if self._lenient and tally.valid:
            return False
        judged = tally.valid + tally.bad
        if tally.answers < _MIN_ANSWERS and (tally.valid or judged < _MIN_WITHOUT_ANY):
            return False
        if 3 * tally.bad < 2 * judged if judged < _FEW else 2 * tally.bad <= judged:
            return False
        return not self._re_asks or (tally.hopeless >= _MIN_HOPELESS and tally.hopeless > tally.helped)

    def _is_dear(self, tally: _Tally) -> bool:
        if self._expected_tokens is None or tally.valid or not tally.lost or tally.bad < _MIN_DEAR:
            return False
        return tally.tokens >= _DEAR * self._expected_tokens * tally.bad
