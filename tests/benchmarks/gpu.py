"""Training time on a GPU, beside this machine's CPU and beside RLMRec's own code on the same GPU::

    python tests/benchmarks/gpu.py
    python tests/benchmarks/gpu.py --clone RLMREC --millions 1 10

The size is that of RLMRec's amazon-book: 11,000 users, 9,332 items, 120,464 made-up power-law interactions; its own settings:
embeddings of 32 numbers, three layers, 4,096 interactions a step, vectors of 1,536 numbers. RLMRec (Ren et al. 2024, table 5)
prints 1.01 seconds an epoch for LightGCN there and 1.94 with its contrastive alignment, on an RTX 3090. ``align`` is timed with every
node of a step aligned, as there, and with the library's default of 128. ``--clone`` is a folder with RLMRec's repository, whose own
trainer then runs on the same arrays and the same GPU. ``--millions`` times so many millions of made-up interactions at the library's
defaults (64 numbers, steps of a fortieth of the interactions).

Run ``gowalla.py`` on a machine with a GPU for a whole run: it takes the GPU by itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import machine
from scale import Unwatched
from splits import Data, Part, power_law

PUBLISHED = {"none": 1.01, "align": 1.94}
USERS, ITEMS, INTERACTIONS = 11_000, 9_332, 120_464
DIM, WIDTH, BATCH = 32, 1_536, 4_096


def amazon_book() -> Data:
    """Made-up interactions of that size: activity and popularity are power laws, pairs unique."""
    random = np.random.default_rng(0)
    chances = [np.cumsum(random.pareto(2.5, USERS) + 0.5), np.cumsum(1 / np.arange(1, ITEMS + 1) ** 0.6)]
    pairs = np.empty(0, np.int64)
    while len(pairs) < INTERACTIONS:
        users, items = (np.searchsorted(each, random.random(INTERACTIONS) * each[-1]) for each in chances)
        pairs = np.unique(np.concatenate([pairs, users * ITEMS + items]))
    users, items = np.divmod(random.permutation(pairs)[:INTERACTIONS], ITEMS)
    whole, some = (
        Part(users.astype(np.int32), items.astype(np.int32)),
        Part(np.zeros(1, np.int32), np.zeros(1, np.int32)),
    )
    return Data(USERS, ITEMS, whole, some, some)


def epochs_of(data: Data, device: str, fuser: Any, epochs: int, **options: Any) -> dict[str, float]:
    """Seconds an epoch, after two that warm up."""
    from enhancer.contracts import Context, TrainingData
    from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions

    known, random = {}, np.random.default_rng(0)
    if fuser.uses_semantics:
        for name, n in (("user_vectors", data.n_users), ("item_vectors", data.n_items)):
            known[name] = random.standard_normal((n, WIDTH)).astype(np.float32)
    training = TrainingData(
        n_users=data.n_users, n_items=data.n_items, users=data.train.users, items=data.train.items, **known
    )
    backbone = LightGCN(LightGCNOptions(device=device, epochs=epochs + 2, **options), Context())
    seconds = [
        entry["seconds"] for entry in backbone.fit_checked(training, fuser, seed=0, monitor=Unwatched()).history[2:]
    ]
    return {"epoch_seconds": median(seconds), "fastest": min(seconds)}


def fusers() -> dict[str, Any]:
    """None, align with all nodes of a step, and align as it is by default."""
    from enhancer.contracts import Context
    from enhancer_plugins.fusers.align import Align, AlignOptions
    from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions

    return {
        "none": NoFusion(NoFusionOptions(), Context()),
        "align": Align(AlignOptions(nodes_per_step=0), Context()),
        "align, 128 nodes a step": Align(AlignOptions(), Context()),
    }


def rlmrec(data: Data, clone: Path, epochs: int) -> dict[str, Any]:
    """RLMRec's own code on the GPU."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        data.save(Path(place) / "timed.npz")
        settings = {
            "epochs": 2 * epochs, "batch_size": BATCH, "threads": 2, "device": "cuda", "dim": DIM, "width": WIDTH,
        }  # fmt: skip
        (Path(place) / "settings.json").write_text(json.dumps(settings))
        script = Path(__file__).with_name("training_peers.py")
        for arm, peer in (("none", "rlmrec"), ("align", "rlmrec-align")):
            own = [sys.executable, str(script), peer, place, str(clone.absolute())]
            done = subprocess.run(own, capture_output=True, text=True, check=False, cwd=place)
            failed = {"error": done.stderr.strip().splitlines()[-3:]}
            found[arm] = failed if done.returncode else json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clone", type=Path, help="RLMRec's repository")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--millions", type=float, nargs="*", default=[])
    parser.add_argument("--devices", nargs="+", default=["cuda", "cpu"])
    told = parser.parse_args()
    import torch

    found: dict[str, Any] = {"machine": machine("enhancer", "torch", "numba"), "published, RTX 3090": PUBLISHED}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    data = amazon_book()
    for device in told.devices:
        own = {"dim": DIM, "batch_size": BATCH}
        found[device] = {
            name: epochs_of(data, device, fuser, told.epochs, **own) for name, fuser in fusers().items()
        }  # fmt: skip
    if told.clone is not None:
        found["RLMRec's own code"] = rlmrec(data, told.clone, max(told.epochs // 2, 2))
    for millions in told.millions:
        large = power_law(millions)
        found[f"{millions:g} million"] = {
            device: epochs_of(large, device, fusers()["none"], 5 if device == "cuda" else 1) for device in told.devices
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
