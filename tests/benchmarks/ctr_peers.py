"""RecBole's FM, by the Python of its own environment: ``PYTHON ctr_peers.py FOLDER DIM``.

``FOLDER/own`` holds a split in RecBole's atomic files. Writes log-odds of the test pairs, in their order, to
``FOLDER/scores.npy``, and prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    """Train until validation stops improving, and score."""
    folder, dim = Path(sys.argv[1]), int(sys.argv[2])
    sys.argv = sys.argv[:1]
    import torch

    # RecBole 1.2.1 reads checkpoints that hold more than tensors, which newer versions of torch refuse.
    real = torch.load
    torch.load = lambda *args, **kwargs: real(*args, **{"weights_only": False} | kwargs)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.context_aware_recommender import FM
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    settings = {
        "data_path": str(folder), "benchmark_filename": ["train", "valid", "test"], "embedding_size": dim,
        "load_col": {
            "inter": ["user_id", "item_id", "label"],
            "user": ["user_id", "age", "gender", "occupation"],
            "item": ["item_id", "release_year", "class"],
        },
        "normalize_all": True, "train_neg_sample_args": None, "eval_args": {"mode": "labeled", "order": "RO", "group_by": None},
        "metrics": ["AUC", "LogLoss"], "valid_metric": "AUC", "use_gpu": False, "gpu_id": "", "state": "ERROR",
        "show_progress": False, "log_wandb": False, "seed": 2020, "checkpoint_dir": str(folder / "saved"), "nproc": 1,
        "worker": 0, "eval_batch_size": 4096, "learning_rate": 5e-3,
    }  # fmt: skip
    config = Config(model="FM", dataset="own", config_dict=settings)
    init_seed(config["seed"], reproducibility=True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = FM(config, train.dataset).to("cpu")
    trainer = Trainer(config, model)
    begun = time.perf_counter()
    trainer.fit(train, valid, verbose=False, saved=True, show_progress=False)
    seconds = time.perf_counter() - begun
    own = trainer.evaluate(test, load_best_model=True, show_progress=False)
    model.eval()
    scores = {}
    with torch.no_grad():
        for batch in test:
            interaction = batch[0]
            made = model.forward(interaction)
            for user, item, score in zip(interaction["user_id"], interaction["item_id"], made, strict=True):
                scores[int(user), int(item)] = float(score)
    lines = (folder / "own" / "own.test.inter").read_text(encoding="utf-8").splitlines()[1:]
    ordered = []
    for line in lines:
        user, item, _ = line.split("\t")
        ordered.append(scores[dataset.token2id("user_id", user), dataset.token2id("item_id", item)])
    np.save(folder / "scores.npy", np.array(ordered))
    print(json.dumps({"seconds": seconds, "own_auc": float(own["auc"]), "own_logloss": float(own["logloss"])}))


if __name__ == "__main__":
    main()
