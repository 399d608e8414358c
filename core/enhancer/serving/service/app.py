"""Build the HTTP service as an ASGI application: ``/recommend``, ``/similar``, ``/health`` and ``/openapi.json``.

Needs Starlette (the extra ``serve``). :mod:`enhancer.serving.service.server` runs it, as can any other ASGI server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from enhancer.errors import ArtifactError, ConfigError, DataError, EnhancerError
from enhancer.serving.service.micro_batcher import BusyError, LateError, MicroBatcher
from enhancer.serving.service.request_parsing import RecommendBody, parse_body, parse_query
from enhancer.serving.service.settings import WATCH, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from enhancer.serving.ranker import Ranker
    from enhancer.serving.service.live_ranker import LiveRanker

_PLACE_USERS: Final = 'place a new user by POST /recommend with "histories"'
INSTALL: Final = 'pip install "enhancer[serve]"'


class TooLargeError(EnhancerError):
    """The body of a request exceeds the limit."""


class SlowBodyError(EnhancerError):
    """The body of a request did not arrive in time."""


class UnknownIdError(DataError):
    """The artifact does not have the requested id."""


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


def create_app(live: LiveRanker, limits: Limits | None = None, *, watch: float = WATCH) -> Starlette:
    """Build the application.

    Args:
        live: Ranker to serve.
        limits: Limits on requests.
        watch: Seconds between checks for a new artifact; 0 disables them.

    Raises:
        ConfigError: Starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.responses import Response
        from starlette.routing import Route
    except ModuleNotFoundError as error:
        raise ConfigError(f"the service needs {error.name}, which is not installed", hint=INSTALL) from None
    from enhancer.serving.artifact import own_version
    from enhancer.serving.service.openapi import openapi_document

    limits = (limits or Limits()).checked()
    endpoints = _Endpoints(live, limits)
    document = json.dumps(openapi_document(limits, own_version())).encode()

    def error_response(status: int, error: dict[str, Any], headers: Mapping[str, str] | None = None) -> Response:
        return Response(_json({"error": error}), status, headers, "application/json")

    async def openapi(request: Request) -> Response:  # noqa: ARG001 - Starlette's signature
        return Response(document, media_type="application/json")

    async def handle_enhancer_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - likewise
        assert isinstance(error, EnhancerError)
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        return error_response(status, _error_json(error), {"Retry-After": "1"} if status == 503 else None)

    async def handle_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        hint = "ask GET or POST /recommend, GET /similar, /health or /openapi.json"
        message = f"{request.method} {request.url.path}: {error.detail}"
        problem = {"type": "HTTPError", "message": message, "hint": hint}
        return error_response(error.status_code, problem, error.headers)

    async def handle_bug(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
        name = type(error).__name__
        return error_response(
            500, {"type": name, "message": "this is a bug in enhancer", "hint": "the log has the traceback"}
        )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001 - Starlette's signature
        watcher = asyncio.create_task(live.watch(watch)) if watch > 0 else None
        try:
            yield
        finally:
            if watcher is not None:
                watcher.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watcher
            endpoints.batcher.close()

    return Starlette(
        routes=[
            Route("/recommend", endpoints.recommend, methods=["GET"]),
            Route("/recommend", endpoints.recommend_many, methods=["POST"]),
            Route("/similar", endpoints.similar, methods=["GET"]),
            Route("/health", endpoints.health, methods=["GET"]),
            Route("/openapi.json", openapi, methods=["GET"]),
        ],
        exception_handlers={
            EnhancerError: handle_enhancer_error,
            HTTPException: handle_http_error,
            Exception: handle_bug,
        },
        lifespan=lifespan,
    )


class _Endpoints:
    """Request handlers."""

    def __init__(self, live: LiveRanker, limits: Limits) -> None:
        from starlette.responses import Response

        self.live, self.limits = live, limits
        self.batcher = MicroBatcher(threads=limits.threads, waiting=limits.waiting, timeout=limits.timeout)
        self._response = Response

    async def recommend(self, request: Request) -> Response:
        """Answer ``GET /recommend``."""
        asked = parse_query(request.query_params.multi_items(), self.limits, "user_id", "k", "exclude_seen")
        ranker = self.live.ranker
        if not ranker.knows_user(asked.id):
            raise UnknownIdError(f"unknown user {asked.id!r}", hint=_PLACE_USERS)
        found = await self.batcher.recommend(ranker, asked.id, asked.k, exclude_seen=asked.exclude_seen)
        return self._ok(_with_titles(ranker, found.to_json()))

    async def recommend_many(self, request: Request) -> Response:
        """Answer ``POST /recommend``."""
        body = parse_body(await self._body(request), self.limits)
        ranker = self.live.ranker
        return self._ok(await self.batcher.run(lambda: _recommend_many(ranker, body)))

    async def similar(self, request: Request) -> Response:
        """Answer ``GET /similar``."""
        asked = parse_query(request.query_params.multi_items(), self.limits, "item_id", "k")
        ranker = self.live.ranker
        if not ranker.knows_item(asked.id):
            raise _unknown_item(ranker, asked.id)
        found = await self.batcher.run(lambda: ranker.similar(asked.id, asked.k))
        return self._ok(_with_titles(ranker, found.to_json()))

    async def health(self, request: Request) -> Response:  # noqa: ARG002 - Starlette's signature
        """Answer ``GET /health``."""
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
            "error": None if error is None else _error_json(error),
        }
        return self._response(_json(health), 503 if status == "damaged" else 200, media_type="application/json")

    def _ok(self, value: Any) -> Response:
        return self._response(_json(value), media_type="application/json")

    async def _body(self, request: Request) -> bytes:
        limit = self.limits.body
        too_large = TooLargeError(f"the body has more than {limit:,} bytes", hint="send fewer users a request")
        with contextlib.suppress(ValueError):
            if int(request.headers.get("content-length", 0)) > limit:
                raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.arrival):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise too_large
        except TimeoutError:
            raise SlowBodyError("the body did not arrive in time", hint="send it in one piece") from None
        return bytes(body)


def _recommend_many(ranker: Ranker, body: RecommendBody) -> dict[str, Any]:
    """Answer ``POST /recommend``; runs in a worker thread."""
    extended, unknown_items = ranker, dict[str, list[str]]()
    if body.histories:
        extended, unknown_items = ranker.with_users(body.histories, skip_unknown=True)
    users: list[str] = []
    unknown_users: list[dict[str, str | None]] = []
    for user in dict.fromkeys((*body.users, *body.histories)):
        if extended.knows_user(user):
            users.append(user)
        elif user in body.histories:
            unknown_users.append({"user_id": user, "hint": "none of the items in its history is known"})
        else:
            unknown_users.append({"user_id": user, "hint": _PLACE_USERS})
    for item in body.required_items():
        if not extended.knows_item(item):
            raise _unknown_item(ranker, item)
    found = extended.recommend(
        users, body.k, exclude_seen=body.exclude_seen, candidates=body.candidates, exclude=body.exclude
    )
    return {
        "results": [_with_titles(ranker, each.to_json()) for each in found],
        "unknown_users": unknown_users,
        "unknown_items": unknown_items,
    }


def _unknown_item(ranker: Ranker, item: str) -> UnknownIdError:
    near = ranker.item_beside(item)
    return UnknownIdError(f"unknown item {item!r}", hint=near and f"did you mean {near!r}?")


def _with_titles(ranker: Ranker, found: dict[str, Any]) -> dict[str, Any]:
    for item in found["items"]:
        if title := ranker.title(item["item_id"]):
            item["title"] = title
    return found


def _error_json(error: EnhancerError) -> dict[str, Any]:
    return {"type": type(error).__name__, "message": error.message, "hint": error.hint}


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
