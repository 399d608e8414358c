"""Users who wait are answered together, only so many may wait, and nobody works for those who have given up."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import numpy as np
import pytest

pytest.importorskip("httptools", reason="the extra serve is not installed")
pytest.importorskip("orjson", reason="the extra serve is not installed")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


class Slow:
    """Answers once it is let go, and notes who was asked about together."""

    def __init__(self):
        self.go, self.calls = threading.Event(), []

    def __call__(self, ranker, jobs, *, exclude_seen, stop):
        self.calls.append((ranker, [job.user for job in jobs], [job.k for job in jobs], exclude_seen))
        assert self.go.wait(20)
        return [ValueError(job.user) if job.history == ["bad"] else (job.user, job.k) for job in jobs]


def made(together, **options):
    from enhancer.serving.service.micro_batcher import MicroBatcher

    return MicroBatcher(**{"threads": 1, "waiting": 100, "timeout": 20, "together": together, **options})


class Asked:
    """A job, and what it was told."""

    def __init__(self, submit, *arguments, **options):
        self.told = asyncio.get_running_loop().create_future()
        self.times = 0

        def done(answer, error):
            self.times += 1
            self.told.set_result(error or answer)

        self.job = submit(*arguments, **options, done=done)


async def test_users_who_wait_are_answered_together():
    together = Slow()
    batcher = made(together)
    asked = [Asked(batcher.recommend, "one", f"u{n}", n + 1, exclude_seen=n != 3) for n in range(6)]
    asked.append(Asked(batcher.recommend, "other", "x", 1, exclude_seen=True))
    await asyncio.sleep(0.05)
    assert (batcher.running, batcher.waiting) == (1, 6)
    batcher.cancel(asked[2].job)  # a client that went away
    assert batcher.waiting == 5
    together.go.set()
    answers = [await one.told for one in asked if one is not asked[2]]
    assert together.calls == [
        ("one", ["u0"], [1], True),
        ("one", ["u1", "u4", "u5"], [2, 5, 6], True),
        ("one", ["u3"], [4], False),
        ("other", ["x"], [1], True),
    ]
    assert answers == [("u0", 1), ("u1", 2), ("u3", 4), ("u4", 5), ("u5", 6), ("x", 1)]
    assert not asked[2].told.done()
    batcher.close()


async def test_threads_share_users_only_where_products_take_long():
    class Working(Slow):
        def __call__(self, ranker, jobs, **options):
            begun = time.thread_time()
            while ranker == "large" and time.thread_time() - begun < 0.03:
                pass
            return super().__call__(ranker, jobs, **options)

    together = Working()
    together.go.set()
    batcher = made(together, threads=3)

    def ask(*rankers):
        return [Asked(batcher.recommend, ranker, f"u{n}", 1, exclude_seen=True) for n, ranker in enumerate(rankers)]

    together.go.clear()
    quick = ask("small", "small", "small")
    other = Asked(batcher.run, lambda stop: 7)  # what is no product is not kept waiting
    assert await other.told == 7
    assert (batcher.running, batcher.waiting) == (1, 2)
    together.go.set()
    await asyncio.gather(*(one.told for one in quick))
    assert [users for _, users, _, _ in together.calls] == [["u0"], ["u1", "u2"]]
    for _ in range(4):
        (one,) = ask("large")
        await one.told
    together.go.clear()
    long = ask("small", "small", "small")
    assert (batcher.running, batcher.waiting) == (3, 0)
    together.go.set()
    await asyncio.gather(*(one.told for one in long))
    batcher.close()


async def test_a_history_holds_for_its_own_request_alone():
    together = Slow()
    batcher = made(together)
    given = [("x", ()), ("a", ["1"]), ("b", ()), ("b", ()), ("a", ["2"]), ("a", ()), ("b", ["3"]), ("c", ["bad"])]
    asked = [Asked(batcher.recommend, "one", user, 1, exclude_seen=True, history=history) for user, history in given]
    together.go.set()
    answers = [await one.told for one in asked]
    assert [users for _, users, _, _ in together.calls] == [["x"], ["a", "b", "b", "c"], ["a", "b"], ["a"]]
    assert answers[:-1] == [(user, 1) for user, _ in given[:-1]]
    assert str(answers[-1]) == "c"  # its error is nobody else's
    batcher.close()


async def test_who_comes_when_all_is_full_is_told_to_come_again_and_nobody_waits_for_ever():
    from enhancer.serving.service.micro_batcher import BusyError, LateError

    together = Slow()
    batcher = made(together, waiting=2, timeout=0.1)
    asked = [Asked(batcher.recommend, "one", f"u{n}", 1, exclude_seen=True) for n in range(3)]
    with pytest.raises(BusyError):
        Asked(batcher.recommend, "one", "u3", 1, exclude_seen=True)
    assert [type(await one.told) for one in asked] == [LateError] * 3
    together.go.set()
    assert await Asked(batcher.recommend, "one", "later", 1, exclude_seen=True).told == ("later", 1)
    assert [users for _, users, _, _ in together.calls] == [["u0"], ["later"]]  # who had given up was not ranked
    assert [one.times for one in asked] == [1, 1, 1]

    def fail(stop):
        raise ValueError("no")

    assert str(await Asked(batcher.run, fail).told) == "no"
    assert await Asked(batcher.run, lambda stop: 7).told == 7
    batcher.close()


@pytest.mark.parametrize("how", ["late", "cancelled", "closed"])
async def test_work_under_way_stops_when_nobody_waits_for_it(how):
    """A product over many items looks between its blocks."""
    from enhancer.serving.service.micro_batcher import LateError
    from enhancer.serving.topk import StoppedError, top_k

    batcher = made(Slow(), timeout=0.05 if how == "late" else 20)
    began, ended = threading.Event(), []
    queries, items = np.ones((2, 4), np.float32), np.ones((600, 4), np.float32)

    def work(stop):
        began.set()
        try:
            while True:
                top_k(queries, items, 3, stop=stop)
        except StoppedError as error:
            ended.append(error)
            raise

    asked = Asked(batcher.run, work)
    assert await asyncio.to_thread(began.wait, 10)
    assert not ended
    if how == "late":
        assert isinstance(await asked.told, LateError)
    elif how == "cancelled":
        batcher.cancel(asked.job)
    await asyncio.to_thread(batcher.close)  # waits for the thread
    assert len(ended) == 1
    await asyncio.sleep(0)
    assert asked.times == (1 if how in {"late", "closed"} else 0)
