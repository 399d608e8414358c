"""A runner on Ray: ``[runner] use = "ray"``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.hookspecs import hookimpl

if TYPE_CHECKING:
    from enhancer.hookspecs import Register


@hookimpl
def register_runners(register: Register) -> None:
    """Register the runner, without importing Ray."""
    register("ray", "enhancer_ray.runner:RayRunner", requires=("ray",))
