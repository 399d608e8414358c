"""Test that every verb checks every key of the configuration before it begins."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
from dists import run_python

from enhancer.errors import ConfigError, FusionError, PluginError
from enhancer.plugin_host import load_plugins
from enhancer.project import Project
from enhancer.project.settings_check import check_settings

VERBS = {
    "plan": Project.plan,
    "generate": Project.generate,
    "refresh": Project.refresh,
    "plan_spending": lambda project: project.plan_spending(1.0),
    "spend": lambda project: project.spend(1.0),
    "diagnose": Project.diagnose,
    "train": Project.train,
    "ablate": Project.ablate,
    "density": Project.density,
    "run": Project.run,
}

MISTAKES = {
    "backbone": ("backbone.use=lightgnn", r"^unknown backbone 'lightgnn'; did you mean 'lightgcn'\?$"),
    "fuser": ("fuser.use=priro", r"^unknown fuser 'priro'; did you mean 'prior'\?$"),
    "embedder": ("embedder.use=minlm", r"^unknown embedder 'minlm'; did you mean 'minilm'\?$"),
    "store": ("store.use=lmbd", r"^unknown store 'lmbd'; did you mean 'lmdb'\?$"),
    "llm": ("llm.use=opnai", r"^unknown llm 'opnai'; did you mean 'openai'\?$"),
    "another kind": ("backbone.use=lmdb", r"^unknown backbone 'lmdb'; 'lmdb' is a plugin of kind store"),
    "runner": ("runner.use=lokal", r"^unknown runner 'lokal'; did you mean 'local'\?$"),
    "observer": ("observers.mlfow={}", r"^unknown observer 'mlfow'"),
    "candidate": (
        'backbone={use="auto", candidates=["asl"]}',
        r"candidates: unknown backbone 'asl'; did you mean 'als'",
    ),
    "metric": ('evaluation.metrics=["ndcg10"]', r"^unknown metric 'ndcg10'; did you mean 'ndcg@10'\?$"),
    "second metric": ('evaluation.metrics=["ndcg@10", "hr@10"]', r"^unknown metric 'hr@10'; did you mean 'hit@10'\?$"),
    "metric without a label": ('evaluation.metrics=["auc"]', r"metric 'auc' needs labels"),
    "arm": ('evaluation.arms=["none", "pirr"]', r"^\[evaluation\] arms: 'pirr' is neither .*; did you mean 'prior'\?$"),
    "arm twice": ('evaluation.arms=["none", "none"]', r"^\[evaluation\] arms: 'none' is listed twice"),
    "fuser of an arm": (
        'evaluation={arms=["none", "a"], arm={a={fuser="pirr"}}}',
        r"^\[evaluation.arm.a\] unknown fuser 'pirr'",
    ),
    "option of an arm": (
        'evaluation={arms=["none", "a"], arm={a={fuser="align", options={wieght=1.0}}}}',
        r"^\[evaluation.arm.a\] options: unknown key 'wieght'; did you mean 'weight'\?$",
    ),
    "backbone option of an arm": (
        'evaluation={arms=["none", "a"], arm={a={fuser="none", backbone={dmi=8}}}}',
        r"^\[evaluation.arm.a\] backbone: unknown key 'dmi'; did you mean 'dim'\?$",
    ),
    "option of an arm that is not listed": (
        'evaluation={arms=["none"], arm={a={fuser="align", options={wieght=1.0}}}}',
        r"^\[evaluation.arm.a\] options: unknown key 'wieght'",
    ),
    "baseline": ('evaluation={arms=["none", "prior"], baseline="nnoe"}', r"baseline: 'nnoe' is not an arm"),
    "searched option of the backbone": (
        "evaluation.search.backbone={dmi={low=4, high=8}}",
        r"^\[evaluation.search.backbone\] 'lightgcn' has no option 'dmi'; did you mean 'dim'\?$",
    ),
    "searched value": (
        'evaluation.search.backbone={dim={choices=[8, "wide"]}}',
        r"^\[evaluation.search.backbone\] dim: input should be a valid integer.*, not 'wide'$",
    ),
    "searched range": (
        "evaluation.search.backbone={dim={low=-4, high=8}}",
        r"^\[evaluation.search.backbone\] dim: input should be greater than or equal to \d+, not -4$",
    ),
    "searched arm": (
        "evaluation.search.fuser.pirr={weight={low=0.1, high=1.0}}",
        r"^\[evaluation.search.fuser.pirr\] 'pirr' is neither an arm nor the fuser of one",
    ),
    "searched option of a fuser": (
        "evaluation.search.fuser.align={wieght={low=0.1, high=1.0}}",
        r"^\[evaluation.search.fuser.align\] 'align' has no option 'wieght'; did you mean 'weight'\?$",
    ),
    "artifact": ("artifact=items.csv", r'^artifact = "items.csv" is a file, not a folder; name a folder'),
    "artifact under a file": (
        "artifact=items.csv/x",
        r'^artifact = "items.csv/x" is no folder, because .*items.csv is',
    ),
    "artifact in the store": ("artifact=features", r"^artifact and \[store\] path are one folder, features"),
    "place of the store": ("store.path=items.csv", r'^\[store\] path = "items.csv" is a file, not a folder'),
}

FILE = """
[data]
items = "items.csv"
[llm]
use = "openai"
model = "m"
api_base = "http://127.0.0.1:9/v1"
price = "free"
[backbone]
use = "lightgcn"
"""


@pytest.fixture(scope="module")
def plugins():
    return load_plugins({"ENHANCER_PLUGINS": "enhancer"})


@pytest.fixture
def load(tmp_path, plugins):
    """Loads a project whose only table is of items, with settings changed."""
    (tmp_path / "items.csv").write_text("item_id,title\n1,Lamp\n2,Chair\n")
    (tmp_path / "enhancer.toml").write_text(FILE)

    def project(*settings):
        return Project.load(tmp_path / "enhancer.toml", overrides=settings, environ={}, plugins=plugins)

    return project


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_before_anything_is_planned(load, tmp_path, mistake):
    setting, words = MISTAKES[mistake]
    with pytest.raises(ConfigError, match=words) as caught:
        load(setting).plan()
    assert caught.value.exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["enhancer.toml", "items.csv"]


@pytest.mark.parametrize("mistake", ["backbone", "metric", "arm", "searched arm", "artifact"])
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_tells(load, tmp_path, verb, mistake):
    setting, words = MISTAKES[mistake]
    with pytest.raises(ConfigError, match=words):
        VERBS[verb](load(setting))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["enhancer.toml", "items.csv"]


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ('backbone={use="auto", candidates=["als", "ease"]}',),
        ('backbone={use="auto"}', 'evaluation={arms=["none"], arm={a={fuser="none", backbone={regularisation=8.0}}}}'),
        ('evaluation={arms=["none", "prior", "text", "placebo"], baseline="placebo"}',),
        ('evaluation={arms=["none", "a"], arm={a={fuser="align", options={weight=0.5}, backbone={dim=8}}}}',),
        ("evaluation.search={trials=2, backbone={dim={low=4, high=8}}, fuser={align={weight={low=0.1, high=1.0}}}}",),
        ('evaluation={metrics=["auc"]}', 'data.columns.label="rating >= 4"'),
        ('prompts.item.source="text"', "llm.use=none-such"),
        ('backbone={use="auto"}', "evaluation.search.fuser.none-als={weight={low=0.1, high=1.0}}"),
        ("observers.none-such.enabled=false",),
        ("artifact=made/by/training",),
    ],
)
def test_what_is_right_passes(load, settings):
    check_settings(load(*settings).parts)


def test_auto_takes_options_of_its_candidates_alone(load):
    arm = 'evaluation={arms=["none"], arm={a={fuser="none", backbone={regularizatoin=8.0}}}}'
    with pytest.raises(
        ConfigError, match=r"\[evaluation.arm.a\] backbone: no candidate has an option 'regularizatoin'"
    ):
        check_settings(load('backbone={use="auto"}', arm).parts)


def test_an_artifact_that_is_there_is_no_mistake(load, tmp_path):
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "manifest.json").write_text("{}")
    check_settings(load().parts)


def test_defaults_are_no_mistakes_of_the_file(tmp_path):
    """Without the bundled plugins, the defaults name none that is installed; whoever needs one is told then."""
    (tmp_path / "enhancer.toml").write_text("")
    project = Project.load(tmp_path / "enhancer.toml", environ={}, plugins=load_plugins({"ENHANCER_PLUGINS": "none"}))
    check_settings(project.parts)
    with pytest.raises(PluginError, match="unknown backbone 'lightgcn'"):
        check_settings(project.parts, complete=True)


WITHOUT_TORCH = """
import importlib.util, sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"torch", "numba", "scipy", "optuna"}}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
import json
from enhancer.errors import EnhancerError
from enhancer.project import Project
from enhancer.project.settings_check import check_settings
project = Project.load({path!r})
found = [project.plan().to_json()["to_generate"]]
try:
    project.run()
except EnhancerError as error:
    found.append(str(error))
print(json.dumps(found))
"""


def test_plan_needs_no_extra_of_training_and_run_asks_for_it_first(load, tmp_path):
    load()
    (tmp_path / "enhancer.toml").write_text(f'{FILE}[evaluation]\narms = ["none", "align"]\n')
    done = run_python(WITHOUT_TORCH.format(path=str(tmp_path / "enhancer.toml")), ENHANCER_PLUGINS="enhancer")
    assert done.returncode == 0, done.stderr
    planned, refused = json.loads(done.stdout)
    assert planned == 2
    assert "backbone 'lightgcn'" in refused
    assert 'pip install "enhancer[' in refused


@pytest.mark.parametrize(
    "settings", [(), ("fuser.use=generate",), ("fuser.use=none", 'evaluation.arms=["none", "align"]')]
)
def test_a_fuser_that_does_not_fit_is_told_before_a_run_pays_and_one_that_fits_is_named(load, settings):
    planned = []
    with pytest.raises(FusionError, match=r"fuser '(align|generate)' needs .* which backbone 'als'") as caught:
        load("backbone.use=als", *settings).run(confirm=planned.append)
    assert 'fusers that fit: "prior" and "none"; or choose' in caught.value.hint
    assert "[backbone] use" in caught.value.hint
    assert not planned
    load("backbone.use=als", *settings).plan()  # who only generates needs no pair


def test_training_names_a_fuser_that_fits(load, tmp_path):
    with pytest.raises(FusionError) as caught:
        load("backbone.use=ease").train()
    assert caught.value.hint.startswith('fusers that fit: "none"; or choose')
    assert "another [backbone] scores" in caught.value.hint
    rows = "".join(f"u{user},{(user + item) % 9}\n" for user in range(20) for item in range(6))
    (tmp_path / "taken.csv").write_text(f"user_id,item_id\n{rows}")
    with pytest.raises(FusionError) as caught:
        load("data={interactions='taken.csv'}", "backbone.use=als", "prompts.user.source=pool").ablate()
    assert 'fusers that fit: "prior" and "none"; or choose' in caught.value.hint


def test_doctor_and_auto_name_fusers_that_fit(load, tmp_path):
    from enhancer.cli.app import main

    load()
    run = ["doctor", "--config", str(tmp_path / "enhancer.toml"), "--set", "fuser.use=generate"]
    for more in (["--set", "backbone.use=als"], ["--set", 'backbone={use="auto", candidates=["als", "popularity"]}']):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert main([*run, *more]) == 1
        assert 'fusers that fit: "prior" and "none"' in " ".join(out.getvalue().split())


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_given_in_python_has_the_same_bounds(load, seed):
    with pytest.raises(ConfigError, match=f"seed {seed} is not between 0 and"):
        load().train(seed=seed)
