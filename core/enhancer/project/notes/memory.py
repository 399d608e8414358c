"""Probe what the model recalls of the items, and keep the result beside the store for the ablation."""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import ConfigError
from enhancer.evaluation.diagnosing.memory import PROBES, memory_check, recall_shares
from enhancer.evaluation.measuring.strata import popularity_groups
from enhancer.files import atomic_replace
from enhancer.project.notes.probes import ProbedItem, probed_item, probes, recalled
from enhancer.project.notes.sample import draw_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from enhancer.contracts.record import Key
    from enhancer.evaluation.diagnosing.checks import DiagnosticCheck
    from enhancer.evaluation.diagnosing.memory import Probe, Recall
    from enhancer.project.notes.probes import AskedProbe
    from enhancer.project.parts import ProjectParts

MEMORY_FILE_NAME = "memory.json"
"""Name of the file in the folder of the store."""
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """What a model recalled of items."""

    model: str
    items: Mapping[str, Mapping[Probe, bool]]
    """Whether each probe was answered right, by item id."""

    def known(self, id_: str) -> bool | None:
        """Return whether the model knows an item: it was right about its title and year, as far as both were asked.

        None if neither was asked. Of two titles one is guessed right half of the time, so ``rank`` does not count.
        """
        answers = self.items.get(id_, {})
        asked = [answers[probe] for probe in ("title", "year") if probe in answers]
        return all(asked) if asked else None


def memory_probes(parts: ProjectParts, sample: int) -> list[AskedProbe]:
    """Return questions about items of every popularity stratum, as many of each as there are.

    Args:
        parts: The project.
        sample: Number of items.

    Raises:
        ConfigError: The items have no titles.
    """
    train = parts.split.train
    popularity = np.bincount(train.items, minlength=len(train.item_ids))
    groups = popularity_groups(popularity)
    stratum = {train.item_ids[row]: name for name, mask in groups.items() for row in np.flatnonzero(mask).tolist()}
    count = dict(zip(train.item_ids, popularity.tolist(), strict=True))
    items = [
        item
        for entity in parts.pipeline.entities("item")
        if entity.id in stratum and (item := probed_item(entity, count[entity.id], stratum[entity.id])) is not None
    ]
    if not items:
        raise ConfigError(
            "there is nothing to probe: no item has a title",
            hint='name the column: [data.columns] title = "..."',
        )
    return list(probes(_stratified(items, sample, parts.settings.seed), items))


def memory_checks(
    asked: Sequence[AskedProbe], answers: Mapping[Key, Mapping[str, Any]], model: str
) -> Iterator[DiagnosticCheck]:
    """Yield a check for each probe that was answered.

    Args:
        asked: The questions.
        answers: Answers by key.
        model: The model that was asked.
    """
    found = _recalls(asked, answers)
    for probe in PROBES:
        if recalls := [recall for one, recall in found if one.probe == probe]:
            yield memory_check(probe, recall_shares(recalls, choices=2 if probe == "rank" else None), model)


def keep_memory(
    folder: Path, asked: Sequence[AskedProbe], answers: Mapping[Key, Mapping[str, Any]], model: str
) -> None:
    """Write what was recalled to the folder of the store, beside what earlier runs found of the same model."""
    before = read_memory(folder)
    items: dict[str, dict[str, bool]] = {}
    if before is not None and before.model == model:
        items = {id_: dict(results) for id_, results in before.items.items()}  # type: ignore[arg-type]
    for one, recall in _recalls(asked, answers):
        items.setdefault(one.item.id, {})[one.probe] = recall.correct
    content = {"format": _FORMAT, "model": model, "items": items}
    with atomic_replace(folder / MEMORY_FILE_NAME) as path:
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def read_memory(folder: Path) -> Memory | None:
    """Return what was recalled; None if nothing was probed or the file cannot be read."""
    try:
        content = json.loads((folder / MEMORY_FILE_NAME).read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            return None
        return Memory(str(content["model"]), {str(id_): dict(found) for id_, found in content["items"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _recalls(asked: Sequence[AskedProbe], answers: Mapping[Key, Mapping[str, Any]]) -> list[tuple[AskedProbe, Recall]]:
    return [(one, recalled(one, answers[one.question.key])) for one in asked if one.question.key in answers]


def _stratified(items: Sequence[ProbedItem], sample: int, seed: int) -> list[ProbedItem]:
    """Draw equally many items of each stratum, as far as there are; what one lacks goes to the others."""
    by_stratum: dict[str, list[ProbedItem]] = {}
    for item in items:
        by_stratum.setdefault(item.stratum, []).append(item)
    drawn: list[ProbedItem] = []
    strata = sorted(by_stratum.values(), key=len)
    for number, some in enumerate(strata):
        share = max(0, sample - len(drawn)) // (len(strata) - number)
        drawn += heapq.nsmallest(share, some, key=lambda item: draw_order(item.id, seed))
    return drawn
