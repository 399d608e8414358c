"""Read the vectors of each input once, and put those of several inputs side by side in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts.training import SemanticVectors, View

if TYPE_CHECKING:
    from enhancer.config.inputs import Input
    from enhancer.evaluation.running.vectors import Features


def read_once(features: Features) -> Features:
    """Wrap ``features`` so that it is called once for each input, however many combinations are asked for."""
    known: dict[Input, SemanticVectors] = {}

    def one(name: Input) -> SemanticVectors:
        if name not in known:
            known[name] = SemanticVectors(*features((name,)))
        return known[name]

    def side_by_side(inputs: tuple[Input, ...]) -> SemanticVectors:
        found = [one(name) for name in inputs]
        if len(found) == 1:
            return found[0]
        views, width = [], 0
        for name, each in zip(inputs, found, strict=True):
            views.append(View(name, width, width := width + each.items.shape[1]))
        users = [each.users for each in found if each.users is not None]
        return SemanticVectors(
            np.hstack(users) if len(users) == len(found) else None,
            np.hstack([each.items for each in found]),
            tuple(views),
        )

    return side_by_side
