"""Do tasks on a Ray cluster. Ray decides where each runs, and does those again that were lost."""

from __future__ import annotations

import contextlib
import logging
import uuid
from typing import TYPE_CHECKING, Any

import ray

from enhancer.contracts import Context, Options, Runner
from enhancer.errors import EvaluationError
from enhancer_ray.cluster import check_software, connect, working_nodes
from enhancer_ray.options import RayOptions
from enhancer_ray.tasks import Failure, Inbox, LogLine, do_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from enhancer.contracts import Job
    from enhancer.contracts.runner import Report, Result, Task

_SPARE = 2
"""Tasks that wait at Ray for each one that it has room for, so that no core is idle, and an autoscaler sees demand."""
_INTERVAL = 0.25
"""Seconds between two looks for events."""
_log = logging.getLogger(__name__)


class RayRunner(Runner):
    """Tasks are tasks of Ray. A job is put into its object store once, and read by each process that does its tasks."""

    options_class = RayOptions
    apart = True

    def __init__(self, options: Options, context: Context) -> None:
        """Keep the options; nothing is connected."""
        super().__init__(options, context)
        assert isinstance(options, RayOptions)
        self._options = options
        self._connected = False
        self._ours = False

    def connect(self, distributions: Mapping[str, str | None]) -> int:
        """Connect to the cluster, and check the software of each machine; see the contract."""
        self._connect()
        nodes = working_nodes()
        check_software(nodes, distributions)
        return len(nodes)

    def _connect(self) -> None:
        if not self._connected:
            self._ours = connect(self._options.address)
            self._connected = True

    def map(
        self, job: Job[Task, Result], tasks: Iterable[Task], *, workers: int, on_event: Report
    ) -> Iterator[tuple[Task, Result]]:
        """Do tasks on the cluster; ``[runner] workers`` limits their number, and ``workers`` does not apply."""
        del workers
        self._connect()
        options = self._options
        job_id, box = uuid.uuid4().hex, [ray.put(job)]
        inbox = (
            ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Inbox)
            .options(name=f"enhancer: events of {job.name} {job_id[:8]}")
            .remote()
        )
        do = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_retries=options.retries)(do_task)
        waiting, running, ended = iter(tasks), dict[Any, Any](), False
        try:
            while True:
                while not ended and len(running) < self._room():
                    following = next(waiting, _END)
                    if following is _END:
                        ended = True
                        break
                    title = job.title(following)  # type: ignore[arg-type]
                    reference = do.options(name=f"enhancer: {job.name} {title}").remote(
                        job_id, box, title, following, inbox
                    )
                    running[reference] = following
                if not running:
                    break
                ready, _ = ray.wait([*running], num_returns=1, timeout=_INTERVAL)
                if not ready:
                    _pass_on(ray.get(inbox.take.remote()), on_event)
                    continue
                task = running.pop(ready[0])
                result = self._result(ready[0], job.title(task))
                _pass_on(ray.get(inbox.take.remote()), on_event)
                if isinstance(result, Failure):
                    raise result.error
                yield task, result
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)
            with contextlib.suppress(Exception):
                ray.kill(inbox)

    def _room(self) -> int:
        """Return the number of tasks that Ray may have at a time."""
        if self._options.workers is not None:
            return self._options.workers
        resources = ray.cluster_resources()
        slots = resources.get("CPU", 0.0) / self._options.cpus
        if self._options.gpus:
            slots = min(slots, resources.get("GPU", 0.0) / self._options.gpus)
        return _SPARE * max(1, int(slots))

    def _result(self, reference: Any, title: str) -> Any:
        try:
            return ray.get(reference)
        except ray.exceptions.OutOfMemoryError:
            raise EvaluationError(
                f"{title} was ended on each machine that tried it, because memory ran low",
                hint="set [runner] cpus higher, so that fewer tasks share a machine",
            ) from None
        except ray.exceptions.RayError as error:
            raise EvaluationError(
                f"{title}: the process that did it ended, also when it was done again"
                f" ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
                hint="it may have run out of memory: set [runner] cpus higher, so that fewer tasks share a machine",
            ) from None

    def close(self) -> None:
        """Disconnect; a cluster that was started with the command ends."""
        if self._ours:
            ray.shutdown()
        self._connected = self._ours = False


_END = object()


def _pass_on(events: list[Any], on_event: Report) -> None:
    for event in events:
        if isinstance(event, LogLine):
            extra = {"node": event.node, "task": event.task}
            logging.getLogger(event.logger).log(
                event.level, "%s [%s on %s]", event.message, event.task, event.node, extra=extra
            )
        else:
            on_event(event)
