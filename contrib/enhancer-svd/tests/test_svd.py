"""Tests of the backbone: the conformance suite, and the decomposition."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import ClassVar

import enhancer_svd
import numpy as np
import pytest
from enhancer_svd.backbone import SVD, SVDOptions
from enhancer_svd.fuser import Retrofit

from enhancer.contracts import Context
from enhancer.errors import ConfigError, FusionError
from enhancer.plugin_host import PluginManager
from enhancer.testing.backbone import BackboneConformance
from enhancer.testing.planted import PlainFuser, RecordingMonitor, planted
from enhancer_plugins.fusers.align import Align, AlignOptions
from enhancer_plugins.fusers.none import NoFusion
from enhancer_plugins.fusers.prior import Prior


class TestConformance(BackboneConformance):
    backbone_class = SVD
    options: ClassVar = {"dim": 4}
    fusers: ClassVar = {"none": (NoFusion, {}), "prior": (Prior, {}), "retrofit": (Retrofit, {})}


def create(kind: str, name: str, **options: object):
    manager = PluginManager()
    manager.register(enhancer_svd, distribution="enhancer-svd")
    return manager.create(kind, name, options, Context())


@pytest.mark.parametrize("dim", [3, 49, 500])
def test_scores_are_those_of_the_best_approximation(dim):
    case = planted()
    fitted = SVD(SVDOptions(dim=dim), Context()).fit_checked(
        case.data, PlainFuser(), seed=0, monitor=RecordingMonitor()
    )
    u, s, v = np.linalg.svd(case.known.astype(float), full_matrices=False)
    expected = (u[:, :dim] * s[:dim]) @ v[:dim]
    users, items = case.known.any(1), case.known.any(0)
    scores = fitted.factors.users @ fitted.factors.items.T
    np.testing.assert_allclose(scores[users][:, items], expected[users][:, items], atol=1e-5)


def test_a_fuser_that_acts_on_training_is_refused_by_name():
    with pytest.raises(
        FusionError, match=r"fuser 'Align' needs a further loss .* backbone 'svd' does not offer"
    ) as refused:
        create("backbone", "svd").fit_checked(
            planted().data, Align(AlignOptions(), Context()), seed=0, monitor=RecordingMonitor()
        )
    assert refused.value.hint == "choose another pair of [fuser] use and [backbone] use"


def test_unknown_options_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"\[backbone\] unknown key 'dims'; did you mean 'dim'"):
        create("backbone", "svd", dims=3)


@pytest.mark.parametrize("fuser", ["enhancer_plugins.fusers.none:NoFusion", "enhancer_plugins.fusers.prior:Prior"])
def test_a_run_needs_neither_torch_nor_numba(fuser):
    module, name = fuser.split(":")
    program = f"""
import sys
from enhancer.contracts import Context
from enhancer_svd.backbone import SVD, SVDOptions
from {module} import {name}, {name}Options
from enhancer.testing.planted import RecordingMonitor, planted
fuser = {name}({name}Options(), Context())
fitted = SVD(SVDOptions(dim=4), Context()).fit_checked(planted().data, fuser, seed=0, monitor=RecordingMonitor())
print((fitted.place_items is not None) is fuser.uses_semantics, {{"torch", "numba"}} & set(sys.modules))
"""
    path = os.pathsep.join([os.environ["PYTHONPATH"], *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout == "True set()\n"
