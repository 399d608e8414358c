"""Cache finished runs, and keep checkpoints of interrupted ones.

The key of a run is a hash of everything that determines its result: the split, the vectors, the backbone and fuser with
their options, the seed, the metrics and the version of enhancer. Entries are small: metrics and hits by user, and the
training history.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
import zipfile
import zlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.contracts.backbone import Factors
from enhancer.evaluation.measuring.hits import Hits
from enhancer.evaluation.measuring.metrics import Scores
from enhancer.evaluation.measuring.views import labels_of
from enhancer.evaluation.running.runs import ArmRun
from enhancer.evaluation.running.shared_vectors import PREFIX
from enhancer.files import atomic_replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from enhancer.contracts.backbone import Backbone, TrainingData
    from enhancer.contracts.fuser import Fuser
    from enhancer.evaluation.measuring.panels import ScoresByStratum
    from enhancer.evaluation.measuring.views import InteractionsLike, SplitLike
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.runs import RunRequest
    from enhancer.evaluation.running.vectors import FloatMatrix

_FORMAT = 5
_HITS = ("packed", "relevant", "length")
_CHECKPOINT = ".unfinished"
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""Errors that reading a damaged file may raise."""
_FACTORS_KEPT = 1 << 22
"""Largest number of factors of a run that are kept, to fit ridges onto them later."""
_ABANDONED_SECONDS = 7 * 24 * 3600.0
"""Age at which the checkpoint of an unfinished run is removed."""


def entity_ids(train: InteractionsLike) -> str:
    """Return a hash of all user and item ids, for the identity of a cache: equal rows may stand for other entities."""
    ids = "\0".join([*train.user_ids, "", *train.item_ids])
    return hashlib.blake2b(ids.encode("utf-8", "surrogatepass")).hexdigest()


class RunCache:
    """A folder of finished runs and checkpoints."""

    def __init__(self, folder: Path, identity: str = "") -> None:
        """Use ``folder``, which is created when the first run is saved.

        Args:
            folder: Where runs are saved.
            identity: Anything that determines a run besides the arguments of :meth:`key`, such as versions of plugins.
        """
        self._folder = folder
        self._identity = identity

    def key(
        self,
        arm: Arm,
        seed: int,
        data: TrainingData,
        split: SplitLike,
        metrics: list[str],
        parts: Sequence[Backbone | Fuser] = (),
        *,
        tested: bool = True,
    ) -> str:
        """Return the cache key of a run: a hash of everything that determines its result.

        Args:
            arm: Its fuser and fuser options enter the key.
            seed: Seed of the run.
            data: What the backbone trains on.
            split: The split that the run is measured on.
            metrics: The metrics measured.
            parts: Backbone and fuser. Their class and ``options`` enter the key.
            tested: Whether the run is measured on the test part. If not, the test part does not enter the key.
        """
        digest = hashlib.blake2b(digest_size=16, person=b"" if tested else b"trial")
        compared = (split.train, split.validation, *([split.test] if tested else []))
        recipe = [
            _FORMAT,
            version("enhancer"),
            self._identity,
            [[type(part).__module__, type(part).__qualname__, repr(part.options)] for part in parts],
            arm.fuser,
            dict(arm.fuser_options),
            seed,
            metrics,
            data.n_users,
            data.n_items,
        ]
        if len(data.views) > 1:
            recipe.append([view.stop for view in data.views])
        digest.update(json.dumps(recipe, sort_keys=True, default=str).encode())
        if data.item_spread is not None:
            digest.update(b"spread" + np.ascontiguousarray(data.item_spread).data)
        for side in (data.user_features, data.item_features):
            for column in () if side is None else side.arrays():
                digest.update(b"side" + np.ascontiguousarray(column).data)
        for labels in (data.labels, *(labels_of(pairs) for pairs in compared)):
            digest.update(b"" if labels is None else b"labels" + np.ascontiguousarray(labels).data)
        for array in (
            *(rows for pairs in compared for rows in (pairs.users, pairs.items)),
            split.cold_items,
            split.cold_users,
            data.ratings,
            data.timestamps,
            data.user_vectors,
            data.item_vectors,
        ):
            shape = "-" if array is None else f"{array.dtype}{array.shape}"
            digest.update(shape.encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def checkpoint(self, key: str) -> Path:
        """Return where the run with this key keeps its state until it is finished."""
        return self._folder / f"{key}{_CHECKPOINT}"

    def remove_abandoned(self) -> None:
        """Remove checkpoints and shared vectors that have not been touched for a week."""
        latest = time.time() - _ABANDONED_SECONDS
        for pattern in (f"*{_CHECKPOINT}*", f"{PREFIX}*"):
            for path in self._folder.glob(pattern):
                with contextlib.suppress(OSError):  # another process may remove it too, or it belongs to another user
                    if path.stat().st_mtime < latest:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def load(self, key: str, request: RunRequest) -> ArmRun | None:
        """Return the finished run with this key. None if there is none, or if its file cannot be read."""
        try:
            # Open the file here: np.load does not close a file that is not an archive.
            with (self._folder / f"{key}.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                about: dict[str, Any] = json.loads(str(arrays["about"]))
                totals: dict[str, dict[str, float]] = about.pop("totals", {})
                scores: ScoresByStratum = {
                    stratum: Scores(
                        arrays[f"{number}.users"],
                        {metric: arrays[f"{number}.{place}"] for place, metric in enumerate(metrics)},
                        totals.get(stratum, {}),
                        Hits(*(arrays[f"{number}.{part}"] for part in _HITS)) if f"{number}.packed" in arrays else None,
                    )
                    for number, (stratum, metrics) in enumerate(about.pop("strata"))
                }
            return ArmRun(
                arm=request.arm.name,
                seed=request.seed,
                scores=scores,
                beyond_accuracy=about.pop("spread"),
                groups=tuple(about.pop("groups", ())),
                **about,
            )
        except _UNREADABLE:
            return None

    def save(self, key: str, run: ArmRun) -> None:
        """Save a finished run. If the folder cannot be written to, the experiment goes on without saving."""
        strata = [(name, list(scores.values)) for name, scores in run.scores.items()]
        about = {
            "seconds": run.seconds,
            "epochs": run.epochs,
            "best_epoch": run.best_epoch,
            "validation": run.validation,
            "stopped": run.stopped,
            "history": run.history,
            "spread": run.beyond_accuracy,
            "groups": run.groups,
            "strata": strata,
            "totals": {name: dict(scores.totals) for name, scores in run.scores.items()},
        }
        arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
        for number, (name, metrics) in enumerate(strata):
            arrays[f"{number}.users"] = run.scores[name].users
            for place, metric in enumerate(metrics):
                arrays[f"{number}.{place}"] = run.scores[name].values[metric]
            if (hits := run.scores[name].hits) is not None:
                arrays |= {f"{number}.{part}": getattr(hits, part) for part in _HITS}
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with atomic_replace(self._folder / f"{key}.npz") as draft:
                np.savez_compressed(draft, **arrays)

    def save_factors(self, key: str, factors: Factors) -> None:
        """Keep the factors of a finished run, unless they are large."""
        if factors.users.size + factors.items.size > _FACTORS_KEPT:
            return
        with contextlib.suppress(OSError), atomic_replace(self._factors(key)) as draft:
            np.savez(draft, users=factors.users, items=factors.items)

    def load_factors(self, key: str) -> Factors | None:
        """Return the factors that :meth:`save_factors` kept; None if there are none, or the file cannot be read."""
        try:
            with self._factors(key).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return Factors(arrays["users"], arrays["items"])
        except _UNREADABLE:
            return None

    @staticmethod
    def ridge_key(key: str, vectors: FloatMatrix) -> str:
        """Return the key of what a ridge from these vectors onto the factors of a run scores."""
        digest = hashlib.blake2b(key.encode(), digest_size=16, person=b"ridge")
        digest.update(np.ascontiguousarray(vectors).data)
        return digest.hexdigest()

    def _factors(self, key: str) -> Path:
        return self._folder / f"{key}.factors.npz"
