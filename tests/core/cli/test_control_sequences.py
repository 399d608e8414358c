"""Texts of servers, tables and models reach the terminal without control sequences."""

from __future__ import annotations

import io
import json
import logging

from command_line import project_file
from loopback import Script, fails

from enhancer.cli.progress import ProgressView
from enhancer.cli.streams import CleanStream
from enhancer.progress import Progress

NASTY = "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b1mred\u202e\x08"
CONTROL = {"\x1b", "\x07", "\x08", "\x9b", "\u202e"}


def is_clean(text):
    return "red" in text and CONTROL.isdisjoint(text)


def test_the_error_of_a_server(invoke, tables, hashing, llm_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    (tables / "enhancer.toml").write_text(project_file(llm_server.url))
    llm_server.script = Script(default=fails(401, NASTY))
    done = invoke("generate", "--yes")
    assert done.code == 2
    assert is_clean(done.err)
    assert is_clean(invoke("doctor", "--live", "--yes").out)


def test_ids_and_texts_of_tables(invoke, tables, hashing, llm_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    (tables / "enhancer.toml").write_text(project_file(llm_server.url))
    (tables / "movies.csv").write_text(f"movieId,title\n1{NASTY},Heat\n", encoding="utf-8")
    llm_server.script = Script(default=fails(400, NASTY))
    invoke("generate", "--yes")
    llm_server.script = Script()
    assert invoke("generate", "--yes", "--retry-quarantined").code == 0
    shown = invoke("store", "get", f"1{NASTY}")
    assert shown.code == 0
    assert is_clean(shown.out)
    as_json = invoke("store", "get", f"1{NASTY}", "--json")
    assert CONTROL.isdisjoint(as_json.out)
    assert json.loads(as_json.out)["id"] == f"1{NASTY}", "JSON escapes what it may not hold, and loses nothing"
    assert is_clean(invoke("store", "get", NASTY).err)


def test_logs_of_enhancer_and_of_plugins(invoke, tables, capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as outside tests
    invoke("plugins")  # sets up logging
    for name in ("enhancer.test", "some_plugin"):
        capsys.readouterr()
        logging.getLogger(name).warning("%s", NASTY)
        assert is_clean(capsys.readouterr().err)


def test_progress(tables):
    stream = io.StringIO()
    with ProgressView(stream=CleanStream(stream)) as view:
        view(Progress("train", 1, 2, {"run": NASTY}))
    assert is_clean(stream.getvalue())
