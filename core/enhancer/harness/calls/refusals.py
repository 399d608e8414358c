"""Tell refusals of single texts from those that concern all calls.

Once the provider has answered, a refusal belongs to the text that it is about: a content filter, or a limit on its
length. Before, and after many refusals in a row, the settings or the key are the likelier cause. Refused entities are
held back until that is known.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Generic, TypeVar

from enhancer.errors import AuthenticationError, ProviderError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")
MAX_AT_START = 5
"""Number of refusals before the first answer that stop a run."""
MAX_IN_ROW = 10
"""Number of refusals without an answer in between that stop a run."""
_MODEL_NOT_FOUND = re.compile(r"model[^.]{0,80}(?:not found|does not exist|not exist)", re.IGNORECASE)


def is_refusal(error: ProviderError) -> bool:
    """Check whether an error may be about the text of the request alone."""
    return isinstance(error, RequestError) or is_denial(error)


def is_denial(error: ProviderError) -> bool:
    """Check whether the provider denies access, to a text or to everything: status 403."""
    return isinstance(error, AuthenticationError) and error.status == HTTPStatus.FORBIDDEN


def refusal_reason(message: str) -> str:
    """Return the reason of an entity whose text was refused, for the quarantine.

    Args:
        message: Message of the error. Its hint, such as to check the API key, is no part of it: other texts are
            answered.
    """
    return f"the provider refused this text: {message}"


def model_not_found(error: ProviderError) -> bool:
    """Check whether the model or the endpoint seems not to exist."""
    return error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED) or bool(
        _MODEL_NOT_FOUND.search(error.message)
    )


class Refusals(Generic[T]):
    """Requests that were refused since the last answer, in the order in which requests were sent.

    Calls in flight come back in any order, and refusals sooner than answers. A refusal is therefore held back until a
    later request is answered, and refusals stop the run once no earlier request may still be answered.

    Args:
        in_flight: Largest number of calls in flight.
        keep_going: Whether texts are refused however many are in a row, as long as access is not denied.
        overruled: Whether the command has the option ``--keep-going``, for the hint.

    Attributes:
        any_answer: Whether any call was answered.
    """

    def __init__(self, in_flight: int, *, keep_going: bool = False, overruled: bool = True) -> None:
        self.any_answer = False
        self._in_flight = in_flight
        self._keep_going = keep_going
        self._overruled = overruled
        self._sent = 0
        self._open: set[int] = set()
        self._held: list[tuple[int, T, ProviderError]] = []
        self._denied_groups = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[T]:
        return (subject for _, subject, _ in self._held)

    def send(self) -> int:
        """Return the number of a request that is about to be sent."""
        self._sent += 1
        self._open.add(self._sent)
        return self._sent

    def answered(self, number: int) -> list[tuple[T, ProviderError]]:
        """Count an answer; return what was refused before it was asked for, for good."""
        self.any_answer = True
        self._open.discard(number)
        if not self._held:
            return []
        refused = [(subject, error) for sent, subject, error in self._held if sent < number]
        self._held = [held for held in self._held if held[0] > number]
        return [*refused, *self._decide()]

    def unanswered(self, number: int) -> list[tuple[T, ProviderError]]:
        """Count a call that was neither answered nor refused; return what is refused for good.

        Raises:
            ProviderError: The refusals concern all calls.
        """
        self._open.discard(number)
        return self._decide()

    def add(self, number: int, subject: T, error: ProviderError) -> list[tuple[T, ProviderError]]:
        """Hold what was refused; return what is refused for good.

        Raises:
            ProviderError: The refusals concern all calls. What is held is refused for another reason than its text.
        """
        self._open.discard(number)
        self._held.append((number, subject, error))
        return self._decide()

    def add_group(self, number: int, error: ProviderError) -> None:
        """Count a request about several entities that was refused; they are asked about in smaller groups.

        Raises:
            ProviderError: Access was denied to all of the first groups.
        """
        self._open.discard(number)
        self._denied_groups += is_denial(error)
        if not self.any_answer and self._denied_groups >= MAX_AT_START:
            raise error

    def release(self) -> list[tuple[T, ProviderError]]:
        """Return all that is held, and hold it no longer."""
        held, self._held = self._held, []
        return [(subject, error) for _, subject, error in held]

    def at_end(self) -> list[tuple[T, ProviderError]]:
        """Return what is refused for good at the end of a run.

        Raises:
            ProviderError: Nothing was answered, and all was refused for the same reason, or access was denied.
        """
        if self._held and not self.any_answer:
            reasons = {error.message for _, _, error in self._held}
            if (len(self._held) > 1 and len(reasons) == 1) or all(is_denial(error) for _, _, error in self._held):
                raise self._stopped()
        return self.release()

    def _decide(self) -> list[tuple[T, ProviderError]]:
        limit = MAX_IN_ROW if self.any_answer else MAX_AT_START
        if len(self._held) < limit:
            return []
        if self._keep_going and not is_denial(self._held[-1][2]):
            return self.release()
        # At the start, what is in flight besides tells nothing yet, and would only be refused too.
        decisive = sorted(number for number, _, _ in self._held)[limit - 1 if self.any_answer else 0]
        if len(self._held) < limit + self._in_flight and min(self._open, default=decisive) < decisive:
            return []  # an earlier request may still be answered
        raise self._stopped()

    def _stopped(self) -> ProviderError:
        error = self._held[-1][2] if self.any_answer else self._held[0][2]
        count = len(self._held)
        if self.any_answer:
            message = f"the provider refused {count} requests in a row, with no answer in between: {error.message}"
            hint = "nothing was quarantined for it"
            if self._overruled:
                hint += "; if these texts are at fault and not the account, use --keep-going"
        else:
            message = f"the provider refused all of the first {count} requests: {error.message}"
            hint = "the cause seems to be the settings, not the entities; check [llm]"
        if is_denial(error) and self.any_answer:
            hint = f"{error.hint or 'check the API key'}: it may have been revoked"
        else:
            hint = error.hint or hint
        stopped = type(error)(message, hint=hint, status=error.status)
        stopped.__cause__ = error
        return stopped
