"""Tests that ``python -m enhancer`` behaves like the script ``enhancer``."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from dists import make_dist, run

MODULE = [sys.executable, "-m", "enhancer"]
SCRIPT = [sys.executable, "-c", "import sys; from enhancer.cli.app import main; sys.exit(main())"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["--version"], 0), (["plam"], 2), (["plan", "--config", "gone.toml"], 2), (["store"], 2)],
    ids=str,
)
def test_same_output_and_exit_code(arguments, code):
    by_module, by_script = (run([*command, *arguments]) for command in (MODULE, SCRIPT))
    assert by_module.returncode == by_script.returncode == code
    assert (by_module.stdout, by_module.stderr) == (by_script.stdout, by_script.stderr)
    assert "__main__" not in by_module.stdout + by_module.stderr


def test_the_help_names_the_program():
    assert "Usage: enhancer [OPTIONS]" in run([*MODULE, "--help"]).stdout


def test_completion():
    words = {"_ENHANCER_COMPLETE": "complete_bash", "COMP_WORDS": "enhancer sto", "COMP_CWORD": "1"}
    done = [run(command, **words) for command in (MODULE, SCRIPT)]
    assert [each.stdout.split() for each in done] == [["store"]] * 2
    assert [each.returncode for each in done] == [0, 0]
    script = run([*MODULE, "--show-completion", "bash"], _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1").stdout
    assert "_ENHANCER_COMPLETE=complete_bash" in script
    assert "complete -o default -F _enhancer_completion enhancer" in script


def test_ctrl_c(tmp_path):
    make_dist(
        tmp_path,
        "slow-here",
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
    with subprocess.Popen(
        [*MODULE, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PYTHONPATH": str(tmp_path)}, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.strip().startswith("interrupted. Everything paid for is kept")
