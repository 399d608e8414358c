"""``unseen_length`` scales placed rows and changes nothing else."""

import numpy as np
import pytest

from enhancer.contracts import Context
from enhancer.testing.planted import RecordingMonitor, planted
from enhancer_plugins.backbones.fm import FM, FMOptions
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.align import Align, AlignOptions
from enhancer_plugins.fusers.generate import Generate, GenerateOptions
from enhancer_plugins.fusers.prior import Prior, PriorOptions
from enhancer_plugins.fusers.semantic import Semantic, SemanticOptions

LIGHTGCN, MACHINE = (LightGCN, LightGCNOptions), (FM, FMOptions)


@pytest.mark.parametrize(
    ("backbone", "fuser", "options", "more"),
    [
        (LIGHTGCN, Prior, PriorOptions, {}),
        (LIGHTGCN, Align, AlignOptions, {}),
        (LIGHTGCN, Align, AlignOptions, {"unseen": "mlp"}),
        (LIGHTGCN, Generate, GenerateOptions, {}),
        (LIGHTGCN, Semantic, SemanticOptions, {}),
        (MACHINE, Prior, PriorOptions, {}),
        (MACHINE, Align, AlignOptions, {}),
    ],
)
def test_unseen_length_lengthens_what_is_placed_alone(backbone, fuser, options, more):
    case, (backbone_class, backbone_options) = planted(), backbone
    found = []
    for length in (1.0, 1.5):
        made = backbone_class(backbone_options(dim=16, epochs=2, batch_size=256), Context())
        fusion = fuser(options(**more, unseen_length=length), Context())
        found.append(made.fit_checked(case.data, fusion, seed=0, monitor=RecordingMonitor()))
    one, longer = (fitted.factors.items for fitted in found)
    warm = np.bincount(case.data.items, minlength=case.data.n_items) > 0
    np.testing.assert_array_equal(one[warm], longer[warm])
    own = 16  # bias columns of a factorisation machine follow the embedding and are not scaled
    np.testing.assert_allclose(longer[case.cold_items, :own], 1.5 * one[case.cold_items, :own], rtol=1e-5)
    np.testing.assert_array_equal(longer[case.cold_items, own:], one[case.cold_items, own:])
    again = found[1].place_items(case.data.item_vectors[case.cold_items])
    np.testing.assert_allclose(again, longer[case.cold_items], rtol=1e-5, atol=1e-6)
