from typing import ClassVar

from enhancer.testing.fuser import FuserConformance
from enhancer_plugins.backbones.fm import FM
from enhancer_plugins.backbones.lightgcn import LightGCN
from enhancer_plugins.fusers.align import Align
from enhancer_plugins.fusers.concat import Concat
from enhancer_plugins.fusers.none import NoFusion

SHORT = {"epochs": 12, "batch_size": 256, "learning_rate": 0.05}
BACKBONES = {"lightgcn": (LightGCN, SHORT), "fm": (FM, SHORT)}


class TestNone(FuserConformance):
    fuser_class = NoFusion
    backbones: ClassVar = BACKBONES
    places = False


class TestConcat(FuserConformance):
    fuser_class = Concat
    backbones: ClassVar = BACKBONES


class TestProjectedConcat(FuserConformance):
    fuser_class = Concat
    options: ClassVar = {"projection": 64}
    backbones: ClassVar = BACKBONES


class TestAlign(FuserConformance):
    fuser_class = Align
    backbones: ClassVar = BACKBONES
