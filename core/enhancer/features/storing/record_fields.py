"""Convert records to the columns of files and Arrow tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from enhancer.errors import StoreMismatchError

if TYPE_CHECKING:
    from enhancer.contracts.record import Record

STRINGS: Final = (
    "id",
    "kind",
    "aspect",
    "profile",
    "prompt_version",
    "model",
    "embedder",
    "generated_at",
    "input_hash",
    "confidence",
)
COUNTS: Final = ("prompt_tokens", "completion_tokens")
FIELDS: Final = (*STRINGS, *COUNTS, "cost_usd", "tags", "vector")
"""Columns of an exported file: the fields of :class:`~enhancer.contracts.Record`."""

Row = dict[str, Any]


def record_to_json(record: Record) -> Row:
    """Return a record as JSON values. The vector keeps every bit of its float32 numbers.

    >>> import numpy as np
    >>> from enhancer.contracts import Record
    >>> made = dict(profile="p", embedder="e", generated_at="2025-01-01T00:00:00Z", input_hash="h")
    >>> record_to_json(Record(id="1", vector=np.array([0.5, 1], np.float32), **made))["vector"]
    [0.5, 1.0]
    """
    return {**without_vector(record), "vector": record.vector.tolist()}


def without_vector(record: Record) -> Row:
    """Return all fields of a record but the vector, as JSON values."""
    return {**{name: getattr(record, name) for name in FIELDS[:-1]}, "tags": list(record.tags)}


def one_dim(record: Record, dim: int | None) -> int:
    """Return the length of the record's vector; check that it is ``dim``, unless that is None.

    Raises:
        StoreMismatchError: It is another.
    """
    if dim is not None and len(record.vector) != dim:
        raise StoreMismatchError(
            f"the vector of record {record.kind}/{record.id} has length {len(record.vector)}, those before it {dim}",
            hint="run `enhancer generate` to embed all records by one embedder, select records by --kind and --aspect, "
            "or export to .jsonl, which stores vectors of any length",
        )
    return len(record.vector)
