"""``enhancer browse``: items, users and quarantine as pages of this machine."""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import subprocess
import sys
import threading
from html import unescape
from urllib.parse import quote

import pytest
from loopback import Behaviour

from enhancer import Project
from enhancer.errors import ConfigError
from enhancer.project.browsing.pages import Pages
from enhancer.project.browsing.server import make_server

PRICE = ("--set", "llm.price.input=1", "--set", "llm.price.output=2")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def shop(invoke, tables, hashing, llm_server):
    movies = tables / "movies.csv"
    movies.write_text(movies.read_text().replace("Clue,Mystery", f'"{HOSTILE.replace(chr(34), chr(34) * 2)}",Mystery'))
    llm_server.script.choose = lambda _, body: Behaviour(answer="no JSON at all") if "Heat" in str(body) else None
    setup = ("--llm", "openai", "--model", "local", "--embedder", "hashing", "--api-base", llm_server.url)
    assert invoke("init", "--yes", *setup).code == 0
    assert invoke("generate", "-q", "--yes", *PRICE).code == 3
    return tables


@pytest.fixture
def site(shop):
    """Return a function that asks the server, with a raw path; its ``port`` is that of the server."""
    with Project.load(shop / "enhancer.toml") as project:
        server = make_server(Pages(project.parts, "shop"), 0)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def ask(path, method="GET", **headers):
            connection = http.client.HTTPConnection("127.0.0.1", ask.port, timeout=20)
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer

        ask.port = server.server_address[1]
        yield ask
        server.shutdown()
        thread.join()
        server.server_close()


def test_one_gets_from_the_list_to_an_item_and_its_neighbours(site):
    status, page, _ = site("/")
    assert (status, page.count('href="/entity?')) == (200, 6)
    (link,) = re.findall(r'href="([^"]+)">Toy Story', page)
    status, page, _ = site(unescape(link))
    assert status == 200
    for words in (
        "<h1>Toy Story</h1>",
        "item 1",
        "Nearest by meaning",
        "Nearest by behaviour",
        "Answer for profile",
        "<h2>Text</h2>",
    ):
        assert words in page, words
    neighbour = unescape(re.findall(r'href="(/entity\?kind=item[^"]+)"', page)[0])
    assert site(neighbour)[0] == 200


def test_search_finds_all_words_in_id_and_title(site):
    assert re.findall(r'/entity[^"]*id=(\w+)', site("/?q=story")[1]) == ["1"]
    assert re.findall(r'/entity[^"]*id=(\w+)', site("/?q=STORY+toy")[1]) == ["1"]
    assert re.findall(r'/entity[^"]*id=(\w+)', site("/?q=story+heat")[1]) == []
    users = site("/?kind=user&q=12")[1]
    assert re.findall(r'/entity[^"]*id=(\w+)', users) == ["12"]
    assert "training interactions" in site("/entity?kind=user&id=12")[1]


def test_quarantine_shows_why(site):
    page = site("/quarantine")[1]
    assert "no JSON at all" in page
    assert "item 2" in page
    assert "In quarantine: profile" in site("/entity?kind=item&id=2")[1]


def test_outside_text_is_no_markup(site):
    for path in ("/", "/entity?kind=item&id=6", f"/?q={quote(HOSTILE)}", f"/entity?id={quote(HOSTILE)}"):
        _, page, answer = site(path)
        assert "<script" not in page
        assert "default-src 'none'" in answer.getheader("Content-Security-Policy")


def test_what_is_not_there_is_told(site):
    status, page, _ = site("/entity?kind=item&id=nothing")
    assert status == 404
    assert "neither the tables nor the store have item" in page
    assert site("/elsewhere")[0] == 404
    assert site("/?page=99999999999")[0] == 200
    assert site("/", method="POST")[0] == 501
    assert site("/", method="HEAD")[1] == ""


def test_other_machines_names_are_refused(site):
    assert site("/", Host="evil.example")[0] == 403
    assert site("/", Host=f"localhost:{site.port}")[0] == 200


def test_a_port_in_use_is_told(site):
    with pytest.raises(ConfigError, match="cannot listen on") as raised:
        make_server(None, site.port)
    assert "--port" in raised.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_the_command_serves_until_ctrl_c(shop):
    command = [sys.executable, "-m", "enhancer", "browse", "--port", "0", "--set", "embedder.use=minilm"]
    process = subprocess.Popen(command, cwd=shop, stderr=subprocess.PIPE, text=True)
    address = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stderr.readline())
    connection = http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=20)
    connection.request("GET", "/")
    assert "Toy Story" in connection.getresponse().read().decode()
    connection.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert "stopped" in process.stderr.read()
    process.stderr.close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_a_page_without_scrolling_sideways(site, tmp_path, width):
    page = site("/entity?kind=item&id=1")[1]
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    (tmp_path / "frame.html").write_text(
        f'<iframe id="f" src="page.html" style="width:{width}px;height:900px"></iframe><pre id="o"></pre><script>'
        "f.onload=()=>{const d=f.contentDocument;o.textContent=[d.documentElement.scrollWidth<=d.documentElement.clientWidth,"
        "d.querySelectorAll('.card').length>3].join()}</script>"
    )
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--virtual-time-budget=3000",
    ]
    done = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", (tmp_path / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "true,true</pre>" in done.stdout
