"""Serve one artifact by several processes on one port.

The supervisor binds the port, loads the artifact and forks the workers, which share its pages in memory. All watch the
artifact. A worker that is started again has the last artifact that could be loaded, whatever is on disk by then. On
Linux each worker has a listening socket of its own on the port, and the kernel spreads connections over them.
Connections of a worker that has ended wait for the next one, which starts at once; the socket of one that ends again
and again is closed until it is started. Elsewhere all workers accept from one socket.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from enhancer.errors import ConfigError, EnhancerError
from enhancer.serving.service.metrics import Board, Metrics
from enhancer.serving.service.server import address, check_libraries, listen, run

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from enhancer.serving.service.live_ranker import LiveRanker
    from enhancer.serving.service.settings import Limits

_log = logging.getLogger("enhancer.serving")
_STEADY_SECONDS: Final = 10.0
"""A worker that has lived longer is started again at once when it ends; others wait, longer each time."""
_LONGEST_WAIT: Final = 30.0
_SHORTEST_WAIT: Final = 0.1
"""Seconds until workers are started again if none is left."""
_SPARE_SECONDS: Final = 5.0
"""Beyond the grace of requests, before a worker is killed."""


def serve_by_workers(
    load: Callable[[], LiveRanker],
    workers: int,
    *,
    host: str,
    port: int,
    limits: Limits,
    watch: float,
    grace: float,
    access_log: bool,
    tell: Callable[[EnhancerError], None],
) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reloads the artifact in every worker. Must be called in the main thread.

    Args:
        load: Opens the artifact; called once, before there are workers.
        workers: Number of processes.
        host: As for :func:`~enhancer.serving.service.server.serve`.
        port: Likewise.
        limits: Likewise; they hold for each worker.
        watch: Likewise.
        grace: Likewise.
        access_log: Likewise.
        tell: Prints an error that keeps a worker from starting.

    Returns:
        0, 130 after SIGINT, or the exit code of a first worker that could not start.

    Raises:
        ConfigError: Libraries are missing, the address cannot be bound, or the system has no fork.
        ArtifactError: The artifact is missing or damaged.
    """
    if not hasattr(os, "fork"):
        raise ConfigError("this system cannot fork processes", hint="start several services on ports of their own")
    check_libraries()
    limits = limits.checked()
    live = load()

    def work(listener: socket.socket, metrics: Metrics, parent: int) -> int:
        try:
            live.reports = False  # the supervisor does
            run(
                live,
                listener,
                limits=limits,
                watch=watch,
                grace=grace,
                access_log=access_log,
                metrics=metrics,
                parent=parent,
            )
        except EnhancerError as error:
            tell(error)
            return error.exit_code
        return 0

    with contextlib.ExitStack() as stack:
        listeners = _listeners(host, port, workers)
        _log.info("listening on http://%s with %d workers", address(listeners[0]), workers)
        again = partial(listen, host, listeners[0].getsockname()[1], shared=True) if len(listeners) > 1 else None
        supervisor = _Supervisor(live, listeners, again, workers, work, grace, watch)
        stack.callback(supervisor.close)
        return supervisor.run()


def _listeners(host: str, port: int, workers: int) -> list[socket.socket]:
    """Return a listening socket for each worker; on systems that do not spread connections, one for all."""
    first = listen(host, port)  # fails if anybody listens here, also with a shared port
    if sys.platform != "linux":
        return [first]
    port = first.getsockname()[1]
    first.close()
    return [listen(host, port, shared=True) for _ in range(workers)]


@dataclass(slots=True)
class _Worker:
    number: int
    pid: int = 0
    started: float = 0.0
    failures: int = 0
    """Times in a row that it ended soon."""
    again_at: float = field(default=0.0)
    """When to start it, on the monotonic clock, if it does not run."""


class _Supervisor:
    """Starts workers, starts them again, and hands on signals."""

    def __init__(
        self,
        live: LiveRanker,
        listeners: list[socket.socket],
        listen_again: Callable[[], socket.socket] | None,
        workers: int,
        work: Callable[[socket.socket, Metrics, int], int],
        grace: float,
        watch: float,
    ) -> None:
        self._live, self._watch = live, watch
        self._listeners, self._listen_again, self._work, self._grace = listeners, listen_again, work, grace
        self._board = Board(workers)
        self._workers = [_Worker(number) for number in range(workers)]
        self._alive, self._alive_writer = os.pipe()  # at its end once this process has ended
        self._signals: list[int] = []
        self._was_ready = False
        self._look_at = 0.0

    def close(self) -> None:
        """Close the listening sockets."""
        for listener in self._listeners:
            listener.close()

    def run(self) -> int:
        """Supervise until a signal to stop; return the exit code."""
        wake, waker = os.pipe()
        os.set_blocking(waker, False)
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        old = {number: signal.signal(number, self._note) for number in handled}
        old_waker = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        try:
            return self._supervise(wake)
        finally:
            self._end_workers()
            signal.set_wakeup_fd(old_waker)
            for number, handler in old.items():
                signal.signal(number, handler)
            for descriptor in (wake, waker, self._alive, self._alive_writer):
                os.close(descriptor)

    def _note(self, number: int, _: object) -> None:
        self._signals.append(number)

    def _supervise(self, wake: int) -> int:
        while True:
            while self._signals:
                number = self._signals.pop(0)
                if number in (signal.SIGTERM, signal.SIGINT):
                    _log.info("stopping %d workers", sum(bool(worker.pid) for worker in self._workers))
                    return 130 if number == signal.SIGINT else 0
                if number == signal.SIGHUP:
                    self._send(signal.SIGHUP)
                    self._live.reload()
            failed = self._reap()
            if failed and not self._was_ready:  # what keeps the first from starting would keep all
                return failed
            self._was_ready = self._was_ready or self._board.is_serving(0)
            now = time.monotonic()
            if self._watch > 0 and now >= self._look_at:
                self._look_at = now + self._watch
                if self._live.has_changed():
                    self._live.reload(only_if_new=True)
            for worker in self._workers if self._was_ready else self._workers[:1]:
                if not worker.pid and worker.again_at <= now:
                    self._start(worker)
            idle = self._was_ready and all(worker.pid for worker in self._workers)
            ready, _, _ = select.select([wake], [], [], min(1.0, self._watch or 1.0) if idle else 0.02)
            if ready:
                os.read(wake, 4096)

    def _start(self, worker: _Worker) -> None:
        place = worker.number % len(self._listeners)
        if self._listeners[place].fileno() < 0:
            assert self._listen_again is not None
            self._listeners[place] = self._listen_again()
        worker.started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        worker.pid = os.fork()
        if worker.pid:
            return
        code = 1
        try:
            code = self._child(worker)
        except BaseException:  # noqa: BLE001 - a worker must never return into the supervisor's code
            traceback.print_exc()
        finally:
            logging.shutdown()
            os._exit(code)

    def _child(self, worker: _Worker) -> int:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it serves: the artifact is being loaded in any case
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.close(self._alive_writer)
        listener = self._listeners[worker.number % len(self._listeners)]
        for other in self._listeners:
            if other is not listener:
                other.close()
        return self._work(listener, Metrics(self._board, worker.number), self._alive)

    def _reap(self) -> int:
        """Note the workers that have ended; return the exit code of one that failed, or 0."""
        failed = 0
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            code = os.waitstatus_to_exitcode(status)
            now = time.monotonic()
            worker.failures = 0 if now - worker.started > _STEADY_SECONDS else worker.failures + 1
            wait = min(2.0 ** (worker.failures - 1), _LONGEST_WAIT) if worker.failures > 1 else 0.0
            worker.again_at = now + wait
            if self._was_ready:
                self._board.restart(worker.number)
                reason = f"signal {-code}" if code < 0 else f"exit code {code}"
                later = f" in {wait:.0f} s" if wait else ""
                _log.error(
                    "worker %d (process %d) ended with %s, starting it again%s", worker.number, pid, reason, later
                )
                if wait and self._listen_again is not None:  # else its share of the connections would wait as long
                    self._listeners[worker.number % len(self._listeners)].close()
            failed = failed or (code if code > 0 else 1)
            worker.pid = 0
        if failed and not any(worker.pid for worker in self._workers):  # nobody else answers: do not wait
            soon = time.monotonic() + _SHORTEST_WAIT
            for worker in self._workers:
                worker.again_at = min(worker.again_at, soon)
        return failed

    def _send(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, number)

    def _end_workers(self) -> None:
        """Stop all workers, and kill those that do not stop."""
        self._send(signal.SIGTERM)
        until = time.monotonic() + self._grace + _SPARE_SECONDS
        while any(worker.pid for worker in self._workers):
            late = time.monotonic() > until or any(
                number in (signal.SIGTERM, signal.SIGINT) for number in self._signals
            )
            if late:
                self._send(signal.SIGKILL)
            for worker in self._workers:
                if worker.pid and os.waitpid(worker.pid, 0 if late else os.WNOHANG)[0]:
                    worker.pid = 0
            time.sleep(0.02)
