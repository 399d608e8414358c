"""``enhancer plugins``: what is installed, and what each plugin can be told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli.session import JsonFlag, Session, print_json
from enhancer.cli.tables import table
from enhancer.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from enhancer.contracts import Options
    from enhancer.plugin_host import PluginInfo, PluginManager


def add_to(app: typer.Typer) -> None:
    """Add ``plugins`` and ``plugins show``."""
    group = typer.Typer(name="plugins", help="List what is installed; show a plugin's options.", rich_markup_mode=None)
    group.callback(invoke_without_command=True)(list_plugins)
    group.command("show")(show)
    app.add_typer(group, name="plugins")


def list_plugins(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List what is installed, and why something does not work."""
    if context.invoked_subcommand is not None:
        return
    session: Session = context.find_root().obj
    lines = session.plugins.listing()
    if as_json:
        print_json([line.to_json() for line in lines])
        return
    rows = [
        [line.name, line.kind or "?", f"{line.distribution} {line.version or ''}".strip(), line.status]
        for line in lines
    ]
    typer.echo(table(["name", "kind", "from", "status"], rows))
    troubled = [line for line in lines if line.status != "ok"]
    if troubled:
        typer.echo("")
        for line in troubled:
            typer.echo(f"{line.name} ({line.kind or 'plugin'} of {line.distribution}) is {line.status}: {line.reason}")


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help='A name, or "distribution:name".')],
    as_json: JsonFlag = False,
) -> None:
    """Show a plugin's options with types and defaults."""
    session: Session = context.find_root().obj
    shown = [_describe(session.plugins, line) for line in _matching(session.plugins, name)]
    if as_json:
        print_json(shown[0] if len(shown) == 1 else shown)
        return
    typer.echo("\n\n".join(_render(each) for each in shown))


def _matching(manager: PluginManager, name: str) -> list[PluginInfo]:
    from enhancer.plugin_host import normalise

    distribution, _, short = name.rpartition(":")
    lines = manager.listing()
    found = [
        line
        for line in lines
        if normalise(short) == normalise(line.name) and normalise(distribution) in ("", normalise(line.distribution))
    ]
    if not found:
        raise PluginError(f"no plugin {name!r}", hint=did_you_mean(name, {line.name for line in lines}))
    return found


def _describe(manager: PluginManager, line: PluginInfo) -> dict[str, Any]:
    """The listing's line, the class's first line of documentation, and its options."""
    from enhancer.plugin_host import KINDS, normalise

    qualified = f"{normalise(line.distribution)}:{line.name}"
    described: dict[str, Any] = {**line.to_json(), "summary": None, "options": None, "shared": None, "tables": {}}
    if line.kind not in KINDS or line.status == "broken" or not manager.is_registered(line.kind, qualified):
        return described
    try:
        target = manager.get(line.kind, qualified, complete=False)
    except PluginError as error:
        described["reason"] = line.reason or str(error)
        return described
    described["summary"] = _prose(next(iter((target.__doc__ or "").strip().splitlines()), None))
    described["options"] = [_option(name, field) for name, field in target.options_class.model_fields.items()]
    described["shared"], described["tables"] = _shared(line.kind)
    return described


def _shared(kind: str) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Keys of the same table that are enhancer's own, whatever the plugin; and those of the tables within it."""
    from enhancer.config import Settings

    field = Settings.model_fields.get(kind) or Settings.model_fields[f"{kind}s"]  # a table for each observer
    table_class: Any = _table_class(field.annotation)
    keys: list[dict[str, Any]] = []
    tables: dict[str, list[dict[str, Any]]] = {}
    for name, field in table_class.model_fields.items():
        if (inner := _table_class(field.annotation)) is not None:
            tables[f"{kind}.{name}"] = [_option(key, each) for key, each in inner.model_fields.items()]
        elif name not in ("use", "options"):
            keys.append(_option(name, field))
    return keys, tables


def _table_class(annotation: Any) -> type[Options] | None:
    """The class of settings that a field holds, if that is what it holds."""
    from typing import get_args

    from enhancer.contracts import Options

    held = (annotation, *get_args(annotation))
    return next((each for each in held if isinstance(each, type) and issubclass(each, Options)), None)


def _option(name: str, field: Any) -> dict[str, Any]:
    from pydantic_core import PydanticUndefined, to_jsonable_python

    required = field.is_required()
    default = None if required else field.get_default(call_default_factory=True)
    return {
        "name": name,
        "type": _type_name(field.annotation),
        "required": required,
        "default": None if default is PydanticUndefined else to_jsonable_python(default, fallback=str),
        "description": _prose(field.description),
    }


def _prose(text: str | None) -> str | None:
    """Documentation without its markup, on one line."""
    return None if text is None else " ".join(text.replace("``", "`").split())


def _type_name(annotation: Any) -> str:
    """A type as people read it.

    >>> from typing import Literal
    >>> _type_name(int), _type_name(str | None), _type_name(Literal["mean", "cls"])
    ('int', 'str | None', "'mean' | 'cls'")
    """
    from typing import Literal, get_args, get_origin

    if get_origin(annotation) is Literal:
        return " | ".join(repr(value) for value in get_args(annotation))
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", str(annotation).replace("typing.", ""))


def _render(plugin: dict[str, Any]) -> str:
    head = (
        f"{plugin['name']}: {plugin['kind'] or 'plugin'} of {plugin['distribution']} {plugin['version'] or ''}".rstrip()
    )
    parts = [head if plugin["status"] == "ok" else f"{head}, {plugin['status']}"]
    if plugin["summary"]:
        parts.append(plugin["summary"])
    if plugin["reason"]:
        parts.append(plugin["reason"])
    if plugin["options"]:
        parts.append("\n" + _options_table(plugin["options"]))
    elif plugin["options"] is not None:
        parts.append("It takes no options of its own.")
    if plugin["shared"]:
        place = f"observers.{plugin['name']}" if plugin["kind"] == "observer" else plugin["kind"]
        parts.append(f"\nBeside these, [{place}] takes, whatever the plugin:\n")
        parts.append(_options_table(plugin["shared"]))
    for name, options in plugin["tables"].items():
        parts.append(f"\nand a table [{name}]:\n")
        parts.append(_options_table(options))
    return "\n".join(parts)


def _options_table(options: list[dict[str, Any]]) -> str:
    rows = [[each["name"], each["type"], _default(each), each["description"] or ""] for each in options]
    return table(["option", "type", "default", ""], rows)


def _default(option: dict[str, Any]) -> str:
    if option["required"]:
        return "(required)"
    return "-" if option["default"] is None else str(option["default"])
