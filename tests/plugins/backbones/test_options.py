"""Options that the loss does not use are refused, with the place where the user set them."""

import pytest

from enhancer import Project
from enhancer.config import Settings
from enhancer.contracts import Context
from enhancer.contracts.options import build_options
from enhancer.errors import ConfigError
from enhancer.evaluation import resolve_arms
from enhancer_plugins.backbones.fm import FM, FMOptions
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions

LIGHTGCN, MACHINE = (LightGCN, LightGCNOptions), (FM, FMOptions)


@pytest.mark.parametrize(
    ("backbone", "options", "says"),
    [
        (LIGHTGCN, {"temperature": 0.2}, r"temperature = 0.2 requires loss = 'softmax' or 'multinomial'"),
        (
            LIGHTGCN,
            {"similarity": "cosine"},
            r"similarity = 'cosine' requires loss = 'softmax' or 'multinomial'",
        ),
        (LIGHTGCN, {"negatives": 256}, r"negatives = 256 requires loss = 'softmax', but loss is 'bpr'"),
        (LIGHTGCN, {"in_batch": True}, r"in_batch = True requires loss = 'softmax'"),
        (LIGHTGCN, {"loss": "multinomial", "negatives": 64}, r"negatives = 64 .* but loss is 'multinomial'"),
        (LIGHTGCN, {"loss": "multinomial", "in_batch": True}, r"in_batch = True .* but loss is 'multinomial'"),
        (MACHINE, {"temperature": 0.2}, r"temperature = 0.2 requires loss = 'softmax', but loss is 'bpr'"),
        (MACHINE, {"loss": "log", "temperature": 0.2}, r"temperature = 0.2 .* but loss is 'log'"),
        (MACHINE, {"loss": "log", "negatives": 9}, r"negatives = 9 .* but loss is 'log'"),
        (MACHINE, {"loss": "log", "in_batch": True}, r"in_batch = True .* but loss is 'log'"),
    ],
)
def test_an_option_of_another_loss_is_refused(backbone, options, says):
    plugin, of = backbone
    with pytest.raises(ConfigError, match=rf"^\[backbone\] {says}.*it would be ignored: remove it"):
        plugin(of(**options), Context())
    with pytest.raises(ConfigError, match=rf"^\[here\] {says}"):  # and also when options are built, as in every command
        build_options(of, options, where="[here]")


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        (LIGHTGCN, {"loss": "softmax", "temperature": 0.2, "negatives": 9, "in_batch": True, "similarity": "cosine"}),
        (LIGHTGCN, {"loss": "multinomial", "temperature": 0.2, "similarity": "cosine"}),
        (MACHINE, {"loss": "softmax", "temperature": 0.2, "negatives": 9, "in_batch": True}),
        # A value that has the same meaning for every loss may be set.
        (LIGHTGCN, {"loss": "bpr", "temperature": None, "in_batch": False, "similarity": "dot"}),
        (MACHINE, {"loss": "log", "temperature": None, "in_batch": False, "similarity": "dot"}),
    ],
)
def test_options_of_the_loss_itself_are_taken(backbone, options):
    plugin, of = backbone
    assert plugin(build_options(of, options, where="[backbone]"), Context()).options.loss == options["loss"]


def test_a_machine_refuses_a_cosine_by_any_loss_in_the_same_words():
    for loss in ("bpr", "softmax"):
        with pytest.raises(ConfigError, match="not possible for a factorisation machine"):
            FM(FMOptions(loss=loss, similarity="cosine"), Context())


def test_layers_that_all_weigh_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"layer_weights are all zero.*set at least one weight"):
        LightGCN(LightGCNOptions(layer_weights=[0, 0, 0, 0]), Context())
    LightGCN(LightGCNOptions(layer_weights=[0, 0, 0, 1]), Context())


class TestAnArm:
    """``[evaluation.arm.NAME] backbone`` overrides ``[backbone]``."""

    def backbone(self, tmp_path, base, changes):
        settings = Settings.model_validate(
            {
                "backbone": {"use": "lightgcn", **base},
                "fuser": {"use": "none"},
                "evaluation": {"arms": ["none", "mine"], "arm": {"mine": {"fuser": "none", "backbone": changes}}},
            }
        )
        project = Project(settings, tmp_path)
        project.parts.chosen.check_options()
        return project.parts.backbone(resolve_arms(settings)[1]).options

    def test_that_changes_the_loss_leaves_behind_what_the_base_set_for_its_own(self, tmp_path):
        base = {
            "loss": "softmax",
            "similarity": "cosine",
            "temperature": 0.3,
            "negatives": 32,
            "in_batch": True,
            "dim": 8,
        }
        mine = self.backbone(tmp_path, base, {"loss": "bpr"})
        assert mine == LightGCNOptions(loss="bpr", dim=8)
        mine = self.backbone(tmp_path, base, {"loss": "multinomial"})
        assert mine == LightGCNOptions(loss="multinomial", dim=8, similarity="cosine", temperature=0.3)

    def test_that_keeps_the_loss_keeps_its_options(self, tmp_path):
        mine = self.backbone(tmp_path, {"loss": "softmax", "negatives": 32}, {"temperature": 0.3})
        assert (mine.negatives, mine.temperature) == (32, 0.3)

    def test_is_refused_what_it_sets_itself_in_vain(self, tmp_path):
        with pytest.raises(ConfigError, match=r"^\[evaluation.arm.mine\] backbone: negatives = 9 requires"):
            self.backbone(tmp_path, {"loss": "softmax"}, {"loss": "bpr", "negatives": 9})
        with pytest.raises(ConfigError, match=r"^\[evaluation.arm.mine\] backbone: unknown key 'negative'"):
            self.backbone(tmp_path, {"loss": "softmax"}, {"loss": "bpr", "negative": 9})

    def test_does_not_hide_what_the_base_sets_in_vain(self, tmp_path):
        with pytest.raises(ConfigError, match=r"^\[backbone\] negatives = 9 requires"):
            self.backbone(tmp_path, {"negatives": 9}, {"loss": "softmax"})
