"""Options of ``[serving]``."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from enhancer.contracts.options import Options


class ServingConfig(Options):
    """``[serving]``: what the served model learns from, and the share of lists that new items get."""

    explore: float = Field(default=0.0, ge=0, le=1)
    """Share of all places in lists that new items get, whatever their scores; see
    :mod:`enhancer.serving.new_items`."""
    new_items_cap: float | None = Field(default=None, ge=0, le=1)
    """Largest share of a list that is new items. By default there is no limit without ``explore``, and with it new
    items get the promised places alone."""
    refit: bool = True
    """Whether the served model is fitted once more after it is tested, on all interactions, with the epochs and options
    that validation chose. Lists then leave out every item that a user has; without it, those of the training part."""

    @model_validator(mode="after")
    def _cap_is_not_below_the_promise(self) -> Self:
        if self.new_items_cap is not None and self.new_items_cap < self.explore:
            raise ValueError(f"new_items_cap = {self.new_items_cap:g} is below explore = {self.explore:g}: raise it")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """The shares that are set, by name; the others are those of the artifact."""
        chosen = self.model_dump(include={"explore", "new_items_cap"}, exclude_none=True)
        return {name: value for name, value in chosen.items() if name in self.model_fields_set}
