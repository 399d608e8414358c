"""A run is the same to the last bit whether its process compiles the kernels or finds them compiled."""

from dists import run_python

PROGRAM = """
from enhancer.contracts import Context
from enhancer.testing.backbone import Watcher, planted
from enhancer_plugins.backbones.fm import FM, FMOptions
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.concat import Concat, ConcatOptions
import hashlib

data = planted().data
for backbone, options in ((FM, FMOptions), (LightGCN, LightGCNOptions)):
    fuser = Concat(ConcatOptions(), Context())
    # Rows as short as these are where the two once differed.
    factors = backbone(options(dim=8, epochs=2), Context()).fit_checked(data, fuser, seed=0, monitor=Watcher()).factors
    print(hashlib.sha256(factors.users.tobytes() + factors.items.tobytes()).hexdigest())
"""


def test_compiled_here_or_before(tmp_path):
    first, second = (run_python(PROGRAM, NUMBA_CACHE_DIR=str(tmp_path)).stdout for _ in range(2))
    assert first == second
    assert list(tmp_path.rglob("*.nbi"))
