"""The campaign on disk: what was decided and bought, so that a run that was killed continues."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from enhancer.errors import ConfigError, StoreError
from enhancer.files import atomic_replace
from enhancer.harness.journal.owner_process import has_ended, owner_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from enhancer.project.spending.strata import Stratum

STATE_FILE, LOCK_FILE = "spend.json", "spend.lock"
"""Names of the files in the folder of the store."""
_VERSION = 1
"""Version of the format, which is part of a key that every state has."""


@dataclass
class Order:
    """Items of one stratum to buy: positions in its order."""

    stratum: str
    aspects: list[str]
    start: int
    stop: int
    planned_usd: float
    done: bool = False
    bought: int = 0
    """Number of items that got a record, as far as the run that bought them reports."""

    def to_json(self) -> dict[str, Any]:
        """Return the order as JSON values."""
        items = self.stop - self.start
        return {
            "stratum": self.stratum,
            "aspects": self.aspects,
            "items": items,
            "bought": self.bought,
            "planned_usd": self.planned_usd,
            "done": self.done,
        }


@dataclass
class CampaignState:
    """Everything that a restarted run needs to know, beside the store and the journal."""

    identity: dict[str, Any]
    """Identity of the campaign. A run with another identity does not continue it."""
    watermark: int
    """Number of the last completion in the journal before the campaign. What follows is paid by the campaign."""
    lost_usd: float = 0.0
    """Upper bound of what calls cost that were in flight when runs were stopped: they may have been charged."""
    in_flight_usd: float = 0.0
    """Upper bound of the cost of calls in flight, while an order is being bought."""
    largest_call_usd: float = 0.0
    """Upper bound of the cost of a call, for answers whose cost the provider did not report."""
    taken: dict[str, dict[str, int]] = field(default_factory=dict)
    chains: dict[str, list[list[str]]] = field(default_factory=dict)
    open: list[Order] | None = None
    """Orders of the round that is under way."""
    spent_before: float = 0.0
    """Cost of all rounds before the one that is under way."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    stopped: str | None = None

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the state; None if no campaign was begun.

        Raises:
            StoreError: The file is damaged, or a later version of enhancer wrote it.
        """
        path = folder / STATE_FILE
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            orders = found.pop(f"orders/{_VERSION}")
            return cls(**found, open=None if orders is None else [Order(**order) for order in orders])
        except FileNotFoundError:
            return None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise StoreError(
                f"{path} is damaged, or was written by another version of enhancer",
                hint="pass --restart to begin a new campaign; profiles and paid answers are kept",
            ) from None

    def save(self, folder: Path) -> None:
        """Write the state: all of it, or nothing."""
        with atomic_replace(folder / STATE_FILE) as draft:
            whole = asdict(self)
            draft.write_text(json.dumps({f"orders/{_VERSION}": whole.pop("open"), **whole}), encoding="utf-8")

    def put_into(self, strata: Sequence[Stratum]) -> None:
        """Tell strata how far they have been bought."""
        for stratum in strata:
            stratum.taken = dict(self.taken.get(stratum.name, {}))
            stratum.chain = [tuple(step) for step in self.chains.get(stratum.name, [])]

    def take_from(self, strata: Sequence[Stratum]) -> None:
        """Note how far strata have been bought."""
        self.taken = {stratum.name: dict(stratum.taken) for stratum in strata}
        self.chains = {stratum.name: [list(step) for step in stratum.chain] for stratum in strata}


def forget(folder: Path) -> None:
    """Forget the campaign. Profiles and paid answers are kept."""
    (folder / STATE_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time spend: two would each have the whole budget.

    Raises:
        ConfigError: Another process is spending.
    """
    path, owner = folder / LOCK_FILE, owner_name()
    for attempt in (1, 2):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            other = path.read_text(encoding="utf-8") if path.exists() else ""
            if attempt == 1 and other and has_ended(other):
                path.unlink(missing_ok=True)  # a process that was killed left it
                continue
            raise ConfigError(
                f"another `enhancer spend` is running on this store ({other or 'just started'})",
                hint=f"wait for it; if no such process runs any more, remove {path}",
            ) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(owner)
        yield
    finally:
        path.unlink(missing_ok=True)
