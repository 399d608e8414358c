"""Peers that ``training.py`` runs, each by the Python of its own environment: ``PYTHON training_peers.py NAME FOLDER CLONE``.

``FOLDER`` holds ``timed.npz`` (on which an epoch is timed), ``judged.npz`` (on which a whole run is judged) and
``settings.json``; CLONE is RLMRec's repository. Prints one line of JSON; writes factors to ``FOLDER/NAME-LOOK.npz``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def recbole(folder: Path, told: dict[str, int], clone: Path) -> dict[str, Any]:
    """RecBole's LightGCN: 64 numbers, three layers."""
    del clone
    spent, steps = _recbole(folder, "timed", told, told["epochs"] + 1)
    found = {"epoch_seconds": statistics.median(spent[1:]), "fastest": min(spent), "steps": steps}
    looks: list[dict[str, float]] = []

    def look(rows: dict[str, np.ndarray], epoch: int, seconds: float) -> None:
        np.savez(folder / f"recbole-{len(looks)}.npz", **rows)
        looks.append({"epoch": epoch, "seconds": seconds})

    if told["converge"]:
        _recbole(folder, "judged", told, told["converge"], look)
    return found | {"looks": looks}


def _recbole(folder: Path, split: str, told: dict[str, int], epochs: int, look: Any = None) -> tuple[list[float], int]:
    """Seconds of each epoch, and its steps; every tenth epoch and at the end the rows of users and items go to ``look``."""
    import torch

    # RecBole 1.2.1 reads checkpoints that hold more than tensors, which newer versions of torch refuse.
    real = torch.load
    torch.load = lambda *args, **kwargs: real(*args, **{"weights_only": False} | kwargs)
    torch.set_num_threads(told["threads"])
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.general_recommender import LightGCN
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    data = np.load(folder / f"{split}.npz")
    place = folder / split / "own"
    place.mkdir(parents=True)
    train = list(zip(data["train_users"].tolist(), data["train_items"].tolist(), strict=True))
    for part, pairs in (("train", train), ("valid", train[:1]), ("test", train[:1])):  # it wants three parts
        rows = "\n".join(f"{user}\t{item}" for user, item in pairs)
        (place / f"own.{part}.inter").write_text(f"user_id:token\titem_id:token\n{rows}\n")
    settings = {
        "data_path": str(folder / split), "benchmark_filename": ["train", "valid", "test"], "embedding_size": 64,
        "n_layers": 3, "train_batch_size": told["batch_size"], "learning_rate": 1e-3,
        "load_col": {"inter": ["user_id", "item_id"]}, "use_gpu": False, "gpu_id": "", "state": "ERROR",
        "show_progress": False, "log_wandb": False, "seed": 2020, "checkpoint_dir": str(folder / "saved"),
        "nproc": 1, "worker": 0,
    }  # fmt: skip
    sys.argv = sys.argv[:1]
    config = Config(model="LightGCN", dataset="own", config_dict=settings)
    init_seed(config["seed"], reproducibility=True)
    dataset = create_dataset(config)
    batches, _, _ = data_preparation(config, dataset)
    trainer = Trainer(config, LightGCN(config, batches.dataset).to("cpu"))
    spent: list[float] = []
    for epoch in range(1, epochs + 1):
        begun = time.perf_counter()
        trainer._train_epoch(batches, epoch, show_progress=False)
        spent.append(time.perf_counter() - begun)
        if look is not None and (epoch % 10 == 0 or epoch == epochs):
            with torch.no_grad():
                sides = dict(zip(("users", "items"), trainer.model.forward(), strict=True))
            look(_by_number(data, sides, dataset.field2token_id), epoch, sum(spent))
    return spent, len(batches)


def _by_number(data: Any, sides: dict[str, Any], places: dict[str, dict[str, int]]) -> dict[str, np.ndarray]:
    """Rows in the order of our numbers; RecBole has its own. What has no interaction has zeros."""
    rows = {}
    for side, field in (("users", "user_id"), ("items", "item_id")):
        own = sides[side].numpy()
        rows[side] = np.zeros((int(data[f"n_{side}"]), own.shape[1]), np.float32)
        for token, place in places[field].items():
            if token != "[PAD]":
                rows[side][int(token)] = own[place]
    return rows


def rlmrec(folder: Path, told: dict[str, Any], clone: Path, model: str = "lightgcn") -> dict[str, Any]:
    """RLMRec's own LightGCN, and its align (``lightgcn_plus``), by its own trainer; all edges are kept in every step."""
    import pickle
    import types

    import torch
    from scipy.sparse import coo_matrix

    torch.set_num_threads(told["threads"])
    device, dim, width = told.get("device", "cpu"), told.get("dim", 64), told.get("width", 384)
    data, random = np.load(folder / "timed.npz"), np.random.default_rng(0)
    shape = int(data["n_users"]), int(data["n_items"])
    own = folder / model / "data" / "amazon"  # the names that it knows
    own.mkdir(parents=True)
    for name in ("trn", "val", "tst"):
        part = "train" if name == "trn" else "test"
        pairs = data[f"{part}_users"], data[f"{part}_items"]
        matrix = coo_matrix((np.ones(len(pairs[0]), np.float32), pairs), shape)
        (own / f"{name}_mat.pkl").write_bytes(pickle.dumps(matrix))
    os.chdir(folder / model)
    configs = {
        "optimizer": {"name": "adam", "lr": 1e-3, "weight_decay": 0}, "device": device, "tune": {"enable": False},
        "train": {"batch_size": told["batch_size"], "loss": "pairwise", "reproducible": True, "seed": 0},
        "test": {"metrics": ["ndcg"], "k": [10], "batch_size": 1024}, "data": {"type": "general_cf", "name": "amazon"},
        "model": {"name": model, "keep_rate": 1.0, "embedding_size": dim, "layer_num": 3, "reg_weight": 1e-7,
                  "kd_weight": 1e-2, "kd_temperature": 0.2},
        "usrprf_embeds": random.standard_normal((shape[0], width)),
        "itmprf_embeds": random.standard_normal((shape[1], width)),
    }  # fmt: skip
    # Its configuration reads files of its own; it moves tensors to a GPU without asking.
    sys.modules["config.configurator"] = types.SimpleNamespace(configs=configs)  # type: ignore[assignment]
    if device == "cpu":
        torch.Tensor.cuda = lambda self, *_, **__: self
    sys.path.insert(0, str(clone / "encoder"))
    from data_utils.data_handler_general_cf import DataHandlerGeneralCF
    from trainer import trainer as trainers

    trainers.tqdm = lambda steps, **_: steps
    handler = DataHandlerGeneralCF()
    handler.load_data()
    class_name, module = {
        "lightgcn": ("LightGCN", "lightgcn"), "lightgcn_plus": ("LightGCN_plus", "lightgcn_plus"),
    }[model]  # fmt: skip
    made = getattr(__import__(f"models.general_cf.{module}", fromlist=[class_name]), class_name)(handler).to(device)
    trainer = trainers.Trainer(handler, None)
    trainer.create_optimizer(made)
    spent = []
    for epoch in range(max(told["epochs"] // 2, 1) + 1):
        begun = time.perf_counter()
        trainer.train_epoch(made, epoch)
        if device != "cpu":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - begun)
    return {"epoch_seconds": statistics.median(spent[1:]), "fastest": min(spent)}


def rlmrec_align(folder: Path, told: dict[str, Any], clone: Path) -> dict[str, Any]:
    """RLMRec-Con over LightGCN."""
    return rlmrec(folder, told, clone, "lightgcn_plus")


def flexmf(folder: Path, told: dict[str, int], clone: Path) -> dict[str, Any]:
    """LensKit's FlexMF with its preset ``lightgcn``; where it is judged, with step size and penalty of its own."""
    del clone
    _, spent = next(_flexmf(folder, "timed", told["epochs"] + 1, told, learning_rate=1e-3))
    found = {"epoch_seconds": statistics.median(spent[1:]), "fastest": min(spent)}
    looks: list[dict[str, float]] = []
    if told["converge"]:
        for rows, spent in _flexmf(folder, "judged", told["converge"], told, every=10):
            np.savez(folder / f"flexmf-{len(looks)}.npz", **rows)
            looks.append({"epoch": len(spent), "seconds": sum(spent)})
    return found | {"looks": looks}


def _flexmf(
    folder: Path, split: str, epochs: int, told: dict[str, int], *, every: int = 0, **options: Any
) -> Iterator[tuple[dict[str, np.ndarray], list[float]]]:
    """Rows of users and items, and the seconds of each epoch so far: every so many epochs, and at the end."""
    import pandas as pd
    import torch
    from lenskit.data import from_interactions_df
    from lenskit.flexmf import FlexMFImplicitConfig, FlexMFImplicitScorer
    from lenskit.training import TrainingOptions

    data = np.load(folder / f"{split}.npz")
    frame = pd.DataFrame({"user_id": data["train_users"], "item_id": data["train_items"]})
    config = FlexMFImplicitConfig(
        preset="lightgcn", embedding_size=64, batch_size=told["batch_size"], epochs=epochs, **options
    )
    scorer = FlexMFImplicitScorer(config)
    trainer = scorer.create_trainer(from_interactions_df(frame), TrainingOptions(rng=0))
    spent: list[float] = []
    for epoch in range(1, epochs + 1):
        begun = time.perf_counter()
        trainer.train_epoch()
        spent.append(time.perf_counter() - begun)
        if epoch == epochs or (every and epoch % every == 0):
            rows = {}
            with torch.no_grad():  # it propagates when a step begins: what it has is a step old
                trainer.model.update_convolution(trainer.data.ui_matrix, trainer.data.iu_matrix)
                for side, layers, names in (
                    ("users", trainer.model.u_layers, scorer.users),
                    ("items", trainer.model.i_layers, scorer.items),
                ):
                    rows[side] = np.zeros((int(data[f"n_{side}"]), layers.shape[2]), np.float32)
                    rows[side][names.ids()] = layers.mean(0).numpy()
            yield rows, spent


def als(folder: Path, told: dict[str, int], clone: Path) -> dict[str, Any]:
    """implicit's alternating least squares: another model, as a line to measure by; settings found on validation."""
    del clone
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    data = np.load(folder / "judged.npz")
    shape = (int(data["n_users"]), int(data["n_items"]))
    pairs = (data["train_users"], data["train_items"])
    ratings = csr_matrix((np.ones(len(pairs[0]), np.float32), pairs), shape)
    model = AlternatingLeastSquares(
        factors=32, regularization=30.0, alpha=4.0, iterations=15, random_state=0,
        num_threads=told["threads"],
    )  # fmt: skip
    begun = time.perf_counter()
    model.fit(ratings, show_progress=False)
    seconds = time.perf_counter() - begun
    np.savez(folder / "als-0.npz", users=model.user_factors, items=model.item_factors)
    return {"epoch_seconds": seconds / 15, "looks": [{"epoch": 15, "seconds": seconds}]}


if __name__ == "__main__":
    known = {"recbole": recbole, "rlmrec": rlmrec, "rlmrec-align": rlmrec_align, "flexmf": flexmf, "als": als}
    place = Path(sys.argv[2])
    with contextlib.redirect_stdout(io.StringIO()):
        result = known[sys.argv[1]](place, json.loads((place / "settings.json").read_text()), Path(sys.argv[3]))
    print(json.dumps(result))
