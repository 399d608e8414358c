"""LightGCN on the split of Gowalla that its authors published, against the figures they printed::

    python tests/benchmarks/gowalla.py FOLDER
    python tests/benchmarks/gowalla.py FOLDER --validate
    python tests/benchmarks/gowalla.py FOLDER --published

``FOLDER`` holds ``train.txt`` and ``test.txt``, a user a line followed by the items. He et al. 2020 (table 3; three layers,
64 numbers) give Recall@20 0.1830 and NDCG@20 0.1554, the best of the looks that their code takes at the test part on its
way through 1,000 epochs of BPR. Here nothing is chosen on the test part: training ends after ``--epochs``, the figures are
those of that last epoch, and what is seen of the test part on the way, with the clock stopped, decides nothing.

``--validate`` holds out a fifth of each user's training interactions, as the published test part does, and looks at those
instead. ``--published`` takes the authors' own settings (BPR, batches of 2,048, learning rate 1e-3, regularisation 1e-4,
1,000 epochs): hours. The defaults are those in half an hour: batches 32 times as large, a step size about twice what the square
root of that asks for, falling along half a cosine, 1,200 epochs. Both draw users evenly, as the authors' code does.
``--loss softmax --epochs 35 --batch-size 16384 --learning-rate 0.02 --regularisation 0.03 --schedule constant`` learns in five
minutes; ``--validate`` likes it better than BPR with ``--draws interactions``, and the published test part does not.
``--loss multinomial`` takes that loss's own defaults, but for ``--epochs``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from splits import Part, cut

PUBLISHED = {"recall@20": 0.1830, "ndcg@20": 0.1554}
PUBLISHED_SETTINGS = {
    "loss": "bpr", "draws": "users", "batch_size": 2048, "learning_rate": 1e-3, "regularisation": 1e-4, "epochs": 1000,
}  # fmt: skip


def read(path: Path) -> Part:
    """Pairs of one part."""
    users, items = [], []
    for line in path.read_text().splitlines():
        user, *taken = map(int, line.split())
        users += [user] * len(taken)
        items += taken
    return Part(np.array(users, np.int32), np.array(items, np.int32))


class Watch:
    """A monitor that looks at the judged part now and then, with the clock stopped, and lets training go on."""

    checkpoint = None

    def __init__(self, train: Part, judged: Part, every: int) -> None:
        from enhancer.evaluation import CSR

        self._judged, self._every = judged, every
        self._seen = CSR.of((train,), int(train.users.max()) + 1)
        self._begun, self._paused, self._epoch = time.perf_counter(), 0.0, 0
        self.told: list[dict[str, float]] = []

    def validate(self, factors: Any) -> float:
        """Look; a later epoch always counts as better, so that training ends by its epochs."""
        from enhancer.evaluation import evaluate

        stopped = time.perf_counter()
        means = evaluate(factors, self._judged, seen=self._seen, metrics=tuple(PUBLISHED)).means()
        minutes = (stopped - self._begun - self._paused) / 60
        self.told.append({"epoch": self._epoch + 1, "minutes": round(minutes, 2)} | means)
        print(json.dumps(self.told[-1]), flush=True)
        self._paused += time.perf_counter() - stopped
        return float(len(self.told))

    def epoch_finished(self, epoch: int, epochs: int, loss: float, metric: float | None) -> None:
        """Remember where training is."""
        del epochs, loss, metric
        self._epoch = epoch


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--published", action="store_true", help="the authors' settings")
    parser.add_argument("--validate", action="store_true", help="judge by a fifth of each user's training interactions")
    parser.add_argument("--loss", choices=("softmax", "bpr", "multinomial"), default="bpr")
    parser.add_argument("--similarity", choices=("dot", "cosine"), default="dot", help="of softmax")
    parser.add_argument("--draws", choices=("users", "interactions"), help="by default users for bpr")
    parser.add_argument("--epochs", type=int, default=1200)
    parser.add_argument("--batch-size", type=int, default=65536)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--schedule", choices=("constant", "cosine"), default="cosine")
    parser.add_argument("--regularisation", type=float, default=1e-4)
    parser.add_argument("--temperature", type=float, default=1.0, help="of softmax")
    parser.add_argument("--negatives", type=int, default=1024, help="of softmax")
    parser.add_argument("--every", type=int, default=50, help="epochs between looks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    import numba
    import torch

    from enhancer.contracts import Context, TrainingData
    from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
    from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions

    numba.set_num_threads(min(told.threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(told.threads)
    train, test = read(told.folder / "train.txt"), read(told.folder / "test.txt")
    n_users, n_items = (
        int(max(getattr(train, side).max(), getattr(test, side).max())) + 1 for side in ("users", "items")
    )
    if told.validate:
        parts = cut(n_users, n_items, train, 0.0, 0.2, told.seed)
        train, test = parts.train, parts.test
    settings: dict[str, Any] = {
        "draws": told.draws, "batch_size": told.batch_size, "learning_rate": told.learning_rate,
        "regularisation": told.regularisation, "epochs": told.epochs, "schedule": told.schedule,
    }  # fmt: skip
    if told.loss == "softmax":
        settings |= {
            "loss": "softmax", "similarity": told.similarity, "temperature": told.temperature,
            "negatives": told.negatives,
        }  # fmt: skip
    if told.loss == "multinomial":
        settings = {"loss": "multinomial", "epochs": told.epochs}
    if told.published:
        settings = dict(PUBLISHED_SETTINGS)
    watch = Watch(train, test, told.every)
    data = TrainingData(n_users=n_users, n_items=n_items, users=train.users, items=train.items)
    backbone = LightGCN(LightGCNOptions(**settings, dim=64, layers=3, eval_every=told.every), Context())
    backbone.fit_checked(data, NoFusion(NoFusionOptions(), Context()), seed=told.seed, monitor=watch)
    last = watch.told[-1]
    part = "validation" if told.validate else "test"
    share = {} if told.validate else {f"{name} of published": last[name] / value for name, value in PUBLISHED.items()}
    print(
        json.dumps(
            {"machine": machine("enhancer", "torch", "numba"), "settings": settings, "judged": part, **last, **share}
        )
    )


if __name__ == "__main__":
    main()
