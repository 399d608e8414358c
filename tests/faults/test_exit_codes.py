"""Tests of exit codes 0, 1, 3, 4 and 130 in separate processes; and that no output or file contains the API key."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import hashing, invoke  # noqa: F401 - fixtures
from dists import ROOT, cli
from generation import answer
from loopback import Behaviour, LoopbackServer, Script, fails, returns
from processes import COMMAND_LINE, run, start

from enhancer.harness import Journal

KEY = "sk-notforanyone-0123456789abcdef"
PRICED = ("--set", "llm.price.input=1000.0", "--set", "llm.price.output=1000.0")
N = 24
Run = Callable[..., Any]


@pytest.fixture
def project(tmp_path: Path, llm_server: LoopbackServer, hashing: None, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A project with a table of films, a local LLM server and an embedder without a model."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    rows = "".join(f"{n},film {n},a story of {n} friends\n" for n in range(N))
    (tmp_path / "items.csv").write_text("item_id,title,plot\n" + rows)
    (tmp_path / "enhancer.toml").write_text(
        f'[data]\nitems = "items.csv"\n[prompts.user]\nsource = "none"\n'
        f'[llm]\nuse = "openai"\nmodel = "loopback-model"\napi_base = "{llm_server.url}"\n'
        f'timeout = 5\nconcurrency = 4\n[embedder]\nuse = "hashing"\n[store]\nuse = "sqlite"\n'
    )
    llm_server.script = Script(default=Behaviour(answer=answer))
    return tmp_path


def paths(project: Path) -> tuple[Path, Path]:
    return project / ".site", ROOT / "contrib" / "enhancer-example" / "src"


@pytest.fixture
def enhancer(project: Path) -> Run:
    """Run the command line in a separate process."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        done = cli(*arguments, paths=paths(project), cwd=project, OPENAI_API_KEY=KEY, **environ)
        assert "Traceback" not in done.stderr or environ.get("ENHANCER_DEBUG")
        assert KEY not in done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def quick(project: Path, invoke: Run) -> Run:  # noqa: F811
    """Run the command line in this process, for tests that do not depend on the process."""
    assert project.exists()
    return invoke


def everything(project: Path, *outputs: str) -> bytes:
    """Return the contents of all files of the project, and the given outputs."""
    files = [path.read_bytes() for path in project.rglob("*") if path.is_file()]
    return b"\n".join(files) + "\n".join(outputs).encode()


def test_0_is_done_and_3_is_done_in_part(enhancer: Run, llm_server: LoopbackServer) -> None:
    llm_server.script.choose = lambda _, b: returns("no") if "film 7\\n" in json.dumps(b) else None
    done = enhancer("generate", "--yes", "--json")
    assert done.returncode == 3, done.stderr
    report = json.loads(done.stdout)
    assert (report["generated"], report["quarantined"]) == (N - 1, 1)
    assert report["entities"] == report["cached"] + report["generated"] + report["quarantined"] == N
    llm_server.script.choose = None
    done = enhancer("generate", "--yes", "--json", "--retry-quarantined")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["requests"] == 1


def test_1_is_failed_and_says_why(enhancer: Run, llm_server: LoopbackServer) -> None:
    llm_server.script.default = fails(500, "the backend is on fire")
    done = enhancer("generate", "--yes", "--set", "llm.max_attempts=1")
    assert done.returncode == 1
    assert "the LLM cannot be reached" in done.stderr
    assert "the backend is on fire" in done.stderr


def test_4_is_stopped_at_the_budget(enhancer: Run, llm_server: LoopbackServer) -> None:
    flags = ("--yes", "--json", *PRICED, "--set", "llm.max_tokens=100")
    done = enhancer("generate", *flags, "--set", "llm.max_cost=3")
    assert done.returncode == 4, done.stderr
    report = json.loads(done.stdout)
    assert 0 < report["generated"] < N
    assert 0 < report["cost_usd"] <= 3
    assert "max_cost" in done.stderr
    done = enhancer("generate", *flags, "--set", "llm.max_cost=1000")
    assert done.returncode == 0, done.stderr
    assert llm_server.count == N, "paid answers must be kept"


@pytest.mark.parametrize("verb", ["generate", "refresh"])
def test_130_is_interrupted_and_everything_paid_for_is_kept(
    project: Path, enhancer: Run, llm_server: LoopbackServer, verb: str
) -> None:
    llm_server.script.default = Behaviour(answer=answer, latency=0.2)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths(project))), "OPENAI_API_KEY": KEY}
    summary = ["--summary", "summary.json"] if verb == "refresh" else []
    command = [sys.executable, "-c", COMMAND_LINE, verb, "--yes", "--json", *summary]
    with start(command, cwd=project, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while llm_server.count < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 130, said
    assert "Everything paid for is kept" in said
    assert "Traceback" not in said
    asked = llm_server.count
    assert asked < N
    if summary:
        told = json.loads((project / "summary.json").read_text())
        assert (told["exit_code"], told["error"]["message"]) == (130, "interrupted")
        assert told["generate"]["requests"] == asked
    llm_server.script.default = Behaviour(answer=answer)
    done = enhancer(verb, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert llm_server.count == N, "calls in flight must have been received"


@pytest.mark.parametrize("statuses", [(401,), (200, 400, 500)], ids=["refused", "now and then"])
def test_a_proxy_that_echoes_the_key_is_never_quoted(
    project: Path, enhancer: Run, quick: Run, llm_server: LoopbackServer, statuses: tuple[int, ...]
) -> None:
    """The key is in no output, log, file or traceback."""
    echoes = [Behaviour(status=status, fault="echo_key") for status in statuses]
    llm_server.script.choose = lambda number, _: (
        [*echoes, None][number % (len(echoes) + 1)] if statuses[1:] else echoes[0]
    )
    done = enhancer("generate", "--yes", "--json", "--log-json", "--set", "llm.max_attempts=1", ENHANCER_DEBUG="1")
    assert done.returncode == (3 if statuses[1:] else 2), done.stderr
    told = quick("store", "quarantine", "--json")
    left = everything(project, done.stdout, done.stderr, told.out, told.err)
    for form in (KEY, KEY[:20], KEY[8:]):
        assert form.encode() not in left


def test_a_key_in_an_answer_is_not_stored(project: Path, quick: Run, llm_server: LoopbackServer) -> None:
    secret = {"profile": f"A warm story whose key is {KEY}, told with wit and much wonder.", "tags": ["warm"]}
    llm_server.script.choose = lambda number, _: returns(json.dumps(secret)) if number == 3 else None
    done = quick("generate", "--yes", "--json")
    assert done.code == 0, done.err
    assert KEY.encode() not in everything(project, done.out, done.err)


# -- full disk ------------------------------------------------------------------------------------------

FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from enhancer.cli.app import main
sys.exit(main())
"""


@pytest.mark.parametrize("store", ["sqlite", "lmdb"])
def test_a_disk_that_fills_up_while_storing_loses_nothing(
    project: Path, quick: Run, llm_server: LoopbackServer, store: str
) -> None:
    """A limit of 90 kB per file makes writes fail, as on a full disk."""
    answers = Behaviour(answer=lambda body: answer(body).replace("told with wit", "told with wit " + "and wit " * 220))
    llm_server.script.default = answers
    use = ("--set", f"store.use={store}")
    command = [sys.executable, "-c", FULL, "90000", "generate", "--yes", "--json", *use]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths(project))), "OPENAI_API_KEY": KEY}
    rows = "".join(f"{n},film {n},a story of {n} friends\n" for n in range(80))
    (project / "items.csv").write_text("item_id,title,plot\n" + rows)
    full = run(command, cwd=project, env=environ)
    assert full.returncode == 1, full.stderr
    assert re.search(r"error: .*(disk|full|write|I/O|Input/output|limit on file size)", full.stderr), full.stderr
    assert "bug in enhancer" not in full.stderr
    asked = llm_server.count
    assert 0 < asked < 80
    with Journal(project / "features") as journal:
        paid = sum(line.calls for line in journal.costs())
    assert asked - 8 <= paid <= asked, "all answers but those in flight must be kept"
    done = quick("generate", "--yes", "--json", *use)
    assert done.code == 0, done.err
    assert llm_server.count == 80 + asked - paid
    assert quick("store", "verify", *use).code == 0


# -- commands that only read -----------------------------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


def test_whoever_only_looks_leaves_nothing_behind(project: Path, quick: Run) -> None:
    before = tree(project)
    assert quick("plan", "--json").json()["to_generate"] == N
    assert quick("store", "stats", "--json").json()["records"] == 0
    assert tree(project) == before


@pytest.mark.parametrize("store", ["sqlite", "lmdb"])
def test_a_plan_needs_no_leave_to_write(project: Path, quick: Run, store: str) -> None:
    use = ("--set", f"store.use={store}")
    assert quick("generate", "--yes", *use).code == 0
    with (project / "items.csv").open("a") as items:
        items.write("new,film new,a story\n")
    folders = [project, *(path for path in project.rglob("*") if path.is_dir())]
    command = [sys.executable, "-B", "-c", COMMAND_LINE, "plan", "--json", *use]
    if os.geteuid() == 0:
        # Root can write everywhere unless it drops these capabilities.
        drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        if subprocess.run([*drop, "true"], check=False, capture_output=True).returncode:
            pytest.skip("root, and no setpriv")
        command = [*drop, *command]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths(project))), "OPENAI_API_KEY": KEY}
    files = [path for path in (project / "features").iterdir() if path.is_file()]
    try:
        for path in files:
            path.chmod(0o444)
        for folder in folders:
            folder.chmod(0o555)
        before = tree(project)
        done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        plan = json.loads(done.stdout)
        assert (plan["cached"], plan["to_generate"]) == (N, 1)
        assert tree(project) == before
    finally:
        for folder in folders:
            folder.chmod(0o755)


# -- entities without text ----------------------------------------------------------------------------------------


def test_an_entity_without_text_is_no_failure(project: Path, quick: Run, llm_server: LoopbackServer) -> None:
    with (project / "items.csv").open("a") as items:
        items.write("blank,,\nempty, ,\n")
    plan = quick("plan", "--json").json()
    assert (plan["entities"], plan["to_generate"], plan["quarantined"], plan["without_text"]) == (N + 2, N, 0, 2)
    done = quick("generate", "--yes", "--json")
    report = done.json()
    assert done.code == 0, done.err
    assert (report["generated"], report["quarantined"], report["without_text"]) == (N, 0, 2)
    assert "2 without text" in done.err
    assert "'blank'" in done.err
    done = quick("generate", "--yes", "--json")
    report = done.json()
    assert done.code == 0
    assert (report["entities"], report["cached"], report["without_text"]) == (N + 2, N, 2)
    assert llm_server.count == N
