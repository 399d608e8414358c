"""Probe what the model recalls of the items, and keep the result beside the store for the ablation."""

from __future__ import annotations

import heapq
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import ConfigError, StoreError
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
_PARTNERS = 5_000
"""Items from which those to compare with are drawn."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Items that a model recalled."""

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
    drawn: dict[str, list[tuple[int, ProbedItem]]] = {}
    others: list[tuple[int, ProbedItem]] = []
    for entity in parts.pipeline.entities("item"):
        if entity.id not in stratum:
            continue
        item = probed_item(entity, count[entity.id], stratum[entity.id])
        if item is not None:
            place = -draw_order(entity.id, parts.settings.seed)  # the smallest of a heap is the first to go
            _keep(drawn.setdefault(item.stratum, []), (place, item), sample)
            _keep(others, (place, item), _PARTNERS)
    if not others:
        raise ConfigError(
            "there is nothing to probe: no item has a title",
            hint='name the column: [data.columns] title = "..."',
        )
    by_stratum = [[item for _, item in sorted(some, reverse=True)] for some in drawn.values()]
    return list(probes(_evenly(by_stratum, sample), [item for _, item in sorted(others, reverse=True)]))


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
    """Write what was recalled to the folder of the store, beside what earlier runs found of the same model.

    Raises:
        StoreError: The file cannot be written.
    """
    before = read_memory(folder)
    items: dict[str, dict[str, bool]] = {}
    if before is not None and before.model == model:
        items = {id_: dict(results) for id_, results in before.items.items()}  # type: ignore[arg-type]
    for one, recall in _recalls(asked, answers):
        items.setdefault(one.item.id, {})[one.probe] = recall.correct
    content = {"format": _FORMAT, "model": model, "items": items}
    try:
        with atomic_replace(folder / MEMORY_FILE_NAME) as path:
            path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot write {folder / MEMORY_FILE_NAME}: {error.strerror}",
            hint="the answers are in the journal: make room, and run the command again, which costs nothing",
        ) from None


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


def _keep(heap: list[tuple[int, ProbedItem]], one: tuple[int, ProbedItem], size: int) -> None:
    """Add an item to the largest ``size`` of a heap."""
    if len(heap) < size:
        heapq.heappush(heap, one)
    elif one > heap[0]:
        heapq.heapreplace(heap, one)


def _evenly(strata: Sequence[Sequence[ProbedItem]], sample: int) -> list[ProbedItem]:
    """Take equally many items of each stratum, as far as there are; what one lacks goes to the others."""
    taken: list[ProbedItem] = []
    for number, some in enumerate(sorted(strata, key=len)):
        taken += some[: max(0, sample - len(taken)) // (len(strata) - number)]
    return taken
