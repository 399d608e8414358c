"""A run gives the same bits in the process that compiles the kernels and in one that loads them from the cache."""

from dists import run_python

PROGRAM = """
from enhancer.contracts import Context
from enhancer.testing.planted import RecordingMonitor, planted
from enhancer_plugins.backbones.fm import FM, FMOptions
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.concat import Concat, ConcatOptions
import hashlib

data = planted().data
for backbone, options in ((FM, FMOptions), (LightGCN, LightGCNOptions)):
    fuser = Concat(ConcatOptions(), Context())
    # The two differed for rows this short in an earlier version.
    factors = backbone(options(dim=8, epochs=2), Context()).fit_checked(data, fuser, seed=0, monitor=RecordingMonitor()).factors
    print(hashlib.sha256(factors.users.tobytes() + factors.items.tobytes()).hexdigest())
"""


def test_compiled_here_or_before(tmp_path):
    first, second = (run_python(PROGRAM, timeout=300, NUMBA_CACHE_DIR=str(tmp_path)).stdout for _ in range(2))
    assert first == second
    assert list(tmp_path.rglob("*.nbi"))
