"""Settings of the service and their defaults, in one place. Light: the help of ``enhancer serve`` tells them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from enhancer.errors import ConfigError

HOST: Final = "127.0.0.1"
"""The address that is bound."""
PORT: Final = 8080
"""The port; 0 lets the system choose."""
WATCH: Final = 1.0
"""Seconds between looks for a new artifact; 0 for none."""
GRACE: Final = 10.0
"""Seconds that running requests are given when the service is to stop."""
_ARRIVAL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may ask for, and what all of them together may take."""

    k: int = 1000
    """Items for a user, at most."""
    batch: int = 256
    """Users in a request, at most."""
    body: int = 1 << 20
    """Bytes in the body of a request, at most."""
    timeout: float = 10.0
    """Seconds until a request is answered with 504."""
    threads: int = field(default_factory=lambda: min(os.cpu_count() or 1, 4))
    """Pieces of work that run at once."""
    waiting: int = 1000
    """Requests that may wait for a thread; the next one is answered with 503."""

    @property
    def arrival(self) -> float:
        """Seconds until a head, and a body after it, must have arrived."""
        return min(_ARRIVAL_SECONDS, self.timeout)

    def checked(self) -> Limits:
        """These limits, if a service can run under them.

        Raises:
            ConfigError: One of them leaves nothing.
        """
        for name in ("k", "batch", "body", "timeout", "threads", "waiting"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"the limit {name!r} must be above 0, not {getattr(self, name)}")
        return self
