"""The HTTP service, as its clients meet it: a process of its own on a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from dists import cli
from jsonschema import Draft202012Validator

from enhancer.contracts import Factors
from enhancer.serving import Ranker, write_artifact

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

RNG = np.random.default_rng(0)
U = RNG.standard_normal((30, 6)).astype(np.float32)
V = RNG.standard_normal((50, 6)).astype(np.float32)


def write(folder, sign=1):
    return write_artifact(
        folder,
        factors=Factors(sign * U, V),
        user_ids=[f"u{n}" for n in range(30)],
        item_ids=[f"i{n}" for n in range(50)],
        train_users=np.repeat(np.arange(30), 4),
        train_items=np.random.default_rng(1).integers(0, 50, 120),
        titles=[f"Item №{n}" if n else None for n in range(50)],
        manifest={"seed": sign},
    )


class Server:
    """A service in a process of its own."""

    def __init__(self, artifact, *flags):
        command = [sys.executable, "-P", "-m", "enhancer.serving", "--port=0", *flags, "--", str(artifact)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8")
        self.log = [self.process.stderr.readline()]
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.log[0])
        assert found, self.log[0] + self.process.stderr.read()
        self.port = int(found[1])
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self._reader.start()

    def ask(self, path, body=None, method=None, **headers):
        """Status and JSON of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method or ("GET" if body is None else "POST"), path, raw, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def until(self, condition, seconds=15.0):
        """Wait for what ``/health`` says."""
        stop = time.monotonic() + seconds
        while not condition(health := self.ask("/health")[1]):
            assert time.monotonic() < stop, health
            time.sleep(0.02)
        return health

    def stop(self, number=signal.SIGTERM):
        """Send a signal; gives the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(20)
        self._reader.join(5)
        self.process.stderr.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(5)
        self.process.stderr.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("service") / "artifact")


@pytest.fixture(scope="module")
def server(folder):
    with Server(folder, "--max-k=40", "--max-batch=8", "--max-body=2000") as running:
        yield running


@pytest.fixture(scope="module")
def ranker(folder):
    return Ranker.load(folder)


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
        ("/recommend?user_id=u31", None, 404, "did you mean 'u"),
        ("/recommend?user_id=u1&k=0", None, 400, "from 1 to 40, not 0"),
        ("/recommend?user_id=u1&k=41", None, 400, "from 1 to 40, not 41"),
        ("/recommend?user_id=u1&k=ten", None, 400, "not 'ten'"),
        ("/recommend?user_id=u1&k=%C2%B2", None, 400, "k must be"),
        ("/recommend?user_id=u1&exclude_seen=perhaps", None, 400, "true or false"),
        ("/recommend?user_id=u1&user_id=u2", None, 400, "given twice"),
        ("/recommend?user=u1", None, 400, "did you mean 'user_id'?"),
        ("/similar?item_id=i51", None, 404, "did you mean 'i5"),
        ("/similar?item_id=i1&exclude_seen=true", None, 400, "unknown parameter"),
        ("/nowhere", None, 404, "/openapi.json"),
        ("/recommend", b"{", 400, "not JSON"),
        ("/recommend", b"\xff\xfe", 400, "not JSON"),
        ("/recommend", b"[" * 1500, 400, "not JSON"),
        ("/recommend", [], 400, "must be an object"),
        ("/recommend", {}, 400, "nobody is asked about"),
        ("/recommend", {"users": "u1"}, 400, "list of ids"),
        ("/recommend", {"users": [1]}, 400, "ids are strings"),
        ("/recommend", {"user": ["u1"]}, 400, "did you mean 'users'"),
        ("/recommend", {"users": ["u1"], "k": True}, 400, "k must be"),
        ("/recommend", {"users": ["u1"], "k": 2.0}, 400, "k must be"),
        ("/recommend", {"users": ["u1"], "exclude_seen": 1}, 400, "true or false"),
        ("/recommend", {"users": ["u1"], "candidates": "i1"}, 400, "candidates"),
        ("/recommend", {"users": ["u1"], "candidates": ["i77"]}, 404, "unknown item 'i77'"),
        ("/recommend", {"users": ["u1"], "exclude": ["i77"]}, 404, "unknown item 'i77'"),
        ("/recommend", {"users": ["u1"], "exclude": 3}, 400, "exclude"),
        ("/recommend", {"histories": {"new": "i1"}}, 400, "histories"),
        ("/recommend", {"histories": {"u1": ["i1"]}}, 400, "is one that training knew"),
        ("/recommend", {"users": ["a"], "histories": {"a": ["i1"]}}, 400, "'a' is in users and in histories"),
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
"""What OpenAPI 3.1 says of the parts that are used here."""


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


# --- reloading ----------------------------------------------------------------------------------------------------


def test_twenty_new_artifacts_and_no_failed_request(tmp_path):
    folder = write(tmp_path / "artifact")
    expected = {}
    for sign in (1, -1):
        other = Ranker.load(write(tmp_path / f"other{sign}", sign))
        expected[sign] = [item for item, _ in other.recommend(["u3"], 5)[0].items]
    with Server(folder, "--watch=0.02") as server:
        stop, failures, answered = threading.Event(), [], []

        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            try:
                while not stop.is_set():
                    connection.request("GET", "/recommend?user_id=u3&k=5")
                    response = connection.getresponse()
                    items = [item["item_id"] for item in json.loads(response.read())["items"]]
                    assert response.status == 200
                    assert items in expected.values()
                    answered.append(1)
            except Exception as error:  # noqa: BLE001 - told to the main thread
                failures.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(20):
            write(folder, sign := -1 if turn % 2 == 0 else 1)
            health = server.until(lambda health, turn=turn: health["reloads"] > turn)
            assert health["status"] == "ok"
            assert [item for item, _ in pairs(server.ask("/recommend?user_id=u3&k=5")[1])] == expected[sign]
        stop.set()
        for thread in threads:
            thread.join(20)
        assert failures == []
        assert len(answered) > 20
        server.until(lambda health: health["draining"] == 0)
        assert server.stop() == 0


def test_a_damaged_artifact_is_not_taken_and_a_sound_one_after_it_is(tmp_path):
    folder = write(tmp_path / "artifact")
    manifest = folder / "manifest.json"
    with Server(folder, "--watch=0.02") as server:
        good = manifest.read_bytes()
        manifest.write_bytes(b"{")
        health = server.until(lambda health: health["status"] == "stale")
        assert "not JSON" in health["error"]["message"]
        assert server.ask("/recommend?user_id=u1")[0] == 200
        manifest.write_bytes(good)
        server.until(lambda health: health["status"] == "ok")
        server.stop()
    assert sum("the old one goes on" in line for line in server.log) == 1  # told once, not at every look


def test_sighup_loads_again(tmp_path):
    folder = write(tmp_path / "artifact")
    with Server(folder, "--watch=0") as server:
        write(folder, -1)
        time.sleep(0.1)
        assert server.ask("/health")[1]["reloads"] == 0
        server.process.send_signal(signal.SIGHUP)
        health = server.until(lambda health: health["reloads"] == 1)
        assert health["artifact"]["sha256"] == json.loads((folder / "manifest.json").read_text())["tensors"]["sha256"]


def test_a_file_that_is_cut_while_it_is_mapped_is_told_and_kills_nobody(tmp_path):
    folder = write(tmp_path / "artifact")
    (tensors,) = folder.glob("*.safetensors")
    with Server(folder, "--watch=0.02") as server, Server(folder, "--in-memory", "--watch=0") as other:
        os.truncate(tensors, 100)
        status, answer = server.ask("/recommend?user_id=u1")
        assert (status, answer["error"]["type"]) == (503, "ArtifactError")
        assert "never in place" in answer["error"]["hint"]
        status, health = server.ask("/health")
        assert (status, health["status"]) == (503, "damaged")
        assert other.ask("/recommend?user_id=u1")[0] == 200  # it has read the file, and needs it no more
        write(folder, -1)
        server.until(lambda health: health["status"] == "ok")
        assert server.ask("/recommend?user_id=u1")[0] == 200


# --- slow clients -------------------------------------------------------------------------------------------------


def drip(port, first, more=b"x", every=0.05, seconds=10.0):
    """Send ``first``, then ``more`` again and again until the service hangs up; what it said, and after how long."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as line:
        begun, said = time.monotonic(), b""
        line.sendall(first)
        line.settimeout(every)
        while time.monotonic() - begun < seconds:
            try:
                part = line.recv(4096)
            except TimeoutError:
                with contextlib.suppress(OSError):
                    line.sendall(more)
                continue
            except ConnectionError:
                part = b""
            if not part:
                return said, time.monotonic() - begun
            said += part
        pytest.fail(f"still open after {seconds} s: {said!r}")


@pytest.fixture(scope="module")
def impatient(folder):
    with Server(folder, "--timeout=0.4") as running:
        yield running


HEAD = b"GET /recommend?user_id=u1 HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("first", "more"),
    [(b"GET /", b"e"), (HEAD, b"X-Odd: 1\r\n"), (HEAD + b"X-Odd: ", b"1"), (b"\r\n", b"\r\n")],
    ids=["address", "headers", "one header", "empty lines"],
)
def test_a_head_that_never_ends_is_hung_up_on(impatient, first, more):
    said, seconds = drip(impatient.port, first, more)
    assert said.startswith(b"HTTP/1.1 408") or first == b"\r\n"
    assert 0.3 < seconds < 3


def test_a_second_head_has_no_more_time(impatient):
    said, seconds = drip(impatient.port, HEAD + b"\r\n" + HEAD, b"X-Odd: 1\r\n")
    assert said.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in said
    assert 0.3 < seconds < 3


def test_nor_has_a_body_whose_answer_was_given(impatient):
    said, seconds = drip(impatient.port, b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 404")
    assert seconds < 6


def test_a_head_in_pieces_is_answered_and_the_connection_stays(impatient):
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=10) as line:
        for _ in range(3):
            for piece in (HEAD[:9], HEAD[9:], b"\r\n"):
                line.sendall(piece)
                time.sleep(0.03)
            assert line.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(0.5)  # longer than a head may take: between requests another clock runs


def test_a_head_without_end_is_refused_by_its_length(server):
    said, _ = drip(server.port, HEAD + b"X-Odd: ", b"1" * 50_000, every=0.02)
    assert said.startswith(b"HTTP/1.1 431")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["message"] == "the head has more than 65,536 bytes"


def test_what_is_no_http_is_told_in_json(server):
    said, _ = drip(server.port, b"hello\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["type"] == "HTTPError"


@pytest.mark.parametrize("name", ["httptools_impl.HttpToolsProtocol", "h11_impl.H11Protocol"])
async def test_both_of_uvicorns_protocols_have_the_limits(name):
    import uvicorn
    from uvicorn.server import ServerState

    from enhancer.serving.heads import limited

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    module, _, kind = name.rpartition(".")
    base = getattr(pytest.importorskip(f"uvicorn.protocols.http.{module}"), kind)
    config = uvicorn.Config(app, http=limited(base, 0.2, idle=0.3), ws="none", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    serving = await loop.create_server(lambda: config.http_protocol_class(config, state, {}), "127.0.0.1")
    port = serving.sockets[0].getsockname()[1]
    slow, silent = await asyncio.gather(
        asyncio.to_thread(drip, port, HEAD, b"X-Odd: 1\r\n"), asyncio.to_thread(drip, port, b"", b"")
    )
    assert slow[0].startswith(b"HTTP/1.1 408")
    assert (silent[0], 0.2 < silent[1] < 3) == (b"", True)
    whole, _ = await asyncio.to_thread(drip, port, HEAD + b"Connection: close\r\n\r\n")
    assert whole.startswith(b"HTTP/1.1 204")
    serving.close()
    await serving.wait_closed()


# --- starting and stopping ----------------------------------------------------------------------------------------


def test_what_is_asked_before_sigterm_is_answered(tmp_path):
    with Server(write(tmp_path / "artifact")) as server:
        slow = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        with slow:
            body = json.dumps({"users": ["u1"]}).encode()
            head = f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            slow.sendall(head + body[:5])
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", server.port), timeout=1)
            slow.sendall(body[5:])
            assert slow.recv(100).startswith(b"HTTP/1.1 200")
        assert server.process.wait(20) == 0


def test_sigint_says_130(tmp_path):
    with Server(write(tmp_path / "artifact")) as server:
        assert server.stop(signal.SIGINT) == 130


def test_what_keeps_it_from_starting_is_told(folder, tmp_path):
    done = cli("serve", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no artifact in" in done.stderr
    assert "enhancer train" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli("serve", str(folder), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "the port is taken" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr
    assert cli("serve", str(folder), "--max-k", "0").returncode == 2
    assert cli("serve", cwd=tmp_path).returncode == 2  # no project here


def test_the_command_becomes_the_server(folder):
    code = "import sys; from enhancer.cli.app import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "serve", str(folder), "--port", "0", "--max-k", "7", "--log-json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        line = json.loads(process.stderr.readline())
        assert (line["event"], line["level"]) == ("log", "info")
        server = Server.__new__(Server)
        server.port = int(line["message"].rpartition(":")[2])
        assert server.ask("/recommend?user_id=u1&k=8")[0] == 400
        assert server.ask("/recommend?user_id=u1&k=7")[0] == 200
        process.terminate()
        rest = process.stderr.read()
        assert process.wait(20) == 0
        assert [json.loads(line)["message"] for line in rest.splitlines()] == ["stopped"]
    done = cli("serve", "nowhere", "--log-json")
    assert json.loads(done.stderr)["exit_code"] == done.returncode == 1


def test_without_the_extra_it_says_which(folder, tmp_path):
    hide = "import sys; sys.modules.update(starlette=None, uvicorn=None)"
    (tmp_path / "sitecustomize.py").write_text(hide)
    done = cli("serve", str(folder), paths=(tmp_path,))
    assert done.returncode == 2
    assert 'pip install "enhancer[serve]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_it_imports_what_it_needs_and_nothing_heavier(folder):
    program = textwrap.dedent("""
        import json, os, signal, sys, threading, time, urllib.request

        def ask():
            while "serving" not in "".join(lines):
                time.sleep(0.01)
            port = lines[-1].strip().rpartition(":")[2]
            for path in ("/recommend?user_id=u1", "/similar?item_id=i1", "/health", "/openapi.json"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").read()
            body = json.dumps({"users": ["u1"], "histories": {"n": ["i1"]}}).encode()
            urllib.request.urlopen(f"http://127.0.0.1:{port}/recommend", body).read()
            os.kill(os.getpid(), signal.SIGTERM)

        lines = []
        sys.stderr = type("Heard", (), {"write": lambda self, text: lines.append(text), "flush": lambda self: None})()
        threading.Thread(target=ask, daemon=True).start()
        from enhancer.serving.server import main
        code = main(["--port=0", sys.argv[1]])
        print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
    """)
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    code, modules = json.loads(done.stdout)
    heavy = {
        "torch", "litellm", "openai", "aiohttp", "lmdb", "sqlite3", "pluggy", "pydantic", "typer", "rich", "jinja2",
        "jsonschema", "tenacity", "scipy", "sklearn", "numba", "pandas", "pyarrow", "transformers",
        "sentence_transformers", "safetensors", "usearch", "enhancer_plugins",
    }  # fmt: skip
    assert code == 0
    assert {"starlette", "uvicorn", "numpy"} <= set(modules)
    assert sorted(heavy & set(modules)) == []


# --- the desk -----------------------------------------------------------------------------------------------------


class Slow:
    """A ranker that waits to be let go, and notes who was asked about together."""

    def __init__(self):
        self.go, self.calls = threading.Event(), []

    def recommend(self, users, k, *, exclude_seen):
        from enhancer.serving import Recommendation

        self.calls.append((list(users), k, exclude_seen))
        assert self.go.wait(20)
        return [Recommendation(user, [(f"i{n}", 1.0) for n in range(k)]) for user in users]


async def test_users_who_wait_are_answered_together():
    from enhancer.serving.desk import Desk

    ranker, other = Slow(), Slow()
    other.go.set()
    desk = Desk(threads=1, waiting=100, timeout=20)
    asked = [desk.recommend(ranker, f"u{n}", n + 1, exclude_seen=n != 3) for n in range(6)]
    tasks = [asyncio.create_task(one) for one in [*asked, desk.recommend(other, "x", 1, exclude_seen=True)]]
    await asyncio.sleep(0.1)
    assert (desk.running, desk.waiting) == (1, 6)
    tasks[2].cancel()  # a client that went away
    ranker.go.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert ranker.calls == [(["u0"], 1, True), (["u1", "u4", "u5"], 6, True), (["u3"], 4, False)]
    assert [len(answer.items) for n, answer in enumerate(answers) if n != 2] == [1, 2, 4, 5, 6, 1]
    assert isinstance(answers[2], asyncio.CancelledError)
    assert [answer.user_id for answer in answers[3:]] == ["u3", "u4", "u5", "x"]
    desk.close()


async def test_who_comes_when_all_is_full_is_told_to_come_again_and_nobody_waits_for_ever():
    from enhancer.serving.desk import BusyError, Desk, LateError

    ranker = Slow()
    desk = Desk(threads=1, waiting=2, timeout=0.2)
    tasks = [asyncio.create_task(desk.recommend(ranker, f"u{n}", 1, exclude_seen=True)) for n in range(4)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [LateError, LateError, LateError, BusyError]
    ranker.go.set()
    (after,) = await asyncio.gather(desk.recommend(ranker, "later", 1, exclude_seen=True))
    assert after.user_id == "later"
    assert [users for users, _, _ in ranker.calls] == [["u0"], ["later"]]  # who had given up was not ranked

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await desk.run(fail)
    assert await desk.run(lambda: 7) == 7
    desk.close()
