"""How long work tells those who wait for it: one callback, one kind of event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Detail = str | int | float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a stage stands.

    ``detail`` holds what is worth showing beside the count, by name: for ``generate`` these are ``cached``,
    ``generated``, ``failed``, ``tokens`` and ``cost_usd``, and ``slowed`` while the provider holds the run back; for
    ``train`` and ``ablate`` they are ``run``, ``epoch``, ``epochs``, ``loss`` and ``metric``.
    """

    stage: str
    """``read``, ``generate``, ``embed``, ``train``, ``ablate``, ``evaluate`` or ``report``."""
    done: int
    total: int | None = None
    """None while unknown."""
    detail: Mapping[str, Detail] = field(default_factory=dict)


Listener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Listen to nothing."""
