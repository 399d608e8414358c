"""The plugin host: bundled plugins, a third-party distribution, and the documentation of hooks."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from dists import ROOT, cli, cli_json

import enhancer
from enhancer import contracts, hookspecs
from enhancer.contracts import Context
from enhancer.errors import ConfigError, PluginError
from enhancer.plugin_host import KINDS, PluginManager, load_plugins

BUNDLED = {
    "llm": {"litellm", "openai", "replay"},
    "embedder": {"sentence-transformers", "bge", "minilm", "litellm", "openai"},
    "store": {"lmdb", "sqlite"},
    "backbone": {"als", "ease", "fm", "lightgcn", "popularity"},
    "fuser": {"none", "concat", "align", "generate", "adapter", "semantic", "extrapolate", "prior"},
    "runner": {"local"},
    "exporter": {"duckdb", "faiss", "lancedb", "pgvector", "qdrant"},
    "observer": set(),
}
HOOKS = [name for name, member in vars(hookspecs).items() if hasattr(member, "enhancer_spec")]


@pytest.fixture(scope="module")
def manager():
    return load_plugins(environ={"ENHANCER_PLUGINS": "enhancer"})


def test_the_bundled_plugins_are_listed_with_everything_a_user_wants_to_know(manager):
    found = {kind: {line.name for line in manager.listing() if line.kind == kind} for kind in KINDS}
    assert found == BUNDLED
    for line in manager.listing():
        assert line.distribution == "enhancer"
        assert line.version == enhancer.__version__
        assert (line.reason is None) == (line.status == "ok")
        assert set(line.to_json()) == {"name", "kind", "distribution", "version", "status", "reason"}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in BUNDLED.items() for name in sorted(names)])
def test_every_bundled_plugin_keeps_its_contract_and_documents_its_options(manager, kind, name):
    line = next(line for line in manager.listing() if (line.kind, line.name) == (kind, name))
    if line.status == "unavailable":
        pytest.skip(line.reason)
    target = manager.get(kind, name)
    assert issubclass(target, getattr(contracts, KINDS[kind]))
    assert target.__doc__
    for option, field in target.options_class.model_fields.items():
        assert field.description, f"{name}: {option} is not documented"


def test_names_are_normalised_and_may_be_qualified(manager):
    assert manager.get("store", "SQLite") is manager.get("store", "enhancer:sqlite")
    assert manager.get("embedder", "Sentence_Transformers") is manager.get("embedder", "sentence-transformers")


@pytest.mark.parametrize(
    ("kind", "use", "message"),
    [
        ("store", "lmbd", "unknown store 'lmbd'; did you mean 'lmdb'?"),
        ("store", "minilm", "unknown store 'minilm'; 'minilm' is a plugin of kind embedder; known: lmdb, sqlite"),
        ("store", "nobody:lmdb", "unknown store 'nobody:lmdb'"),
        ("store", "", "unknown store ''"),
        (
            "stores",
            "lmdb",
            "unknown kind of plugin 'stores'; known: llm, embedder, store, backbone, fuser, runner, exporter, observer",
        ),
    ],
)
def test_unknown_names_bring_the_nearest(manager, kind, use, message):
    with pytest.raises(PluginError, match=re.escape(message)):
        manager.get(kind, use)


def test_create_checks_options_and_opens(manager, tmp_path):
    with manager.create("store", "sqlite", {"path": "here"}, Context(tmp_path)) as store:
        assert store.stats().records == 0
    assert (tmp_path / "here").is_dir()
    with pytest.raises(ConfigError, match=r"\[store\] unknown key 'pth'; did you mean 'path'"):
        manager.create("store", "sqlite", {"pth": "here"}, Context(tmp_path))
    with pytest.raises(ConfigError, match=r"\[llm\] unknown key 'modle'; did you mean 'model'"):
        manager.create("llm", "openai", {"modle": "x"}, Context(tmp_path), also_known=["model", "timeout"])


def test_what_is_installed_may_be_registered_by_hand_too():
    import enhancer_plugins

    manager = PluginManager()
    manager.load_entry_points()
    before = manager.listing()
    manager.register(enhancer_plugins)
    assert manager.listing() == before


def test_a_plugin_may_be_registered_by_hand():
    manager = PluginManager()

    class Mine:
        @enhancer.hookimpl
        def register_feature_stores(self, register):
            register("bare", "enhancer_plugins.stores.sqlite:SQLiteStore")

    manager.register(Mine(), distribution="notebook", version="7")
    (line,) = manager.listing()
    assert (line.name, line.kind, line.distribution, line.version, line.status) == (
        "bare",
        "store",
        "notebook",
        "7",
        "ok",
    )
    assert manager.get("store", "notebook:bare").__name__ == "SQLiteStore"


def test_a_plugin_that_only_listens_is_listed():
    manager = PluginManager()

    class Tracker:
        @enhancer.hookimpl
        def ablation_finished(self, result): ...

    manager.register(Tracker())
    (line,) = manager.listing()
    assert (line.name, line.kind, line.status) == ("Tracker", "observer", "ok")
    with pytest.raises(AttributeError):
        manager.hook.no_such_hook  # noqa: B018


# --- a third-party distribution --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Build the example distribution, install it into a temporary folder, and return the folder."""
    work = tmp_path_factory.mktemp("contrib")
    source = shutil.copytree(ROOT / "contrib" / "enhancer-example", work / "source")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(work / "dist"), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = (work / "dist").glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--quiet"]
    environ = ["--disable-pip-version-check", "--target", str(work / "site"), str(wheel)]
    subprocess.run([*pip, *environ], check=True, capture_output=True, timeout=120)
    return work / "site"


def test_a_third_partys_distribution_is_found_and_works(installed, tmp_path):
    (line,) = [line for line in cli_json("plugins", paths=(installed,)) if line["distribution"] == "enhancer-example"]
    assert line == {
        "name": "hashing",
        "kind": "embedder",
        "distribution": "enhancer-example",
        "version": "0.1.0",
        "status": "ok",
        "reason": None,
    }
    shown = cli_json("plugins", "show", "hashing", paths=(installed,))
    assert shown["summary"].startswith("Hashed bags of words")
    assert shown["options"][0] == {
        "name": "dim",
        "type": "int",
        "required": False,
        "default": 256,
        "description": "Dimension of the vectors.",
    }
    text = cli("plugins", "show", "hashing", paths=(installed,)).stdout
    assert re.search(r"^  ngrams: int, default 1\n +Maximum number of consecutive words", text, re.MULTILINE)


def test_show_tells_the_tables_within_a_table():
    shown = cli_json("plugins", "show", "replay")
    assert [option["name"] for option in shown["tables"]["llm.price"]] == ["input", "output", "cached_input"]
    assert "price" not in {option["name"] for option in shown["shared"]}
    text = cli("plugins", "show", "replay").stdout
    pattern = r"\[llm\.price\].*^  input: float, required\n +Price of prompt tokens"
    assert re.search(pattern, text, re.MULTILINE | re.DOTALL)


# --- documentation of hooks ------------------------------------------------------------------------------------------


def test_hooks_were_found():
    assert {"register_llm_providers", "register_commands", "profile_stored", "epoch_finished"} <= set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_arguments(hook):
    text = (ROOT / "docs" / "reference" / "plugins.md").read_text(encoding="utf-8")
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"`{hook}({arguments})`" in text


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_tested(hook):
    tests = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert any(re.search(rf"def {hook}\(", text) for text in tests), f"no test implements {hook}"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_documented(kind):
    text = (ROOT / "docs" / "reference" / "plugins.md").read_text(encoding="utf-8")
    assert KINDS[kind] in text


def registration(hook, name, target):
    """Return a plugin with one registration hook."""
    exec_globals = {"hookimpl": enhancer.hookimpl}
    exec(f"@hookimpl\ndef {hook}(register): register({name!r}, {target!r})", exec_globals)
    return type("Plugin", (), {hook: staticmethod(exec_globals[hook])})


@pytest.mark.parametrize(
    ("hook", "kind", "target"),
    [
        ("register_llm_providers", "llm", "enhancer_plugins.llm.replay:Replay"),
        ("register_embedders", "embedder", "enhancer_plugins.embedders.minilm:MiniLM"),
        ("register_feature_stores", "store", "enhancer_plugins.stores.sqlite:SQLiteStore"),
        ("register_backbones", "backbone", "enhancer_plugins.backbones.lightgcn:LightGCN"),
        ("register_fusers", "fuser", "enhancer_plugins.fusers.none:NoFusion"),
        ("register_runners", "runner", "enhancer_plugins.runners.local:LocalRunner"),
        ("register_exporters", "exporter", "enhancer_plugins.exporters.duckdb:DuckDBExporter"),
        ("register_observers", "observer", "enhancer.contracts.observer:Observer"),
    ],
)
def test_each_registration_hook_registers_its_kind(hook, kind, target):
    manager = PluginManager()
    manager.register(registration(hook, "other-name", target))
    assert manager.get(kind, "other-name").__name__ == target.partition(":")[2]


class EveryHook:
    """A plugin that implements every hook with all arguments."""

    def __init__(self):
        self.heard = []

    @enhancer.hookimpl
    def register_llm_providers(self, register): ...

    @enhancer.hookimpl
    def register_embedders(self, register): ...

    @enhancer.hookimpl
    def register_feature_stores(self, register): ...

    @enhancer.hookimpl
    def register_backbones(self, register): ...

    @enhancer.hookimpl
    def register_fusers(self, register): ...

    @enhancer.hookimpl
    def register_runners(self, register): ...

    @enhancer.hookimpl
    def register_exporters(self, register): ...

    @enhancer.hookimpl
    def register_observers(self, register): ...

    @enhancer.hookimpl
    def register_commands(self, cli): ...

    @enhancer.hookimpl
    def run_started(self, run):
        self.heard.append(run)

    @enhancer.hookimpl
    def run_finished(self, run, result):
        self.heard.append((run, result))

    @enhancer.hookimpl
    def arm_run_finished(self, run, result):
        self.heard.append((run, result))

    @enhancer.hookimpl
    def profile_stored(self, record):
        self.heard.append(record)

    @enhancer.hookimpl
    def epoch_finished(self, run, epoch, loss, metric):
        self.heard.append((run, epoch, loss, metric))

    @enhancer.hookimpl
    def ablation_finished(self, result):
        self.heard.append(result)


def test_observers_hear_what_happened():
    manager, plugin = PluginManager(), EveryHook()
    manager.register(plugin)
    manager.hook.profile_stored(record="r")
    manager.hook.epoch_finished(run="align/seed0", epoch=1, loss=0.5, metric=None)
    manager.hook.ablation_finished(result={"arms": {}})
    manager.hook.run_started(run="run")
    manager.hook.arm_run_finished(run="run", result="arm run")
    manager.hook.run_finished(run="run", result="result")
    assert plugin.heard == [
        "r",
        ("align/seed0", 1, 0.5, None),
        {"arms": {}},
        "run",
        ("run", "arm run"),
        ("run", "result"),
    ]


def test_a_plugin_may_implement_one_hook_several_times():
    module = types.ModuleType("twofold")
    heard = []

    @enhancer.hookimpl(specname="register_feature_stores")
    def first(register):
        register("one", "enhancer_plugins.stores.sqlite:SQLiteStore")

    @enhancer.hookimpl(specname="register_feature_stores")
    def second(register):
        register("two", "enhancer_plugins.stores.sqlite:SQLiteStore")

    @enhancer.hookimpl(specname="profile_stored")
    def hear(record):
        heard.append(("hear", record))

    @enhancer.hookimpl(specname="profile_stored")
    def also_hear(record):
        heard.append(("also_hear", record))

    @enhancer.hookimpl(specname="register_commands")
    def greeting(cli):
        cli.command("hello")(lambda: None)

    @enhancer.hookimpl(specname="register_commands")
    def parting(cli):
        cli.command("goodbye")(lambda: None)

    for function in (first, second, hear, also_hear, greeting, parting):
        setattr(module, function.__name__, function)
    manager = PluginManager()
    manager.register(module)
    lines = {(line.kind, line.name, line.status) for line in manager.listing()}
    assert lines == {
        ("store", "one", "ok"),
        ("store", "two", "ok"),
        ("command", "hello", "ok"),
        ("command", "goodbye", "ok"),
        ("observer", "twofold", "ok"),
    }
    manager.hook.profile_stored(record="r")
    assert sorted(heard) == [("also_hear", "r"), ("hear", "r")]
