"""Users who wait are answered together, and only so many may wait."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


class Slow:
    """A ranker that waits to be let go, and notes who was asked about together."""

    def __init__(self):
        self.go, self.calls = threading.Event(), []

    def recommend(self, users, k, *, exclude_seen):
        from enhancer.serving import Recommendation

        self.calls.append((list(users), k, exclude_seen))
        assert self.go.wait(20)
        return [Recommendation(user, [(f"i{n}", 1.0) for n in range(k)]) for user in users]


async def test_users_who_wait_are_answered_together():
    from enhancer.serving.service.micro_batcher import MicroBatcher

    ranker, other = Slow(), Slow()
    other.go.set()
    batcher = MicroBatcher(threads=1, waiting=100, timeout=20)
    asked = [batcher.recommend(ranker, f"u{n}", n + 1, exclude_seen=n != 3) for n in range(6)]
    tasks = [asyncio.create_task(one) for one in [*asked, batcher.recommend(other, "x", 1, exclude_seen=True)]]
    await asyncio.sleep(0.1)
    assert (batcher.running, batcher.waiting) == (1, 6)
    tasks[2].cancel()  # a client that went away
    ranker.go.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert ranker.calls == [(["u0"], 1, True), (["u1", "u4", "u5"], 6, True), (["u3"], 4, False)]
    assert [len(answer.items) for n, answer in enumerate(answers) if n != 2] == [1, 2, 4, 5, 6, 1]
    assert isinstance(answers[2], asyncio.CancelledError)
    assert [answer.user_id for answer in answers[3:]] == ["u3", "u4", "u5", "x"]
    batcher.close()


async def test_who_comes_when_all_is_full_is_told_to_come_again_and_nobody_waits_for_ever():
    from enhancer.serving.service.micro_batcher import BusyError, LateError, MicroBatcher

    ranker = Slow()
    batcher = MicroBatcher(threads=1, waiting=2, timeout=0.2)
    tasks = [asyncio.create_task(batcher.recommend(ranker, f"u{n}", 1, exclude_seen=True)) for n in range(4)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [LateError, LateError, LateError, BusyError]
    ranker.go.set()
    (after,) = await asyncio.gather(batcher.recommend(ranker, "later", 1, exclude_seen=True))
    assert after.user_id == "later"
    assert [users for users, _, _ in ranker.calls] == [["u0"], ["later"]]  # who had given up was not ranked

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await batcher.run(fail)
    assert await batcher.run(lambda: 7) == 7
    batcher.close()
