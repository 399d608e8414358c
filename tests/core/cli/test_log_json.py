"""Tests of ``--log-json``: stderr has JSON lines without secrets, stdout is unchanged."""

from __future__ import annotations

import io
import json
from datetime import datetime

import pytest
from command_line import project_file
from generation import answer
from loopback import Behaviour, Script, fails, returns

from enhancer.cli import jsonlog
from enhancer.cli.progress import ProgressView
from enhancer.progress import Progress

KEY = "sk-loopback-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _plain_again():
    yield
    jsonlog.enable(False)


@pytest.fixture
def project(tables, hashing, llm_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    llm_server.script = Script(default=returns(answer))
    (tables / "enhancer.toml").write_text(project_file(llm_server.url, llm="max_attempts = 1"))
    return llm_server


def lines(text):
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0
        assert line["level"] in ("info", "warning", "error")
    return found


@pytest.mark.parametrize("before", [True, False])
def test_progress_and_summary_are_lines_and_stdout_is_the_results(invoke, project, before):
    words = ["generate", "--yes", "--json"]
    done = invoke("--log-json", *words) if before else invoke(*words, "--log-json")
    assert done.code == 0
    told = lines(done.err)
    assert {line["event"] for line in told} == {"message", "progress", "summary"}
    last = [line for line in told if line["event"] == "progress" and line["stage"] == "generate"][-1]
    assert (last["done"], last["total"]) == (6, 6)
    assert last["detail"]["generated"] == 6
    assert told[-1]["command"] == "generate"
    assert told[-1]["result"] == done.json()


def test_without_the_flag_stderr_is_for_people(invoke, project):
    invoke("--log-json", "generate", "--yes")
    assert "{" not in invoke("generate", "--yes").err


def test_an_error_is_a_line_with_its_hint(invoke, project):
    (line,) = lines(invoke("plan", "--log-json", "--set", "llm.modle=x").err)
    assert (line["event"], line["level"], line["exit_code"]) == ("error", "error", 2)
    assert line["type"] == "ConfigError"
    assert "modle" in line["message"]
    assert "model" in line["hint"]
    (line,) = lines(invoke("generate", "--log-json", "--no-such-flag").err)
    assert (line["event"], line["exit_code"]) == ("error", 2)


def test_warnings_are_lines(invoke, project, tables):
    (tables / "movies.csv").write_text((tables / "movies.csv").read_text() + "7,,,\n")
    told = lines(invoke("generate", "--yes", "--log-json").err)
    (line,) = [line for line in told if line["event"] == "log"]
    assert line["level"] == "warning"
    assert line["logger"].startswith("enhancer.")


@pytest.mark.parametrize("behaviour", [Behaviour(fault="echo_key"), fails(400, f"no such key: {KEY}")])
def test_a_key_that_is_echoed_is_in_no_line(invoke, project, behaviour):
    project.script = Script(default=behaviour)
    done = invoke("generate", "--yes", "--log-json", "--json")
    assert done.code != 0
    told = lines(done.err)
    assert [line["event"] for line in told if line["level"] == "error"] == ["error"]
    assert KEY not in done.err + done.out


def test_values_are_redacted_one_by_one(monkeypatch):
    monkeypatch.setenv("ODD_TOKEN", 'quo"ted\\secret')
    out = io.StringIO()
    jsonlog.emit("log", stream=out, message='it is quo"ted\\secret', deep=[{"a": ('quo"ted\\secret', float("nan"))}])
    (line,) = lines(out.getvalue())
    assert line["message"] == "it is ***"
    assert line["deep"] == [{"a": ["***", None]}]


def test_a_stage_is_told_of_first_every_second_and_at_its_end():
    now = 0.0
    out = io.StringIO()
    jsonlog.enable(True)
    with ProgressView(stream=out, clock=lambda: now) as view:
        for step in range(25):
            now = step * 0.1
            view(Progress("generate", step, 100, {"cost_usd": None}))
    assert [line["done"] for line in lines(out.getvalue())] == [0, 10, 20, 24]
    quiet = io.StringIO()
    with ProgressView(quiet=True, stream=quiet) as view:
        view(Progress("generate", 1, 1, {}))
    assert quiet.getvalue() == ""
