"""Join ids that two tables spell otherwise: ``1.0`` for ``1`` after a data frame, ``7`` for ``007`` in a spreadsheet.

Ids are text, and ``7`` and ``07`` may well be two items. They are taken for one only where nothing is lost by it: each
unknown spelling belongs to one known id, no two spellings to the same, and the known spelling itself does not occur
beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

_NUMBER = re.compile(r"0*([0-9]+)(?:\.0+)?")
_MAX_EXAMPLES = 3
_MAX_REMEMBERED = 1_000_000
"""Unknown ids that are remembered as such."""


def plain_number(name: str) -> str | None:
    """Return an id that is a whole number without leading zeros and decimals; None for any other id.

    >>> plain_number("007"), plain_number("7.0"), plain_number("7"), plain_number("7.5"), plain_number("x7")
    ('7', '7', '7', None, None)
    """
    match = _NUMBER.fullmatch(name)
    return None if match is None else match[1]


@dataclass(frozen=True)
class Respelt:
    """Ids of one table that another table spells otherwise."""

    ids: int = 0
    examples: tuple[tuple[str, str], ...] = ()
    """First few of them: the spelling that was read, and the known one."""
    joined: bool = True
    """Whether they were taken for the same."""
    known: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Known spelling of each id that was joined."""

    def words(self, what: str, where: str) -> str:
        """Describe them in one sentence, without a full stop.

        Args:
            what: What they are ids of: ``items``.
            where: Where the known spelling is from.
        """
        shown = ", ".join(f"{read!r} for {known!r}" for read, known in self.examples)
        told = f"{self.ids:,} {what} are spelt otherwise than in {where} (such as {shown})"
        if self.joined:
            return f"{told}: taken for the same"
        return f"{told}: not taken for the same; write them alike"


NONE_RESPELT = Respelt()
"""No id is spelt otherwise."""


class FixedRows(dict[str, int]):
    """Row numbers of known ids; -1 for unknown ones. Look-ups of known ids never leave C.

    An unknown id that is another spelling of one known id gets a row number of its own, beyond those of the known ids,
    until :meth:`settle` decides about all of them.

    Args:
        names: The known ids.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        super().__init__((name, n) for n, name in enumerate(self.names))
        self._respelt: list[tuple[str, int]] = []
        self._others: dict[str, list[int]] | None = None

    def __missing__(self, name: str) -> int:
        number = plain_number(name)
        known = () if number is None else self._spellings(number)
        row = -1
        if len(known) == 1:
            row = len(self.names) + len(self._respelt)
            self._respelt.append((name, known[0]))
        if row >= 0 or len(self) < len(self.names) + _MAX_REMEMBERED:
            self[name] = row  # the next look-up is as fast as one of a known id
        return row

    def likely(self, name: str) -> int:
        """Return the row of the known id that an id is, however it is spelt; -1 if there is none.

        It may be the wrong one, so something else has to confirm it.
        """
        row = self[name]
        return row if row < len(self.names) else self._respelt[row - len(self.names)][1]

    def settle(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], Respelt]:
        """Replace the row numbers of other spellings by those of the known ids, or by -1 if anything would be lost.

        Args:
            rows: int32 ``[n]``: row numbers that look-ups returned, none below 0.

        Returns:
            int32 ``[n]``, and what was found.
        """
        if not self._respelt:
            return rows, NONE_RESPELT
        places, respelt = self.places(rows)
        return places[rows], respelt

    def places(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], Respelt]:
        """Return what :meth:`settle` replaces each row number by, int32 ``[m]``, and what was found.

        Args:
            rows: int32 ``[n]``: all row numbers that look-ups returned, none below 0.
        """
        known = len(self.names)
        used = np.bincount(rows, minlength=known + len(self._respelt)) > 0
        found = [one for n, one in enumerate(self._respelt) if used[known + n]]
        targets = [row for _, row in found]
        joined = len({*targets}) == len(targets) and not used[targets].any() if targets else True
        places = np.concatenate([np.arange(known), [row if joined else -1 for _, row in self._respelt]])
        examples = tuple((name, self.names[row]) for name, row in found[:_MAX_EXAMPLES])
        known_as = {name: self.names[row] for name, row in found} if joined else {}
        return places.astype(np.int32), Respelt(len(found), examples, joined=bool(joined), known=known_as)

    def _spellings(self, number: str) -> Sequence[int]:
        """Return the rows of the known ids that are this number."""
        if self._others is None:
            self._others = {}
            for row, name in enumerate(self.names):
                if (name[:1] == "0" or "." in name) and (plain := plain_number(name)) not in (None, name):
                    self._others.setdefault(str(plain), []).append(row)
        own = self.get(number, -1)
        return [*self._others.get(number, ()), *([own] if 0 <= own < len(self.names) else [])]


def respelt_of(names: Iterable[str], known: Sequence[str]) -> Respelt:
    """Return which of some ids are unknown and are other spellings of known ones; none of them is joined.

    Args:
        names: The ids.
        known: The known ids.
    """
    rows = FixedRows(known)
    found = [(name, known[rows.likely(name)]) for name in dict.fromkeys(names) if rows[name] >= len(known)]
    return Respelt(len(found), tuple(found[:_MAX_EXAMPLES]), joined=False)
