"""What the verbs of a project return; each gives by ``to_json`` the keys that the command line prints."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enhancer.errors import DataError, StoreError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from enhancer.config.schema import Input
    from enhancer.contracts.store import FeatureStore
    from enhancer.evaluation import Ablation
    from enhancer.features import GenerationReport

_SCAN = 65_536
"""Vectors compared at once: bounds memory, whatever the catalogue's size."""


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """One training run."""

    artifact: Path
    """Where the serving artifact is, as configured."""
    epochs: int
    """Epochs run."""
    best_epoch: int
    """The epoch whose factors were kept."""
    seconds: float
    """Wall time, reading the features included."""
    metrics: dict[str, float]
    """On the test part, over warm items."""

    def to_json(self) -> dict[str, Any]:
        """The keys fixed by contract."""
        return {
            "artifact": str(self.artifact),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "seconds": round(self.seconds, 3),
            "metrics": self.metrics,
        }


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """The three verbs together."""

    generate: GenerationReport
    train: TrainingReport
    ablate: Ablation

    def to_json(self) -> dict[str, Any]:
        """One key a verb."""
        return {name: getattr(self, name).to_json() for name in ("generate", "train", "ablate")}


@dataclass(frozen=True, kw_only=True)
class Similar:
    """The items nearest to one item."""

    item_id: str
    title: str | None
    items: list[tuple[str, float, str | None]]
    """Id, cosine and title, nearest first."""

    def to_json(self) -> dict[str, Any]:
        """The keys fixed by contract, and titles where there are any."""
        return {
            "item_id": self.item_id,
            **({"title": self.title} if self.title else {}),
            "items": [
                {"item_id": item, "score": score, **({"title": title} if title else {})}
                for item, score, title in self.items
            ],
        }


def trained_before(folder: Path, run: str, artifact: Path) -> TrainingReport | None:
    """What was told of the artifact in ``folder``, if it is whole and came of the run of that key."""
    from enhancer.errors import ArtifactError
    from enhancer.serving import Ranker

    started = time.perf_counter()
    try:
        about = Ranker.load(folder, verify=True).manifest
        if about.get("run") != run:
            return None
        return TrainingReport(
            artifact=artifact,
            epochs=about["epochs"],
            best_epoch=about["best_epoch"],
            seconds=time.perf_counter() - started,
            metrics=about["metrics"],
        )
    except (ArtifactError, KeyError):
        return None


def nearest(
    store: FeatureStore, item_id: str, inputs: Sequence[Input], k: int, titles: Mapping[str, str | None]
) -> Similar:
    """The ``k`` items whose stored vectors have the largest cosine with that of ``item_id``.

    Args:
        store: Holds the vectors.
        item_id: The item.
        inputs: What vectors come from; two are set side by side.
        k: How many.
        titles: Names of items, where known.

    Raises:
        StoreError: The store has no vectors at all.
        DataError: It has none for ``item_id``.
    """
    import numpy as np

    from enhancer.features import feature_table
    from enhancer.features.reading.table import ASPECTS

    ids = list(dict.fromkeys(record.id for name in inputs for record in store.scan(kind="item", aspect=ASPECTS[name])))
    if item_id not in set(ids):
        if not ids:
            raise StoreError("the store has no vectors of items", hint="run `enhancer generate` first")
        raise DataError(f"the store has no vector for item {item_id!r}", hint=did_you_mean(item_id, ids[:10_000]))

    def unit(chosen: Sequence[str]) -> Any:
        table = feature_table(store, chosen, "item", inputs)
        return table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)

    query = unit([item_id])[0]
    scores = np.concatenate([unit(ids[start : start + _SCAN]) @ query for start in range(0, len(ids), _SCAN)])
    order = [row for row in np.argsort(-scores, kind="stable") if ids[row] != item_id][:k]
    found = [(ids[row], float(scores[row]), titles.get(ids[row])) for row in order]
    return Similar(item_id=item_id, title=titles.get(item_id), items=found)
