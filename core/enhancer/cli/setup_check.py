"""One check of ``enhancer doctor``, and what becomes of errors in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from enhancer.errors import EnhancerError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class SetupCheck:
    """Result of checking one part of the setup; the fields are the keys of ``--json``."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str | None = None
    """Remedy."""
    measured: dict[str, Any] | None = None
    """With ``--live``: what the call showed."""

    def to_json(self) -> dict[str, Any]:
        """Convert the check to JSON values; ``measured`` is among them if anything was."""
        return {name: value for name, value in asdict(self).items() if name != "measured" or value is not None}


def guarded(name: str, check: Callable[[], SetupCheck]) -> SetupCheck:
    """Run a check; return an error in it as one that failed."""
    try:
        return check()
    except EnhancerError as error:
        return SetupCheck(name, "fail", error.message, error.hint)
    except Exception as error:  # noqa: BLE001  plugins may raise anything; the other checks continue
        return SetupCheck(name, "fail", f"{type(error).__name__}: {error}")
