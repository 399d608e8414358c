"""Define the settings of the service and their defaults.

Imports nothing heavy, because ``enhancer serve --help`` shows them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from enhancer.errors import ConfigError

HOST: Final = "127.0.0.1"
"""Address to bind."""
PORT: Final = 8080
"""Port to bind; 0 lets the system choose."""
WATCH: Final = 1.0
"""Seconds between checks for a new artifact; 0 disables them."""
GRACE: Final = 10.0
"""Seconds that running requests may take to finish after a stop signal."""
WORKERS: Final = 1
"""Number of processes."""
_ARRIVAL_SECONDS: Final = 10.0


def threads_for(workers: int) -> int:
    """Return the number of threads for each of so many processes: all cores together, at most 4 for one."""
    return max(min(os.cpu_count() or 1, 4 * workers) // workers, 1)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on single requests and on the load of the service."""

    k: int = 1000
    """Maximum items for a user."""
    batch: int = 256
    """Maximum users in a request."""
    body: int = 1 << 20
    """Maximum bytes in the body of a request."""
    timeout: float = 10.0
    """Seconds until an unanswered request fails with status 504."""
    threads: int = field(default_factory=lambda: threads_for(1))
    """Number of worker threads."""
    waiting: int = 1000
    """Maximum requests that wait for a thread; further ones fail with status 503."""
    connections: int = 2000
    """Maximum open connections of a process; further ones get status 503 and are closed."""
    held: int = 64 << 20
    """Maximum bytes of request bodies and unsent answers in a process; further bodies fail with status 503."""

    @property
    def arrival(self) -> float:
        """Seconds allowed for the head of a request to arrive, and again for its body."""
        return min(_ARRIVAL_SECONDS, self.timeout)

    def checked(self) -> Limits:
        """Return these limits after checking that each is positive.

        Raises:
            ConfigError: A limit is zero or negative, or one body would exceed what all may hold.
        """
        for name in ("k", "batch", "body", "timeout", "threads", "waiting", "connections", "held"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"the limit {name!r} must be above 0, not {getattr(self, name)}")
        if self.held < self.body:
            raise ConfigError(
                f"a body may have {self.body:,} bytes, and all together no more than {self.held:,}",
                hint="raise --max-held, or lower --max-body",
            )
        return self
