"""Telling good interactions from others: the factorisation machine by log loss, and others, on one split::

    python tests/benchmarks/ctr.py FOLDER
    python tests/benchmarks/ctr.py FOLDER --peers VENVS --seeds 5 --json

``FOLDER`` holds MovieLens-100k as ``ml-100k.inter``, ``ml-100k.item`` and ``ml-100k.user``. A rating of 4 or 5 is a good one.
The split is random, 80/10/10 of each user's ratings; AUC, GAUC and log loss are over all test ratings of users and films
that training has seen. Training stops by AUC on validation, with the library's defaults.

Side features are genres and year of films; age, gender and occupation of users. Vectors are those of all-MiniLM-L6-v2 of
``title, year, genres``; users have the mean of their training films' vectors.

In the same run: how often each user and film is rated well, added up as log-odds (``rates``); scikit-learn's logistic
regression on the same ids and features, one-hot, its penalty chosen on validation. With ``--peers`` RecBole 1.2.1's FM, by
the Python of ``VENVS/recbole``, on the same files and features (ages as numbers, years as categories), with this library's
step size, embeddings of 10 numbers (its default) and of 64, and ten epochs without a better AUC until it stops; one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np

METRICS = ("auc", "gauc", "logloss")
USER_COLUMNS, ITEM_COLUMNS = ["age:number", "gender", "occupation"], ["class:tags", "release_year:number"]


@dataclass(frozen=True, eq=False)
class World:
    """The split, and what is known beside it."""

    split: Any
    sides: Any
    texts: list[str]


def load(folder: Path, split_seed: int) -> World:
    """Read the three tables as a project would."""
    from enhancer.config import ColumnsConfig
    from enhancer.config.data import DataConfig
    from enhancer.config.evaluation import EvaluationConfig
    from enhancer.data import read_entities, read_interactions, read_sides, sides_of, split_interactions

    columns = ColumnsConfig(label="rating >= 4")
    films = list(read_entities(folder / "ml-100k.item", "item", columns, 4000))
    whole = read_interactions(folder / "ml-100k.inter", columns, item_ids=[film.id for film in films])
    config = EvaluationConfig(split="random", test_size=0.1, validation_size=1 / 9, split_seed=split_seed)
    split = split_interactions(whole, config, folder, columns)
    data = DataConfig.model_validate(
        {
            "items": "ml-100k.item",
            "users": "ml-100k.user",
            "features": {"user": USER_COLUMNS, "item": ITEM_COLUMNS},
        }
    )
    found = read_sides(data, folder, split.train.user_ids, split.train.item_ids)
    return World(split, sides_of(found), [film.text for film in films])


def vectors(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Of users and of films."""
    from enhancer.contracts import Context
    from enhancer.features.reading.pooling import pool
    from enhancer_plugins.embedders.minilm import MiniLM, MiniLMOptions

    items = MiniLM(MiniLMOptions(), Context()).encode(world.texts)
    train = world.split.train
    return pool(items, train.users, train.items, len(train.user_ids)), items


def machine_of(
    world: World, seed: int, *, sides: bool, given: tuple[Any, Any] | None, **options: Any
) -> dict[str, Any]:
    """The library's own."""
    from enhancer.contracts import Context
    from enhancer.evaluation import fit, training_data
    from enhancer_plugins.backbones.fm import FM, FMOptions
    from enhancer_plugins.fusers.concat import Concat, ConcatOptions
    from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions

    users, items = given or (None, None)
    data = training_data(world.split, users, items, sides=world.sides if sides else None, labelled=True)
    fuser = NoFusion(NoFusionOptions(), Context()) if given is None else Concat(ConcatOptions(), Context())
    backbone = FM(FMOptions(loss="log", **options), Context())  # type: ignore[arg-type]
    begun = time.perf_counter()
    fitted, found = fit(backbone, fuser, data, world.split, metrics=METRICS, seed=seed)
    return {**found, "seconds": time.perf_counter() - begun, "epochs": fitted.epochs}


def judged(world: World, scores: np.ndarray, part: Any) -> dict[str, float]:
    """The metrics of log-odds for the pairs of ``part``."""
    from enhancer.evaluation.measuring.label_metrics import auc, gauc, logloss

    del world
    return {
        "auc": auc(part.labels, scores),
        "gauc": gauc(part.users, part.labels, scores),
        "logloss": logloss(part.labels, scores),
    }


def rates_of(world: World) -> dict[str, Any]:
    """Log-odds of users and films, added up."""
    from enhancer.evaluation import Views
    from enhancer.evaluation.measuring.label_metrics import pair_scores
    from enhancer.evaluation.running.references import rates

    train, views = world.split.train, Views(world.split)
    sizes = len(train.user_ids), len(train.item_ids)
    begun = time.perf_counter()
    found = []
    for strength in (3.0, 10.0, 30.0):
        factors = rates(train, train.labels, *sizes, prior_strength=strength)
        parts = [
            judged(world, pair_scores(factors, p.users, p.items), p)
            for p in (views.labelled_validation, views.labelled_test)
        ]
        found.append(parts)
    best = max(found, key=lambda parts: parts[0]["auc"])
    return {**best[1], "seconds": time.perf_counter() - begun}


def logistic(world: World) -> dict[str, Any]:
    """scikit-learn's logistic regression: ids and features, one column each."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression

    from enhancer.evaluation import Views

    views, train = Views(world.split), world.split.train
    tables = []
    for features, n in ((world.sides.users, len(train.user_ids)), (world.sides.items, len(train.item_ids))):
        table = csr_matrix((features.values, features.indices, features.indptr), (features.n, features.width))
        tables.append(hstack([csr_matrix(np.eye(n, dtype=np.float32)), table]).tocsr())

    def rows(part: Any) -> Any:
        return hstack([tables[0][part.users], tables[1][part.items]]).tocsr()

    begun = time.perf_counter()
    found = []
    for c in (0.1, 0.3, 1.0, 3.0):
        model = LogisticRegression(C=c, max_iter=1000).fit(rows(train), train.labels)
        found.append(
            [
                judged(world, model.decision_function(rows(p)), p)
                for p in (views.labelled_validation, views.labelled_test)
            ]
        )
    best = max(found, key=lambda parts: parts[0]["auc"])
    return {**best[1], "seconds": time.perf_counter() - begun}


def recbole(world: World, folder: Path, python: Path, dim: int) -> dict[str, Any]:
    """RecBole's FM on the same files."""
    from enhancer.evaluation import Views

    views = Views(world.split)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary) / "own"
        place.mkdir()
        for kind in ("user", "item"):
            (place / f"own.{kind}").write_text(
                (folder / f"ml-100k.{kind}").read_text(encoding="utf-8").replace("age:token", "age:float")
            )
        ids = world.split.train.user_ids, world.split.train.item_ids
        for name, part in (
            ("train", world.split.train),
            ("valid", views.labelled_validation),
            ("test", views.labelled_test),
        ):
            rows = "\n".join(
                f"{ids[0][u]}\t{ids[1][i]}\t{int(y)}"
                for u, i, y in zip(part.users, part.items, part.labels, strict=True)
            )
            (place / f"own.{name}.inter").write_text(f"user_id:token\titem_id:token\tlabel:float\n{rows}\n")
        told = subprocess.run(
            [python.absolute(), Path(__file__).absolute().with_name("ctr_peers.py"), temporary, str(dim)],
            cwd=temporary,
            check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        scores = np.load(Path(temporary) / "scores.npy")
        return {**judged(world, scores, views.labelled_test), **json.loads(told.stdout.splitlines()[-1])}


def say(words: str) -> None:
    """Report progress."""
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", type=Path, help="a folder of virtual environments")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    about = machine.machine("enhancer", "numpy", "torch", "numba", "scikit-learn")
    world = load(given.folder, given.split_seed)
    say("vectors")
    both = vectors(world)
    say("the others")
    runs: dict[str, list[dict[str, Any]]] = {
        "rates": [rates_of(world)],
        "logistic regression, ids and features": [logistic(world)],
    }
    seeds = range(given.seeds)
    for name, sides, vectors_of in (
        ("FM, ids", False, None),
        ("FM, ids and features", True, None),
        ("FM, ids and vectors", False, both),
        ("FM, ids, features and vectors", True, both),
    ):
        say(name)
        runs[name] = [machine_of(world, seed, sides=sides, given=vectors_of) for seed in seeds]
    if given.peers:
        for dim in (10, 64):
            say(f"RecBole, {dim}")
            python = given.peers / "recbole" / "bin" / "python"
            runs[f"RecBole FM, ids and features, {dim} numbers"] = [recbole(world, given.folder, python, dim)]
    if given.json:
        print(json.dumps({"machine": about, "runs": runs}, indent=1))
        return
    print(machine.lines(about))
    print(f"{'':44}{'AUC':>16}{'GAUC':>16}{'log loss':>16}{'seconds':>9}")
    for name, found in runs.items():
        cells = []
        for metric in METRICS:
            values = [run[metric] for run in found]
            spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread}".rjust(16))
        print(f"{name:44}{''.join(cells)}{np.mean([run['seconds'] for run in found]):9.1f}")


if __name__ == "__main__":
    sys.exit(main())
