"""Run the HTTP service in a separate process on a free port, and write an artifact for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np

from enhancer.contracts import Factors
from enhancer.serving import write_artifact

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
    """A running service."""

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
        """Send a request; return status and JSON of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method or ("GET" if body is None else "POST"), path, raw, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def until(self, condition, seconds=15.0):
        """Poll ``/health`` until a condition on its JSON holds; return the JSON."""
        stop = time.monotonic() + seconds
        while not condition(health := self.ask("/health")[1]):
            assert time.monotonic() < stop, health
            time.sleep(0.02)
        return health

    def stop(self, number=signal.SIGTERM):
        """Send a signal and return the exit code."""
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
