from typing import ClassVar

from enhancer.testing.fuser import FuserConformance
from enhancer_plugins.backbones.fm import FM
from enhancer_plugins.backbones.lightgcn import LightGCN
from enhancer_plugins.fusers.adapter import Adapter
from enhancer_plugins.fusers.align import Align
from enhancer_plugins.fusers.concat import Concat
from enhancer_plugins.fusers.extrapolate import Extrapolate
from enhancer_plugins.fusers.generate import Generate
from enhancer_plugins.fusers.none import NoFusion
from enhancer_plugins.fusers.prior import Prior
from enhancer_plugins.fusers.semantic import Semantic

SHORT = {"epochs": 12, "batch_size": 256, "learning_rate": 0.05}
BACKBONES = {"lightgcn": (LightGCN, SHORT), "fm": (FM, SHORT)}
# If ids learn ten times faster than the experts, the experts explain nothing, and cold items are placed at random.
EVEN = {**SHORT, "learning_rate": 0.005}


class TestNone(FuserConformance):
    fuser_class = NoFusion
    backbones: ClassVar = BACKBONES
    places = False


class TestConcat(FuserConformance):
    fuser_class = Concat
    backbones: ClassVar = BACKBONES


class TestProjectedConcat(FuserConformance):
    fuser_class = Concat
    options: ClassVar = {"projection": 16}
    backbones: ClassVar = BACKBONES


class TestAlign(FuserConformance):
    fuser_class = Align
    backbones: ClassVar = BACKBONES


class TestGenerate(FuserConformance):
    fuser_class = Generate
    backbones: ClassVar = BACKBONES


class TestAdapter(FuserConformance):
    fuser_class = Adapter
    options: ClassVar = {"columns": 16, "hidden": 32, "learning_rate": 0.01}
    backbones: ClassVar = {"lightgcn": (LightGCN, EVEN), "fm": (FM, SHORT)}


class TestSemantic(FuserConformance):
    fuser_class = Semantic
    options: ClassVar = {"negatives": 16, "learning_rate": 0.01}
    backbones: ClassVar = BACKBONES


class TestExtrapolate(FuserConformance):
    fuser_class = Extrapolate
    options: ClassVar = {"learning_rate": 0.01, "reshape": 0.5, "retrieve": 0.1}
    backbones: ClassVar = {"lightgcn": (LightGCN, SHORT)}


class TestPrior(FuserConformance):
    fuser_class = Prior
    backbones: ClassVar = BACKBONES
