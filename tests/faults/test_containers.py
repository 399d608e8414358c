"""Two containers on one volume: processes of two PID namespaces that share a host name, and often a process id."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dists import HELPERS
from generation import answer
from loopback import Behaviour, LoopbackServer

from enhancer.errors import StoreError
from enhancer.harness import Journal, clock
from enhancer.harness.journal import owner_process
from enhancer.harness.journal.owner_process import has_ended, owner_name, shares_clock

CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
N = 40
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from generation import GenerationProject, entities
from enhancer.contracts import Context
if sys.argv[4] == "lmdb":
    from enhancer_plugins.stores.lmdb import LMDBStore
    GenerationProject.open_store = lambda self: LMDBStore(LMDBStore.options_class(path=Path("s")), Context(self.folder))
bench = GenerationProject(Path(sys.argv[2]), sys.argv[3], entities(int(sys.argv[5])), concurrency=4)
report = bench.generate()
bench.store.close()
print(report.generated, report.cached, flush=True)
"""


def _containers_can_be_made() -> bool:
    try:
        return subprocess.run([*CONTAINER, "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch):
    """Return a function that names an owner in another PID namespace of this machine, or on another clock."""

    def name(*, clock_name: str | None = None, namespace: str = "1") -> str:
        here = owner_process._here()
        there = here._replace(clock=clock_name or here.clock, namespace=namespace)
        with monkeypatch.context() as patch:
            patch.setattr(owner_process, "_here", lambda: there)
            return owner_name()

    return name


def test_a_process_of_another_namespace_cannot_be_looked_up(elsewhere) -> None:
    # Its id and start time are those of no process here, which says nothing about it.
    gone = elsewhere().replace(f":{os.getpid()}:", ":999999:")
    assert not has_ended(gone)
    assert shares_clock(gone)
    assert not shares_clock(elsewhere(clock_name="another boot"))
    assert not has_ended(f"{owner_process._here().host}:999999:1:abc")  # as earlier versions named it
    ours = owner_name().replace(f":{os.getpid()}:", ":999999:")
    assert has_ended(ours) is (owner_process._here().namespace != "-")


def test_a_claim_of_another_namespace_holds_until_its_lease_ends(tmp_path: Path, elsewhere, monkeypatch) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "lease_clock", lambda: now)
    with Journal(tmp_path) as theirs, Journal(tmp_path) as ours:
        theirs.owner = elsewhere()
        assert theirs.claim(["a"]).result() == {"a"}
        now += 50
        theirs.renew().result()
        now += 50
        assert ours.claim(["a"]).result() == set()
        now += 20
        assert ours.claim(["a"]).result() == {"a"}


@pytest.mark.parametrize("their_clock", [5.0, 1e9])
def test_a_claim_by_another_clock_holds_while_it_is_renewed(
    tmp_path: Path, elsewhere, monkeypatch, their_clock: float
) -> None:
    now = 1000.0
    with Journal(tmp_path) as theirs, Journal(tmp_path) as ours:
        theirs.owner = elsewhere(clock_name="another boot")

        def claims() -> set[str]:
            monkeypatch.setattr(clock, "lease_clock", lambda: now)
            return ours.claim(["a"]).result()

        def renew() -> None:
            monkeypatch.setattr(clock, "lease_clock", lambda: their_clock)
            theirs.renew().result()

        monkeypatch.setattr(clock, "lease_clock", lambda: their_clock)
        assert theirs.claim(["a"]).result() == {"a"}
        for _ in range(4):
            assert claims() == set()
            now, their_clock = now + 40, their_clock + 40
            renew()
        assert claims() == set()
        now += 59
        assert claims() == set()
        now += 2  # not renewed for as long as a lease lasts
        assert claims() == {"a"}


@pytest.mark.skipif(not _containers_can_be_made(), reason="needs the right to make PID namespaces")
@pytest.mark.parametrize("store", ["sqlite", "lmdb"])
def test_two_containers_pay_once(tmp_path: Path, llm_server: LoopbackServer, store: str) -> None:
    llm_server.script.default = Behaviour(answer=answer, latency=0.05)
    command = [sys.executable, "-c", SCRIPT, str(HELPERS), str(tmp_path), llm_server.url, store, str(N)]
    # Both processes have the id 1 in their namespaces.
    made = [
        subprocess.Popen([*CONTAINER, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=60) for process in made]
    assert [process.returncode for process in made] == [0, 0], told
    counts = [tuple(map(int, out.split())) for out, _ in told]
    assert sum(generated for generated, _ in counts) == N
    assert all(generated + cached == N for generated, cached in counts)
    assert llm_server.count == N


@pytest.mark.skipif(not _containers_can_be_made(), reason="needs the right to make PID namespaces")
def test_lmdb_says_why_it_cannot_be_opened_in_a_second_container(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from enhancer.contracts import Context;"
        "from enhancer_plugins.stores.lmdb import LMDBStore; from enhancer_plugins.stores._lmdb import environment;"
        "environment.PATIENCE = 0.1; made = LMDBStore(LMDBStore.options_class(path=Path('s')), Context(Path('.')));"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [*CONTAINER, sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        second = subprocess.run(command, cwd=tmp_path, input="", capture_output=True, text=True, check=False)
        first.communicate("")
    assert second.returncode == 1
    assert StoreError.__name__ in second.stderr
    assert "has the same id as this one (1)" in second.stderr
    assert first.returncode == 0
