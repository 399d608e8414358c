"""Progress events: one callback type and one kind of event for all long-running work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Detail = str | int | float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """State of one stage of the work.

    ``detail`` holds further values to display, by name. For ``generate``: ``cached``, ``generated``, ``failed``,
    ``tokens``, ``cost_usd``, ``in_flight``, the calls that wait for an answer, and ``slowed`` while the provider limits
    the rate. For ``train`` and ``ablate``: ``run``, ``epoch``, ``epochs``, ``loss`` and ``metric``.
    """

    stage: str
    """``read``, ``generate``, ``embed``, ``ask``, ``train``, ``ablate``, ``evaluate`` or ``report``."""
    done: int
    total: int | None = None
    """None if unknown."""
    detail: Mapping[str, Detail] = field(default_factory=dict)
    growing: bool = False
    """Whether the total is only what is known so far, and grows with the work."""

    latest: tuple[str, ...] = field(default=(), compare=False)
    """Beginnings of the last profiles, the newest last, so that one sees when a model writes nonsense. Events that
    differ in nothing else are equal: a stage that is done has no news."""

    @property
    def complete(self) -> bool:
        """Whether the stage is done."""
        return self.total is not None and not self.growing and self.done >= self.total


Listener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Ignore the event. The default listener."""
