"""Checks of a fuser's vectors and of its declared needs."""

from dataclasses import replace

import pytest

from enhancer.contracts import Context, Fuser, Fusion, Options
from enhancer.contracts.fuser import Batch, TrainingStep
from enhancer.errors import FusionError, PluginError
from enhancer.testing.planted import PlainFuser, RecordingMonitor, planted
from enhancer_plugins.backbones.fm import FM, FMOptions
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.align import Align, AlignOptions

OVERRIDES = {
    "inputs": "input",
    "loss": "loss",
    "embeddings": "embeddings",
    "ranking_loss": "ranking",
    "settle": "served",
}


def fuser_of(fusion, *needs):
    class Mine(Fuser):
        uses_semantics = False

        def build(self, data, dim, *, seed, device):
            return fusion

    made = Mine(Options(), Context())
    made.needs, made.plugin_name = frozenset(needs), "mine"
    return made


@pytest.mark.parametrize(("kind", "mend"), [("user", '[prompts.user] source = "pool"'), ("item", "enhancer generate")])
def test_an_error_about_missing_vectors_says_how_to_get_them(kind, mend):
    data = replace(planted().data, **{f"{kind}_vectors": None})
    with pytest.raises(FusionError, match=f"fuser 'Align' needs {kind} vectors and there are none") as refused:
        Align(AlignOptions(), Context()).check_vectors(data)
    assert mend in refused.value.hint


@pytest.mark.parametrize(("method", "need"), OVERRIDES.items())
def test_an_override_without_its_need_is_refused(method, need):
    fusion = type("Mine", (Fusion,), {method: lambda *_: None})()
    with pytest.raises(PluginError, match=f"fuser 'mine': its fusion overrides {method}.*; add '{need}' to needs"):
        fuser_of(fusion).build_checked(planted().data, 8, seed=0)
    assert fuser_of(fusion, need).build_checked(planted().data, 8, seed=0) is fusion


@pytest.mark.parametrize(("method", "need"), OVERRIDES.items())
def test_a_need_without_its_override_is_refused(method, need):
    with pytest.raises(PluginError, match=f"fuser 'mine': needs contains '{need}', but .* not override {method}"):
        fuser_of(Fusion(), need).build_checked(planted().data, 8, seed=0)


@pytest.mark.parametrize("backbone", [LightGCN(LightGCNOptions(epochs=1), Context()), FM(FMOptions(), Context())])
def test_a_fuser_that_forgets_its_needs_is_not_trained_in_silence(backbone):
    fusion = Fusion()
    fusion.loss = lambda step: None
    with pytest.raises(PluginError, match="overrides loss"):
        backbone.fit_checked(planted().data, fuser_of(fusion), seed=0, monitor=RecordingMonitor())


def test_advice_names_options_that_the_backbone_has():
    needy = fuser_of(Fusion(), "ranking")
    with pytest.raises(FusionError, match=r"fuser 'mine' needs .* which backbone 'FM' does not offer") as refused:
        needy.check(FM(FMOptions(), Context()))
    assert "[backbone] loss" in refused.value.hint
    assert "layers" not in refused.value.hint


def test_a_need_beyond_the_overrides_is_allowed():
    """A fuser may need propagation without overriding any method for it."""
    assert fuser_of(Fusion(), "propagation").build_checked(planted().data, 8, seed=0)


def test_the_former_name_of_a_step_still_works():
    assert Batch is TrainingStep
    assert PlainFuser().display_name == "fuser 'PlainFuser'"
