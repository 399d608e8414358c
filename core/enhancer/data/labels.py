"""Which interactions were good ones: a column of 0 and 1, or a bound on a column of numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from enhancer.data.readers import Table

_BOUND = re.compile(r"\s*(?P<column>.*?)\s*(?P<sign>>=|>)\s*(?P<number>[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")
_SAID = {"1": 1.0, "0": 0.0, "true": 1.0, "false": 0.0, "1.0": 1.0, "0.0": 0.0}


@dataclass(frozen=True)
class Label:
    """How a label is read from a column.

    >>> Label("rating", 4.0).of_numbers(np.array([3.0, 4.0, 5.0])).tolist()
    [0.0, 1.0, 1.0]
    """

    column: str
    bound: float | None = None
    """Good from here on; None where the column says 0 or 1 itself."""
    above: bool = False
    """Good only above the bound."""

    def of_numbers(self, numbers: NDArray[np.floating]) -> NDArray[np.float32]:
        """1 where a number reaches the bound, else 0."""
        assert self.bound is not None
        return (numbers > self.bound if self.above else numbers >= self.bound).astype(np.float32)

    def of_words(self, values: list[str], fault: Callable[[int, str], Exception]) -> NDArray[np.float32]:
        """0 and 1, ``true`` and ``false``; of anything else ``fault`` (place and words) makes the error."""
        found = [_SAID.get(value) for value in values]
        if None in found:
            found = [_SAID.get(value.strip().lower()) for value in values]
            for n, value in enumerate(found):
                if value is None:
                    shown = values[n] if len(values[n]) <= 40 else values[n][:39] + "…"
                    raise fault(n, f"{shown!r} is no label: 0, 1, true or false")
        return np.array(found, np.float32)


def find_label(text: str, table: Table) -> Label:
    """Read ``[data.columns] label``: the name of a column, or ``COLUMN >= NUMBER``.

    Raises:
        ConfigError: There is no such column, or the number is none.
    """
    if text.strip() in table.columns:
        return Label(text.strip())
    match = _BOUND.fullmatch(text)
    if match is None:
        if any(sign in text for sign in "<>="):
            raise ConfigError(
                f"[data.columns] label = {text!r} is neither a column of {table.path} nor a bound",
                hint="a bound is written 'rating >= 4' or 'rating > 3'",
            )
        return Label(table.require(text.strip(), "label"))
    try:
        bound = float(match["number"])
    except ValueError:
        raise ConfigError(f"[data.columns] label: {match['number']!r} is no number") from None
    return Label(table.require(match["column"], "label"), bound, match["sign"] == ">")
