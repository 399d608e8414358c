"""Build the service's OpenAPI 3.1 document. Written by hand; tests compare it with the service's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from enhancer.serving.service.settings import Limits

_ID: Final = {"type": "string", "minLength": 1}
_IDS: Final = {"type": "array", "items": _ID}
_PLACED: Final = (
    "A user whom the artifact does not have is placed by it, for this request alone; of one whom it has, these items"
    " are left out as if seen in training."
)
_ERRORS: Final = {
    "400": "The request is invalid; the message names the parameter or key.",
    "404": "An id is unknown.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "503": "Too many requests are waiting, too many bytes are held, or the artifact is damaged.",
    "504": "Not answered in time.",
}


def openapi_document(limits: Limits, version: str) -> dict[str, Any]:
    """Return the document.

    Args:
        limits: Limits of this service.
        version: Version of the library.
    """
    count = {"type": "integer", "minimum": 1, "maximum": limits.k, "default": min(10, limits.k)}
    seen = {"type": "boolean", "default": True}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "enhancer",
            "version": version,
            "description": "Recommendations from a serving artifact, by inner products.",
        },
        "paths": {
            "/recommend": {
                "get": {
                    "operationId": "recommend",
                    "summary": "Recommend items to one user",
                    "parameters": [
                        _parameter("user_id", _ID, "User id.", required=True),
                        _parameter("k", count, "Number of items."),
                        _parameter("exclude_seen", seen, "Leave out the user's items from training and history."),
                        _parameter("history", _IDS, f"An item of the user's history, any number of times. {_PLACED}"),
                    ],
                    "responses": _responses("Recommendation", "400", "404", "503", "504"),
                },
                "post": {
                    "operationId": "recommendMany",
                    "summary": "Recommend items to many users, new ones included",
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Batch"}}},
                    },
                    "responses": _responses("Recommendations", "400", "408", "413", "503", "504"),
                },
            },
            "/similar": {
                "get": {
                    "operationId": "similar",
                    "summary": "List the items nearest in serving space, by cosine",
                    "parameters": [
                        _parameter("item_id", _ID, "Item id.", required=True),
                        _parameter("k", count, "Number of items."),
                    ],
                    "responses": _responses("Neighbours", "400", "404", "503", "504"),
                }
            },
            "/health": {
                "get": {
                    "operationId": "health",
                    "summary": "Describe the artifact in use and the load",
                    "responses": {
                        "200": _content("The service is up.", "Health"),
                        "503": _content("The artifact file was truncated while in use.", "Health"),
                    },
                }
            },
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Return numbers of all workers in Prometheus' text format",
                    "responses": {
                        "200": {
                            "description": "Text format 0.0.4.",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        }
                    },
                }
            },
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "Return this document",
                    "responses": {
                        "200": {
                            "description": "OpenAPI 3.1.",
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        }
                    },
                }
            },
        },
        "components": {"schemas": _schemas(limits, count, seen)},
    }


def _parameter(name: str, schema: dict[str, Any], description: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "description": description, "schema": schema}


def _content(description: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": description, "content": {"application/json": {"schema": reference}}}


def _responses(schema: str, *errors: str) -> dict[str, Any]:
    return {"200": _content("Success.", schema), **{status: _content(_ERRORS[status], "Error") for status in errors}}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


def _schemas(limits: Limits, count: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    scored = {"type": "array", "items": {"$ref": "#/components/schemas/Scored"}}
    number = {"type": "integer", "minimum": 0}
    text_or_null = {"type": ["string", "null"]}
    by_user = {"type": "object", "additionalProperties": _IDS}
    batch = {
        "users": {**_IDS, "maxItems": limits.batch, "description": "Known users."},
        "histories": {
            **by_user,
            "maxProperties": limits.batch,
            "description": f"Items of each user's history. {_PLACED}",
        },
        "k": count,
        "exclude_seen": seen,
        "candidates": {**_IDS, "description": "Items to rank; all by default."},
        "exclude": {"oneOf": [_IDS, by_user], "description": "Items to leave out, for all users or by user."},
    }
    artifact = {
        "sha256": {"type": "string"},
        "created_at": text_or_null,
        "enhancer": text_or_null,
        "users": number,
        "items": number,
        "width": number,
    }
    health = {
        "status": {
            "enum": ["ok", "stale", "damaged"],
            "description": "stale: a newer artifact could not be loaded; error says why.",
        },
        "artifact": _object(artifact),
        "loaded_at": {"type": "string", "format": "date-time"},
        "reloads": number,
        "draining": {**number, "description": "Replaced artifacts that a request still uses."},
        "running": number,
        "waiting": number,
        "worker": {**number, "description": "Number of the process that answers."},
        "workers": number,
        "error": {"oneOf": [{"$ref": "#/components/schemas/Problem"}, {"type": "null"}]},
    }
    unknown = _object({"user_id": _ID, "hint": text_or_null})
    return {
        "Scored": _object({"item_id": _ID, "score": {"type": "number"}}, {"title": {"type": "string"}}),
        "Recommendation": _object({"user_id": _ID, "items": scored}),
        "Recommendations": _object(
            {
                "results": {"type": "array", "items": {"$ref": "#/components/schemas/Recommendation"}},
                "unknown_users": {
                    "type": "array",
                    "items": unknown,
                    "description": "Requested users that are unknown; they have no result.",
                },
                "unknown_items": {**by_user, "description": "Unknown items of histories, by user."},
            },
            {
                "unknown_candidates": {
                    **_IDS,
                    "description": "Unknown items of candidates, if there are any.",
                },
                "unknown_exclude": {**_IDS, "description": "Unknown items of exclude, if there are any."},
            },
        ),
        "Neighbours": _object({"item_id": _ID, "items": scored}),
        "Batch": _object({}, batch, anyOf=[{"required": ["users"]}, {"required": ["histories"]}]),
        "Health": _object(health),
        "Problem": _object({"type": {"type": "string"}, "message": {"type": "string"}, "hint": text_or_null}),
        "Error": _object({"error": {"$ref": "#/components/schemas/Problem"}}),
    }
