"""Profiles of a planted catalogue, sold to a campaign without a language model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from generation import HashingEmbedder

from enhancer.project.spending.shop import UnitCost

PRICE = 0.001
"""Price of a profile in USD."""


class PlantedShop:
    """Sells profiles made from planted traits."""

    def __init__(self, folder: Path, tables: dict[str, Any]) -> None:
        self.folder, self._tables = folder, tables
        self._bought = {name: np.zeros(len(table), np.bool_) for name, table in tables.items()}
        self._calls = 0.0

    def templates(self, _: Any) -> list[str]:
        return []

    def last_completion(self) -> int:
        return 0

    def spent(self, *_: Any) -> float:
        return self._calls * PRICE

    def examples(self, _: Any) -> None:
        pass

    def unit_cost(self, _: Any, aspects: tuple[str, ...]) -> UnitCost:
        return UnitCost(PRICE * len(aspects), PRICE)

    def buy(self, ids: list[str], aspects: tuple[str, ...], *_: Any) -> SimpleNamespace:
        rows = np.array([int(id_) for id_ in ids])
        for name in aspects:
            self._calls += np.count_nonzero(~self._bought[name][rows])
            self._bought[name][rows] = True
        return SimpleNamespace(generated=len(ids), cached=0, unanswered_usd=0.0)

    def embed_texts(self, _: Any) -> None:
        pass

    def vectors(self, name: str) -> Any:
        if name == "text":
            return self._tables["text"]
        return np.where(self._bought[name][:, None], self._tables[name], np.float32(0))


class WideEmbedder(HashingEmbedder):
    """Hashed words in 128 numbers."""

    def encode(self, texts: Any) -> Any:
        rng = np.random.default_rng(7)
        parts = [HashingEmbedder(name=f"{self.name}{number}").encode(texts) for number in range(8)]
        wide = np.hstack(parts) + 0.02 * rng.standard_normal((len(texts), 128))
        return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
