"""Numbers for Prometheus."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("orjson", reason="the extra serve is not installed")

from enhancer.serving.service.metrics import SECONDS, Board, Metrics

SAMPLE = re.compile(r'^[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? (\+Inf|NaN|-?[0-9.e+-]+)$')


def parsed(board):
    """Return the samples by name and labels, after checking the format."""
    found, kinds = {}, {}
    for line in board.render().decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            assert SAMPLE.match(line), line
            name, _, value = line.rpartition(" ")
            family = re.sub(r"_(bucket|sum|count)$", "", name.partition("{")[0])
            assert family in kinds or name.partition("{")[0] in kinds, line
            assert name not in found
            found[name] = float(value)
    assert set(kinds.values()) == {"counter", "gauge", "histogram"}
    return found


def test_numbers_of_all_processes_are_added_up():
    board = Board(2)
    first, second = Metrics(board, 0), Metrics(board, 1)
    for seconds in (0.0005, 0.001, 0.3, 99.0):
        first.answered("recommend", 200, seconds)
    second.answered("recommend", 200, 0.002)
    second.answered("recommend", 504, 10.0)
    second.refused(431)
    for one, created in ((first, 100.0), (second, 50.0)):
        one.put("workers", 1)
        one.put("created", created)
        one.add("held_bytes", 7)
    found = parsed(board)
    assert found['enhancer_requests_total{endpoint="recommend",status="200"}'] == 5
    assert found['enhancer_requests_total{endpoint="recommend",status="504"}'] == 1
    assert found['enhancer_requests_total{endpoint="none",status="431"}'] == 1
    bucket = 'enhancer_request_seconds_bucket{{endpoint="recommend",le="{}"}}'
    counts = [found[bucket.format(bound)] for bound in (*SECONDS, "+Inf")]
    assert counts == [2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 6]
    assert found['enhancer_request_seconds_count{endpoint="recommend"}'] == 6
    assert found['enhancer_request_seconds_sum{endpoint="recommend"}'] == pytest.approx(109.3035)
    assert (found["enhancer_workers"], found["enhancer_held_bytes"]) == (2, 14)
    assert found["enhancer_artifact_created_timestamp_seconds"] == 50  # of the one that is behind
    board.restart(1)
    found = parsed(board)
    assert (found["enhancer_workers"], found["enhancer_held_bytes"], found["enhancer_worker_restarts_total"]) == (
        1,
        7,
        1,
    )
    assert found['enhancer_requests_total{endpoint="recommend",status="504"}'] == 1  # counters never fall
    assert found["enhancer_artifact_created_timestamp_seconds"] == 100
