"""Deliver events to observers, so that a failing observer cannot end the run that it observes."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from enhancer.errors import EnhancerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import pluggy

    from enhancer.contracts.observer import ArmRunResult, Observer, RunInfo, RunResult, RunStatus
    from enhancer.contracts.record import Record

_log = logging.getLogger("enhancer.plugin_host")

ANY_FAULT = (Exception, SystemExit)
"""Errors that a plugin may raise without ending the program; KeyboardInterrupt belongs to the user."""


class ActiveRun:
    """A run in progress, as yielded by :meth:`Events.run`."""

    def __init__(self, events: Events, info: RunInfo) -> None:
        self.info = info
        self._events = events
        self._outcome: dict[str, Any] = {}

    def finish(
        self,
        *,
        metrics: Mapping[str, float] | None = None,
        cost_usd: float | None = None,
        artifact: Path | None = None,
    ) -> None:
        """Record the outcome, which is sent when the block of :meth:`Events.run` ends.

        Args:
            metrics: Final metrics or counts by name.
            cost_usd: Amount spent; None if unknown.
            artifact: File or folder that the run wrote.
        """
        self._outcome = {"metrics": dict(metrics or {}), "cost_usd": cost_usd, "artifact": artifact}

    def arm_run_finished(self, result: ArmRunResult) -> None:
        """Send the event that one training run of this ablation ended."""
        self._events.arm_run_finished(run=self.info, result=result)

    def result(self, status: RunStatus, seconds: float, error: str | None = None) -> RunResult:
        """Return the outcome with a status."""
        from enhancer.contracts.observer import RunResult

        return RunResult(status=status, seconds=seconds, error=error, **self._outcome)


class Events:
    """Sends events to the observer hooks of plugins and to the observers of a project.

    An observer that raises is named in one warning; the run and the other observers continue.
    """

    def __init__(self, manager: pluggy.PluginManager, connect: Callable[[Events], Mapping[str, Observer]]) -> None:
        """Prepare to send; observers are constructed at the first event.

        Args:
            manager: Holds the plugins that implement observer hooks directly.
            connect: Returns the observers by the name used in warnings.
        """
        self._manager = manager
        self._connect = connect
        self._observers: Mapping[str, Observer] | None = None
        self._warned: set[tuple[str, str]] = set()

    # --- events ---------------------------------------------------------------------------------------------------

    def run_started(self, run: RunInfo) -> None:
        """Send the event; see :func:`enhancer.hookspecs.run_started`."""
        self._send("run_started", run=run)

    def run_finished(self, run: RunInfo, result: RunResult) -> None:
        """Send the event; see :func:`enhancer.hookspecs.run_finished`."""
        self._send("run_finished", run=run, result=result)

    def profile_stored(self, record: Record) -> None:
        """Send the event; see :func:`enhancer.hookspecs.profile_stored`."""
        if self._observers or self._observers is None or self._manager.hook.profile_stored.get_hookimpls():
            self._send("profile_stored", record=record)

    def epoch_finished(self, run: str, epoch: int, loss: float, metric: float | None) -> None:
        """Send the event; see :func:`enhancer.hookspecs.epoch_finished`."""
        self._send("epoch_finished", run=run, epoch=epoch, loss=loss, metric=metric)

    def arm_run_finished(self, run: RunInfo, result: ArmRunResult) -> None:
        """Send the event; see :func:`enhancer.hookspecs.arm_run_finished`."""
        self._send("arm_run_finished", run=run, result=result)

    def ablation_finished(self, result: Mapping[str, Any]) -> None:
        """Send the event; see :func:`enhancer.hookspecs.ablation_finished`."""
        self._send("ablation_finished", result=result)

    @contextmanager
    def run(self, verb: str, configuration: Mapping[str, Any]) -> Iterator[ActiveRun]:
        """Send ``run_started`` before the block and ``run_finished`` after it, also if it raises.

        Args:
            verb: Name of the verb, such as ``train``.
            configuration: Settings as JSON values.

        Yields:
            The run, whose :meth:`ActiveRun.finish` takes metrics, cost and artifact.

        Raises:
            ConfigError: A configured observer is unknown or unavailable, or has a wrong option; the block is not run.
        """
        import uuid

        from enhancer.contracts.observer import RunInfo

        self._connected()
        info = RunInfo(id=uuid.uuid4().hex, verb=verb, started_at=datetime.now(UTC), configuration=configuration)
        handle = ActiveRun(self, info)
        started = time.perf_counter()

        status: RunStatus = "done"
        message: str | None = None
        try:
            self.run_started(info)
            yield handle
        except BaseException as error:
            # What is no Exception ends the program from outside: KeyboardInterrupt, CancelledError, SystemExit.
            status = "failed" if isinstance(error, Exception) else "interrupted"
            message = str(error) or type(error).__name__
            raise
        finally:
            self.run_finished(info, handle.result(status, time.perf_counter() - started, message))

    # --- delivery -------------------------------------------------------------------------------------------------

    def _connected(self) -> Mapping[str, Observer]:
        if self._observers is None:
            self._observers = self._connect(self)
        return self._observers

    def _send(self, event: str, **details: Any) -> None:
        for hook in getattr(self._manager.hook, event).get_hookimpls():
            try:
                hook.function(*(details[name] for name in hook.argnames))
            except ANY_FAULT as error:
                self.warn(f"plugin {hook.plugin_name}", event, error)
        if self._observers is None:  # outside of a run
            try:
                self._connected()
            except EnhancerError as error:
                self._observers = {}
                self.warn("[observers]", event, error)
        for name, observer in self._connected().items():
            try:
                getattr(observer, event)(**details)
            except ANY_FAULT as error:
                self.warn(name, event, error)

    def warn(self, name: str, place: str, error: BaseException) -> None:
        """Log a failure of an observer, once for each place.

        Args:
            name: Name of the plugin or observer, such as ``"observer 'mlflow'"``.
            place: The method or hook that failed.
            error: The error.
        """
        if (name, place) not in self._warned:
            self._warned.add((name, place))
            _log.warning(
                "%s failed in %s: %s: %s; the run continues, further failures of this kind are not reported",
                name,
                place,
                type(error).__name__,
                error,
            )
            _log.debug("traceback of %s in %s", name, place, exc_info=error)
