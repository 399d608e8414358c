"""Peers that ``training.py`` runs, each by the Python of its own environment: ``PYTHON training_peers.py NAME FOLDER EPOCHS``.

``FOLDER`` holds ``timed.npz`` (on which an epoch is timed) and ``judged.npz`` (on which a whole run is judged, where
that takes seconds rather than minutes). Prints one line of JSON; writes factors to ``FOLDER/NAME.npz``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def recbole(folder: Path, epochs: int) -> dict[str, Any]:
    """RecBole's LightGCN: 64 numbers, three layers, batches of 2,048; reads its atomic files."""
    import torch

    # RecBole 1.2.1 reads checkpoints that hold more than tensors, which newer versions of torch refuse.
    real = torch.load
    torch.load = lambda *args, **kwargs: real(*args, **{"weights_only": False} | kwargs)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.general_recommender import LightGCN
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    data = np.load(folder / "timed.npz")
    place = folder / "recbole" / "own"
    place.mkdir(parents=True)
    parts = {"train": "train", "valid": "test", "test": "test"}  # RecBole wants three parts; no epoch reads the others
    for part, source in parts.items():
        pairs = zip(data[f"{source}_users"], data[f"{source}_items"], strict=True)
        rows = "\n".join(f"u{user}\ti{item}" for user, item in pairs)
        (place / f"own.{part}.inter").write_text(f"user_id:token\titem_id:token\n{rows}\n")
    settings = {
        "data_path": str(folder / "recbole"), "benchmark_filename": list(parts), "embedding_size": 64, "n_layers": 3,
        "train_batch_size": 2048, "learning_rate": 1e-3, "load_col": {"inter": ["user_id", "item_id"]},
        "use_gpu": False, "gpu_id": "", "state": "ERROR", "show_progress": False, "log_wandb": False, "seed": 2020,
        "checkpoint_dir": str(folder / "saved"), "nproc": 1, "worker": 0,
    }  # fmt: skip
    sys.argv = sys.argv[:1]
    config = Config(model="LightGCN", dataset="own", config_dict=settings)
    init_seed(config["seed"], reproducibility=True)
    dataset = create_dataset(config)
    batches, _, _ = data_preparation(config, dataset)
    trainer = Trainer(config, LightGCN(config, batches.dataset).to("cpu"))
    spent = []
    for epoch in range(epochs + 1):
        begun = time.perf_counter()
        trainer._train_epoch(batches, epoch, show_progress=False)
        spent.append(time.perf_counter() - begun)
    return {"epoch_seconds": statistics.median(spent[1:]), "fastest": min(spent), "steps": len(batches)}


def flexmf(folder: Path, epochs: int) -> dict[str, Any]:
    """LensKit's FlexMF with its preset ``lightgcn``."""
    import pandas as pd
    from lenskit.data import from_interactions_df
    from lenskit.flexmf import FlexMFImplicitConfig, FlexMFImplicitScorer
    from lenskit.training import TrainingOptions

    data = np.load(folder / "timed.npz")
    frame = pd.DataFrame({"user_id": data["train_users"], "item_id": data["train_items"]})
    config = FlexMFImplicitConfig(
        preset="lightgcn", embedding_size=64, batch_size=2048, epochs=epochs + 1, learning_rate=1e-3
    )
    scorer = FlexMFImplicitScorer(config)
    spent = []
    trainer = scorer.create_trainer(from_interactions_df(frame), TrainingOptions(rng=0))
    for _ in range(epochs + 1):
        begun = time.perf_counter()
        trainer.train_epoch()
        spent.append(time.perf_counter() - begun)
    return {"epoch_seconds": statistics.median(spent[1:]), "fastest": min(spent)}


def als(folder: Path, epochs: int) -> dict[str, Any]:
    """implicit's alternating least squares: another model, as a line to measure by; settings found on validation."""
    del epochs
    from implicit.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    data = np.load(folder / "judged.npz")
    shape = (int(data["n_users"]), int(data["n_items"]))
    pairs = (data["train_users"], data["train_items"])
    ratings = csr_matrix((np.ones(len(pairs[0]), np.float32), pairs), shape)
    model = AlternatingLeastSquares(
        factors=32, regularization=30.0, alpha=4.0, iterations=15, random_state=0,
        num_threads=int(os.environ["OMP_NUM_THREADS"]),
    )  # fmt: skip
    begun = time.perf_counter()
    model.fit(ratings, show_progress=False)
    seconds = time.perf_counter() - begun
    np.savez(folder / "als.npz", users=model.user_factors, items=model.item_factors)
    return {"seconds": seconds, "epoch_seconds": seconds / 15}


if __name__ == "__main__":
    known = {"recbole": recbole, "flexmf": flexmf, "als": als}
    with contextlib.redirect_stdout(io.StringIO()):
        result = known[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps(result))
