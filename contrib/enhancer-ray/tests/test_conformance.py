"""The runner keeps the contract, on a cluster of three nodes."""

from __future__ import annotations

import pytest
from enhancer_ray.runner import RayRunner

from enhancer.contracts import Context
from enhancer.testing.runner import RunnerConformance


class TestRay(RunnerConformance):
    runner_class = RayRunner
    ahead = 8

    @pytest.fixture
    def runner(self, cluster, tmp_path):
        options = RayRunner.options_class(address=cluster.address, retries=1)
        made = RayRunner(options, Context(root=tmp_path))
        yield made
        made.close()
