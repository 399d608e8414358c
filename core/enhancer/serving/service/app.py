"""The HTTP service, as an ASGI application: ``/recommend``, ``/similar``, ``/health`` and ``/openapi.json``.

Needs Starlette (the extra ``serve``). :mod:`enhancer.serving.service.server` runs it; any other ASGI server can.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from enhancer.errors import ArtifactError, ConfigError, DataError, EnhancerError
from enhancer.serving.service.micro_batcher import BusyError, LateError, MicroBatcher
from enhancer.serving.service.request_parsing import Asked, read_batch, read_query
from enhancer.serving.service.settings import WATCH, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from enhancer.serving.ranker import Ranker
    from enhancer.serving.service.live_ranker import Live

MISSING: Final = 'pip install "enhancer[serve]"'


class TooLargeError(EnhancerError):
    """A body of more bytes than may be."""


class SlowBodyError(EnhancerError):
    """A body that did not arrive in time."""


class UnknownIdError(DataError):
    """An id that the artifact does not have."""


_STATUS: Final[tuple[tuple[type[EnhancerError], int], ...]] = (
    (UnknownIdError, 404),
    (DataError, 400),
    (ConfigError, 400),
    (SlowBodyError, 408),
    (TooLargeError, 413),
    (BusyError, 503),
    (ArtifactError, 503),
    (LateError, 504),
)


def create_app(live: Live, limits: Limits | None = None, *, watch: float = WATCH) -> Starlette:
    """The application.

    Args:
        live: What answers.
        limits: What requests may ask for.
        watch: Seconds between looks for a new artifact; 0 for none.

    Raises:
        ConfigError: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.responses import Response
        from starlette.routing import Route
    except ModuleNotFoundError as error:
        raise ConfigError(f"the service needs {error.name}, which is not installed", hint=MISSING) from None
    from enhancer.serving.artifact import own_version
    from enhancer.serving.service.openapi import document

    limits = (limits or Limits()).checked()
    service = _Service(live, limits)
    described = json.dumps(document(limits, own_version())).encode()

    def told(status: int, problem: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
        return Response(_json({"error": problem}), status, headers, "application/json")

    async def openapi(request: Request) -> Response:  # noqa: ARG001 - Starlette's form
        return Response(described, media_type="application/json")

    async def known(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's form
        assert isinstance(error, EnhancerError)
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        return told(status, _problem(error), {"Retry-After": "1"} if status == 503 else None)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        paths = "ask GET or POST /recommend, GET /similar, /health or /openapi.json"
        message = f"{request.method} {request.url.path}: {error.detail}"
        return told(error.status_code, {"type": "HTTPError", "message": message, "hint": paths}, error.headers)

    async def bug(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's form
        name = type(error).__name__
        return told(500, {"type": name, "message": "this is a bug in enhancer", "hint": "the log has the traceback"})

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001 - Starlette's form
        watching = asyncio.create_task(live.watch(watch)) if watch > 0 else None
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching
            service.batcher.close()

    return Starlette(
        routes=[
            Route("/recommend", service.recommend, methods=["GET"]),
            Route("/recommend", service.recommend_many, methods=["POST"]),
            Route("/similar", service.similar, methods=["GET"]),
            Route("/health", service.health, methods=["GET"]),
            Route("/openapi.json", openapi, methods=["GET"]),
        ],
        exception_handlers={EnhancerError: known, HTTPException: http, Exception: bug},
        lifespan=lifespan,
    )


class _Service:
    """The answers."""

    def __init__(self, live: Live, limits: Limits) -> None:
        from starlette.responses import Response

        self.live, self.limits = live, limits
        self.batcher = MicroBatcher(threads=limits.threads, waiting=limits.waiting, timeout=limits.timeout)
        self._response = Response

    async def recommend(self, request: Request) -> Response:
        """``GET /recommend``."""
        asked = read_query(request.query_params.multi_items(), self.limits, "user_id", "k", "exclude_seen")
        ranker = self.live.ranker
        if not ranker.knows_user(asked.id):
            raise UnknownIdError(
                f"unknown user {asked.id!r}",
                hint=_and(ranker.nearest_user(asked.id), 'a new user is placed by POST /recommend with "histories"'),
            )
        found = await self.batcher.recommend(ranker, asked.id, asked.k, exclude_seen=asked.exclude_seen)
        return self._ok(_titled(ranker, found.to_json()))

    async def recommend_many(self, request: Request) -> Response:
        """``POST /recommend``."""
        asked = read_batch(await self._body(request), self.limits)
        ranker = self.live.ranker
        return self._ok(await self.batcher.run(lambda: _many(ranker, asked)))

    async def similar(self, request: Request) -> Response:
        """``GET /similar``."""
        asked = read_query(request.query_params.multi_items(), self.limits, "item_id", "k")
        ranker = self.live.ranker
        if not ranker.knows_item(asked.id):
            raise UnknownIdError(f"unknown item {asked.id!r}", hint=ranker.nearest_item(asked.id))
        found = await self.batcher.run(lambda: ranker.similar(asked.id, asked.k))
        return self._ok(_titled(ranker, found.to_json()))

    async def health(self, request: Request) -> Response:  # noqa: ARG002 - Starlette's form
        """``GET /health``."""
        live, ranker = self.live, self.live.ranker
        status, error = ("ok" if live.error is None else "stale"), live.error
        try:
            ranker.ensure_whole()
        except ArtifactError as damage:
            status, error = "damaged", damage
        manifest = ranker.manifest
        told = {
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
            "error": None if error is None else _problem(error),
        }
        return self._response(_json(told), 503 if status == "damaged" else 200, media_type="application/json")

    def _ok(self, value: Any) -> Response:
        return self._response(_json(value), media_type="application/json")

    async def _body(self, request: Request) -> bytes:
        most = self.limits.body
        too_large = TooLargeError(f"the body has more than {most:,} bytes", hint="send fewer users a request")
        with contextlib.suppress(ValueError):
            if int(request.headers.get("content-length", 0)) > most:
                raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.arrival):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            raise SlowBodyError("the body did not arrive in time", hint="send it at once") from None
        return bytes(body)


def _many(ranker: Ranker, asked: Asked) -> dict[str, Any]:
    """Answer a batch; runs in a thread."""
    known, unknown_items = ranker, dict[str, list[str]]()
    if asked.histories:
        known, unknown_items = ranker.with_users(asked.histories, skip_unknown=True)
    users: list[str] = []
    unknown_users: list[dict[str, str | None]] = []
    for user in dict.fromkeys((*asked.users, *asked.histories)):
        if known.knows_user(user):
            users.append(user)
        elif user in asked.histories:
            hint = "none of the items in its history is known"
            unknown_users.append({"user_id": user, "hint": hint})
        else:
            unknown_users.append({"user_id": user, "hint": ranker.nearest_user(user)})
    for item in asked.named_items():
        if not known.knows_item(item):
            raise UnknownIdError(f"unknown item {item!r}", hint=known.nearest_item(item))
    found = known.recommend(
        users, asked.k, exclude_seen=asked.exclude_seen, candidates=asked.candidates, exclude=asked.exclude
    )
    return {
        "results": [_titled(ranker, each.to_json()) for each in found],
        "unknown_users": unknown_users,
        "unknown_items": unknown_items,
    }


def _titled(ranker: Ranker, found: dict[str, Any]) -> dict[str, Any]:
    for item in found["items"]:
        if title := ranker.title(item["item_id"]):
            item["title"] = title
    return found


def _problem(error: EnhancerError) -> dict[str, Any]:
    return {"type": type(error).__name__, "message": error.message, "hint": error.hint}


def _and(first: str | None, second: str) -> str:
    return f"{first}; {second}" if first else second


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
