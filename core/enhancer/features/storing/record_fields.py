"""A record as plain values: the columns that files and Arrow tables have."""

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
)
COUNTS: Final = ("prompt_tokens", "completion_tokens")
FIELDS: Final = (*STRINGS, *COUNTS, "cost_usd", "tags", "vector")
"""The columns of an exported file: the fields of :class:`~enhancer.contracts.Record`."""

Row = dict[str, Any]


def record_to_json(record: Record) -> Row:
    """A record as JSON values; floats keep every bit of their float32.

    >>> import numpy as np
    >>> from enhancer.contracts import Record
    >>> made = dict(profile="p", embedder="e", generated_at="2025-01-01T00:00:00Z", input_hash="h")
    >>> record_to_json(Record(id="1", vector=np.array([0.5, 1], np.float32), **made))["vector"]
    [0.5, 1.0]
    """
    return {**without_vector(record), "vector": record.vector.tolist()}


def without_vector(record: Record) -> Row:
    """All other fields of a record, as JSON values."""
    return {**{name: getattr(record, name) for name in FIELDS[:-1]}, "tags": list(record.tags)}


def one_dim(record: Record, dim: int | None) -> int:
    """The length of the record's vector, which is to be ``dim``.

    Raises:
        StoreMismatchError: It is not.
    """
    if dim is not None and len(record.vector) != dim:
        raise StoreMismatchError(
            f"record {record.kind}/{record.id} has a vector of {len(record.vector)}, those before it of {dim}",
            hint="run `enhancer generate` to embed all of them alike, export a part by --kind and --aspect, "
            "or export to .jsonl, which takes vectors of any length",
        )
    return len(record.vector)
