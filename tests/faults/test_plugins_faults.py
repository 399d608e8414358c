"""Broken plugins are listed with a reason, and other plugins work."""

from __future__ import annotations

import json
import logging

import pytest
from dists import cli, cli_json, make_dist, run_python

import enhancer
from enhancer.contracts import Context, Fuser
from enhancer.errors import PluginError
from enhancer.plugin_host import PluginManager

GOOD = """
@hookimpl
def register_embedders(register):
    register("fine", "good_plugin_code:Nothing", requires=())
"""

BROKEN = {
    "raises": ("1 / 0", "ZeroDivisionError: division by zero"),
    "missing-import": ("import no_such_library_at_all", "No module named 'no_such_library_at_all'"),
    "syntax": ("def (", "SyntaxError"),
    "exits": ("import sys; sys.exit(0)", "calls sys.exit"),
    "bare-exit": ("raise SystemExit", "calls sys.exit"),
    "wrong-argument": ("@hookimpl\ndef register_embedders(registrar): ...", "registrar"),
    "unknown-hook": ("@hookimpl\ndef register_embeders(register): ...", "register_embeders"),
    "no-hooks": ("def register_embedders(register): ...", "implements no hook"),
    "wrapper": ("@hookimpl(wrapper=True)\ndef profile_stored(record):\n    return (yield)", "hook wrapper"),
    "hook-raises": ("@hookimpl\ndef register_fusers(register): raise RuntimeError('no luck')", "no luck"),
    "hook-exits": (
        "@hookimpl\ndef register_fusers(register): raise SystemExit(3)",
        "register_fusers failed: SystemExit",
    ),
    "bad-name": (
        "@hookimpl\ndef register_fusers(register): register('a b', 'm:C')",
        "fuser 'a b': a name consists of letters, digits and hyphens",
    ),
    "bad-target": ("@hookimpl\ndef register_fusers(register): register('ab', 'm.C')", "'module:Class'"),
    "not-a-class": ("@hookimpl\ndef register_fusers(register): register('ab', 7)", "must be a class"),
    "no-module": (
        "@hookimpl\ndef register_fusers(register): register('ab', 'nowhere.x:C')",
        "nowhere.x does not exist",
    ),
    "command-raises": ("@hookimpl\ndef register_commands(cli): raise KeyError('oops')", "oops"),
    "command-exits": ("@hookimpl\ndef register_commands(cli): raise SystemExit(9)", "SystemExit"),
    "command-untypeable": (
        (
            "@hookimpl\ndef register_commands(cli):\n"
            "    @cli.command()\n    def x(a: 'NoSuchType'): ...\n    @cli.command()\n    def y(): ..."
        ),
        "NoSuchType",
    ),
}


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
    """Return the listing of a process with all broken plugins and a valid one."""
    folder = tmp_path_factory.mktemp("site")
    for name, (source, _) in BROKEN.items():
        make_dist(folder, f"broken-{name}", source)
    make_dist(folder, "zz-good", GOOD)
    (folder / "good_plugin_code.py").write_text("raise AssertionError('listing must not import targets')")
    done = cli("plugins", "--json", paths=(folder,))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason(listing, name):
    lines = [line for line in listing[0] if line["distribution"] == f"broken-{name}"]
    assert lines, "not listed"
    assert [line["status"] for line in lines] == ["broken"]
    assert BROKEN[name][1] in lines[0]["reason"]
    assert lines[0]["version"] == "1.0"


def test_the_others_work(listing):
    lines, folder = listing
    statuses = {line["name"]: line["status"] for line in lines}
    assert statuses["fine"] == "ok"
    assert statuses["sqlite"] == "ok"
    help_ = cli("--help", paths=(folder,))
    assert help_.returncode == 0
    assert "plan" in help_.stdout
    assert "Traceback" not in help_.stderr


def test_the_table_for_people_names_each_reason(listing):
    done = cli("plugins", paths=(listing[1],))
    assert done.returncode == 0
    for _, reason in BROKEN.values():
        assert reason in done.stdout


def test_a_plugin_that_prints_does_not_spoil_the_json(tmp_path):
    make_dist(tmp_path, "chatty", "print('hello from chatty')\n" + GOOD)
    done = cli("plugins", "--json", paths=(tmp_path,))
    json.loads(done.stdout)
    assert "hello from chatty" in done.stderr


def test_ctrl_c_while_a_plugin_loads_is_the_users_own(tmp_path):
    make_dist(tmp_path, "slow", "raise KeyboardInterrupt")
    done = cli("plugins", paths=(tmp_path,))
    assert done.returncode == 130
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_distributions_that_claim_one_name(tmp_path):
    code = """
    from enhancer.contracts import Embedder, Options
    class Made(Embedder):
        '''Made by NAME.'''
        def __init__(self, options, context): ...
        fingerprint = "NAME"
        dim = 2
        def encode(self, texts): ...
    @hookimpl
    def register_embedders(register):
        register("twin", Made)
    """
    for name in ("castor", "pollux"):
        make_dist(tmp_path, name, code.replace("NAME", name))
    twins = [line for line in cli_json("plugins", paths=(tmp_path,)) if line["name"] == "twin"]
    assert [line["status"] for line in twins] == ["conflict", "conflict"]
    assert all("castor" in line["reason"] and "pollux" in line["reason"] for line in twins)
    program = """
from enhancer.contracts import Context
from enhancer.contracts import Context, Fuser
from enhancer.errors import PluginError
from enhancer.plugin_host import load_plugins
manager = load_plugins()
try:
    manager.get("embedder", "twin")
except PluginError as error:
    print(error)
print(manager.create("embedder", "Pollux:twin", {}, Context()).fingerprint)
"""
    done = run_python(program, tmp_path)
    assert done.returncode == 0, done.stderr
    error, picked = done.stdout.splitlines()
    assert "'twin' is claimed by castor and pollux" in error
    assert '"castor:twin"' in error
    assert '"pollux:twin"' in error
    assert picked == "pollux"
    shown = cli_json("plugins", "show", "castor:twin", paths=(tmp_path,))
    assert shown["summary"] == "Made by castor."


def test_a_third_party_cannot_take_a_bundled_name_in_silence(tmp_path):
    make_dist(tmp_path, "thief", "@hookimpl\ndef register_feature_stores(register): register('LMDB', 'thief:X')")
    lines = [line for line in cli_json("plugins", paths=(tmp_path,)) if line["name"] == "lmdb"]
    assert {line["distribution"]: line["status"] for line in lines} == {"enhancer": "conflict", "thief": "conflict"}


def test_one_distribution_that_registers_a_name_twice():
    manager = PluginManager()

    class Twice:
        @enhancer.hookimpl
        def register_fusers(self, register):
            register("both", "json:JSONDecoder")
            register("Both", "json:JSONEncoder")

    manager.register(Twice())
    assert [(line.name, line.status) for line in manager.listing()] == [("both", "ok"), ("both", "broken")]


def test_a_missing_extra_is_found_without_importing_and_the_mend_is_exact(tmp_path):
    code = """
    @hookimpl
    def register_embedders(register):
        register("heavy", "gone:Gone", extra="fast", requires=("json", "no_such_module", "json.no_such_part"))
    """
    make_dist(tmp_path, "needs-more", code)
    (line,) = [line for line in cli_json("plugins", paths=(tmp_path,)) if line["name"] == "heavy"]
    assert line["status"] == "unavailable"
    assert line["reason"] == (
        'needs no_such_module, json.no_such_part, which are not installed; pip install "needs-more[fast]"'
    )


def test_a_bundled_plugin_without_its_extra_names_it(tmp_path):
    """A blocking import finder simulates an installation without the extras."""
    program = """
import importlib.abc, json, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("sentence_transformers", "torch", "litellm"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
from enhancer.plugin_host import load_plugins
from enhancer.contracts import Context, Fuser
from enhancer.errors import PluginError
manager = load_plugins()
print(json.dumps({line.name: line.reason for line in manager.listing() if line.status == "unavailable"}))
try:
    manager.get("embedder", "minilm")
except PluginError as error:
    print(error, error.exit_code)
"""
    done = run_python(program)
    assert done.returncode == 0, done.stderr
    reasons, error = done.stdout.splitlines()
    found = json.loads(reasons)
    assert 'pip install "enhancer[minilm]"' in found["minilm"]
    assert 'pip install "enhancer[train]"' in found["lightgcn"]
    assert 'pip install "enhancer[openai]"' in found["litellm"]
    assert "openai" not in found
    assert 'pip install "enhancer[minilm]"' in error
    assert error.endswith(" 2")


def test_the_allow_list_keeps_others_from_being_imported(tmp_path):
    make_dist(tmp_path, "good-one", GOOD)
    (tmp_path / "good_plugin_code.py").touch()
    make_dist(tmp_path, "bad-one", "open('imported', 'w')")
    lines = cli_json("plugins", paths=(tmp_path,), cwd=tmp_path, ENHANCER_PLUGINS="Good_One, enhancer")
    by_distribution = {line["distribution"]: line["status"] for line in lines if line["kind"] in (None, "embedder")}
    assert by_distribution == {"enhancer": "ok", "good-one": "ok", "bad-one": "skipped"}
    assert not (tmp_path / "imported").exists()
    none = cli_json("plugins", paths=(tmp_path,), cwd=tmp_path, ENHANCER_PLUGINS="")
    assert {line["status"] for line in none} == {"skipped"}
    assert "ENHANCER_PLUGINS" in none[0]["reason"]


def test_an_unknown_name_says_which_plugins_did_not_load():
    manager = PluginManager()

    class Broken:
        __name__ = "wonder"

        @enhancer.hookimpl
        def register_embedders(self, register):
            raise RuntimeError("out of wonder")

    with pytest.raises(PluginError, match="out of wonder"):
        manager.register(Broken(), distribution="wonderful")
    with pytest.raises(PluginError, match=r"unknown embedder 'wonder'.*not loaded: wonder of wonderful.*out of wonder"):
        manager.get("embedder", "wonder")


class TestTargets:
    """Errors of ``get`` and ``create``."""

    def manager(self, target, **about):
        class Plugin:
            @enhancer.hookimpl
            def register_embedders(self, register):
                register("mine", target, **about)

        manager = PluginManager()
        manager.register(Plugin(), distribution="mine-dist")
        return manager

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ("no_such_module_here:X", "cannot be imported: ModuleNotFoundError"),
            ("json:NoSuchClass", "cannot be imported: AttributeError"),
            ("json:dumps", "is not a subclass of enhancer.contracts.Embedder"),
            ("json:JSONDecoder", "is not a subclass of enhancer.contracts.Embedder"),
            ("enhancer.contracts:Embedder", "does not implement __init__, dim, encode, fingerprint"),
            ("enhancer.contracts:FeatureStore", "is not a subclass"),
        ],
    )
    def test_what_is_not_an_embedder(self, target, message):
        with pytest.raises(PluginError, match=rf"embedder 'mine' \(of mine-dist\) .*{message}"):
            self.manager(target).get("embedder", "mine")

    def test_a_target_that_exits_while_it_is_imported(self, tmp_path, monkeypatch):
        (tmp_path / "exiting_target.py").write_text("raise SystemExit(1)")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(PluginError, match="cannot be imported: SystemExit"):
            self.manager("exiting_target:X").get("embedder", "mine")

    def test_options_that_are_not_options(self):
        from enhancer.contracts import Embedder

        class Odd(Embedder):
            options_class = dict
            fingerprint = "odd"
            dim = 1

            def __init__(self, options, context): ...

            def encode(self, texts): ...

        with pytest.raises(PluginError, match=r"options_class is not a subclass of enhancer\.contracts\.Options"):
            self.manager(Odd).get("embedder", "mine")

    def test_a_constructor_that_fails_names_the_plugin(self):
        from enhancer.contracts import Context, Embedder

        class Failing(Embedder):
            fingerprint = "failing"
            dim = 1

            def __init__(self, options, context):
                raise OSError("no such device")

            def encode(self, texts): ...

        with pytest.raises(PluginError, match="embedder 'mine' failed to start: OSError: no such device"):
            self.manager(Failing).create("embedder", "mine", {}, Context())


def test_a_fuser_that_keeps_no_options_is_refused():
    class Forgets(Fuser):
        def __init__(self, options, context):
            del options, context

        def build(self, data, dim, *, seed, device): ...

    class Mine:
        @enhancer.hookimpl
        def register_fusers(self, register):
            register("forgets", Forgets)

    manager = PluginManager()
    manager.register(Mine())
    with pytest.raises(PluginError, match="fuser 'forgets' does not keep its options") as refused:
        manager.create("fuser", "forgets", {}, Context())
    assert "self.options = options" in refused.value.hint


def test_a_failing_function_is_named_if_its_hook_has_another_name():
    class Broken:
        @enhancer.hookimpl(specname="register_fusers")
        def extra_fusers(self, register):
            raise RuntimeError("no luck")

    with pytest.raises(PluginError, match=r"extra_fusers \(register_fusers\) failed: RuntimeError: no luck"):
        PluginManager().register(Broken())


def test_only_observers_can_be_active():
    class Eager:
        @enhancer.hookimpl
        def register_fusers(self, register):
            register("eager", "json:JSONDecoder", active=True)

    with pytest.raises(PluginError, match="fuser 'eager': only observers can be registered as active"):
        PluginManager().register(Eager())


def test_an_observer_that_raises_is_named_once_and_the_others_still_hear(caplog):
    heard = []

    class Raising:
        @enhancer.hookimpl
        def epoch_finished(self, run):
            raise ValueError("tracker is down")

    class Exiting:
        @enhancer.hookimpl
        def epoch_finished(self):
            raise SystemExit(1)

    class Listening:
        @enhancer.hookimpl
        def epoch_finished(self, epoch, loss):
            heard.append((epoch, loss))

    manager = PluginManager()
    for number, plugin in enumerate((Raising(), Listening(), Exiting())):
        manager.register(plugin, distribution=f"dist-{number}")
    with caplog.at_level(logging.WARNING, logger="enhancer.plugin_host"):
        for epoch in range(3):
            manager.hook.epoch_finished(run="align/seed0", epoch=epoch, loss=0.5, metric=None)
    assert heard == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert len(caplog.records) == 2
    assert "tracker is down" in caplog.text


def test_an_observer_does_not_swallow_ctrl_c():
    class Interrupting:
        @enhancer.hookimpl
        def profile_stored(self):
            raise KeyboardInterrupt

    manager = PluginManager()
    manager.register(Interrupting())
    with pytest.raises(KeyboardInterrupt):
        manager.hook.profile_stored(record=None)


def test_commands_in_conflict(tmp_path):
    code = """
    @hookimpl
    def register_commands(cli):
        @cli.command()
        def greet():
            print("hello from NAME")
        @cli.command()
        def plan():
            print("not the plan")
    """
    for name in ("ada", "bob"):
        make_dist(tmp_path, name, code.replace("NAME", name))
    lines = [line for line in cli_json("plugins", paths=(tmp_path,)) if line["distribution"] in ("ada", "bob")]
    assert {(line["name"], line["kind"], line["status"]) for line in lines} == {
        ("greet", "command", "conflict"),
        ("plan", "command", "conflict"),
    }
    assert cli("bob:greet", paths=(tmp_path,)).stdout == "hello from bob\n"
    assert cli("greet", paths=(tmp_path,)).returncode == 2
    assert "Dry run" not in cli("plan", paths=(tmp_path,), cwd=tmp_path).stdout
    assert "not the plan" not in cli("plan", paths=(tmp_path,), cwd=tmp_path).stdout
