"""Runs that were finished before, and states of those that were not: what was interrupted goes on where it was.

A run is known again by a hash of all that decides it: the split, the vectors, the backbone and fuser with their
options, the seed, the metrics and enhancer's version. What is kept is small: scores by user, and the training curve.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer import __version__
from enhancer.evaluation.judging.result import Run
from enhancer.evaluation.measuring.metrics import Scores
from enhancer.evaluation.measuring.views import labels_of
from enhancer.evaluation.running import shared_tables
from enhancer.files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from enhancer.contracts.backbone import Backbone, TrainingData
    from enhancer.contracts.fuser import Fuser
    from enhancer.evaluation.measuring.panels import Measured
    from enhancer.evaluation.measuring.views import SplitLike
    from enhancer.evaluation.running.arms import Arm

_FORMAT = 2
_UNFINISHED = ".unfinished"
_ABANDONED_SECONDS = 7 * 24 * 3600.0
"""What an unfinished run left is of no use when nobody has gone on with it for so long."""


class RunMemory:
    """A folder of finished runs."""

    def __init__(self, folder: Path, identity: str = "") -> None:
        """Use ``folder``, made when the first run is kept.

        Args:
            folder: Where runs are kept.
            identity: Whatever decides a run beside what :meth:`key` is told: versions of plugins, say.
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
        measured: bool = True,
    ) -> str:
        """Name a run by all that decides it; ``parts`` are its backbone and fuser, known by class and ``options``.

        One that was only validated (``measured=False``) has a name of its own, which the test part does not enter.
        """
        digest = hashlib.blake2b(digest_size=16, person=b"" if measured else b"trial")
        compared = (split.train, split.validation, *([split.test] if measured else []))
        recipe = [
            _FORMAT,
            __version__,
            self._identity,
            [[type(part).__module__, type(part).__qualname__, repr(part.options)] for part in parts],
            arm.fuser,
            dict(arm.fuser_options),
            seed,
            metrics,
            data.n_users,
            data.n_items,
        ]
        digest.update(json.dumps(recipe, sort_keys=True, default=str).encode())
        for side in (data.user_features, data.item_features):
            for part in () if side is None else side.arrays():
                digest.update(b"side" + np.ascontiguousarray(part).data)
        for told in (data.labels, *(labels_of(pairs) for pairs in compared)):
            digest.update(b"" if told is None else b"labels" + np.ascontiguousarray(told).data)
        for array in (
            *(part for pairs in compared for part in (pairs.users, pairs.items)),
            split.cold_items,
            split.cold_users,
            data.ratings,
            data.user_vectors,
            data.item_vectors,
        ):
            shape = "-" if array is None else f"{array.dtype}{array.shape}"
            digest.update(shape.encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def unfinished(self, key: str) -> Path:
        """Where the run of that key keeps its state until it is finished."""
        return self._folder / f"{key}{_UNFINISHED}"

    def tidy(self) -> None:
        """Remove what unfinished runs left behind a week ago or earlier."""
        latest = time.time() - _ABANDONED_SECONDS
        for pattern in (f"*{_UNFINISHED}*", f"{shared_tables.PREFIX}*"):
            for left in self._folder.glob(pattern):
                with contextlib.suppress(OSError):  # somebody else removes it too, or it is not ours to remove
                    if left.stat().st_mtime < latest:
                        shutil.rmtree(left) if left.is_dir() else left.unlink()

    def recall(self, key: str, arm: Arm, seed: int) -> Run | None:
        """The run of that key, if it was finished before; a file that cannot be read counts as none."""
        try:
            # The file is opened here: np.load leaves it open when it is no archive.
            with (self._folder / f"{key}.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                about: dict[str, Any] = json.loads(str(arrays["about"]))
                totals: dict[str, dict[str, float]] = about.pop("totals", {})
                measured: Measured = {
                    stratum: Scores(
                        arrays[f"{number}.users"],
                        {metric: arrays[f"{number}.{place}"] for place, metric in enumerate(metrics)},
                        totals.get(stratum, {}),
                    )
                    for number, (stratum, metrics) in enumerate(about.pop("strata"))
                }
            return Run(arm=arm.name, seed=seed, measured=measured, **about)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def remember(self, key: str, run: Run) -> None:
        """Keep a finished run; a folder that cannot be written is no reason to lose the experiment."""
        strata = [(name, list(scores.values)) for name, scores in run.measured.items()]
        about = {
            "seconds": run.seconds,
            "epochs": run.epochs,
            "best_epoch": run.best_epoch,
            "validation": run.validation,
            "history": run.history,
            "spread": run.spread,
            "strata": strata,
            "totals": {name: dict(scores.totals) for name, scores in run.measured.items()},
        }
        arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
        for number, (name, metrics) in enumerate(strata):
            arrays[f"{number}.users"] = run.measured[name].users
            for place, metric in enumerate(metrics):
                arrays[f"{number}.{place}"] = run.measured[name].values[metric]
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / f"{key}.npz") as draft:
                np.savez_compressed(draft, **arrays)
