"""Tests of looking up vectors that were paid for, many callers at once."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from enhancer.errors import StoreError
from enhancer.harness.embedding.vector_lookup import VectorLookup


class Vectors:
    """Vectors in memory; the first look-up takes until it is let go."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.go = threading.Event()
        self.error: Exception | None = None

    def get(self, keys):
        self.calls.append(len(keys))
        self.go.wait(10)
        if self.error is not None:
            raise self.error
        return {key: np.full(2, key[0], np.float32) for key in keys if key[0] % 2}


def asked(vectors, count):
    async def main():
        lookup = VectorLookup(vectors)
        tasks = [asyncio.create_task(lookup.get([bytes([n]), bytes([n + 100])])) for n in range(count)]
        await asyncio.sleep(0.05)
        tasks[count - 1].cancel()
        vectors.go.set()
        try:
            return await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            lookup.close()

    return asyncio.run(main())


def test_callers_that_wait_are_looked_up_together_and_get_their_own():
    vectors = Vectors()
    found = asked(vectors, 9)
    assert vectors.calls[0] == 18
    assert len(vectors.calls) == 1
    for n, one in enumerate(found[:8]):
        assert sorted(one) == [bytes([key]) for key in (n, n + 100) if key % 2]
        assert all(row[0] == key[0] for key, row in one.items())
    assert isinstance(found[8], asyncio.CancelledError)


def test_an_error_reaches_every_caller():
    vectors = Vectors()
    vectors.error = StoreError("the journal is damaged")
    found = asked(vectors, 3)
    assert [type(one) for one in found] == [StoreError, StoreError, asyncio.CancelledError]


def test_look_ups_during_another_wait_for_the_next():
    vectors = Vectors()

    async def main():
        lookup = VectorLookup(vectors)
        first = asyncio.create_task(lookup.get([b"\x01"]))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(lookup.get([bytes([n])])) for n in (3, 5)]
        await asyncio.sleep(0)
        vectors.go.set()
        found = await asyncio.gather(first, *others)
        lookup.close()
        return found

    found = asyncio.run(main())
    assert [list(one) for one in found] == [[b"\x01"], [b"\x03"], [b"\x05"]]
    assert vectors.calls == [1, 2]


@pytest.mark.parametrize("error", [None, StoreError("no")])
def test_it_goes_on_after_a_look_up(error):
    vectors = Vectors()
    vectors.go.set()
    vectors.error = error

    async def main():
        lookup = VectorLookup(vectors)
        await asyncio.gather(lookup.get([b"\x01"]), return_exceptions=True)
        vectors.error = None
        found = await lookup.get([b"\x03"])
        lookup.close()
        return found

    assert list(asyncio.run(main())) == [b"\x03"]
