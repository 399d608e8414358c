"""Recall@20 of users whom training never saw, folded in from their first interactions (``Ranker.add_users``)::

    python tests/benchmarks/foldin.py
    python tests/benchmarks/foldin.py --seeds 3 --json

MovieLens-100k, all ratings as positives. Of each user 80 % are the history, the rest is the test part: in order of time, or with
``--order random`` in any order, so that the first items of a history say as much of the test part as any others. 200 users are
reported on, 200 others are for choosing. Three models a backbone and seed, with the library's defaults:

1. without either group: the group for choosing is folded in with several penalties of the regression, and the best one by mean
   recall is taken. The users reported on play no part in it.
2. without the users reported on: they are folded in from their whole history, and from its first 20, 10, 5, 2 and 1 items, by that
   penalty and by the one that is built in.
3. with everybody: the same users with rows of their own, trained on their whole history. What early stopping looks at is cut
   from other users, so that nothing of theirs is missing.

Popularity ranks items by how many users of model 2 touched them. Items that somebody was folded in from are left out of the
ranking everywhere. With several seeds, each has groups and a training of its own, and means and standard deviations are told.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from machine import lines, machine
from splits import Part

from enhancer.contracts import Context, Factors, TrainingData
from enhancer.evaluation import CSR, evaluate
from enhancer.serving.foldin import RIDGE, FoldIn
from enhancer_plugins.backbones.fm import FM, FMOptions
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.demo.movielens import fetch_movielens
from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions

BACKBONES = {
    "lightgcn": lambda: LightGCN(LightGCNOptions(), Context()),
    'lightgcn, loss = "softmax"': lambda: LightGCN(LightGCNOptions(loss="softmax"), Context()),
    "fm": lambda: FM(FMOptions(), Context()),
}
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
FIRST = (20, 10, 5, 2, 1)
GROUP = 200
METRIC = "recall@20"


@dataclass(frozen=True, eq=False)
class Table:
    """Histories in order, and what came after them."""

    histories: list[np.ndarray]
    later: list[np.ndarray]
    n_items: int


def movielens(folder: Path | None, order: str) -> Table:
    """Everybody's ratings by time, and of equal times in the order of the file; or in any order."""
    file = fetch_movielens().interactions if folder is None else folder / "ml-100k.inter"
    rows = np.array([line.split("\t") for line in file.read_text().splitlines()[1:]])
    users, items = (np.unique(column, return_inverse=True)[1] for column in rows.T[:2])
    if order == "time":
        ranked = np.argsort(rows[:, 3].astype(float), kind="stable")
    else:
        ranked = np.random.default_rng(0).permutation(len(rows))
    by_user = [ranked[users[ranked] == user] for user in range(users.max() + 1)]
    cuts = [len(one) - max(round(0.2 * len(one)), 1) for one in by_user]
    histories = [items[one[:cut]] for one, cut in zip(by_user, cuts, strict=True)]
    later = [items[one[cut:]] for one, cut in zip(by_user, cuts, strict=True)]
    return Table(histories, later, int(items.max()) + 1)


def pairs(lists: Sequence[np.ndarray]) -> Part:
    """Lists of items, one a user, as pairs."""
    users = np.repeat(np.arange(len(lists)), [len(one) for one in lists])
    return Part(users, np.concatenate([*lists, np.zeros(0, int)]).astype(int))


def recall(rows: np.ndarray, items: np.ndarray, table: Table, users: np.ndarray) -> float:
    """Recall@20 of users by their rows, over all items that their whole history does not hold."""
    history = pairs([table.histories[user] for user in users])
    test = pairs([table.later[user] for user in users])
    seen = CSR.of((history,), len(users))
    return evaluate(Factors(rows, items), test, seen=seen, metrics=(METRIC,)).mean(METRIC)


class Watch:
    """Early stopping on pairs that were kept out of training."""

    checkpoint = None

    def __init__(self, train: Part, validation: Part, n_users: int) -> None:
        self._seen, self._validation = CSR.of((train,), n_users), validation

    def validate(self, factors: Factors) -> float:
        """NDCG@10 on them."""
        return evaluate(factors, self._validation, seen=self._seen, metrics=("ndcg@10",)).mean("ndcg@10")

    def epoch_finished(self, *told: Any) -> None:
        """Nothing to tell."""


def fit(
    backbone: str, table: Table, users: np.ndarray, whole: np.ndarray, seed: int
) -> tuple[Factors, list[np.ndarray]]:
    """A model of these users, row by row, and what it was trained on; of ``whole`` nothing goes to early stopping."""
    random, train, validation = np.random.default_rng(seed), [], []
    kept = set(whole.tolist())
    for user in users:
        history = table.histories[user]
        held = random.random(len(history)) < (0.0 if user in kept else 0.1)
        train.append(history[~held])
        validation.append(history[held])
    seen = pairs(train)
    data = TrainingData(n_users=len(users), n_items=table.n_items, users=seen.users, items=seen.items)
    fuser = NoFusion(NoFusionOptions(), Context())
    fitted = BACKBONES[backbone]().fit_checked(
        data, fuser, seed=seed, monitor=Watch(seen, pairs(validation), len(users))
    )
    return fitted.factors, train


def folding(factors: Factors, train: list[np.ndarray], penalty: float) -> FoldIn:
    """The map from histories to rows, learned of a model's own users."""
    starts = np.cumsum([0, *map(len, train)])
    return FoldIn(factors.users, factors.items, starts, np.concatenate(train).astype(np.int32), ridge=penalty)


def measure(backbone: str, table: Table, seed: int) -> dict[str, Any]:
    """One seed."""
    shuffled = np.random.default_rng(seed).permutation(len(table.histories))
    chosen, reported = np.sort(shuffled[:GROUP]), np.sort(shuffled[GROUP : 2 * GROUP])
    nobody = np.zeros(0, int)

    def folded(factors: Factors, fold: FoldIn, users: np.ndarray, first: int | None = None) -> float:
        return recall(
            fold([table.histories[user][:first] for user in users], factors.items), factors.items, table, users
        )

    others = np.sort(shuffled[2 * GROUP :])
    factors, train = fit(backbone, table, others, nobody, seed)
    choice = {penalty: folded(factors, folding(factors, train, penalty), chosen) for penalty in PENALTIES}
    best = max(choice, key=lambda penalty: choice[penalty])

    without = np.sort(np.concatenate([others, chosen]))
    factors, train = fit(backbone, table, without, nobody, seed)
    fold = folding(factors, train, best)
    found: dict[str, Any] = {"penalty": best, "choice": {str(penalty): value for penalty, value in choice.items()}}
    found["folded in"] = folded(factors, fold, reported)
    found |= {f"first {n}": folded(factors, fold, reported, n) for n in FIRST}
    found["built in"] = folded(factors, folding(factors, train, RIDGE), reported)
    touched = np.bincount(np.concatenate(train), minlength=table.n_items).astype(np.float32)
    found["popularity"] = recall(np.ones((GROUP, 1), np.float32), touched[:, None], table, reported)

    everybody = np.arange(len(table.histories))
    factors, _ = fit(backbone, table, everybody, reported, seed)
    return found | {"trained": recall(factors.users[reported], factors.items, table, reported)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where ml-100k.inter is; by default it is fetched")
    parser.add_argument("--seeds", type=int, default=1, help="groups of users, and trainings")
    parser.add_argument("--order", choices=("time", "random"), default="time", help="of each user's items")
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    of, table = machine("enhancer", "numpy", "torch", "numba"), movielens(told.folder, told.order)
    columns = ["trained", "folded in", *(f"first {n}" for n in FIRST), "built in", "popularity"]
    result: dict[str, Any] = {}
    if not told.json:
        print(lines(of) + f"\n\n| backbone | {' | '.join(columns)} | penalty |\n|{'---|' * (len(columns) + 2)}")
    for backbone in told.backbones:
        runs = [measure(backbone, table, seed) for seed in range(told.seeds)]
        result[backbone] = runs
        if not told.json:
            cells = [f"{mean(run[name] for run in runs):.3f}" for name in columns]
            if len(runs) > 1:
                cells = [
                    f"{cell} ± {stdev(run[name] for run in runs):.3f}"
                    for cell, name in zip(cells, columns, strict=True)
                ]
            penalties = ", ".join(f"{run['penalty']:g}" for run in runs)
            print(f"| {backbone} | {' | '.join(cells)} | {penalties} |", flush=True)
    if told.json:
        print(json.dumps({"machine": of, METRIC: result}, indent=2))


if __name__ == "__main__":
    main()
