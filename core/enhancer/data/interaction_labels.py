"""Derive 0/1 labels of interactions from a column of labels or a bound on a numeric column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from enhancer.data.readers.table_reader import TableReader

_BOUND = re.compile(r"\s*(?P<column>.*?)\s*(?P<sign>>=|>)\s*(?P<number>[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")
_LABEL_VALUES = {"1": 1.0, "0": 0.0, "true": 1.0, "false": 0.0, "1.0": 1.0, "0.0": 0.0}


@dataclass(frozen=True)
class LabelRule:
    """Rule that turns a column into labels.

    >>> LabelRule("rating", 4.0).from_numbers(np.array([3.0, 4.0, 5.0])).tolist()
    [0.0, 1.0, 1.0]
    """

    column: str
    bound: float | None = None
    """Lowest number with label 1; None if the column holds labels."""
    exclusive: bool = False
    """Whether a number equal to the bound has label 0."""

    def from_numbers(self, numbers: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return 1 for numbers that reach the bound, else 0."""
        assert self.bound is not None
        return (numbers > self.bound if self.exclusive else numbers >= self.bound).astype(np.float32)

    def from_text(self, values: list[str], make_error: Callable[[int, str], Exception]) -> NDArray[np.float32]:
        """Parse 0, 1, ``true`` and ``false``.

        Args:
            values: Texts to parse.
            make_error: Returns the error to raise for a position and a message.
        """
        labels = [_LABEL_VALUES.get(value) for value in values]
        if None in labels:
            labels = [_LABEL_VALUES.get(value.strip().lower()) for value in values]
            for n, value in enumerate(labels):
                if value is None:
                    shown = values[n] if len(values[n]) <= 40 else values[n][:39] + "…"
                    raise make_error(n, f"{shown!r} is not a label: use 0, 1, true or false")
        return np.array(labels, np.float32)


def parse_label_rule(text: str, table: TableReader) -> LabelRule:
    """Parse ``[data.columns] label``: the name of a column, or ``COLUMN >= NUMBER``.

    Raises:
        ConfigError: The column does not exist, or the number is invalid.
    """
    if text.strip() in table.columns:
        return LabelRule(text.strip())
    match = _BOUND.fullmatch(text)
    if match is None:
        if any(sign in text for sign in "<>="):
            raise ConfigError(
                f"[data.columns] label = {text!r} is neither a column of {table.path} nor a bound",
                hint="a bound is written 'rating >= 4' or 'rating > 3'",
            )
        return LabelRule(table.require(text.strip(), "label"))
    try:
        bound = float(match["number"])
    except ValueError:
        raise ConfigError(f"[data.columns] label: {match['number']!r} is not a number") from None
    return LabelRule(table.require(match["column"], "label"), bound, match["sign"] == ">")
