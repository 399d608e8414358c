"""Options of a regression from vectors to embeddings, for fusers that place unseen entities by one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from enhancer.contracts import Options


class RegressionOptions(Options):
    """Form, penalty and weights of the regression."""

    ridge: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Penalty of the regression, as a multiple of the mean variance of a column of the vectors (of a kernel: of the
    mean similarity of an entity to itself). ``"auto"`` takes the one with the smallest leave-one-out error."""
    regression: Literal["kernel", "linear"] = "kernel"
    """``"linear"``: in the vectors. ``"kernel"``: linear in similarities to trained entities, which are added up over
    inputs; with more than 32,768 trained entities it is linear in the vectors, too."""
    sample_spread: bool = False
    """Whether items whose notes have several samples that disagree count less in the regression, and are placed nearer
    to the mean, by as much as leave-one-out finds right. Without samples nothing changes."""
    views: Literal["equal", "gate"] = "equal"
    """``"equal"``: the regression gives all inputs the same weight. ``"gate"``: weights with a small leave-one-out
    error, 0 for an input that explains nothing beside the others, and for unseen items weights that rank best on
    validation."""
