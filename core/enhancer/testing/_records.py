"""Sample records for tests of feature stores."""

from __future__ import annotations

from typing import Any

import numpy as np

from enhancer.contracts import Record


def make_record(id_: str = "1", *, seed: int = 0, dim: int = 4, **fields: Any) -> Record:
    """Return a valid record; keyword arguments override its fields."""
    vector = np.random.default_rng([seed, len(id_)]).standard_normal(dim).astype(np.float32)
    values: dict[str, Any] = {
        "id": id_,
        "profile": f"Profile of {id_[:20]}",
        "tags": ("warm", "slow"),
        "vector": vector,
        "prompt_version": "item/v1@3fa9c1d2",
        "model": "test/model",
        "embedder": "test@1",
        "generated_at": "2025-01-02T03:04:05Z",
        "input_hash": f"hash-{seed}",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cost_usd": 0.001,
    }
    return Record(**{**values, **fields})


def as_tuple(record: Record) -> tuple[Any, ...]:
    """Return all fields of a record as a tuple that can be compared."""
    return (*(getattr(record, name) for name in Record.__slots__ if name != "vector"), record.vector.tobytes())
