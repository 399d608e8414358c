"""A server behind a certificate authority of one's own: ``SSL_CERT_FILE`` names it, as for other programs."""

from __future__ import annotations

import contextlib
import json
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from enhancer.contracts import Context, Message, Request
from enhancer.errors import ConnectionFailedError
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
REPLY = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}], "usage": {}}


class Chat(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(REPLY).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@pytest.fixture(scope="module")
def issued(tmp_path_factory):
    """The certificate of an authority, and a key and a certificate that it has issued to localhost."""
    folder = tmp_path_factory.mktemp("issued")
    authority, ca_key, key, wish, cert = (folder / name for name in ("ca.pem", "ca.key", "key.pem", "wish", "cert.pem"))
    (folder / "names").write_text(f"{NAMES}\nbasicConstraints=CA:FALSE\n")
    openssl("req", "-x509", *NEW_KEY, "-keyout", ca_key, "-out", authority, "-days", 2, "-subj", "/CN=some authority")
    openssl("req", *NEW_KEY, "-keyout", key, "-out", wish, "-subj", "/CN=localhost")
    by = ("-CA", authority, "-CAkey", ca_key, "-CAcreateserial", "-extfile", folder / "names")
    openssl("x509", "-req", "-in", wish, *by, "-out", cert, "-days", 2)
    return authority, key, cert


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory):
    """A key and a certificate as ``openssl req -x509`` makes them: it is one of an authority, too."""
    folder = tmp_path_factory.mktemp("own")
    key, cert = folder / "key.pem", folder / "cert.pem"
    openssl(
        "req", "-x509", *NEW_KEY, "-keyout", key, "-out", cert, "-days", 2, "-subj", "/CN=localhost", "-addext", NAMES
    )
    return key, cert


@contextlib.contextmanager
def serving(key, cert):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    running = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    running.socket = context.wrap_socket(running.socket, server_side=True)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"https://localhost:{running.server_port}/v1"
    running.shutdown()
    thread.join()
    running.server_close()


async def ask(base, tmp_path):
    provider = OpenAI(OpenAIOptions(api_base=base), Context(root=tmp_path))
    try:
        return (await provider.complete(Request(messages=(Message("user", "hi"),), model="m"))).text
    finally:
        await provider.aclose()


async def test_an_authority_that_the_environment_trusts(issued, tmp_path, monkeypatch):
    authority, *own = issued
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with serving(*own) as base:
        assert await ask(base, tmp_path) == "hello"


async def test_a_certificate_that_nobody_trusts_is_named(issued, tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with serving(*issued[1:]) as base, pytest.raises(ConnectionFailedError, match="certificate") as caught:
        await ask(base, tmp_path)
    assert "SSL_CERT_FILE" in caught.value.hint


async def test_a_self_signed_certificate(self_signed, tmp_path, monkeypatch):
    key, cert = self_signed
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    with serving(key, cert) as base:
        assert await ask(base, tmp_path) == "hello"
