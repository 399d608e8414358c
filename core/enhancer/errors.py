"""Exceptions that enhancer raises for reasons that a user can act on.

::

    EnhancerError                      exit 1
    ├── ConfigError                    exit 2   wrong setting, flag, or file named by a setting
    │   ├── PluginError                         unknown, ambiguous, broken or unavailable plugin
    │   └── FusionError                         fuser and backbone that cannot work together
    ├── DataError                      exit 1   invalid content of a data file
    ├── ProviderError                  exit 1   failed LLM call
    │   ├── AuthenticationError        exit 2   missing or rejected API key: every call will fail
    │   ├── RequestError                        request rejected (400, 404, 413, 422): never retried
    │   ├── RateLimitError                      429; may carry ``retry_after``
    │   ├── ServerError                         5xx or invalid response; may carry ``retry_after``
    │   ├── ConnectionFailedError               connection refused or reset, DNS failure
    │   └── DeadlineError                       total deadline of a call passed
    ├── EmbedderError                  exit 1   the embedder failed, whatever the text
    ├── CircuitOpenError               exit 1   all recent calls failed: the run stops
    ├── FutileRunError                 exit 1   most of the first answers are not valid: the run stops
    ├── BudgetError                    exit 4   the next call could exceed ``max_cost``
    ├── StoreError                     exit 1
    │   ├── StoreCorruptError                   damaged file or record
    │   └── StoreMismatchError                  vectors of another embedder or dimension
    ├── ArtifactError                  exit 1   serving artifact that cannot be read
    ├── ExportError                    exit 1   target of an export that failed, or cannot hold the rows
    └── EvaluationError                exit 1   experiment that cannot be evaluated
        ├── DivergenceError                     training loss that became NaN or infinite
        └── MemoryLimitError                    training that needs more memory than there is

The command line prints the message of each and exits with its code; ``hint`` says what to do next.

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


NOT_FINITE_HINT = "training diverged: lower the backbone's learning rate, or raise its regularisation"
"""Hint about factors that are not finite. A backbone in closed form has no learning rate, but a regularisation."""


class EnhancerError(Exception):
    """Base class of all exceptions that enhancer raises on purpose.

    Args:
        message: Description of the problem and its place.
        hint: Suggested next step, as a phrase that can follow the message.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.report: Any = None
        """Work done before a run stopped (a ``GenerationReport``); None if there is none."""

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ConfigError(EnhancerError):
    """A setting, a flag, or a file named by a setting is wrong."""

    exit_code = 2


class PluginError(ConfigError):
    """A plugin is unknown, ambiguous or broken, or its extra is not installed."""


class FusionError(ConfigError):
    """A fuser and a backbone cannot work together."""

    accepts: tuple[frozenset[str], ...] = ()
    """Offers of each backbone in question to fusers, if they are less than the fuser needs."""


class DataError(EnhancerError):
    """A data file has invalid content; the message names file, row and column."""


class ProviderError(EnhancerError):
    """An LLM call failed."""

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        """Seconds to wait, as requested by the provider; None if it requested nothing."""
        self.status = status
        """HTTP status of the response; None if there was no response."""


class AuthenticationError(ProviderError):
    """The API key is missing or was rejected; every call will fail."""

    exit_code = 2


class RequestError(ProviderError):
    """The provider rejected the request; sending it again cannot succeed."""


class RateLimitError(ProviderError):
    """The provider's limit on requests or tokens was exceeded."""


class ServerError(ProviderError):
    """The provider failed, or its response was not valid HTTP and JSON."""


class ConnectionFailedError(ProviderError):
    """The connection could not be opened, or broke."""


class DeadlineError(ProviderError):
    """The total deadline of a call passed."""


class EmbedderError(EnhancerError):
    """The embedder failed, whatever the text; the message names it. A text that it refuses is quarantined instead."""


class CircuitOpenError(EnhancerError):
    """All recent calls failed; the run stops instead of waiting indefinitely."""


class FutileRunError(EnhancerError):
    """Most of the first answers are not valid; the run stops before it has paid for the rest."""


class BudgetError(EnhancerError):
    """The next call could cost more than the remainder of ``max_cost``."""

    exit_code = 4


class StoreError(EnhancerError):
    """An operation of the feature store failed."""


class StoreCorruptError(StoreError):
    """A file or a record of the store is damaged."""


class StoreMismatchError(StoreError):
    """The store holds vectors of another embedder or dimension."""


class ExportError(EnhancerError):
    """The target of an export failed, or cannot hold the rows."""


class ArtifactError(EnhancerError):
    """A serving artifact is missing, damaged or of an unknown version."""


class EvaluationError(EnhancerError):
    """An experiment cannot be evaluated as configured."""


class DivergenceError(EvaluationError):
    """The training loss became NaN or infinite. In a hyper-parameter search only the trial fails."""


class MemoryLimitError(EvaluationError):
    """Training would need more memory than is available. In a hyper-parameter search only the trial fails."""


_LISTED = 20
"""Maximum number of names in a hint: a catalogue may have millions of ids."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return a hint that names the nearest known word, or else lists the known words; None if there are none.

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
        return f"known: {', '.join(words[:_LISTED])}, … ({len(words):,} in total)"
    return f"known: {', '.join(words)}" if words else None
