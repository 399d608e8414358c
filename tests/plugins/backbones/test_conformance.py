from typing import ClassVar

from enhancer.testing.backbone import BackboneConformance, IterativeBackboneConformance
from enhancer_plugins.backbones.als import ALS
from enhancer_plugins.backbones.ease import EASE
from enhancer_plugins.backbones.fm import FM
from enhancer_plugins.backbones.lightgcn import LightGCN
from enhancer_plugins.backbones.popularity import Popularity
from enhancer_plugins.fusers.align import Align
from enhancer_plugins.fusers.concat import Concat
from enhancer_plugins.fusers.none import NoFusion
from enhancer_plugins.fusers.prior import Prior

FUSERS = {
    "none": (NoFusion, {}),
    "concat": (Concat, {}),
    "projected": (Concat, {"projection": 16}),
    "align": (Align, {}),
}


class TestALS(BackboneConformance):
    backbone_class = ALS
    options: ClassVar = {"epochs": 6, "dim": 16}
    fusers: ClassVar = {"none": FUSERS["none"], "prior": (Prior, {})}


class TestEASE(BackboneConformance):
    backbone_class = EASE
    fusers: ClassVar = {"none": FUSERS["none"]}


class TestEASEOfLowRank(BackboneConformance):
    backbone_class = EASE
    options: ClassVar = {"scores": "low-rank", "rank": 12}
    fusers: ClassVar = {"none": FUSERS["none"], "prior": (Prior, {})}


class TestPopularity(BackboneConformance):
    backbone_class = Popularity
    personalised = False
    fusers: ClassVar = {"none": FUSERS["none"], "prior": (Prior, {})}


class TestLightGCN(IterativeBackboneConformance):
    backbone_class = LightGCN
    options: ClassVar = {"epochs": 6, "eval_every": 2, "batch_size": 256}
    learning_options: ClassVar = {"epochs": 15}
    fusers: ClassVar = FUSERS


class TestFM(IterativeBackboneConformance):
    backbone_class = FM
    options: ClassVar = {"epochs": 6, "eval_every": 2, "batch_size": 256}
    learning_options: ClassVar = {"epochs": 15, "learning_rate": 0.05}
    fusers: ClassVar = FUSERS


class TestLightGCNBySoftmax(IterativeBackboneConformance):
    backbone_class = LightGCN
    options: ClassVar = {"epochs": 6, "eval_every": 2, "batch_size": 256, "loss": "softmax", "similarity": "cosine"}
    learning_options: ClassVar = {"epochs": 15, "loss": "softmax", "similarity": "cosine"}
    fusers: ClassVar = {"none": FUSERS["none"], "align": FUSERS["align"]}


class TestLightGCNByMultinomial(IterativeBackboneConformance):
    backbone_class = LightGCN
    options: ClassVar = {"epochs": 6, "eval_every": 2, "loss": "multinomial"}
    learning_options: ClassVar = {"epochs": 60, "loss": "multinomial"}
    fusers: ClassVar = {"none": FUSERS["none"], "concat": FUSERS["concat"]}


class TestFMBySoftmax(IterativeBackboneConformance):
    backbone_class = FM
    options: ClassVar = {"epochs": 6, "eval_every": 2, "batch_size": 256, "loss": "softmax"}
    learning_options: ClassVar = {"epochs": 15, "learning_rate": 0.05, "loss": "softmax"}
    fusers: ClassVar = {"none": FUSERS["none"], "concat": FUSERS["concat"]}


class TestFMOnClicks(IterativeBackboneConformance):
    backbone_class = FM
    options: ClassVar = {"epochs": 6, "eval_every": 2, "batch_size": 256, "loss": "log"}
    learning_options: ClassVar = {"epochs": 15, "learning_rate": 0.05}
    fusers: ClassVar = {"concat": FUSERS["concat"], "align": FUSERS["align"]}
