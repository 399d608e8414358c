"""Results of the verbs that train and search; ``to_json`` gives the keys that the command line prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enhancer.shown import Shown

if TYPE_CHECKING:
    from pathlib import Path

    from enhancer.evaluation import Ablation
    from enhancer.features import GenerationReport


@dataclass(frozen=True, kw_only=True)
class TrainingReport(Shown):
    """Result of one training run."""

    artifact: Path
    """Folder of the serving artifact, as configured."""
    epochs: int
    """Epochs run."""
    best_epoch: int
    """Epoch whose factors were kept; 0 if none improved on a model that needs no training."""
    seconds: float
    """Wall time, including reading the features."""
    metrics: dict[str, float]
    """Metrics on the test split, over warm items, of the model that was trained on the training part."""
    refit: bool
    """Whether the artifact holds a model that was fitted once more, on all interactions."""
    interactions: int
    """Interactions that the model in the artifact was trained on."""
    kept: bool = False
    """Whether nothing was trained, because the artifact was there."""
    backbone: str | None = None
    """Backbone that ``use = "auto"`` chose; None if a backbone was named."""
    backbone_options: dict[str, Any] | None = None
    """Options that were chosen for it, besides its defaults."""
    choice: dict[str, Any] | None = None
    """The candidates and their trials; see :meth:`enhancer.evaluation.choosing.choice.BackboneChoice.to_json`."""
    exploration: dict[str, Any] | None = None
    """Metrics over everything ``with`` the share of places that ``[serving]`` gives to new items, ``without`` it, and
    with ``no_new_items`` in any list; None without such a share or without held-out items."""
    stopped: str | None = None
    """Why training stopped before the last epoch; None if it did not."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``enhancer train --json`` prints."""
        return {
            "artifact": str(self.artifact),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
            "metrics": self.metrics,
            "refit": self.refit,
            "interactions": self.interactions,
            "kept": self.kept,
            **{
                name: value
                for name in ("exploration", "backbone", "backbone_options", "choice")
                if (value := getattr(self, name)) is not None
            },
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each metric."""
        return [{"metric": name, "value": value} for name, value in self.metrics.items()]

    def html_lines(self) -> list[str]:
        """See :meth:`enhancer.shown.Shown.html_lines`."""
        trained = f"all {self.interactions:,} interactions" if self.refit else f"{self.interactions:,} interactions"
        named = "" if self.backbone is None else f", {self.backbone}"
        return [
            f"Artifact {self.artifact}{named}: trained on {trained} in {self.seconds:.1f} s",
            "Metrics of the tested model, on the test split over warm items:",
        ]


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Results of generating, training and ablating."""

    generate: GenerationReport
    train: TrainingReport
    ablate: Ablation

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``enhancer run --json`` prints: one for each verb."""
        return {name: getattr(self, name).to_json() for name in ("generate", "train", "ablate")}


@dataclass(frozen=True, kw_only=True)
class Similar(Shown):
    """Items nearest to one item."""

    item_id: str
    title: str | None
    items: list[tuple[str, float, str | None]]
    """Id, cosine and title of each, nearest first."""
    by: str | None = None
    """The note that they are compared by; None for all inputs of ``[embedder]``."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``enhancer similar --json`` prints; titles where they are known."""
        return {
            "item_id": self.item_id,
            **({"title": self.title} if self.title else {}),
            **({"by": self.by} if self.by else {}),
            "items": [
                {"item_id": item, "score": score, **({"title": title} if title else {})}
                for item, score, title in self.items
            ],
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each item, nearest first."""
        return [
            {"rank": rank, "item_id": item, "title": title, "score": score}
            for rank, (item, score, title) in enumerate(self.items, start=1)
        ]

    def html_lines(self) -> list[str]:
        """See :meth:`enhancer.shown.Shown.html_lines`."""
        named = f": {self.title}" if self.title else ""
        return [f"Similar to item {self.item_id}{named}{f' by {self.by}' if self.by else ''}"]
