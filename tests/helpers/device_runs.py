"""Train pairs of backbone and fuser on the CPU and on another device, and print the differences as JSON::

    python tests/helpers/device_runs.py cuda
    python tests/helpers/device_runs.py standin

Each run on the device is repeated. On ``standin``, which counts synchronisations, it is repeated once more with half the
batch size: twice as many training steps must not synchronise more often. Runs in a separate process, because ``standin``
cannot be unregistered.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from typing import Any

import numpy as np
import stand_in_device
import torch

from enhancer.contracts import Context
from enhancer.testing.planted import RecordingMonitor, labelled, planted
from enhancer_plugins.backbones.fm import FM, FMOptions
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.adapter import Adapter, AdapterOptions
from enhancer_plugins.fusers.align import Align, AlignOptions
from enhancer_plugins.fusers.concat import Concat, ConcatOptions
from enhancer_plugins.fusers.extrapolate import Extrapolate, ExtrapolateOptions
from enhancer_plugins.fusers.generate import Generate, GenerateOptions
from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions
from enhancer_plugins.fusers.prior import Prior, PriorOptions
from enhancer_plugins.fusers.semantic import Semantic, SemanticOptions

OPTIONS: dict[str, Any] = {"dim": 16, "epochs": 2, "batch_size": 256, "learning_rate": 1e-3, "engine": "torch"}
BACKBONES = {"lightgcn": (LightGCN, LightGCNOptions), "fm": (FM, FMOptions)}
FUSERS = {
    "none": (NoFusion, NoFusionOptions),
    "prior": (Prior, PriorOptions),
    "concat": (Concat, ConcatOptions),
    "align": (Align, AlignOptions),
    "adapter": (Adapter, AdapterOptions),
    "generate": (Generate, GenerateOptions),
    "semantic": (Semantic, SemanticOptions),
    "extrapolate": (Extrapolate, ExtrapolateOptions),
}
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{f"lightgcn-{fuser}": ("lightgcn", fuser, {}) for fuser in FUSERS},
    **{f"fm-{fuser}": ("fm", fuser, {}) for fuser in ("none", "prior", "concat", "align", "adapter")},
    "lightgcn-projected": ("lightgcn", "concat", {"fuser": {"projection": 8}}),
    "lightgcn-in-batch": ("lightgcn", "align", {"loss": "softmax", "in_batch": True}),
    "lightgcn-softmax": ("lightgcn", "none", {"loss": "softmax", "similarity": "cosine"}),
    "lightgcn-multinomial": ("lightgcn", "concat", {"loss": "multinomial", "batch_size": None}),
    "fm-softmax": ("fm", "concat", {"loss": "softmax"}),
    "fm-log": ("fm", "concat", {"loss": "log"}),
}


def fit(name: str, device: str, **other: Any) -> Any:
    """Train one pair."""
    backbone, fuser, more = RUNS[name]
    more = {**OPTIONS, **more, **other, "device": device}
    fuser_class, fuser_options = FUSERS[fuser]
    fusion = fuser_class(fuser_options(**more.pop("fuser", {})), Context())
    backbone_class, options_class = BACKBONES[backbone]
    data = labelled(planted()) if more.get("loss") == "log" else planted().data
    return backbone_class(options_class(**more), Context()).fit_checked(
        data, fusion, seed=0, monitor=RecordingMonitor()
    )


def compared(name: str, device: str) -> dict[str, Any]:
    """Train a pair on both devices and compare losses and factors."""
    here = fit(name, "cpu")
    stand_in_device.WAITS.clear()
    there = fit(name, device)
    waits = [sorted(stand_in_device.WAITS)]
    again = fit(name, device)
    if device == stand_in_device.NAME:
        stand_in_device.WAITS.clear()
        fit(name, device, batch_size=OPTIONS["batch_size"] // 2)
        waits.append(sorted(stand_in_device.WAITS))
    return {
        "losses": [[epoch["loss"] for epoch in made.history] for made in (here, there, again)],
        "apart": [
            float(np.linalg.norm(mine - other) / np.linalg.norm(mine))
            for mine, other in ((here.factors.users, there.factors.users), (here.factors.items, there.factors.items))
        ],
        "equal": all(
            np.array_equal(one, two)
            for one, two in ((there.factors.users, again.factors.users), (there.factors.items, again.factors.items))
        ),
        "waits": waits,
    }


def main(device: str) -> None:
    """Compare all pairs."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if device == stand_in_device.NAME:
        stand_in_device.install()
    found = {}
    for name in RUNS:
        try:
            found[name] = compared(name, device)
        except Exception:  # noqa: BLE001 - reported by the test of this pair
            found[name] = {"error": traceback.format_exc()}
    print(json.dumps(found))
    stand_in_device.leave()


if __name__ == "__main__":
    main(sys.argv[1])
