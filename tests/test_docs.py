"""What is written is true: snippets run, links lead somewhere, and every key of the configuration is told of."""

from __future__ import annotations

import doctest
import importlib
import re
import shutil
import sys
import tomllib
import types
import typing
from pathlib import Path

import numpy as np
import pytest
from dists import ROOT

import enhancer.project.parts
from enhancer.config import Settings
from enhancer.contracts import Options

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("contrib/*/README.md"))]
OTHERS = [ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
SOURCES = [ROOT / "core", ROOT / "plugins", *ROOT.glob("contrib/*/src")]


def name(path):
    return path.relative_to(ROOT).as_posix()


def text(page):
    return page.read_text(encoding="utf-8")


def blocks(page, *languages):
    """Line number and content of each fenced block in one of these languages."""
    found = re.finditer(rf"^```(?:{'|'.join(languages)})\n(.*?)^```$", text(page), re.DOTALL | re.MULTILINE)
    return [(text(page).count("\n", 0, match.start(1)) + 1, match[1]) for match in found]


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
WITH_TOML = [page for page in PAGES if blocks(page, "toml")]

# --- Python ----------------------------------------------------------------------------------------------------------

PROJECT = """\
[data]
items = "items.csv"
interactions = "ratings.csv"
[llm]
use = "replay"
[embedder]
use = "hashing"
[backbone]
use = "lightgcn"
dim = 4
epochs = 2
[fuser]
use = "align"
[evaluation]
cold_items = 0.2
seeds = 2
arms = ["none", "align", "placebo"]
"""


@pytest.fixture(scope="module")
def site():
    """The plugin of ``contrib/enhancer-example``, whose embedder loads no model."""
    with pytest.MonkeyPatch.context() as patch:
        for source in ROOT.glob("contrib/*/src"):
            patch.syspath_prepend(source)
        yield importlib.import_module("enhancer_example")


@pytest.fixture(scope="module")
def with_example(site):
    """Every project finds the reader's plugin, as if it were installed."""
    load = enhancer.project.parts.load_plugins

    def loaded(*arguments, **more):
        manager = load(*arguments, **more)
        manager.register(site)
        return manager

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enhancer.project.parts, "load_plugins", loaded)
        yield


@pytest.fixture(scope="module")
def project(with_example, tmp_path_factory):
    """The folder of a reader who has gone through the README: generated, and trained."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("reader")
    films = "".join(f"{n},Film {n},{1960 + n}\n" for n in range(1, 41))
    (folder / "items.csv").write_text("item_id,title,year\n" + films)
    rated = "".join(
        f"{user},{1 + (user * step + step) % 40},{3 + step % 3}\n" for user in range(1, 51) for step in range(12)
    )
    (folder / "ratings.csv").write_text("user_id,item_id,rating\n" + rated)
    (folder / "enhancer.toml").write_text(PROJECT)
    (folder / "profiles.jsonl").write_text('{"id": "1", "profile": "A warm film about toys."}\n')
    made = enhancer.Project.load(folder / "enhancer.toml")
    made.generate()
    made.train()
    made.close()
    return folder


@pytest.fixture
def reader(project, with_example, tmp_path, monkeypatch):
    """In a copy of the reader's folder: pages write into it."""
    folder = shutil.copytree(project, tmp_path / "reader")
    monkeypatch.chdir(folder)
    return folder


def at_hand(page, site, folder):
    """What a page's snippets take for granted."""
    if page.name == "plugins.md":
        return {"enhancer_example": site}
    if page.name == "serving.md":
        from enhancer.contracts import Factors, Fitted

        table = np.eye(3, dtype=np.float32)
        fitted = Fitted(factors=Factors(table, table), epochs=1, best_epoch=1, history=[])
        rows = np.arange(3, dtype=np.int32)
        return {"fitted": fitted, "user_ids": list("abc"), "item_ids": list("xyz"), "users": rows, "items": rows}
    if page.name == "store.md":
        from enhancer.contracts import Context
        from enhancer_plugins.stores.sqlite import SQLiteOptions, SQLiteStore

        embedder = importlib.import_module("enhancer_example.hashing").Hashing
        options = embedder.options_class()
        store = SQLiteStore(SQLiteOptions(path=Path("imported")), Context(root=folder))
        return {"MyStore": SQLiteStore, "embedder": embedder(options, Context()), "check": None, "elsewhere": store}
    return {}


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_every_snippet_compiles(page):
    for line, block in blocks(page, "python"):
        if not block.startswith(">>>"):
            compile("\n" * (line - 1) + block, name(page), "exec")


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_snippets_of_a_page_run_from_top_to_bottom(page, reader, site, monkeypatch, request):
    tracker = types.ModuleType("mlflow")  # what a page of ours says is tried, not the tracker
    tracker.log_metric = lambda *_, **__: None
    monkeypatch.setitem(sys.modules, "mlflow", tracker)
    names = {"__name__": "page", **at_hand(page, site, reader)}
    if "elsewhere" in names:
        request.addfinalizer(names["elsewhere"].close)
    for line, block in blocks(page, "python"):
        if block.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block, names, name(page), name(page), line)
            assert doctest.DocTestRunner().run(test, clear_globs=False).failed == 0
            names.update(test.globs)
            continue
        if "elsewhere" in names and "import_records" in block:
            names["store"] = names["elsewhere"]
        exec(compile("\n" * (line - 1) + block, name(page), "exec"), names)


def with_doctests():
    """Modules whose text has examples: no other is imported for their sake."""
    for source in SOURCES:
        for file in sorted(source.rglob("*.py")):
            if ">>> " in file.read_text(encoding="utf-8"):
                parts = file.relative_to(source).with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("module", [*with_doctests()])
def test_the_examples_of_a_module(module, site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(module))
    assert failed == 0


# --- links, commands, keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES + OTHERS, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", text(file), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}, (
                target
            )


def commands():
    """The command line's commands and their options, by ``"store export"`` and the like."""
    import typer

    from enhancer.cli.app import build_app
    from enhancer.plugin_host import load_plugins

    def walk(command, path):
        options = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        yield " ".join(path), options
        for sub, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, [*path, sub])

    return dict(walk(typer.main.get_command(build_app(load_plugins())), []))


@pytest.mark.parametrize("page", PAGES + OTHERS, ids=name)
def test_commands_and_their_flags_exist(page):
    known = commands()
    lines = [line for _, block in blocks(page, "sh", "console") for line in block.splitlines()]
    lines += re.findall(r"`(enhancer [^`]+)`", text(page))
    for line in lines:
        words = line.removeprefix("$ ").split("#")[0].replace("|", " ").replace("\\", " ").split()
        if words[:1] != ["enhancer"] or len(words) < 2 or not words[1].isalpha():
            continue
        path = words[1] if f"{words[1]} {words[2] if len(words) > 2 else ''}" not in known else " ".join(words[1:3])
        assert path in known, line
        for flag in re.findall(r"(?<!\S)--?[a-z][a-z-]*", line.split("#")[0]):
            assert flag in known[path], line


@pytest.mark.parametrize("page", WITH_TOML, ids=name)
def test_settings_are_settings(page):
    for line, block in blocks(page, "toml"):
        read = tomllib.loads(block)
        if set(read) & {"data", "llm", "embedder", "store", "backbone", "fuser", "evaluation"}:
            assert Settings.model_validate(read), line


def keys(table, path=()):
    for key, field in table.model_fields.items():
        if key == "options" and "use" in table.model_fields:
            continue  # where a plugin's own keys are gathered: nobody writes it
        yield (*path, key)
        for inner in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, Options):
                yield from keys(inner, (*path, key))


def test_every_key_is_told_of():
    written = "\n".join(text(page) for page in PAGES)
    code = "\n".join(re.findall(r"^```.*?^```$|`[^`\n]+`", written, re.DOTALL | re.MULTILINE))
    shown = {"llm", "embedder", "store", "backbone", "fuser"}  # `enhancer plugins show` tells all keys of these tables
    missing = [
        ".".join(path)
        for path in keys(Settings)
        if path[0] not in shown and not re.search(rf"(?<![\w]){path[-1]}(?![\w])", code)
    ]
    assert not missing
