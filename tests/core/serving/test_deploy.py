"""The files in ``deploy/``, as far as that can be told without a container and without systemd as the first process."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from enhancer.serving.service.settings import GRACE

pytest.importorskip("orjson", reason="the extra serve is not installed")

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"


def parsed(arguments):
    """Return what the service's own parser makes of arguments; it exits at a wrong one."""
    from enhancer.serving.service.command import _parser

    return _parser().parse_args(arguments)


def instructions():
    """Return the instructions of the Dockerfile, stage by stage."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
    stages = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        assert word in {
            "FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT",
        }, line  # fmt: skip
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages


def test_the_image_runs_without_rights_and_is_asked_for_its_health():
    build, final = instructions()
    last = dict(final)
    assert last["USER"].split(":")[0].isdigit()
    assert last["USER"].split(":")[0] != "0"
    assert [word for word, _ in final].index("USER") < [word for word, _ in final].index("ENTRYPOINT")
    entry = json.loads(last["ENTRYPOINT"])
    assert entry[:4] == ["python", "-P", "-m", "enhancer.serving"]
    given = parsed(entry[4:])
    assert (given.artifact, given.host, str(given.port)) == (last["VOLUME"], "0.0.0.0", last["EXPOSE"])
    assert parsed([*entry[4:], "--workers", "2", "--port=9000"]).port == 9000  # flags after the image's name
    check = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
    compile(check[2], "healthcheck", "exec")
    assert f"http://127.0.0.1:{given.port}/health" in check[2]
    copied = [name for word, rest in build if word == "COPY" for name in rest.split()[:-1]]
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert {f"!{name}" for name in copied} <= set(allowed)
    assert all((ROOT / name).exists() for name in copied)


def test_the_health_check_tells_a_service_from_none(server):
    check = json.loads(dict(instructions()[1])["HEALTHCHECK"].partition("CMD ")[2])
    for port, code in ((server.port, 0), (9, 1)):
        command = [sys.executable, *check[1:2], check[2].replace(":8080", f":{port}")]
        assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == code


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(DEPLOY / "enhancer-serve.service")
    return parser


def test_the_unit_has_the_commands_own_flags_and_no_rights():
    service = unit()["Service"]
    start = shlex.split(service["ExecStart"])
    assert start[1:4] == ["-P", "-m", "enhancer.serving"]
    given = parsed(start[4:])
    assert (given.artifact, given.workers) == ("/opt/shop/artifact", 2)
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert (service["DynamicUser"], service["NoNewPrivileges"], service["ProtectSystem"]) == ("yes", "yes", "strict")
    assert Path(given.artifact).is_relative_to(service["ReadOnlyPaths"])
    assert int(service["TimeoutStopSec"]) > GRACE
    assert int(service["LimitNOFILE"]) > given.max_connections


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault_in_the_unit(tmp_path):
    text = (DEPLOY / "enhancer-serve.service").read_text().replace("/opt/shop/.venv/bin/python", sys.executable)
    path = tmp_path / "enhancer-serve.service"
    path.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
