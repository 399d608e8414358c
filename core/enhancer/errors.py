"""Every error that enhancer raises for a reason a user can act on.

::

    EnhancerError                      exit 1
    ├── ConfigError                    exit 2   a setting, a flag, a file that a setting names
    │   ├── PluginError                         unknown, ambiguous, broken or unavailable plugin
    │   └── FusionError                         a fuser and a backbone that cannot work together
    ├── DataError                      exit 1   what a data file holds
    ├── ProviderError                  exit 1   an LLM call that failed
    │   ├── AuthenticationError        exit 2   missing or refused key: nothing will get through
    │   ├── RequestError                        this very request is refused (400, 404, 413, 422): never retried
    │   ├── RateLimitError                      429; may carry ``retry_after``
    │   ├── ServerError                         5xx, broken bodies; may carry ``retry_after``
    │   ├── ConnectionFailedError               refused, reset, DNS
    │   └── DeadlineError                       the call's total deadline passed
    ├── CircuitOpenError               exit 1   nothing gets through: the run stops
    ├── BudgetError                    exit 4   the next call could pass ``max_cost``
    ├── StoreError                     exit 1
    │   ├── StoreCorruptError                   a file or record that is not what was written
    │   └── StoreMismatchError                  vectors of another embedder or dimension
    ├── ArtifactError                  exit 1   a serving artifact that cannot be read
    └── EvaluationError                exit 1   an experiment that cannot be judged
        └── DivergenceError                     a training run whose loss is no longer a number

The command line turns each into one message and its exit code; ``hint`` says what to do next.

    >>> error = ConfigError("unknown store 'lmbd'", hint="did you mean 'lmdb'?")
    >>> print(error)
    unknown store 'lmbd'; did you mean 'lmdb'?
    >>> error.exit_code
    2
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable


class EnhancerError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What is wrong, and where.
        hint: What to do next, as a phrase that can follow the message.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.report: Any = None
        """What had been done before a run stopped (a ``GenerationReport``), where there is something to tell."""

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ConfigError(EnhancerError):
    """A setting, a flag, or a file that a setting names, is wrong."""

    exit_code = 2


class PluginError(ConfigError):
    """A plugin is unknown, ambiguous, broken or lacks its extra."""


class FusionError(ConfigError):
    """This fuser and this backbone cannot work together."""


class DataError(EnhancerError):
    """A data file holds something that cannot be used; the message names file, row and column."""


class ProviderError(EnhancerError):
    """An LLM call failed."""

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        """Seconds that the provider asked us to wait, or None."""
        self.status = status
        """HTTP status of the answer, where there was one."""


class AuthenticationError(ProviderError):
    """The key is missing or refused: no call will get through."""

    exit_code = 2


class RequestError(ProviderError):
    """The provider refuses this very request; sending it again cannot help."""


class RateLimitError(ProviderError):
    """Too many requests or tokens."""


class ServerError(ProviderError):
    """The provider failed, or its answer was not HTTP and JSON as agreed."""


class ConnectionFailedError(ProviderError):
    """No connection, or one that broke."""


class DeadlineError(ProviderError):
    """The call's total deadline passed."""


class CircuitOpenError(EnhancerError):
    """Nothing has got through for a while; the run stops rather than wait for ever."""


class BudgetError(EnhancerError):
    """The next call could cost more than what is left of ``max_cost``."""

    exit_code = 4


class StoreError(EnhancerError):
    """The feature store cannot do what was asked."""


class StoreCorruptError(StoreError):
    """A file or a record is not what was written."""


class StoreMismatchError(StoreError):
    """The store holds vectors of another embedder or dimension."""


class ArtifactError(EnhancerError):
    """A serving artifact is missing, damaged or of an unknown version."""


class EvaluationError(EnhancerError):
    """An experiment cannot be judged as asked."""


class DivergenceError(EvaluationError):
    """Training ran away: its loss is no longer a number. As a trial of a search it is a bad trial and no more."""


_LISTED = 20
"""Names that a hint lists at most: ids of a catalogue are many."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Name the nearest known word, as a hint.

    >>> did_you_mean("lmbd", ["sqlite", "lmdb"])
    "did you mean 'lmdb'?"
    >>> did_you_mean("zzz", ["b", "a"])
    'known: a, b'
    >>> did_you_mean("zzz", []) is None
    True
    """
    words = sorted(set(known))
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    if len(words) > _LISTED:
        return f"known: {', '.join(words[:_LISTED])}, … ({len(words):,} in all)"
    return f"known: {', '.join(words)}" if words else None
