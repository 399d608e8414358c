"""Build the documentation site: copy the pages, generate the reference, run Zensical.

    python docs/site/build.py           # writes build/docs/site
    python docs/site/build.py --stage   # writes the pages alone, without running Zensical

The reference is generated from the code: the options classes, the command line, and the docstrings of every public
name. Nothing is fetched from a network, neither here nor by the pages.
"""

from __future__ import annotations

import argparse
import json
import posixpath
import re
import shutil
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).parent
CONTRIB = sorted((ROOT / "contrib").glob("*/README.md"))
TITLES = {"llm": "LLM providers", "embedder": "Embedders", "store": "Feature stores"}
"""Titles of kinds of plugins; other kinds have their name in the plural."""

BESIDE = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "RELEASING.md": "project/releasing.md",
    "SECURITY.md": "project/security.md",
    "findings/README.md": "project/findings.md",
}
"""Pages outside of docs/ that the site shows too, and their place in it."""
PLUGINS = {f"contrib/{page.parent.name}/README.md": f"plugins/{page.parent.name}.md" for page in CONTRIB}
"""Likewise for plugins that are installed separately. The navigation lists them in place of ``@plugins``."""


# --- pages -----------------------------------------------------------------------------------------------------------


def copied_pages() -> dict[str, str]:
    """Return the written pages by their path in the site, with links that leave docs/ made to fit."""
    place = {f"docs/{page.relative_to(ROOT / 'docs').as_posix()}": page for page in (ROOT / "docs").rglob("*.md")}
    places = {source: source.removeprefix("docs/") for source in place}
    places |= {source: target for source, target in (BESIDE | PLUGINS).items() if (ROOT / source).exists()}
    return {
        target: _relinked((ROOT / source).read_text(encoding="utf-8"), source, target, places)
        for source, target in places.items()
    }


def _relinked(text: str, source: str, target: str, places: dict[str, str]) -> str:
    """Rewrite relative links between repository files as links between pages of the site."""

    def rewritten(match: re.Match[str]) -> str:
        label, path, anchor = match[1], match[2], match[3] or ""
        linked = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        inside = places.get(linked, linked.removeprefix("docs/") if linked.startswith("docs/") else None)
        if linked == "README.md":
            inside = "index.md"
        if inside is None:
            return label  # a file that the site does not show
        return f"[{label}]({posixpath.relpath(inside, posixpath.dirname(target) or '.')}{anchor})"

    return re.sub(r"\[([^\]]*)\]\((?![a-z]+:)([^)#\s]+)(#[^)\s]*)?\)", rewritten, text)


# --- the reference: configuration ------------------------------------------------------------------------------------


def configuration() -> str:
    """Return the page of every configuration key that enhancer itself defines."""
    from enhancer.config import Settings

    parts = [
        "# Configuration",
        (
            "Every key of `enhancer.toml`, generated from the classes that check it. The tables that choose a"
            " plugin take the plugin's own options as well: see [plugin options](plugin-options.md)."
        ),
    ]
    for path, table, defaults in _tables(Settings, (), Settings()):
        own = {name: field for name, field in table.model_fields.items() if _inner(field.annotation) is None}
        own = {name: field for name, field in own.items() if not (name == "options" and "use" in own)}
        if not own:
            continue
        parts.append(f"## `[{'.'.join(path)}]`" if path else "## Top level")
        parts.append(_prose(table.__doc__ or ""))
        parts.append(_options_table(own, defaults))
    return "\n\n".join(parts) + "\n"


def _tables(table: Any, path: tuple[str, ...], defaults: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield each options class below a table, with its path in the file and the instance that holds its defaults."""
    yield path, table, defaults
    for name, field in table.model_fields.items():
        if (inner := _inner(field.annotation)) is not None:
            mapped = get_origin(field.annotation) is dict
            held = None if mapped else getattr(defaults, name, None)
            yield from _tables(inner, (*path, name, "NAME") if mapped else (*path, name), held)


def _inner(annotation: Any) -> Any:
    """Return the options class that a field holds, or None."""
    from enhancer.contracts import Options

    held = [annotation, *get_args(annotation)]
    return next((each for each in held if isinstance(each, type) and issubclass(each, Options)), None)


def plugin_options() -> str:
    """Return the page of the options of every bundled plugin."""
    from enhancer.plugin_host import KINDS, load_plugins

    manager = load_plugins(environ={"ENHANCER_PLUGINS": "enhancer"})
    parts = [
        "# Plugin options",
        (
            "The options of every bundled plugin, generated from its options class. `enhancer plugins show NAME` prints"
            " the same for any installed plugin. Options that every plugin of a table shares are on the page"
            " [configuration](configuration.md)."
        ),
    ]
    lines = manager.listing()
    for kind in KINDS:
        bundled = sorted((line for line in lines if line.kind == kind), key=lambda line: line.name)
        if bundled:
            parts.append(f"## {TITLES.get(kind, f'{kind.capitalize()}s')}")
        for line in bundled:
            target = manager.get(kind, line.name, complete=False)
            parts.append(f"### `{line.name}`")
            parts.append(_prose((target.__doc__ or "").split("\n\n")[0]))
            fields = target.options_class.model_fields
            parts.append(_options_table(fields) if fields else "No options of its own.")
    return "\n\n".join(parts) + "\n"


def _options_table(fields: dict[str, FieldInfo], defaults: Any = None) -> str:
    rows = ["| key | type | default | description |", "|---|---|---|---|"]
    for name, field in fields.items():
        cells = [
            f"`{name}`",
            f"`{_type_name(field.annotation)}`",
            _default(name, field, defaults),
            _prose(field.description or ""),
        ]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _default(name: str, field: FieldInfo, defaults: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True) if defaults is None else getattr(defaults, name)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{json.dumps(value, default=str)}`"


def _type_name(annotation: Any) -> str:
    """Return a type as users write it: ``str | none``, ``"mean" | "cls"``, ``list[str]``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "none"
    if origin is Literal:
        return " | ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(_type_name(each) for each in arguments)
    if hasattr(annotation, "__metadata__"):
        return _type_name(arguments[0])
    if origin is not None:
        name = getattr(origin, "__name__", str(origin))
        return f"{name}[{', '.join('...' if each is ... else _type_name(each) for each in arguments)}]"
    return getattr(annotation, "__name__", str(annotation)).replace("Path", "path").replace("Any", "any")


def _prose(text: str) -> str:
    """Return a docstring as one line of Markdown."""
    plain = re.sub(r":\w+:`~?(?:[\w.]*\.)?([\w]+)`", r"`\1`", text.replace("``", "`"))
    return " ".join(plain.split())


# --- the reference: commands -----------------------------------------------------------------------------------------


def commands() -> str:
    """Return the page of every command: its help as a terminal of 100 columns shows it."""
    import typer
    from typer.testing import CliRunner

    from enhancer.cli.app import build_app
    from enhancer.plugin_host import load_plugins

    app = build_app(load_plugins(environ={"ENHANCER_PLUGINS": "enhancer"}))
    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100", "TERM": "dumb", "NO_COLOR": "1"})
    parts = ["# Commands", "The help of every command, as `enhancer COMMAND --help` prints it."]
    for path in ((), *_command_paths(typer.main.get_command(app))):
        shown = runner.invoke(app, [*path, "--help"], prog_name="enhancer")
        if shown.exit_code != 0:
            raise RuntimeError(f"enhancer {' '.join(path)} --help: {shown.output}")
        parts.append(f"## `{' '.join(('enhancer', *path))}`\n\n```text\n{shown.output.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def _command_paths(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield (*path, name)
            yield from _command_paths(inner, (*path, name))


# --- the reference: Python -------------------------------------------------------------------------------------------


def public_names(package: str) -> list[str]:
    """Return the public names of a package whose face declares ``__all__``."""
    return [name for name in sorted(import_module(package).__all__) if not name.startswith("__")]


def public_modules(package: str) -> list[str]:
    """Return the public modules of a package, by their files, without importing them."""
    found = import_module(package)
    names = []
    for folder in map(Path, found.__path__):
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            inside = [part for part in parts if part != "__init__"]
            if inside and not any(part.startswith("_") for part in inside):
                names.append(".".join((package, *inside)))
    return sorted(names)


def api_of_names(package: str, summary: str) -> str:
    """Return a page with an entry for each public name of a package."""
    entries = [f"::: {package}.{name}" for name in public_names(package)]
    return "\n\n".join([f"# `{package}`", summary, *entries]) + "\n"


def api_of_modules(package: str, summary: str) -> str:
    """Return a page with an entry for each public module of a package."""
    entries = [f"::: {name}\n    options:\n      show_root_full_path: true" for name in public_modules(package)]
    return "\n\n".join([f"# `{package}`", summary, *entries]) + "\n"


GENERATED = {
    "reference/configuration.md": configuration,
    "reference/plugin-options.md": plugin_options,
    "reference/commands.md": commands,
    "reference/api/enhancer.md": lambda: api_of_names(
        "enhancer", "The Python API: a project and its verbs, what they return, and the ranker that serves."
    ),
    "reference/api/contracts.md": lambda: api_of_names(
        "enhancer.contracts", "The abstract classes that plugins implement, and the values that pass between them."
    ),
    "reference/api/testing.md": lambda: api_of_modules(
        "enhancer.testing", "Conformance suites. Subclass the suite of your plugin's kind in your tests."
    ),
    "reference/api/training.md": lambda: api_of_modules(
        "enhancer_plugins.training", "The training kit that backbones and fusers share. Import the modules directly."
    ),
}
"""Pages that are made from the code, by their path in the site."""


# --- building --------------------------------------------------------------------------------------------------------


def stage(folder: Path) -> None:
    """Write everything that Zensical reads into a folder: its configuration, pages, images and styles."""
    shutil.rmtree(folder / "pages", ignore_errors=True)
    pages = copied_pages() | {path: make() for path, make in GENERATED.items()}
    for path, text in pages.items():
        target = folder / "pages" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for image in (ROOT / "docs" / "images").glob("*"):
        (folder / "pages" / "images").mkdir(exist_ok=True)
        shutil.copy(image, folder / "pages" / "images" / image.name)
    shutil.copy(SITE / "style.css", folder / "pages" / "style.css")
    shutil.copy(SITE / "docstrings.py", folder / "docstrings.py")
    listed = ",\n".join(f'      "{page}"' for page in PLUGINS.values())
    settings = (SITE / "zensical.toml").read_text(encoding="utf-8").replace('      "@plugins"', listed)
    (folder / "zensical.toml").write_text(settings, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Build the site, and return the exit code of Zensical."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs", help="folder to build in")
    parser.add_argument("--stage", action="store_true", help="write the pages without running Zensical")
    given = parser.parse_args(arguments)
    stage(given.out)
    if given.stage:
        return 0
    build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    code = subprocess.run(build, cwd=given.out, check=False).returncode  # noqa: S603  our own arguments
    if code == 0:
        print(f"open {given.out / 'site' / 'index.html'}")  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
