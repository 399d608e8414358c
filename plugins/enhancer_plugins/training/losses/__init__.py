"""Loss functions.

- :mod:`~enhancer_plugins.training.losses.bpr`: Bayesian personalised ranking;
- :mod:`~enhancer_plugins.training.losses.contrast`: InfoNCE over distinct rows;
- :mod:`~enhancer_plugins.training.losses.softmax`: sampled softmax;
- :mod:`~enhancer_plugins.training.losses.multinomial`: multinomial likelihood over all items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.lazy_face import lazy_face

if TYPE_CHECKING:
    from enhancer_plugins.training.losses.bpr import bpr_loss as bpr_loss, bpr_reference as bpr_reference
    from enhancer_plugins.training.losses.contrast import (
        Term as Term,
        info_nce as info_nce,
        info_nce_sum as info_nce_sum,
    )

__getattr__, __dir__, __all__ = lazy_face(
    __name__,
    {
        "enhancer_plugins.training.losses.bpr": "bpr_loss bpr_reference",
        "enhancer_plugins.training.losses.contrast": "Term info_nce info_nce_sum",
    },
)
