"""Several processes on one port: who answers, what ends them, and what they count together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from dists import cli
from serving_process import Server, write

pytest.importorskip("httptools", reason="the extra serve is not installed")
pytest.importorskip("orjson", reason="the extra serve is not installed")

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="processes of POSIX"),
    pytest.mark.slow,
]


def until(holds, seconds=20.0):
    stop = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < stop
        time.sleep(0.02)
    return found


def answering(server, tries=40):
    """Return the health of each worker that answers, over as many connections."""
    found = {}
    for _ in range(tries):
        health = server.ask("/health")[1]
        found[health["worker"]] = health
    return found


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def metrics(server):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return answer.read().decode()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("workers") / "artifact")
    with Server(folder, "--workers=2", "--watch=0.05") as server:
        until(lambda: len(answering(server)) == 2)
        yield server, folder


def test_both_answer_and_count_together(pair):
    server, _ = pair
    assert "with 2 workers" in server.log[0]
    before = re.search(r'enhancer_requests_total\{endpoint="recommend",status="200"\} (\d+)', metrics(server))
    for _ in range(30):
        assert server.ask("/recommend?user_id=u1&k=3")[0] == 200
    assert server.ask("/recommend?user_id=nobody")[0] == 404
    text = metrics(server)
    counted = re.search(r'enhancer_requests_total\{endpoint="recommend",status="200"\} (\d+)', text)
    assert int(counted[1]) - (int(before[1]) if before else 0) == 30
    assert "enhancer_workers 2\n" in text
    assert "enhancer_unknown_users_total 1\n" in text


def test_every_worker_takes_a_new_artifact_by_itself_and_on_sighup(pair):
    server, folder = pair
    write(folder, -1)
    until(lambda: [health["reloads"] for health in answering(server).values()] == [1, 1])
    server.process.send_signal(signal.SIGHUP)
    until(lambda: [health["reloads"] for health in answering(server).values()] == [2, 2])


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_worker_that_dies_is_started_again(pair):
    server, _ = pair
    old = children(server.process.pid)
    os.kill(old[0], signal.SIGKILL)
    until(lambda: len(children(server.process.pid)) == 2 and old[0] not in children(server.process.pid))
    until(lambda: "enhancer_workers 2\n" in metrics(server))
    assert len(answering(server)) == 2
    assert "enhancer_worker_restarts_total 1\n" in metrics(server)
    assert any("ended with signal 9, starting it again" in line for line in server.log)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_worker_that_is_started_again_has_the_last_good_artifact(tmp_path):
    folder = write(tmp_path / "artifact")
    with Server(folder, "--workers=2", "--watch=0.05") as server:
        until(lambda: len(answering(server)) == 2)
        expected = server.ask("/recommend?user_id=u3&k=5")[1]
        (folder / "manifest.json").write_text("{")
        until(lambda: {health["status"] for health in answering(server).values()} == {"stale"})
        old = children(server.process.pid)
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(new := children(server.process.pid)) == 2 and not set(new) & set(old))
        until(lambda: len(answering(server)) == 2)
        for _ in range(20):
            assert server.ask("/recommend?user_id=u3&k=5")[1] == expected
        assert {health["status"] for health in answering(server).values()} == {"stale"}
        assert sum("cannot be loaded" in line for line in server.log) == 1
        write(folder, -1)
        until(lambda: {health["status"] for health in answering(server).values()} == {"ok"})
        assert server.ask("/recommend?user_id=u3&k=5")[1] != expected


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_connections_do_not_wait_for_a_worker_that_ends_again_and_again(folder):
    with Server(folder, "--workers=2") as server:
        until(lambda: len(answering(server)) == 2)
        keeps = children(server.process.pid)[0]

        def killed_until_it_is_put_off():
            for pid in children(server.process.pid):
                if pid != keeps:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            return any("starting it again in" in line for line in server.log)

        until(killed_until_it_is_put_off)
        began = time.monotonic()
        for _ in range(40):
            assert server.ask("/health")[0] == 200
        assert time.monotonic() - began < 10
        until(lambda: len(answering(server)) == 2)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_workers_that_all_ended_again_and_again_are_started_at_once(folder):
    with Server(folder, "--workers=2") as server:
        until(lambda: len(answering(server)) == 2)
        for _ in range(5):
            old = until(lambda: children(server.process.pid))
            for pid in old:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            until(lambda old=old: set(children(server.process.pid)) - set(old), seconds=3)

        def answers():
            with contextlib.suppress(OSError):
                return server.ask("/health")[0] == 200

        until(answers, seconds=5)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_end_all_and_answer_what_was_asked(folder, number, code):
    with Server(folder, "--workers=2") as server:
        until(lambda: len(answering(server)) == 2)
        pids = children(server.process.pid) if sys.platform == "linux" else []
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
            line.sendall(b'POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{"users"')
            time.sleep(0.1)
            server.process.send_signal(number)
            time.sleep(0.2)
            line.sendall(b': ["u1"]}')
            assert line.recv(100).startswith(b"HTTP/1.1 200")
        assert server.process.wait(20) == code
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_workers_end_with_a_supervisor_that_is_killed(folder):
    with Server(folder, "--workers=2") as server:
        until(lambda: len(answering(server)) == 2)
        pids = children(server.process.pid)
        server.process.kill()
        server.process.wait(10)
        until(lambda: not any(alive(pid) for pid in pids))


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_what_keeps_the_first_worker_from_starting_ends_all(folder, tmp_path):
    command = [sys.executable, "-P", "-m", "enhancer.serving", "--port=0", "--workers=3"]
    done = subprocess.run([*command, str(tmp_path / "none")], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.count("there is no artifact in") == 1
    assert "Traceback" not in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli("serve", str(folder), "--workers", "2", "--port", str(taken.getsockname()[1]))
    assert (done.returncode, "the port is in use" in done.stderr) == (2, True)
    with Server(folder, "--workers=2") as server:  # nor may a second service share the port unasked
        done = cli("serve", str(folder), "--workers", "2", "--port", str(server.port))
    assert (done.returncode, "the port is in use" in done.stderr) == (2, True)
    assert cli("serve", str(folder), "--workers", "0").returncode == 2
