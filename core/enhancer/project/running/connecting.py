"""Connect the runner, with the software that the work of a verb uses."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enhancer.contracts.runner import Runner
    from enhancer.evaluation import Arm
    from enhancer.project.parts import ProjectParts


def connected(parts: ProjectParts, plugins: Iterable[tuple[str, str]]) -> tuple[Runner, int]:
    """Return the runner, connected, and the number of its machines.

    Args:
        parts: The project's parts.
        plugins: Kind and name of the plugins that the work uses.

    Raises:
        ConfigError: A machine cannot be reached or has other software, or plugins were registered by hand.
    """
    runner = parts.runner
    if not runner.apart:
        return runner, 1
    if not parts.plugins.only_installed:
        raise ConfigError(
            f"[runner] {parts.settings.runner.use} finds installed plugins only, and one was registered by hand",
            hint='install it as a distribution, or set [runner] use = "local"',
        )
    return runner, runner.connect(distributions(parts, plugins))


def distributions(parts: ProjectParts, plugins: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    """Return the version of enhancer, and of each distribution that one of the plugins comes from."""
    from enhancer.plugin_host import normalise

    wanted = {(kind, normalise(use.rpartition(":")[2])) for kind, use in [*plugins, ("runner", _use(parts, "runner"))]}
    found = {line.distribution: line.version for line in parts.plugins.listing() if (line.kind, line.name) in wanted}
    return {"enhancer": version("enhancer"), **found}


def of_arms(parts: ProjectParts, arms: Iterable[Arm]) -> set[tuple[str, str]]:
    """Return the plugins that train some arms."""
    backbone = _use(parts, "backbone")
    return {one for arm in arms for one in (("fuser", arm.fuser), ("backbone", arm.backbone or backbone))}


def _use(parts: ProjectParts, kind: str) -> str:
    use: str = getattr(parts.settings, kind).use
    return use
