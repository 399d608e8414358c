"""A new artifact, a damaged one, and one that is cut while it is mapped, under a running service."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time

import pytest
from serving_process import Server, write

from enhancer.serving import Ranker

pytest.importorskip("httptools", reason="the extra serve is not installed")
pytest.importorskip("orjson", reason="the extra serve is not installed")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


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
            assert [item["item_id"] for item in server.ask("/recommend?user_id=u3&k=5")[1]["items"]] == expected[sign]
        stop.set()
        for thread in threads:
            thread.join(20)
        assert failures == []
        assert len(answered) > 20
        server.until(lambda health: health["draining"] == 0)
        assert server.stop() == 0


def cut(manifest):
    manifest.write_bytes(b"{")


def without_digest(manifest):
    described = json.loads(manifest.read_text())
    del described["tensors"]["sha256"]
    manifest.write_text(json.dumps(described))


def pipe(manifest):
    manifest.unlink()
    os.mkfifo(manifest)


@pytest.mark.parametrize(
    ("damage", "words"),
    [(cut, "not JSON"), (without_digest, "does not give the sha256"), (pipe, "not a regular file")],
)
def test_a_damaged_artifact_is_not_taken_and_a_sound_one_after_it_is(tmp_path, damage, words):
    folder = write(tmp_path / "artifact")
    manifest = folder / "manifest.json"
    with Server(folder, "--watch=0.02") as server:
        good = manifest.read_bytes()
        damage(manifest)
        health = server.until(lambda health: health["status"] == "stale")
        assert words in health["error"]["message"]
        assert server.ask("/recommend?user_id=u1")[0] == 200
        manifest.unlink()
        manifest.write_bytes(good)
        server.until(lambda health: health["status"] == "ok")
        server.stop()
    assert sum("the old one stays in use" in line for line in server.log) == 1  # told once, not at every look


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


def test_an_artifact_that_is_gone_is_told_and_the_loaded_one_serves_on(tmp_path):
    folder = write(tmp_path / "artifact")
    with Server(folder, "--watch=0.05") as server:
        expected = server.ask("/recommend?user_id=u3&k=5")[1]
        folder.rename(tmp_path / "elsewhere")
        health = server.until(lambda health: health["status"] == "stale")
        assert "no artifact" in health["error"]["message"]
        assert server.ask("/recommend?user_id=u3&k=5")[1] == expected
        time.sleep(0.3)
        assert sum("cannot be loaded" in line for line in server.log) == 1
        (tmp_path / "elsewhere").rename(folder)
        server.until(lambda health: health["status"] == "ok")
