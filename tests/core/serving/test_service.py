"""The HTTP service, as its clients meet it: what it answers, and the document that says so."""

from __future__ import annotations

import contextlib
import http.client
import json
import os

import numpy as np
import pytest
from jsonschema import Draft202012Validator

pytest.importorskip("httptools", reason="the extra serve is not installed")
pytest.importorskip("orjson", reason="the extra serve is not installed")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def pairs(answer):
    return [(item["item_id"], item["score"]) for item in answer["items"]]


# --- answers ------------------------------------------------------------------------------------------------------


def test_one_user(server, ranker):
    status, answer = server.ask("/recommend?user_id=u3&k=5")
    (expected,) = ranker.recommend(["u3"], 5)
    assert (status, answer["user_id"]) == (200, "u3")
    assert [item for item, _ in pairs(answer)] == [item for item, _ in expected.items]
    np.testing.assert_allclose([s for _, s in pairs(answer)], [s for _, s in expected.items], rtol=1e-5)
    assert all(item.get("title") == ranker.title(item["item_id"]) for item in answer["items"])
    _, seen_too = server.ask("/recommend?user_id=u3&k=40&exclude_seen=false")
    assert set(ranker.seen("u3")) & {item for item, _ in pairs(seen_too)}
    assert len(server.ask("/recommend?user_id=u3")[1]["items"]) == 10


def test_many_users_new_ones_included(server, ranker):
    asked = {
        "users": ["u1", "nobody", "u2", "u1"],
        "histories": {"new": ["i1", "i2", "gone"], "lost": ["gone"]},
        "k": 3,
        "candidates": [f"i{n}" for n in range(20)],
        "exclude": {"u1": ["i3"], "new": ["i5"]},
    }
    status, answer = server.ask("/recommend", asked)
    assert status == 200
    both, _ = ranker.with_users({"new": ["i1", "i2"]})
    expected = both.recommend(["u1", "u2", "new"], 3, candidates=asked["candidates"], exclude=asked["exclude"])
    assert [one["user_id"] for one in answer["results"]] == ["u1", "u2", "new"]
    for one, true in zip(answer["results"], expected, strict=True):
        assert [item for item, _ in pairs(one)] == [item for item, _ in true.items]
    assert [one["user_id"] for one in answer["unknown_users"]] == ["nobody", "lost"]
    assert answer["unknown_items"] == {"new": ["gone"], "lost": ["gone"]}
    assert server.ask("/recommend?user_id=new")[0] == 404  # placed for that request alone


def test_unknown_candidates_are_left_out_and_named(server):
    asked = {"users": ["u1"], "k": 5, "exclude_seen": False}
    known = server.ask("/recommend", {**asked, "candidates": ["i1", "i2", "i3"], "exclude": ["i2"]})[1]
    more = {"candidates": ["gone", "i1", "i2", "i3", "lost", "gone"], "exclude": {"u1": ["i2", "x"], "u2": ["x"]}}
    status, answer = server.ask("/recommend", {**asked, **more})
    assert status == 200
    assert answer["results"] == known["results"]
    assert (answer["unknown_candidates"], answer["unknown_exclude"]) == (["gone", "lost"], ["x"])
    assert "unknown_candidates" not in known
    status, answer = server.ask("/recommend", {**asked, "candidates": ["gone"]})
    assert (status, answer["results"]) == (200, [{"user_id": "u1", "items": []}])


def test_a_history_places_a_new_user_and_is_left_out_for_a_known_one(server, ranker):
    both, _ = ranker.with_users({"new": ["i1", "i2"]})
    (expected,) = both.recommend(["new"], 5)
    status, answer = server.ask("/recommend?user_id=new&k=5&history=i1&history=i2&history=gone")
    assert (status, answer["user_id"]) == (200, "new")
    assert [item for item, _ in pairs(answer)] == [item for item, _ in expected.items]
    assert server.ask("/recommend", {"histories": {"new": ["i1", "i2"]}, "k": 5})[1]["results"] == [answer]
    (plain,) = ranker.recommend(["u3"], 40)
    first = [item for item, _ in plain.items[:2]]
    rest = [item for item, _ in plain.items[2:7]]
    asked = "&".join(f"history={item}" for item in first)
    assert [item for item, _ in pairs(server.ask(f"/recommend?user_id=u3&k=5&{asked}")[1])] == rest
    body = {"users": ["u4"], "histories": {"u3": [*first, "gone"]}, "k": 5}
    answer = server.ask("/recommend", body)[1]
    assert [item for item, _ in pairs(answer["results"][1])] == rest
    assert (answer["unknown_users"], answer["unknown_items"]) == ([], {"u3": ["gone"]})
    seen_too = server.ask(f"/recommend?user_id=u3&k=40&exclude_seen=false&{asked}")[1]
    assert set(first) < {item for item, _ in pairs(seen_too)}


def test_similar(server, ranker):
    status, answer = server.ask("/similar?item_id=i7&k=4")
    assert (status, answer["item_id"]) == (200, "i7")
    assert [item for item, _ in pairs(answer)] == [item for item, _ in ranker.similar("i7", 4).items]


def test_health_says_what_answers(server, ranker):
    status, health = server.ask("/health")
    assert (status, health["status"], health["error"]) == (200, "ok", None)
    assert health["artifact"]["sha256"] == ranker.manifest["tensors"]["sha256"]
    assert (health["artifact"]["users"], health["artifact"]["items"], health["artifact"]["width"]) == (30, 50, 6)
    assert health["loaded_at"] > ranker.manifest["created_at"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/recommend", None, 400, "user_id is missing"),
        ("/recommend?user_id=", None, 400, "user_id is missing"),
        ("/recommend?user_id=u31", None, 404, "unknown user 'u31'; add &history=ITEM"),
        ("/recommend?user_id=u31&history=gone", None, 404, "none of the items in its history is known"),
        ("/recommend?user_id=u1&history=", None, 400, "an item id in history is empty"),
        ("/recommend?user_id=u1&k=0", None, 400, "from 1 to 40, not 0"),
        ("/recommend?user_id=u1&k=41", None, 400, "from 1 to 40, not 41"),
        ("/recommend?user_id=u1&k=ten", None, 400, 'not "ten"'),
        ("/recommend?user_id=u1&k=%C2%B2", None, 400, "k must be"),
        ("/recommend?user_id=u1&exclude_seen=perhaps", None, 400, "true or false"),
        ("/recommend?user_id=u1&user_id=u2", None, 400, "given twice"),
        ("/recommend?user=u1", None, 400, "did you mean 'user_id'?"),
        ("/similar?item_id=i51", None, 404, "did you mean 'i5'?"),
        ("/similar?item_id=zz", None, 404, "unknown item 'zz'; None"),
        ("/similar?item_id=i1&exclude_seen=true", None, 400, "unknown parameter"),
        ("/nowhere", None, 404, "/openapi.json"),
        ("/recommend", b"{", 400, "not JSON"),
        ("/recommend", b"\xff\xfe", 400, "not JSON"),
        ("/recommend", b"[" * 1500, 400, "not JSON"),
        ("/recommend", [], 400, "must be a JSON object"),
        ("/recommend", {}, 400, "names no users"),
        ("/recommend", {"users": "u1"}, 400, "list of ids"),
        ("/recommend", {"users": ["u1", 1]}, 400, "users[1] is 1; ids are strings"),
        ("/recommend", {"users": ["u1", ""]}, 400, 'users[1] is ""'),
        ("/recommend", {"users": {"u1": []}}, 400, 'users is {"u1": []}'),
        ("/recommend", {"user": ["u1"]}, 400, "did you mean 'users'"),
        ("/recommend", {"users": ["u1"], "k": True}, 400, "from 1 to 40, not true"),
        ("/recommend", {"users": ["u1"], "k": 2.0}, 400, "k must be"),
        ("/recommend", {"users": ["u1"], "exclude_seen": 1}, 400, "true or false, not 1"),
        ("/recommend", {"users": ["u1"], "candidates": "i1"}, 400, 'candidates is "i1"'),
        ("/recommend", {"users": ["u1"], "exclude": 3}, 400, "exclude is 3"),
        ("/recommend", {"users": ["u1"], "exclude": {"u1": ["i1", 2]}}, 400, 'exclude["u1"][1] is 2'),
        ("/recommend", {"users": ["u1"], "exclude": {"": ["i1"]}}, 400, "a user id in exclude is empty"),
        ("/recommend", {"histories": {"new": "i1"}}, 400, 'histories["new"] is "i1"'),
        ("/recommend", {"histories": ["new"]}, 400, 'histories is ["new"]'),
        ("/recommend", {"users": ["a"], "histories": {"a": ["i1"]}}, 400, "'a' is in both users and histories"),
        ("/recommend", {"users": [f"u{n}" for n in range(9)]}, 400, "at most 8"),
        ("/recommend", b" " * 2001, 413, "more than 2,000 bytes"),
    ],
)
def test_what_is_wrong_is_said_in_json(server, path, body, status, words):
    got, answer = server.ask(path, body)
    assert got == status, answer
    assert list(answer) == ["error"]
    assert set(answer["error"]) == {"type", "message", "hint"}
    assert words in f"{answer['error']['message']}; {answer['error']['hint']}"


def test_other_methods_and_bodies_of_unknown_length(server):
    assert server.ask("/recommend", method="DELETE")[0] == 405
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("HEAD", "/recommend?user_id=u1")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
        assert int(response.headers["content-length"]) > 100
        body = (part for part in (b'{"users": [', b'"u1"], "k": 2}'))
        connection.request("POST", "/recommend", body, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        assert len(json.loads(connection.getresponse().read())["results"][0]["items"]) == 2
        connection.request("OPTIONS", "/recommend")
        response = connection.getresponse()
        assert (response.status, response.headers["allow"]) == (405, "GET, POST, HEAD")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/recommend", (b" " * 500 for _ in range(5)), encode_chunked=True)
        assert connection.getresponse().status == 413
    assert server.ask("/health")[0] == 200


# --- OpenAPI ------------------------------------------------------------------------------------------------------

_OPERATION = {
    "type": "object",
    "required": ["operationId", "responses"],
    "properties": {
        "parameters": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "in", "schema"],
                "properties": {"in": {"enum": ["query", "path", "header", "cookie"]}, "required": {"type": "boolean"}},
            },
        },
        "requestBody": {"type": "object", "required": ["content"]},
        "responses": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": "^([1-5][0-9X]{2}|default)$"},
            "additionalProperties": {
                "type": "object",
                "required": ["description"],
                "properties": {
                    "content": {
                        "type": "object",
                        "additionalProperties": {"type": "object", "required": ["schema"]},
                    }
                },
            },
        },
    },
}
STRUCTURE = {
    "type": "object",
    "required": ["openapi", "info", "paths"],
    "properties": {
        "openapi": {"pattern": r"^3\.1\.\d+$"},
        "info": {"type": "object", "required": ["title", "version"]},
        "paths": {
            "type": "object",
            "propertyNames": {"pattern": "^/"},
            "additionalProperties": {
                "type": "object",
                "propertyNames": {"enum": ["get", "post", "put", "delete", "patch", "head", "options", "trace"]},
                "additionalProperties": _OPERATION,
            },
        },
        "components": {
            "type": "object",
            "properties": {"schemas": {"type": "object", "propertyNames": {"pattern": r"^[a-zA-Z0-9._-]+$"}}},
        },
    },
    "additionalProperties": False,
}
"""Schema of the parts of OpenAPI 3.1 that are used here."""


def schemas_in(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "schema":
                yield value
            else:
                yield from schemas_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from schemas_in(value)


def references_in(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from references_in(value)


def test_the_document_is_openapi_and_what_is_answered_is_as_it_says(server):
    status, document = server.ask("/openapi.json")
    assert status == 200
    Draft202012Validator(STRUCTURE).validate(document)
    schemas = document["components"]["schemas"]
    for schema in [*schemas_in(document["paths"]), *schemas.values()]:
        Draft202012Validator.check_schema(schema)
    for reference in references_in(document):
        assert reference.rpartition("/")[2] in schemas, reference
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    asked = [
        ("get", "/recommend", "/recommend?user_id=u1", None),
        ("get", "/recommend", "/recommend?user_id=none", None),
        ("get", "/recommend", "/recommend?k=x", None),
        ("get", "/recommend", "/recommend?user_id=new&history=i1", None),
        ("post", "/recommend", "/recommend", {"users": ["u1", "x"], "histories": {"n": ["i1", "z"]}}),
        ("post", "/recommend", "/recommend", {"users": 3}),
        ("post", "/recommend", "/recommend", b" " * 3000),
        ("get", "/similar", "/similar?item_id=i1", None),
        ("get", "/similar", "/similar?item_id=x", None),
        ("get", "/health", "/health", None),
    ]
    for method, path, url, body in asked:
        status, answer = server.ask(url, body)
        content = document["paths"][path][method]["responses"][str(status)]["content"]["application/json"]["schema"]
        Draft202012Validator({**content, "components": document["components"]}).validate(answer)
