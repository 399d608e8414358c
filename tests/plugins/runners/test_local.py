"""The runner of this machine."""

from __future__ import annotations

import multiprocessing

from enhancer.testing.runner import RunnerConformance
from enhancer_plugins.runners.local import LocalRunner


class TestLocal(RunnerConformance):
    runner_class = LocalRunner
    ahead = 2


def test_no_process_is_left_when_the_caller_stops_early(tmp_path):
    from enhancer.contracts import Job
    from enhancer.testing.runner import _squaring

    found = LocalRunner().map(Job(name="square", start=_squaring), range(100), workers=2, on_event=lambda _: None)
    next(found)
    found.close()
    assert multiprocessing.active_children() == []
