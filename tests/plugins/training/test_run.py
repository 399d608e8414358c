from dataclasses import replace

import pytest

from enhancer.contracts import Context
from enhancer.errors import FusionError
from enhancer.testing.backbone import planted
from enhancer_plugins.fusers.align import Align, AlignOptions
from enhancer_plugins.training.run import check_data


@pytest.mark.parametrize(("kind", "mend"), [("user", '[prompts.user] source = "pool"'), ("item", "enhancer generate")])
def test_vectors_that_are_missing_say_what_brings_them(kind, mend):
    data = replace(planted().data, **{f"{kind}_vectors": None})
    with pytest.raises(FusionError, match=f"needs {kind} vectors and there are none") as refused:
        check_data(data, Align(AlignOptions(), Context()))
    assert mend in refused.value.hint
