"""Tests of error messages and exit codes; no error prints a traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import typer
from dists import make_dist
from processes import COMMAND_LINE, start

from enhancer.cli.failures import guarded
from enhancer.errors import BudgetError, ConfigError, DataError


def raising(error):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            ConfigError("no column 'x' in items.csv", hint="its columns: a, b"),
            2,
            "error: no column 'x' in items.csv\n  its",
        ),
        (DataError("items.csv row 3: twice"), 1, "error: items.csv row 3: twice\n"),
        (BudgetError("stopped"), 4, "error: stopped\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted. Everything paid for is kept"),
        (typer.Abort(), 130, "interrupted"),
        (typer.Exit(3), 3, ""),
        (SystemExit(5), 5, ""),
        (SystemExit("no"), 1, ""),
        (typer.BadParameter("no such thing"), 2, "error: Invalid value: no such thing"),
        (ValueError("first line\nsecond line"), 1, "error: ValueError: first line\n  this is a bug"),
        (RecursionError(), 1, "error: RecursionError\n"),
        (
            OSError(errno.EROFS, "Read-only file system", "runs/a"),
            1,
            "error: runs/a: Read-only file system\n  check the permissions",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: No space left on device\n  free some disk space"),
        (OSError(errno.EBADF, "Bad file descriptor"), 1, "this is a bug"),
    ],
)
def test_codes_and_messages(error, code, said, capsys):
    assert guarded(raising(error)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(said) or said in captured.err
    assert "Traceback" not in captured.err


def test_nothing_wrong_is_zero():
    assert guarded(lambda: None) == 0


def test_the_traceback_is_there_for_who_asks(monkeypatch, capsys):
    monkeypatch.setenv("ENHANCER_DEBUG", "1")
    assert guarded(raising(ValueError("odd"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_no_secret_is_shown_not_even_in_a_traceback(monkeypatch, capsys):
    monkeypatch.setenv("ENHANCER_DEBUG", "1")
    monkeypatch.setenv("OTHER_API_KEY", "quite-secret-0815")
    guarded(raising(ValueError("Authorization: Bearer sk-abcdefghijklmnopqrstuv and quite-secret-0815")))
    guarded(raising(ConfigError("refused quite-secret-0815", hint="not quite-secret-0815")))
    said = capsys.readouterr().err
    assert "quite-secret-0815" not in said
    assert "abcdefghijklmnop" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plam"], "No such command 'plam'. Did you mean 'plan'?"),
        (["plan", "--jason"], "No such option: --jason"),
        (["recommend"], "recommend takes the ids of users, or --liked ITEM"),
        (["recommend", "1", "-k", "0"], "-k"),
        (["store", "get", "1", "--kind", "film"], "--kind"),
        (["plan"], "no enhancer.toml in"),
        (["--config", "gone.toml", "plan"], "no configuration file gone.toml"),
        (["--config", ".", "plan"], ". is a folder\n  name the file: enhancer.toml"),
        (["plugins", "show", "lmbd"], "did you mean 'lmdb'?"),
    ],
)
def test_usage_and_configuration_are_exit_2(invoke, arguments, said):
    done = invoke(*arguments)
    assert done.code == 2
    assert said in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("[llm\n", [], "is not valid TOML"),
        ("[llmm]\n", [], "did you mean 'llm'?"),
        ("[llm]\ntimeout = 'soon'\n", [], "[llm] timeout"),
        ("[prompts.item]\nsource = 'pool'\n", [], "[prompts] item.source: 'pool' is for users; items take 'llm',"),
        ("[embedder]\ninput = ['text', 'text']\n", [], "[embedder] input: name each input once"),
        ("", ["--set", "llm.timeout"], "is not of the form key=value"),
        ("", ["--set", "evaluation.seeds=0"], "[evaluation] seeds"),
        ("", ["--set", "store.use=lmbd"], "did you mean 'lmdb'?"),
        ("", ["--set", "store.pth=x", "--set", "store.use=sqlite"], "did you mean 'path'?"),
    ],
)
def test_wrong_settings_name_the_key(invoke, tmp_path, text, flags, said):
    (tmp_path / "enhancer.toml").write_text(text)
    done = invoke("store", "stats", *flags)
    assert done.code == 2, done.err
    assert said in done.err


def test_whoever_stops_reading_is_left_in_peace(tmp_path):
    make_dist(
        tmp_path,
        "loud",
        """
        @hookimpl
        def register_commands(cli):
            @cli.command()
            def shout():
                for number in range(100_000):
                    print(number)
        """,
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", COMMAND_LINE, "shout"]
    with start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ) as process:
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(30) == 141
    assert said == b""


def test_ctrl_c_is_calm(tmp_path):
    make_dist(
        tmp_path,
        "slow",
        """
        @hookimpl
        def register_commands(cli):
            @cli.command()
            def wait():
                import time
                print("ready", flush=True)
                time.sleep(60)
        """,
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", COMMAND_LINE, "wait"]
    with start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ) as process:
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait(30) == 130
    assert said.strip().startswith("interrupted. Everything paid for is kept")
    assert len(said.strip().splitlines()) == 1


def test_flags_of_the_project_may_stand_before_and_after_the_command(invoke, tmp_path):
    (tmp_path / "other.toml").write_text("")
    for arguments in (
        ["--config", "other.toml", "--set", "store.use=sqlite", "store", "stats"],
        ["store", "stats", "-c", "other.toml", "--set", "store.use=sqlite"],
        [
            "-c",
            "none.toml",
            "--set",
            "store.use=lmbd",
            "store",
            "stats",
            "-c",
            "other.toml",
            "--set",
            "store.use=sqlite",
        ],
    ):
        done = invoke(*arguments)
        assert done.code == 0, done.err
    assert not (tmp_path / "features").exists(), "reading must not create files"
