"""Divide texts into chunks that stay as they are when other texts are added."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENDS_CHUNK = 4
"""One in this many texts ends a chunk that is large enough."""


def divide(sizes: Sequence[int], digests: Sequence[bytes], capacity: int, least: int) -> list[slice]:
    """Divide texts into consecutive chunks.

    A chunk ends when the next text does not fit, or, once it has a size of ``least``, after a text whose digest says
    so. So an additional text at the end changes the last chunk alone, and one in between changes its own chunk and as a
    rule few others, because the ends that digests set are the same further on.

    Args:
        sizes: Size of each text, at most ``capacity - least``.
        digests: Digest of each text.
        capacity: Largest size of a chunk.
        least: Smallest size of all chunks but the last.

    Returns:
        Slices of the texts, in order. Every text is in one.

    >>> divide([4, 4, 4, 4, 4], [bytes([1])] * 5, capacity=10, least=6)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    chunks, start, used = [], 0, 0
    for n, (size, digest) in enumerate(zip(sizes, digests, strict=True)):
        if used and used + size > capacity:
            chunks.append(slice(start, n))
            start, used = n, 0
        used += size
        if used >= least and digest[0] % _ENDS_CHUNK == 0:
            chunks.append(slice(start, n + 1))
            start, used = n + 1, 0
    if start < len(sizes):
        chunks.append(slice(start, len(sizes)))
    return chunks


def calls_for(chunks: int, fan: int) -> int:
    """Return the calls that condense chunks to at most ``fan`` notes: one for each, and one for each ``fan`` notes.

    >>> calls_for(6, fan=6), calls_for(7, fan=6), calls_for(37, fan=6)
    (6, 9, 46)
    """
    total, notes = chunks, chunks
    while notes > fan:
        notes = -(-notes // fan)
        total += notes
    return total


def most_chunks(calls: int, fan: int) -> int:
    """Return the largest number of chunks that ``calls`` calls condense; see :func:`calls_for`.

    >>> most_chunks(12, fan=6)
    10
    """
    return next((chunks for chunks in range(calls, 0, -1) if calls_for(chunks, fan) <= calls), 0)
