"""Times of every form keep their order and resolution, and are parsed quickly."""

from __future__ import annotations

import datetime as dt
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.data.time_values import parse_times


def parse(values):
    def error(n, problem, hint):
        return ValueError(f"{n}: {problem}; {hint}")

    return parse_times(values, error)


def exact(values):
    times, decimals = parse(values)
    return [Fraction(moment, 10**decimals) for moment in times.tolist()]


decimals = st.from_regex(r"[+-]?[0-9]{1,9}(\.[0-9]{0,8})?", fullmatch=True)


@given(st.lists(decimals, min_size=1, max_size=20))
def test_decimals_are_exact(values):
    assert exact(values) == list(map(Fraction, values))


moments = st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29))
zones = st.one_of(st.just(""), st.just("Z"), st.from_regex(r"[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]", fullmatch=True))
fractions = st.one_of(st.just(""), st.from_regex(r"[.,][0-9]{1,7}", fullmatch=True))
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@given(st.lists(st.tuples(moments, fractions, zones, st.sampled_from("T ")), min_size=1, max_size=12))
def test_dates_of_iso_8601_are_exact(parts):
    values, expected = [], []
    for moment, fraction, zone, mark in parts:
        whole = moment.replace(microsecond=0)
        values.append(f"{whole.isoformat(mark)}{fraction}{zone}")
        aware = dt.datetime.fromisoformat(f"{whole.isoformat()}{zone or 'Z'}")
        rest = Fraction(int(fraction[1:]), 10 ** len(fraction[1:])) if fraction else Fraction(0)
        expected.append((aware - EPOCH) // dt.timedelta(seconds=1) + rest)
    assert exact(values) == expected


@given(st.lists(st.dates(), min_size=1, max_size=20))
def test_days_are_exact(days):
    assert exact([day.isoformat() for day in days]) == [(day - dt.date(1970, 1, 1)).days * 86_400 for day in days]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1e3", "1.5"], [1000, Fraction(3, 2)]),
        ([" 7 ", "8.25"], [7, Fraction(33, 4)]),
        (["2020-01-01", "5"], [1_577_836_800, 5]),
        (["2020-01-01T00:00", "2020-01-01 00:01"], [1_577_836_800, 1_577_836_860]),
        (["20200101", "2020-01-01"], [20_200_101, 1_577_836_800]),
        (["2020-01-01T00:00:00+01", "2020-01-01T00:00:00+0100"], [1_577_833_200] * 2),
        (["1970-01-01T00:00:00.1234567890123456789"], [Fraction(123_456_789_012_345_678, 10**18)]),
        (["1" * 18 + ".25"], [int("1" * 18) + Fraction(1, 5)]),  # as many decimals as 64 bits hold
        (["9" * 17 + ".5", "0.25"], [int("9" * 17) + Fraction(1, 2), Fraction(1, 5)]),
    ],
)
def test_other_forms_and_what_does_not_fit(values, expected):
    assert exact(values) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("2021-02-29", "2020-13-01", "2020-00-10", "2020-01-00", "0000-01-01", "2020-01-01T24:00:00"),
        *("2020-01-01T00:60:00", "2020-01-01T00:00:00.", "2020-01-01T00:00:00+1:00", "2020-01-01T00:00:00+24:00"),
        *("2020-01-01T00:00:00X", "2020-01-01T00:00:00.5.5", "1.2.3", ".", "-", "1\0", "", "nan", "--1", "1-"),
    ],
)
def test_what_is_no_time_is_refused_with_its_position(value):
    with pytest.raises(ValueError, match=r"^1: .* is not a time"):
        parse(["2020-01-01T00:00:00" if value[4:5] == "-" else "1.5", value])


@pytest.mark.parametrize("form", ["decimal", "iso", "offset"])
def test_forms_with_fractions_take_little_more_than_whole_numbers(form):
    seconds = np.random.default_rng(0).integers(0, 2**31, 20_000)
    if form == "decimal":
        values = [f"{second}.{second % 1000:03}" for second in seconds.tolist()]
    else:
        end = "" if form == "iso" else ".25+01:00"
        values = [
            dt.datetime.fromtimestamp(second, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S") + end for second in seconds.tolist()
        ]
    whole = seconds.astype(str).tolist()

    def cpu(given):
        best = []
        for _ in range(3):
            start = time.process_time()
            for n in range(0, len(given), 2000):
                parse(given[n : n + 2000])
            best.append(time.process_time() - start)
        return min(best)

    assert cpu(values) < 12 * cpu(whole)
