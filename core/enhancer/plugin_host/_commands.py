"""Commands that plugins add: each plugin's are tried out on an application of their own first."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import typer
    from typer.models import CommandInfo, TyperInfo

    from enhancer.plugin_host._model import PluginInfo, Source


class Command(NamedTuple):
    """One command, or group of commands, that a plugin offers."""

    source: Source
    name: str
    part: CommandInfo | TyperInfo


def collect(source: Source, hook: Callable[[typer.Typer], Any]) -> list[Command]:
    """Let a plugin add its commands to an application of its own, and build them, so that faults show here.

    Raises:
        BaseException: Whatever the plugin raises, or typer because of it.
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


def judge(commands: Iterable[Command], taken: frozenset[str]) -> list[tuple[PluginInfo, Command | None]]:
    """Settle names: core's own win, and what several distributions claim is reached as ``distribution:name``.

    Returns:
        A line of the listing for each command, and the command to add, under the name that it is to have.
    """
    commands = list(commands)
    settled: list[tuple[PluginInfo, Command | None]] = []
    for command in commands:
        claimants = sorted({other.source.distribution for other in commands if other.name == command.name})
        qualified = f"{command.source.distribution}:{command.name}"
        if command.name in taken:
            line = command.source.info(
                command.name, "command", "conflict", "the name of one of enhancer's own commands"
            )
            settled.append((line, None))
        elif len(claimants) > 1:
            reason = f"claimed by {' and '.join(claimants)}; `enhancer {qualified}` picks this one"
            settled.append(
                (command.source.info(command.name, "command", "conflict", reason), _renamed(command, qualified))
            )
        else:
            settled.append((command.source.info(command.name, "command", "ok"), command))
    return settled


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
