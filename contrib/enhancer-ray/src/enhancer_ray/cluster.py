"""Connect to a cluster, and check that each of its machines has the same software."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOCAL = "local"
_REACHED = 10.0
"""Seconds within which a cluster must accept a connection."""
_SECONDS = 120.0
"""Time within which a machine must answer."""


def connect(address: str) -> bool:
    """Connect this process to a cluster, or start one on this machine.

    Args:
        address: As in the options.

    Returns:
        Whether this call connected; False if the process was connected before.

    Raises:
        ConfigError: No cluster answers at the address, or it runs another version of Ray or Python.
    """
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet["include_dashboard"] = False
    try:
        _reach(address)
        ray.init(address=address, **quiet)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'[runner] address = "{address}": no Ray cluster answers ({_first_line(error)})',
            hint='start one with `ray start --head`, or set address = "local" for processes of this machine',
        ) from None
    except RuntimeError as error:
        if "ersion mismatch" not in str(error):
            raise
        raise ConfigError(
            f'[runner] address = "{address}": {" ".join(str(error).split())}',
            hint="install the same versions of Ray and Python here and on the cluster",
        ) from None
    return True


def _reach(address: str) -> None:
    """Connect to the port of an address. Ray itself would try for two minutes.

    Raises:
        OSError: Nothing listens there.
        ValueError: It is no address.
    """
    if address in (LOCAL, "auto"):
        return
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        host, port = place.hostname, place.port
    except ValueError:
        host = port = None
    if not host or not port or place.scheme not in ("", "ray"):
        raise ValueError("it is neither auto, local, HOST:PORT nor ray://HOST:PORT")
    socket.create_connection((host, port), timeout=_REACHED).close()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def working_nodes() -> list[dict[str, Any]]:
    """Return the living machines that have cores for tasks."""
    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]


def name_of(node: Mapping[str, Any]) -> str:
    """Return the name of a machine for messages."""
    return f"{node['NodeName']} ({node['NodeID'][:8]})"


def check_software(nodes: list[dict[str, Any]], distributions: Mapping[str, str | None]) -> None:
    """Check that each machine has the same versions as this process.

    Raises:
        ConfigError: A machine has another version of Ray, Python or a distribution, lacks one, or does not answer.
    """
    wanted = {**distributions, "enhancer-ray": None}
    probe = ray.remote(num_cpus=0, max_retries=3)(make_probe(list(wanted)))
    here = make_probe(list(wanted))()
    asked = {
        probe.options(
            name="enhancer: versions", scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(): node
        for node in nodes
    }
    for answer, node in asked.items():
        try:
            there: dict[str, str | None] = ray.get(answer, timeout=_SECONDS)
        except ray.exceptions.RayError as error:
            raise ConfigError(
                f"the Ray node {name_of(node)} does not answer: {_first_line(error)}",
                hint="`ray status` shows the machines of the cluster; `ray stop` on that one takes it out",
            ) from None
        for name, version in here.items():
            if there.get(name) != version:
                raise difference(name, version, there.get(name), node)


def difference(name: str, here: str | None, there: str | None, node: Mapping[str, Any]) -> ConfigError:
    """Return the error for a machine with another version of something.

    Args:
        name: Name of what differs.
        here: Version of this process; None if it is not installed.
        there: Version of the machine; None if it is not installed.
        node: The machine.
    """
    has = f"no {name}" if there is None else f"{name} {there}"
    hint = f'on that machine: pip install "{name}=={here}"'
    if name in ("Python", "Ray") or here is None:
        hint = f"install the same {name} on every machine of the cluster"
    return ConfigError(f"the Ray node {name_of(node)} has {has}, and this process has {here or 'none'}", hint=hint)


def make_probe(names: list[str]) -> Callable[[], dict[str, str | None]]:
    """Return a function that returns the versions of Python, Ray and distributions, where it is called."""

    # A function within a function is sent whole, so that a machine without this module can run it.
    def probe() -> dict[str, str | None]:
        import importlib.metadata
        import platform

        found: dict[str, str | None] = {"Python": platform.python_version(), "Ray": None}
        for name in ("ray", *names):
            try:
                version = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                version = None
            found["Ray" if name == "ray" else name] = version
        return found

    return probe
