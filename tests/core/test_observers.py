"""Observers: lazy registration, options, activation, and the events of a run."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import ClassVar

import pytest
from dists import cli_json, make_dist, run_python

import enhancer
from enhancer.config.schema import ObserverConfig
from enhancer.contracts import ArmRunResult, Context, Observer, Options, RunInfo
from enhancer.errors import ConfigError, PluginError
from enhancer.plugin_host import PluginManager
from enhancer.testing.observer import ObserverConformance

EVENTS = {
    "run_started",
    "run_finished",
    "profile_stored",
    "epoch_finished",
    "arm_run_finished",
    "ablation_finished",
}


class TrackerOptions(Options):
    """Options of the tracker of these tests."""

    uri: str = "here"
    """Address of the server."""


class Tracker(Observer):
    """Keep all events in a list that the test sees."""

    options_class = TrackerOptions
    made: ClassVar[list[Tracker]] = []

    def __init__(self, options, context):
        super().__init__(options, context)
        self.events = []
        Tracker.made.append(self)

    def run_started(self, run):
        self.events.append(("run_started", run))

    def run_finished(self, run, result):
        self.events.append(("run_finished", run, result))

    def arm_run_finished(self, run, result):
        self.events.append(("arm_run_finished", run, result))


@pytest.fixture(autouse=True)
def _forget():
    Tracker.made = []


def manager_with(name="tracker", target=Tracker, **about):
    class Plugin:
        @enhancer.hookimpl
        def register_observers(self, register):
            register(name, target, **about)

    manager = PluginManager()
    manager.register(Plugin(), distribution="tracking")
    return manager


def events(manager, **tables):
    return manager.events({name: ObserverConfig(**table) for name, table in tables.items()}, Context(Path("project")))


def run_something(sender):
    with sender.run("train", {"seed": 3}) as run:
        run.finish(metrics={"ndcg@10": 0.5}, cost_usd=0.25, artifact=Path("artifact"))


def test_the_base_class_has_a_method_for_each_event():
    methods = {name for name in vars(Observer) if not name.startswith("_")} - {"options_class"}
    assert methods == EVENTS
    hooks = {name for name, member in vars(enhancer.hookspecs).items() if hasattr(member, "enhancer_spec")}
    assert {hook for hook in hooks if not hook.startswith("register_")} == EVENTS


def test_an_observer_with_a_table_takes_its_options_and_hears_a_run_from_start_to_end():
    sender = events(manager_with(), tracker={"uri": "there"})
    assert Tracker.made == []
    run_something(sender)
    (tracker,) = Tracker.made
    assert tracker.options == TrackerOptions(uri="there")
    assert tracker.context.root == Path("project")
    (_, info), (_, same, result) = tracker.events
    assert info is same
    assert (info.verb, info.configuration) == ("train", {"seed": 3})
    assert re.fullmatch("[0-9a-f]{32}", info.id)
    assert info.started_at.utcoffset().total_seconds() == 0
    assert (result.status, result.metrics, result.cost_usd) == ("done", {"ndcg@10": 0.5}, 0.25)
    assert (result.artifact, result.error) == (Path("artifact"), None)
    assert result.seconds >= 0


def test_one_observer_hears_all_runs_of_a_project():
    sender = events(manager_with(), tracker={})
    run_something(sender)
    run_something(sender)
    (tracker,) = Tracker.made
    assert len({event[1].id for event in tracker.events}) == 2


def test_without_a_table_an_observer_is_not_active():
    run_something(events(manager_with()))
    assert Tracker.made == []


def test_an_observer_may_declare_that_it_is_active_without_a_table():
    manager = manager_with(active=True)
    run_something(events(manager))
    assert [tracker.options.uri for tracker in Tracker.made] == ["here"]
    run_something(events(manager, tracker={"uri": "there"}))
    assert [tracker.options.uri for tracker in Tracker.made] == ["here", "there"]
    run_something(events(manager, tracker={"enabled": False}))
    assert len(Tracker.made) == 2


def test_one_plugin_may_have_two_tables():
    sender = events(manager_with(), one={"use": "tracker", "uri": "1"}, two={"use": "tracking:tracker", "uri": "2"})
    run_something(sender)
    assert [tracker.options.uri for tracker in Tracker.made] == ["1", "2"]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"trackr": {}}, "unknown observer 'trackr'; did you mean 'tracker'?"),
        ({"tracker": {"url": "x"}}, r"\[observers.tracker\] unknown key 'url'; did you mean 'uri'?"),
        ({"tracker": {"enabld": True}}, "unknown key 'enabld'; did you mean 'enabled'?"),
        ({"tracker": {"uri": 3}}, r"\[observers.tracker\] uri: input should be a valid string"),
    ],
)
def test_a_wrong_table_is_refused_before_the_run(tables, message):
    sender, ran = events(manager_with(), **tables), []
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")), sender.run("train", {}):
        ran.append(True)
    assert ran == []


def test_a_class_that_is_no_observer_is_refused():
    with pytest.raises(
        PluginError, match=r"observer 'tracker' \(of tracking\) is not a subclass of enhancer.contracts"
    ):
        run_something(events(manager_with(target=dict), tracker={}))


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("no luck"), "failed"), (KeyboardInterrupt(), "interrupted"), (SystemExit(3), "interrupted")],
)
def test_a_run_that_ends_badly_is_finished_with_its_status(error, status):
    sender = events(manager_with(), tracker={})

    def end_badly():
        with sender.run("generate", {}) as run:
            run.finish(cost_usd=0.5)
            raise error

    with pytest.raises(type(error)):
        end_badly()
    result = Tracker.made[0].events[-1][2]
    assert (result.status, result.error, result.cost_usd) == (status, str(error) or type(error).__name__, 0.5)


def test_arm_runs_are_children_of_their_ablation():
    sender = events(manager_with(), tracker={})
    arm_run = ArmRunResult(
        name="align/seed0", arm="align", seed=0, parameters={"fuser.weight": 0.1}, metrics={"ndcg@10": 1}
    )
    with sender.run("ablate", {}) as run:
        run.arm_run_finished(arm_run)
    (_, info), (name, parent, heard), _ = Tracker.made[0].events
    assert (name, parent, heard) == ("arm_run_finished", info, arm_run)


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_constructor_that_raises_costs_one_warning_and_not_the_run(caplog):
    class Failing(Observer):
        def __init__(self, options, context):
            raise OSError("server is down")

    sender = events(manager_with(target=Failing), tracker={})
    with caplog.at_level(logging.WARNING, logger="enhancer.plugin_host"):
        run_something(sender)
        run_something(sender)
    assert len(caplog.records) == 1
    assert "[observers.tracker] failed in its constructor: OSError: server is down" in caplog.text


def test_a_method_that_raises_costs_one_warning_and_the_others_still_hear(caplog):
    class Failing(Observer):
        def run_started(self, run):
            raise SystemExit(1)

    class Plugin:
        @enhancer.hookimpl
        def register_observers(self, register):
            register("failing", Failing)
            register("tracker", Tracker)

    manager = PluginManager()
    manager.register(Plugin())
    sender = events(manager, failing={}, tracker={})
    with caplog.at_level(logging.WARNING, logger="enhancer.plugin_host"):
        run_something(sender)
        run_something(sender)
    assert len(caplog.records) == 1
    assert len(Tracker.made[0].events) == 4


def test_an_active_observer_that_is_unavailable_costs_one_warning(caplog):
    manager = manager_with(target="no_such_module:X", requires=("no_such_library",), extra="fast", active=True)
    with caplog.at_level(logging.WARNING, logger="enhancer.plugin_host"):
        run_something(events(manager))
    assert len(caplog.records) == 1
    assert 'pip install "tracking[fast]"' in caplog.text
    with pytest.raises(PluginError, match="no_such_library"):
        run_something(events(manager, tracker={}))


def test_ctrl_c_in_an_observer_is_the_users_own_and_the_run_is_finished():
    class Interrupting(Tracker):
        def run_started(self, run):
            super().run_started(run)
            raise KeyboardInterrupt

    sender = events(manager_with(target=Interrupting), tracker={})
    with pytest.raises(KeyboardInterrupt):
        run_something(sender)
    assert Tracker.made[0].events[-1][2].status == "interrupted"


def test_hooks_on_the_plugin_itself_keep_working_and_may_leave_out_arguments():
    heard = []

    class Plugin:
        @enhancer.hookimpl
        def run_started(self):
            heard.append("started")

        @enhancer.hookimpl
        def run_finished(self, result):
            heard.append(result.status)

        @enhancer.hookimpl
        def arm_run_finished(self, run, result):
            heard.append((run.verb, result.arm))

    manager = PluginManager()
    manager.register(Plugin())
    with events(manager).run("ablate", {}) as run:
        run.arm_run_finished(ArmRunResult(name="none/seed0", arm="none", seed=0))
    assert heard == ["started", ("ablate", "none"), "done"]


def test_run_info_is_frozen():
    info = RunInfo(id="0", verb="train", started_at=None)
    with pytest.raises(AttributeError):
        info.verb = "ablate"


# --- what listing costs ----------------------------------------------------------------------------------------------

TRACKER = """
@hookimpl
def register_observers(register):
    register("heavy", "heavy_tracker_code:Heavy", requires=("heavy_library",))
"""
CODE = """
import heavy_library
from enhancer.contracts import Observer, Options
class HeavyOptions(Options):
    uri: str = "here"
    '''Address of the server.'''
class Heavy(Observer):
    '''Log to a heavy library.'''
    options_class = HeavyOptions
"""


@pytest.fixture
def heavy(tmp_path) -> Path:
    """Install a tracker whose library says on stderr that it was imported."""
    make_dist(tmp_path, "heavy-tracker", TRACKER)
    (tmp_path / "heavy_tracker_code.py").write_text(CODE)
    (tmp_path / "heavy_library.py").write_text("import sys; print('heavy library imported', file=sys.stderr)")
    return tmp_path


def test_listing_imports_nothing_of_a_tracker(heavy):
    program = (
        "import sys; from enhancer.cli.app import main; main(['plugins', '--json'])\n"
        "assert not {'heavy_tracker_code', 'heavy_library'} & set(sys.modules)"
    )
    done = run_python(program, heavy)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (line,) = [line for line in json.loads(done.stdout) if line["distribution"] == "heavy-tracker"]
    assert (line["name"], line["kind"], line["status"]) == ("heavy", "observer", "ok")


def test_show_tells_the_options_of_an_observer_and_the_keys_of_its_table(heavy):
    shown = cli_json("plugins", "show", "heavy", paths=(heavy,))
    assert shown["summary"] == "Log to a heavy library."
    assert [option["name"] for option in shown["options"]] == ["uri"]
    assert [option["name"] for option in shown["shared"]] == ["enabled"]


class TestTracker(ObserverConformance):
    """The suite for plugin authors, on the tracker of these tests."""

    observer_class = Tracker
    options: ClassVar = {"uri": "there"}
