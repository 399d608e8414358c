"""Commands of plugins. Each plugin's commands are built in a separate application first, to find errors."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import typer
    from typer.models import CommandInfo, TyperInfo

    from enhancer.plugin_host._model import PluginInfo, Source


class Command(NamedTuple):
    """One command, or group of commands, of a plugin."""

    source: Source
    name: str
    part: CommandInfo | TyperInfo


def collect(source: Source, hook: Callable[[typer.Typer], Any]) -> list[Command]:
    """Return the commands of a plugin, added to a new application and built, so that errors surface here.

    Raises:
        BaseException: Any error of the plugin, or of typer for its commands.
    """
    import typer

    trial = typer.Typer(add_completion=False)
    hook(trial)
    commands: list[Command] = []
    for part in trial.registered_commands:
        alone = typer.Typer(add_completion=False)
        alone.registered_commands = [part]
        (name,) = typer.main.get_group(alone).commands
        commands.append(Command(source, name, part))
    for group in trial.registered_groups:
        alone = typer.Typer(add_completion=False)
        alone.registered_groups = [group]
        commands += [Command(source, name, group) for name in typer.main.get_group(alone).commands]
    return commands


def resolve(commands: Iterable[Command], reserved: frozenset[str]) -> list[tuple[PluginInfo, Command | None]]:
    """Resolve conflicts of names. Enhancer's own commands win; other conflicts are resolved by ``distribution:name``.

    Returns:
        For each command a line of the listing, and the command to add under its final name; None if it cannot be added.
    """
    commands = list(commands)
    resolved: list[tuple[PluginInfo, Command | None]] = []
    for command in commands:
        claimants = sorted({other.source.distribution for other in commands if other.name == command.name})
        qualified = f"{command.source.distribution}:{command.name}"
        if command.name in reserved:
            line = command.source.info(command.name, "command", "conflict", "enhancer has a command of this name")
            resolved.append((line, None))
        elif len(claimants) > 1:
            reason = f"claimed by {' and '.join(claimants)}; `enhancer {qualified}` picks this one"
            resolved.append(
                (command.source.info(command.name, "command", "conflict", reason), _renamed(command, qualified))
            )
        else:
            resolved.append((command.source.info(command.name, "command", "ok"), command))
    return resolved


def _renamed(command: Command, name: str) -> Command:
    part = copy.copy(command.part)
    part.name = name
    return Command(command.source, name, part)


def add(commands: Iterable[Command], app: typer.Typer) -> None:
    """Add commands to an application."""
    from typer.models import CommandInfo

    for command in commands:
        if isinstance(command.part, CommandInfo):
            app.registered_commands.append(command.part)
        else:
            app.registered_groups.append(command.part)
