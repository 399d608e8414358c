"""Costs of stored records: as recorded, by their tokens and a price, or as estimated. An unknown cost is never 0.

>>> from enhancer.contracts.llm import Price
>>> prices = RecordPrices(Price(input=0.15, output=0.6))
>>> round(prices.cost(usd=None, prompt_tokens=200, completion_tokens=100).usd, 6)
9e-05
>>> RecordPrices(None).cost(usd=None, prompt_tokens=200, completion_tokens=100).usd is None
True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.llm import Price
    from enhancer.contracts.record import Kind, Record
    from enhancer.contracts.store import FeatureStore

    EstimateTokens = Callable[[Record], tuple[float, float] | None]
    """Function from a record to its expected prompt and completion tokens; None if it cannot tell."""

_CHUNK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of some records. Costs add up; a sum with an unknown part is unknown."""

    records: int = 0
    usd: float | None = 0.0
    """None if that of any record is unknown."""
    prompt_tokens: float | None = 0.0
    completion_tokens: float | None = 0.0
    priced: int = 0
    """Records whose cost is their recorded tokens times a price."""
    estimated: int = 0
    """Records whose tokens are estimates, too."""

    @property
    def tokens(self) -> float | None:
        """Prompt and completion tokens together; None if those of any record are unknown."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            records=self.records + other.records,
            usd=_sum(self.usd, other.usd),
            prompt_tokens=_sum(self.prompt_tokens, other.prompt_tokens),
            completion_tokens=_sum(self.completion_tokens, other.completion_tokens),
            priced=self.priced + other.priced,
            estimated=self.estimated + other.estimated,
        )

    def to_json(self) -> dict[str, Any]:
        """Return cost, tokens and how they are known, as JSON values."""
        return {
            "cost_usd": self.usd,
            "tokens": None if self.tokens is None else round(self.tokens),
            "records": self.records,
            "priced_by_tokens": self.priced,
            "estimated": self.estimated,
        }


def _sum(one: float | None, two: float | None) -> float | None:
    return None if one is None or two is None else one + two


@dataclass(frozen=True)
class RecordPrices:
    """Prices of stored records.

    The recorded cost counts. Where there is none, or it is 0 because the answer was replayed or imported, the tokens
    times :attr:`price` do. Where tokens were not recorded either, they are estimated.
    """

    price: Price | None
    """Price of the model that would write such records; None if unknown."""
    estimate: EstimateTokens | None = None
    """Estimates the tokens of a record without any; None leaves them unknown."""

    def of(self, record: Record) -> Cost:
        """Return the cost of one record that an LLM wrote."""
        tokens: tuple[float | None, float | None] = record.prompt_tokens, record.completion_tokens
        guess = None
        if None in tokens and self.estimate is not None and not record.cost_usd:
            guess = self.estimate(record)
        prompt, completion = guess or tokens
        return self.cost(
            usd=record.cost_usd, prompt_tokens=prompt, completion_tokens=completion, guessed=guess is not None
        )

    def cost(
        self,
        *,
        usd: float | None,
        prompt_tokens: float | None,
        completion_tokens: float | None,
        guessed: bool = False,
    ) -> Cost:
        """Return the cost of one record with these values.

        Args:
            usd: Recorded cost; None if unknown.
            prompt_tokens: None if unknown.
            completion_tokens: None if unknown.
            guessed: Whether the tokens are estimates.
        """
        price, by_tokens = self.price, False
        if not usd and price is not None:
            by_tokens = prompt_tokens is not None and completion_tokens is not None
            usd = None if price.input or price.output else 0.0  # unknown tokens of a free model are free
            if prompt_tokens is not None and completion_tokens is not None:
                usd = (prompt_tokens * price.input + completion_tokens * price.output) / 1e6
        return Cost(
            records=1,
            usd=usd,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            priced=int(by_tokens),
            estimated=int(guessed),
        )


@dataclass(frozen=True, eq=False)
class CostTable:
    """Costs of the records of one aspect, row by row; see :meth:`read`."""

    usd: NDArray[np.float64]
    """float64 ``[n]``: NaN if unknown; 0 for a row without a record, as in all columns."""
    prompt_tokens: NDArray[np.float64]
    completion_tokens: NDArray[np.float64]
    records: NDArray[np.int64]
    """int64 ``[n]``: number of records."""
    priced: NDArray[np.int64]
    estimated: NDArray[np.int64]

    @classmethod
    def read(
        cls, store: FeatureStore, ids: Sequence[str], kind: Kind, aspects: Iterable[str], prices: RecordPrices
    ) -> CostTable:
        """Read what the records of some aspects cost together.

        Args:
            store: The store.
            ids: Ids of the entities, in the order of the rows.
            kind: ``"item"`` or ``"user"``.
            aspects: Aspects as they are stored, such as those of all samples of a note; that of the profile is empty.
            prices: Prices of records.
        """
        floats, counts = np.zeros((3, len(ids))), np.zeros((3, len(ids)), np.int64)
        for aspect in aspects:
            for start in range(0, len(ids), _CHUNK):
                found = store.get(ids[start : start + _CHUNK], kind=kind, aspect=aspect)
                for row, record in enumerate(found, start):
                    if record is None:
                        continue
                    cost = prices.of(record)
                    known = (cost.usd, cost.prompt_tokens, cost.completion_tokens)
                    floats[:, row] += [np.nan if value is None else value for value in known]
                    counts[:, row] += (cost.records, cost.priced, cost.estimated)
        return cls(*floats, *counts)

    def sum(self, rows: NDArray[np.bool_] | None = None) -> Cost:
        """Return the cost of some rows together; None for all."""
        chosen = slice(None) if rows is None else rows

        def known(values: NDArray[np.float64]) -> float | None:
            sum_ = float(values[chosen].sum())
            return None if np.isnan(sum_) else sum_

        return Cost(
            records=int(self.records[chosen].sum()),
            usd=known(self.usd),
            prompt_tokens=known(self.prompt_tokens),
            completion_tokens=known(self.completion_tokens),
            priced=int(self.priced[chosen].sum()),
            estimated=int(self.estimated[chosen].sum()),
        )


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs; nothing costs 0."""
    result = Cost()
    for cost in costs:
        result += cost
    return result
