"""The best LightGCN without any vectors, beside ALS and EASE tuned on validation::

    python tests/benchmarks/recipes.py FOLDER
    python tests/benchmarks/recipes.py FOLDER --grid --first 0 --splits 2

``FOLDER`` holds MovieLens-100k as ``ml-100k.inter``. All ratings are positives; ``--splits`` random 80/10/10 splits of each user's,
beginning with number 100: the settings of ``multinomial`` were chosen by the validation parts of splits 0 and 1, and nobody looked at
these before. Ranking is over all items; NDCG@10 on validation stops training and picks the settings of ALS (``implicit``, if it is
installed), of EASE and of ``multinomial, tuned`` from a grid, split by split. Means and standard deviations over splits; differences from ALS by a paired t-test.

``--grid`` looks around the defaults of both losses, step size by regularisation, and prints NDCG@10 on validation alone: the test part is
not looked at.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from splits import Data, Part, movielens

METRICS = ("ndcg@10", "recall@20")
DEFAULTS: dict[str, Any] = {}
MULTINOMIAL: dict[str, Any] = {"loss": "multinomial"}


def scores(factors: Any, data: Data, part: Part, seen: tuple[Part, ...]) -> dict[str, float]:
    """Over all items."""
    from enhancer.evaluation import CSR, evaluate

    return evaluate(factors, part, seen=CSR.of(seen, data.n_users), metrics=METRICS).means()


class Watch:
    """A monitor that validates."""

    checkpoint = None

    def __init__(self, data: Data) -> None:
        self._data = data

    def validate(self, factors: Any) -> float:
        """NDCG@10 on the validation part."""
        return scores(factors, self._data, self._data.validation, (self._data.train,))["ndcg@10"]

    def epoch_finished(self, *told: Any) -> None:
        """Nothing to tell."""


def lightgcn(data: Data, seed: int, options: dict[str, Any]) -> Any:
    """The factors of one run."""
    from enhancer.contracts import Context, TrainingData
    from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
    from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions

    training = TrainingData(n_users=data.n_users, n_items=data.n_items, users=data.train.users, items=data.train.items)
    backbone = LightGCN(LightGCNOptions(**options), Context())
    return backbone.fit_checked(
        training, NoFusion(NoFusionOptions(), Context()), seed=seed, monitor=Watch(data)
    ).factors


def best(data: Data, candidates: Any) -> Any:
    """The factors that validation prefers."""
    watch = Watch(data)
    return max(candidates, key=watch.validate)


def als(data: Data) -> Any:
    """Alternating least squares by the library ``implicit``, the best of 24 settings."""
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    from enhancer.contracts import Factors

    pairs = data.train.users, data.train.items
    interactions = csr_matrix((np.ones(len(pairs[0]), np.float32), pairs), (data.n_users, data.n_items))

    def fit(factors: int, regularisation: float, weight: float) -> Factors:
        model = AlternatingLeastSquares(
            factors=factors, regularization=regularisation, alpha=weight, iterations=15, use_gpu=False, num_threads=1,
            random_state=0,
        )  # fmt: skip
        model.fit(interactions, show_progress=False)
        return Factors(np.asarray(model.user_factors, np.float32), np.asarray(model.item_factors, np.float32))

    grid = itertools.product((32, 64), (20.0, 30.0, 45.0), (3.0, 4.0, 5.0, 7.0))
    return best(data, (fit(*settings) for settings in grid))


def ease(data: Data) -> Any:
    """EASE, the best of six settings."""
    from enhancer.contracts import Context, TrainingData
    from enhancer_plugins.backbones.ease import EASE, EASEOptions
    from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions

    training = TrainingData(n_users=data.n_users, n_items=data.n_items, users=data.train.users, items=data.train.items)
    plain = NoFusion(NoFusionOptions(), Context())
    return best(
        data,
        (
            EASE(EASEOptions(regularisation=value), Context())
            .fit_checked(training, plain, seed=0, monitor=Watch(data))
            .factors
            for value in (200.0, 300.0, 400.0, 500.0, 700.0, 1000.0)
        ),
    )


def grid(folder: Path, splits: range) -> None:
    """Print what validation says of the defaults and their neighbours."""
    from enhancer_plugins.backbones.lightgcn import LightGCNOptions

    for settings in (DEFAULTS, MULTINOMIAL):
        own = LightGCNOptions(**settings)
        for rate, penalty in itertools.product((0.5, 1.0, 2.0), (0.5, 1.0, 2.0)):
            options = settings | {
                "learning_rate": own.learning_rate * rate, "regularisation": own.regularisation * penalty,
            }  # fmt: skip
            found = []
            for number in splits:
                data = movielens(folder, 0.1, 0.1, seed=number)
                found.append(Watch(data).validate(lightgcn(data, number, options)))
            print(json.dumps({"loss": own.loss} | options | {"validation": float(np.mean(found))}), flush=True)


def tuned(data: Data, seed: int) -> Any:
    """The multinomial, the best of eight settings."""
    space = itertools.product((64, 128), (0.7, 0.9), (3, 4))
    names = "dim", "regularisation", "layers"
    return best(data, (lightgcn(data, seed, MULTINOMIAL | dict(zip(names, values, strict=True))) for values in space))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where ml-100k.inter is")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--first", type=int, default=100, help="number of the first split")
    parser.add_argument("--only", nargs="*", help="some of the lines")
    parser.add_argument("--grid", action="store_true", help="around the defaults, on validation alone")
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args()
    import numba
    import torch

    from enhancer.evaluation import paired

    numba.set_num_threads(min(told.threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(told.threads)
    if told.grid:
        grid(told.folder, range(told.first, told.first + told.splits))
        return
    lines: dict[str, Any] = {"als": lambda data, seed: als(data)} if find_spec("implicit") else {}
    lines |= {
        "ease": lambda data, seed: ease(data),
        "lightgcn": lambda data, seed: lightgcn(data, seed, DEFAULTS),
        "multinomial": lambda data, seed: lightgcn(data, seed, MULTINOMIAL),
        "multinomial, tuned": tuned,
    }
    lines = {name: make for name, make in lines.items() if name in (told.only or lines)}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in lines}
    for number in range(told.first, told.first + told.splits):
        data = movielens(told.folder, 0.1, 0.1, seed=number)
        for name, make in lines.items():
            begun = time.perf_counter()
            factors = make(data, number)
            seconds = time.perf_counter() - begun
            validation = scores(factors, data, data.validation, (data.train,))["ndcg@10"]
            test = scores(factors, data, data.test, (data.train, data.validation))
            runs[name].append({"split": number, "seconds": seconds, "validation": validation, **test})
            print(json.dumps({name: runs[name][-1]}), flush=True)
    found: dict[str, Any] = {"machine": machine("enhancer", "torch", "numba", "implicit"), "multinomial": MULTINOMIAL}
    reference = "als" if "als" in runs else next(iter(runs))
    for name, own in runs.items():
        columns = {key: np.array([run[key] for run in own]) for key in ("validation", *METRICS, "seconds")}
        found[name] = {key: [float(values.mean()), float(values.std(ddof=1))] for key, values in columns.items()}
        for metric in METRICS if name != reference else ():
            other = [run[metric] for run in runs[reference]]
            test = paired(columns[metric].tolist(), other)
            found[name][f"{metric} against {reference}"] = {
                "delta": test.delta, "t": test.t, "df": test.df, "p": test.p,
                "splits won": int(np.sum(columns[metric] > np.array(other))),
            }  # fmt: skip
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
