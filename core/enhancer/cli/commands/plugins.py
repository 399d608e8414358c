"""``enhancer plugins``: list plugins, and show the options of each."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli.layout import prose, table
from enhancer.cli.session import JsonFlag, Session, print_json
from enhancer.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from enhancer.contracts import Options
    from enhancer.plugin_host import PluginInfo, PluginManager


_WIDTH = 80
"""Width of ``plugins show`` in a pipe: unlike the rows of a table, its text is written to be read."""


def add_to(app: typer.Typer) -> None:
    """Add ``plugins`` and ``plugins show``."""
    group = typer.Typer(
        name="plugins", help="List the installed plugins, or show the options of one.", rich_markup_mode=None
    )
    group.callback(invoke_without_command=True)(list_plugins)
    group.command("show")(show)
    app.add_typer(group, name="plugins")


def list_plugins(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the installed plugins, and why any of them are unavailable."""
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
    failing = [line for line in lines if line.status != "ok"]
    if failing:
        typer.echo("")
    for line in failing:
        origin = f"{line.kind or 'plugin'} of {line.distribution}"
        typer.echo(prose(f"{line.name} ({origin}) is {line.status}: {line.reason}", indent=2))


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help='Name of a plugin, or "distribution:name".')],
    as_json: JsonFlag = False,
) -> None:
    """Show the options of a plugin, with types and defaults."""
    session: Session = context.find_root().obj
    shown = [_describe_auto()] if name == "auto" else []
    if not shown or any(line.name == name for line in session.plugins.listing()):
        shown += [_describe(session.plugins, line) for line in _matching(session.plugins, name)]
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
    """Return what ``plugins show --json`` prints: the entry of the list, a summary, and the options."""
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
    described["summary"] = _one_paragraph(next(iter((target.__doc__ or "").strip().splitlines()), None))
    described["options"] = [_option(name, field) for name, field in target.options_class.model_fields.items()]
    described["shared"], described["tables"] = _shared(line.kind)
    return described


def _describe_auto() -> dict[str, Any]:
    """Return the same about ``[backbone] use = "auto"``, which is no plugin."""
    from importlib.metadata import version

    from enhancer.config.schema import AutoConfig

    return {
        "name": "auto",
        "kind": "backbone",
        "distribution": "enhancer",
        "version": version("enhancer"),
        "status": "ok",
        "reason": None,
        "summary": "Not a plugin: the best backbone on the validation part, among those that offer themselves.",
        "options": [_option(name, field) for name, field in AutoConfig.model_fields.items()],
        "shared": None,
        "tables": {},
    }


def _shared(kind: str) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Return the options that all plugins of a kind share, and those of the tables nested in its table."""
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
    """Return the options class that a field holds; None for other fields."""
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
        "description": _one_paragraph(field.description),
    }


def _one_paragraph(text: str | None) -> str | None:
    """Return documentation as one paragraph without markup."""
    return None if text is None else " ".join(text.replace("``", "`").split())


def _type_name(annotation: Any) -> str:
    """Format a type.

    >>> from typing import Literal, Optional
    >>> _type_name(int), _type_name(str | None), _type_name(Optional[Literal["mean", "cls"]])
    ('int', 'str | None', "'mean' | 'cls' | None")
    >>> _type_name(Annotated[float, "a constraint"] | Literal["auto"])
    "float | 'auto'"
    """
    from types import UnionType
    from typing import Literal, Union, get_args, get_origin

    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin is Literal:
        return " | ".join(repr(value) for value in arguments)
    if origin in (Union, UnionType):
        return " | ".join(map(_type_name, arguments))
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not arguments:
        return annotation.__name__
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", str(annotation).replace("typing.", ""))


def _render(plugin: dict[str, Any]) -> str:
    origin = f"{plugin['kind'] or 'plugin'} of {plugin['distribution']} {plugin['version'] or ''}".rstrip()
    status = "" if plugin["status"] == "ok" else f", {plugin['status']}"
    parts = [f"{plugin['name']}: {origin}{status}"]
    parts += [prose(text, piped=_WIDTH) for text in (plugin["summary"], plugin["reason"]) if text]
    if plugin["options"]:
        parts += ["", *map(_option_lines, plugin["options"])]
    elif plugin["options"] is not None:
        parts.append("It has no options of its own.")
    if plugin["shared"]:
        place = f"observers.{plugin['name']}" if plugin["kind"] == "observer" else plugin["kind"]
        parts += ["", f"Every plugin of this kind also takes these options in [{place}]:", ""]
        parts += map(_option_lines, plugin["shared"])
    for name, options in plugin["tables"].items():
        parts += ["", f"Options of the nested table [{name}]:", "", *map(_option_lines, options)]
    return "\n".join(parts)


def _option_lines(option: dict[str, Any]) -> str:
    """Render an option as ``name: type, default`` with its description below."""
    kind, default = option["type"].removesuffix(" | None"), option["default"]
    if option["required"]:
        status = "required"
    elif default is None:
        status = "optional"
    else:
        status = f"default {default!r}" if isinstance(default, str) else f"default {json.dumps(default)}"
    head = prose(f"{option['name']}: {kind}, {status}", "  ", indent=6, piped=_WIDTH)
    return f"{head}\n{prose(option['description'], ' ' * 6, piped=_WIDTH)}" if option["description"] else head
