"""Check the documentation: snippets run, links and names exist, every configuration key is described."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
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

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("contrib/*/README.md")),
]
OTHERS = [ROOT / "CHANGELOG.md", ROOT / "RELEASING.md", ROOT / "SECURITY.md", *ROOT.glob("findings/README.md")]
SOURCES = [ROOT / "core", ROOT / "plugins", *ROOT.glob("contrib/*/src")]


def load_build():
    """Import docs/site/build.py, which makes the site."""
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "site" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = load_build()
GENERATED = {ROOT / "docs" / page for page in BUILD.GENERATED}


def name(path):
    return path.relative_to(ROOT).as_posix()


def text(page):
    return page.read_text(encoding="utf-8")


def blocks(page, *languages):
    """Return line number and content of each fenced block in one of these languages."""
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
    """Register the example plugin in every project, as if it were installed."""
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
    """The folder of a reader who has followed the README: profiles are generated, an artifact is trained."""
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
    """A copy of the reader's folder as working directory: pages write into it."""
    folder = shutil.copytree(project, tmp_path / "reader")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def given(site, reader, request):
    """Return a function that gives the names which the snippets of a page assume."""

    def names(page):
        from enhancer.contracts import Context, Factors, Fitted
        from enhancer_plugins.stores.sqlite import SQLiteOptions, SQLiteStore

        if page.name == "publish-a-plugin.md":
            return {"enhancer_example": site}
        if page.name == "serving.md":
            table = np.eye(3, dtype=np.float32)
            fitted = Fitted(factors=Factors(table, table), epochs=1, best_epoch=1, history=[])
            rows = np.arange(3, dtype=np.int32)
            return {"fitted": fitted, "user_ids": list("abc"), "item_ids": list("xyz"), "users": rows, "items": rows}
        if page.name == "write-a-feature-store.md":
            return {"MyStore": SQLiteStore}
        if page.name == "import-and-export-profiles.md":
            embedder = importlib.import_module("enhancer_example.hashing").Hashing
            store = SQLiteStore(SQLiteOptions(path=Path("imported")), Context(root=reader))
            request.addfinalizer(store.close)
            return {"store": store, "embedder": embedder(embedder.options_class(), Context()), "check": None}
        return {}

    return names


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_every_snippet_compiles(page):
    for line, block in blocks(page, "python", "py"):
        if not block.startswith(">>>"):
            compile("\n" * (line - 1) + block, name(page), "exec")


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_the_snippets_of_a_page_run_from_top_to_bottom(page, given, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", types.ModuleType("mlflow"))  # the page is tested, not the tracker
    names = {"__name__": "page", **given(page)}
    for line, block in blocks(page, "python"):
        if block.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block, names, name(page), name(page), line)
            assert doctest.DocTestRunner().run(test, clear_globs=False).failed == 0
            names.update(test.globs)
            continue
        exec(compile("\n" * (line - 1) + block, name(page), "exec"), names)


def with_doctests():
    """Yield the names of modules with examples in their docstrings, without importing any module."""
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


# --- links, names, commands, keys ------------------------------------------------------------------------------------


def without_code(page):
    """Return the text of a page without fenced blocks and code spans."""
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", text(page), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES + OTHERS, ids=name)
def test_links_lead_somewhere(page):
    """Pages, images and anchors; the strict build checks anchors of generated pages."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file in GENERATED:
            continue
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", text(file), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}
            assert anchor in anchors, target


NO_MODULES = {"enhancer.records"}  # a table of PostgreSQL


@pytest.mark.parametrize("page", PAGES + OTHERS, ids=name)
def test_named_files_and_modules_exist(page, site):
    """Code spans that look like a path of this repository, or like a name of its packages."""
    for span in re.findall(r"`([^`\n]+)`", text(page)):
        if re.fullmatch(r"(core|plugins|contrib|tests|docs|findings)/[\w./-]+", span) and "NAME" not in span:
            if "tutorials" in page.parts and span.startswith("tests/"):
                continue  # of the plugin that the reader writes
            assert (ROOT / span).exists() or (page.parent / span).exists() or ROOT / span in GENERATED, span
        elif re.fullmatch(r"(enhancer|enhancer_plugins)(\.\w+)+", span) and span not in NO_MODULES:
            assert span.endswith((".toml", ".md")) or resolves(span), span


def resolves(dotted):
    """Check whether a dotted name is a module, or an attribute path within one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute, None)
        return found is not None
    return False


def commands():
    """Return the options of each command, by ``"store export"`` and the like."""
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
        if words[:1] != ["enhancer"] or len(words) < 2 or not words[1].isalpha() or words[1].isupper():
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
            continue  # where a plugin's own keys are gathered: users do not write it
        yield (*path, key)
        for inner in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, Options):
                yield from keys(inner, (*path, key))


def test_every_key_is_described():
    written = "\n".join(text(page) for page in PAGES)
    code = "\n".join(re.findall(r"^```.*?^```$|`[^`\n]+`", written, re.DOTALL | re.MULTILINE))
    shown = {"llm", "embedder", "store", "backbone", "fuser"}  # the generated reference has all keys of these tables
    missing = [
        ".".join(path)
        for path in keys(Settings)
        if path[0] not in shown and not re.search(rf"(?<![\w]){path[-1]}(?![\w])", code)
    ]
    assert not missing


# --- the site --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generated():
    """The generated pages of the reference, by their path in the site."""
    return {path: make() for path, make in BUILD.GENERATED.items()}


def test_the_reference_has_every_key(generated):
    page = generated["reference/configuration.md"]
    for *table, key in keys(Settings):
        path = ".".join([*table, key])
        assert f"| `{key}` |" in page or f"`[{path}]`" in page or f"`[{path}." in page, path


def test_the_reference_has_every_bundled_plugin_and_its_options(generated):
    from enhancer.plugin_host import KINDS, load_plugins

    page = generated["reference/plugin-options.md"]
    manager = load_plugins(environ={"ENHANCER_PLUGINS": "enhancer"})
    for line in manager.listing():
        if line.kind not in KINDS:
            continue
        of_kind = page.split(f"\n## {BUILD.TITLES.get(line.kind, f'{line.kind.capitalize()}s')}\n")[1].split("\n## ")[0]
        assert f"### `{line.name}`" in of_kind
        section = of_kind.split(f"### `{line.name}`")[1].split("\n##")[0]
        for option in manager.get(line.kind, line.name, complete=False).options_class.model_fields:
            assert f"| `{option}` |" in section, (line.name, option)


def test_the_reference_has_every_command(generated):
    page = generated["reference/commands.md"]
    for path in commands():
        assert f"## `{f'enhancer {path}'.strip()}`" in page


def test_every_page_is_in_the_navigation():
    configured = tomllib.loads(text(ROOT / "docs" / "site" / "zensical.toml"))
    shown = set(re.findall(r"[\w/-]+\.md", str(configured["project"]["nav"])))
    assert shown == {*BUILD.copied_pages(), *BUILD.GENERATED} - {*BUILD.PLUGINS.values()}


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    """Pages, anchors and names of the Python reference: a broken one is a warning, and warnings are errors."""
    pytest.importorskip("zensical")
    pytest.importorskip("mkdocstrings")
    assert BUILD.main(["--out", str(tmp_path)]) == 0
    inventory = tmp_path / "site" / "objects.inv"
    import zlib

    named = zlib.decompress(inventory.read_bytes().split(b"zlib.\n", 1)[1]).decode()
    entries = {line.split(" ")[0] for line in named.splitlines()}
    for package in ("enhancer", "enhancer.contracts"):
        assert {f"{package}.{one}" for one in BUILD.public_names(package)} <= entries
    for package in ("enhancer.testing", "enhancer_plugins.training"):
        assert set(BUILD.public_modules(package)) <= entries
    pages = "".join(page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html"))
    loaded = re.findall(
        r"<(?:script|img|iframe)[^>]* src=\"?(https?:[^\s\">]+)|<link [^>]*href=\"?(https?:[^\s\">]+)", pages
    )
    assert not loaded  # nothing is fetched from a server
