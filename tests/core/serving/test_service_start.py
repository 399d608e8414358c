"""Start and end of the service."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest
from dists import cli
from serving_process import Server, write

pytest.importorskip("httptools", reason="the extra serve is not installed")
pytest.importorskip("orjson", reason="the extra serve is not installed")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_that_comes_while_it_starts_stops_it(folder, number, code):
    """Before the event loop listens to signals itself, when the port is bound already."""
    early = f"""
        import signal, sys
        from enhancer.serving.service import server
        from enhancer.serving.service.live_ranker import LiveRanker
        factory = server._loop_factory
        def soon():
            signal.raise_signal({int(number)})
            return factory()
        server._loop_factory = soon
        sys.exit(server.serve(LiveRanker({str(folder)!r}), port=0))
    """
    done = subprocess.run([sys.executable, "-P", "-c", textwrap.dedent(early)], timeout=20, check=False)
    assert done.returncode == code


def test_what_keeps_it_from_starting_is_told(folder, tmp_path):
    done = cli("serve", str(tmp_path / "nowhere"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no artifact in" in done.stderr
    assert "enhancer train" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli("serve", str(folder), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "the port is in use" in done.stderr
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
    hide = "import sys; sys.modules.update(httptools=None, orjson=None)"
    (tmp_path / "sitecustomize.py").write_text(hide)
    done = cli("serve", str(folder), paths=(tmp_path,), fresh=True)
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
            for path in ("/recommend?user_id=u1", "/similar?item_id=i1", "/health", "/metrics", "/openapi.json"):
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").read()
            body = json.dumps({"users": ["u1"], "histories": {"n": ["i1"]}}).encode()
            urllib.request.urlopen(f"http://127.0.0.1:{port}/recommend", body).read()
            os.kill(os.getpid(), signal.SIGTERM)

        lines = []
        sys.stderr = type("Heard", (), {"write": lambda self, text: lines.append(text), "flush": lambda self: None})()
        threading.Thread(target=ask, daemon=True).start()
        from enhancer.serving.service.command import main
        code = main(["--port=0", sys.argv[1]])
        print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
    """)
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    code, modules = json.loads(done.stdout)
    heavy = {
        "torch", "litellm", "openai", "aiohttp", "lmdb", "sqlite3", "pluggy", "pydantic", "typer", "rich", "jinja2",
        "jsonschema", "tenacity", "scipy", "sklearn", "numba", "pandas", "pyarrow", "transformers",
        "sentence_transformers", "safetensors", "usearch", "enhancer_plugins", "starlette", "uvicorn",
    }  # fmt: skip
    assert code == 0
    assert {"httptools", "orjson", "numpy"} <= set(modules)
    assert sorted(heavy & set(modules)) == []
