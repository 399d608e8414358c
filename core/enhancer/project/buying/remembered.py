"""Remember the last measurement of density, for the report of an ablation on the same split."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from enhancer.evaluation import Arm, training_data
from enhancer.files import atomic_replace
from enhancer.project.run_setup import run_cache

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from enhancer.project.parts import ProjectParts

_log = logging.getLogger(__name__)


def remember(parts: ProjectParts, result: Mapping[str, Any]) -> None:
    """Keep what ``enhancer density --json`` prints."""
    path = _path(parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_replace(path) as draft:
            draft.write_text(json.dumps({"identity": _identity(parts), "result": result}), encoding="utf-8")
    except OSError as error:
        _log.warning("cannot write %s (%s): the report of ablate will not show it", path, error.strerror)


def remembered(parts: ProjectParts) -> dict[str, Any] | None:
    """Return the last result; None if there is none, or if it was measured on another split or metric."""
    try:
        kept = json.loads(_path(parts).read_text(encoding="utf-8"))
        found: dict[str, Any] = kept["result"]
        return found if kept["identity"] == _identity(parts) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(parts: ProjectParts) -> Path:
    return parts.root / "runs" / "density.json"


def _identity(parts: ProjectParts) -> str:
    """Return a hash of split, ids, metric and version."""
    split, metric = parts.split, parts.settings.evaluation.metrics[0]
    return run_cache(parts).key(Arm("density", "none", semantic=False), 0, training_data(split), split, [metric])
