"""Answer requests, whatever protocol they came by.

A request is handled in the thread of the event loop up to the point where it needs a matrix product; the rest, reading
and writing of long JSON included, is done in a worker thread.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from enhancer.errors import ArtifactError, EnhancerError
from enhancer.serving.artifact import own_version
from enhancer.serving.service.answers import (
    Answer,
    UnknownIdError,
    bug_answer,
    error_answer,
    http_error,
    problem,
    query_pairs,
    to_json,
)
from enhancer.serving.service.metrics import MEDIA_TYPE, Metrics
from enhancer.serving.service.micro_batcher import MicroBatcher
from enhancer.serving.service.openapi import openapi_document
from enhancer.serving.service.rendering import render
from enhancer.serving.service.request_parsing import RecommendBody, parse_body, parse_query
from enhancer.serving.topk import check_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.serving.ranker import Ranker
    from enhancer.serving.service.live_ranker import LiveRanker
    from enhancer.serving.service.micro_batcher import Job, Stop
    from enhancer.serving.service.settings import Limits

    Rendered = tuple[bytes, int]
    """JSON of an answer, and the number of users that were unknown."""

_log = logging.getLogger("enhancer.serving")
_PLACE_USER: Final = "add &history=ITEM for each of the user's items"
_PLACE_USERS: Final = 'place a new user by "histories"'
_NO_KNOWN_ITEM: Final = "none of the items in its history is known"
_CHECK_EVERY: Final = 16
"""Users after which a long answer looks whether it is still wanted."""


class Exchange:
    """One request under way. ``reply`` is called once, unless the request is cancelled."""

    __slots__ = ("_begun", "_endpoint", "_endpoints", "_job", "_open", "_reply")

    def __init__(self, endpoints: Endpoints, endpoint: str, reply: Callable[[Answer], None]) -> None:
        self._endpoints, self._endpoint, self._reply = endpoints, endpoint, reply
        self._job: Job | None = None
        self._open = True
        self._begun = time.perf_counter()
        endpoints.metrics.add("requests_in_flight")

    def finish(self, answer: Answer) -> None:
        """Send an answer."""
        metrics, self._open, self._job = self._endpoints.metrics, False, None
        metrics.add("requests_in_flight", -1)
        metrics.answered(self._endpoint, answer.status, time.perf_counter() - self._begun)
        self._reply(answer)

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        if isinstance(error, EnhancerError):
            self.finish(error_answer(error))
        else:
            _log.error("a request failed", exc_info=error)
            self.finish(bug_answer(error))

    def wait_for(self, job: Job) -> None:
        """Answer when a job is done."""
        self._job = job

    def done(self, rendered: Rendered, error: BaseException | None) -> None:
        """Send what a worker thread has made; called by the batcher."""
        if error is not None:
            self.fail(error)
            return
        body, unknown_users = rendered
        if unknown_users:
            self._endpoints.metrics.add("unknown_users_total", unknown_users)
        self.finish(Answer(200, body))

    def cancel(self) -> None:
        """Give up, unless the answer was sent: the client has left."""
        if not self._open:
            return
        self._open = False
        self._endpoints.metrics.add("requests_in_flight", -1)
        if self._job is not None:
            self._endpoints.batcher.cancel(self._job)
            self._job = None


class Endpoints:
    """Request handlers.

    Args:
        live: Ranker to serve.
        limits: Limits on requests.
        metrics: Numbers of this process.
    """

    def __init__(self, live: LiveRanker, limits: Limits, metrics: Metrics | None = None) -> None:
        self.live, self.limits = live, limits
        self.metrics = Metrics() if metrics is None else metrics
        self.batcher = MicroBatcher(
            threads=limits.threads, waiting=limits.waiting, timeout=limits.timeout, together=_recommend_together
        )
        self._counted = {"artifact_reloads_total": 0, "artifact_failures_total": 0}
        self._document = to_json(openapi_document(limits, own_version()))
        self._routes: dict[str, dict[str, tuple[str, Callable[[Exchange, str, bytes], None]]]] = {
            "/recommend": {
                "GET": ("recommend", self._recommend),
                "POST": ("recommend_many", self._recommend_many),
            },
            "/similar": {"GET": ("similar", self._similar)},
            "/health": {"GET": ("health", self._health)},
            "/metrics": {"GET": ("metrics", self._metrics)},
            "/openapi.json": {"GET": ("openapi", self._openapi)},
        }

    def takes_body(self, method: str, path: str) -> bool:
        """Return whether a request's body will be read."""
        return method == "POST" and path == "/recommend"

    def handle(
        self, method: str, path: str, query: str, body: bytes, reply: Callable[[Answer], None]
    ) -> Exchange | None:
        """Answer a request. Must be called in the loop's thread.

        Args:
            method: Method, in capitals; HEAD is answered as GET.
            path: Path, decoded.
            query: Query string, without the question mark.
            body: Body.
            reply: Called once with the answer, in the loop's thread, perhaps before this returns.

        Returns:
            The request under way, for the case that the client leaves; None if no endpoint takes the request.
        """
        route = self._routes.get(path)
        found = route and route.get("GET" if method == "HEAD" else method)
        if not found:
            reply(self._no_endpoint(method, path, query, route))
            return None
        endpoint, handler = found
        exchange = Exchange(self, endpoint, reply)
        try:
            handler(exchange, query, body)
        except Exception as error:  # noqa: BLE001 - told to the client, and bugs to the log
            exchange.fail(error)
        return exchange

    def observe(self) -> None:
        """Write down what the artifact in use is."""
        live = self.live
        self.metrics.put("artifact_stale", float(live.error is not None))
        # By differences: the counters outlive a worker that is started again.
        for counter, total in (("artifact_reloads_total", live.reloads), ("artifact_failures_total", live.failures)):
            self.metrics.add(counter, total - self._counted[counter])
            self._counted[counter] = total
        self.metrics.put("loaded", live.loaded_at.timestamp())
        try:
            created = datetime.fromisoformat(live.ranker.manifest["created_at"]).timestamp()
        except (KeyError, TypeError, ValueError):  # an artifact that another program wrote
            created = 0.0
        self.metrics.put("created", created)
        self.metrics.put("requests_waiting", self.batcher.waiting)

    def _no_endpoint(self, method: str, path: str, query: str, route: Any) -> Answer:  # noqa: ARG002 - no part of the message
        hint = "ask GET or POST /recommend, GET /similar, /health, /metrics or /openapi.json"
        status, reason = (405, "Method Not Allowed") if route else (404, "Not Found")
        self.metrics.refused(status)
        headers = (("allow", ", ".join([*route, "HEAD"] if "GET" in route else route)),) if route else ()
        return http_error(status, f"{method} {path[:100]}: {reason}", hint, *headers)

    def _recommend(self, exchange: Exchange, query: str, body: bytes) -> None:  # noqa: ARG002 - the signature of handlers
        asked = parse_query(query_pairs(query), self.limits, "user_id", "k", "exclude_seen", "history")
        ranker = self.live.ranker
        if not asked.history and not ranker.knows_user(asked.id):
            self.metrics.add("unknown_users_total")
            raise UnknownIdError(f"unknown user {asked.id!r}", hint=_PLACE_USER)
        exchange.wait_for(
            self.batcher.recommend(
                ranker,
                asked.id,
                asked.k,
                exclude_seen=asked.exclude_seen,
                done=exchange.done,
                history=asked.history,
            )
        )

    def _recommend_many(self, exchange: Exchange, query: str, body: bytes) -> None:  # noqa: ARG002 - likewise
        ranker, limits = self.live.ranker, self.limits
        exchange.wait_for(
            self.batcher.run(lambda stop: _recommend_many(ranker, parse_body(body, limits), stop), exchange.done)
        )

    def _similar(self, exchange: Exchange, query: str, body: bytes) -> None:  # noqa: ARG002 - likewise
        asked = parse_query(query_pairs(query), self.limits, "item_id", "k")
        ranker = self.live.ranker
        if not ranker.knows_item(asked.id):
            raise _unknown_item(ranker, asked.id)

        def work(stop: Stop) -> Rendered:
            return render("item_id", ranker, asked.id, ranker.similar(asked.id, asked.k, stop=stop).items), 0

        exchange.wait_for(self.batcher.run(work, exchange.done))

    def _health(self, exchange: Exchange, query: str, body: bytes) -> None:  # noqa: ARG002 - likewise
        live, ranker = self.live, self.live.ranker
        status, error = ("ok" if live.error is None else "stale"), live.error
        try:
            ranker.ensure_whole()
        except ArtifactError as damage:
            status, error = "damaged", damage
        manifest = ranker.manifest
        health = {
            "status": status,
            "artifact": {
                "sha256": manifest["tensors"]["sha256"],
                "created_at": manifest.get("created_at"),
                "enhancer": manifest.get("enhancer"),
                "users": ranker.n_users,
                "items": ranker.n_items,
                "width": manifest["shape"]["width"],
            },
            "loaded_at": live.loaded_at.isoformat(timespec="milliseconds"),
            "reloads": live.reloads,
            "draining": live.draining,
            "running": self.batcher.running,
            "waiting": self.batcher.waiting,
            "worker": self.metrics.worker,
            "workers": self.metrics.board.workers,
            "error": None if error is None else problem(error),
        }
        exchange.finish(Answer(503 if status == "damaged" else 200, to_json(health)))

    def _metrics(self, exchange: Exchange, query: str, body: bytes) -> None:  # noqa: ARG002 - likewise
        self.observe()
        exchange.finish(Answer(200, self.metrics.board.render(), MEDIA_TYPE))

    def _openapi(self, exchange: Exchange, query: str, body: bytes) -> None:  # noqa: ARG002 - likewise
        exchange.finish(Answer(200, self._document))


# --- in worker threads --------------------------------------------------------------------------------------------


def _recommend_together(
    ranker: Ranker, jobs: Sequence[Job], *, exclude_seen: bool, stop: Stop
) -> list[Rendered | UnknownIdError]:
    """Answer several ``GET /recommend`` by one product."""
    extended = ranker
    if histories := {job.user: job.history for job in jobs if job.history}:
        extended, _ = ranker.with_users(histories, skip_unknown=True, extend_known=True)
    unknown = {user for user in histories if not extended.knows_user(user)}
    users = [job.user for job in jobs if job.user not in unknown]
    # Ties go to the earlier item regardless of k, so each shorter list is a prefix of the longest one.
    found = iter(extended.recommend(users, max(job.k for job in jobs), exclude_seen=exclude_seen, stop=stop))
    return [
        UnknownIdError(f"unknown user {job.user!r}", hint=_NO_KNOWN_ITEM)
        if job.user in unknown
        else (render("user_id", ranker, job.user, next(found).items[: job.k]), 0)
        for job in jobs
    ]


def _recommend_many(ranker: Ranker, body: RecommendBody, stop: Stop) -> Rendered:
    """Answer ``POST /recommend``."""
    extended, unknown_items = ranker, dict[str, list[str]]()
    check_stop(stop)
    if body.histories:
        extended, unknown_items = ranker.with_users(body.histories, skip_unknown=True, extend_known=True)
    users: list[str] = []
    unknown_users: list[dict[str, str]] = []
    for user in dict.fromkeys((*body.users, *body.histories)):
        if extended.knows_user(user):
            users.append(user)
        else:
            hint = _NO_KNOWN_ITEM if user in body.histories else _PLACE_USERS
            unknown_users.append({"user_id": user, "hint": hint})
    body, others = body.without_unknown(extended.knows_item)
    check_stop(stop)
    found = extended.recommend(
        users, body.k, exclude_seen=body.exclude_seen, candidates=body.candidates, exclude=body.exclude, stop=stop
    )
    results = []
    for place, one in enumerate(found):
        if place % _CHECK_EVERY == 0:
            check_stop(stop)
        results.append(render("user_id", ranker, one.user_id, one.items))
    unknown = {f"unknown_{key}": items for key, items in others.items() if items}
    rest = to_json({"unknown_users": unknown_users, "unknown_items": unknown_items, **unknown})
    return b'{"results":[' + b",".join(results) + b"]," + rest[1:], len(unknown_users)


def _unknown_item(ranker: Ranker, item: str) -> UnknownIdError:
    near = ranker.item_beside(item)
    return UnknownIdError(f"unknown item {item!r}", hint=near and f"did you mean {near!r}?")
