"""Axes hold what they are given, and their ticks can be told apart."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.drawing.scales import Scale, scale_for, short

finite = st.floats(-1e9, 1e9).map(lambda x: 0.0 if abs(x) < 1e-6 else x)


@given(st.lists(finite, max_size=20), st.booleans())
def test_a_linear_axis_holds_all_values_and_has_few_ticks(
    values: list[float], from_zero: bool
) -> None:
    scale = scale_for(values, from_zero=from_zero, room=0.05)
    assert scale.low < scale.high
    assert all(-1e-9 <= scale.place(value) <= 1 + 1e-9 for value in values)
    assert 2 <= len(scale.ticks()) <= 12
    assert all(-1e-6 <= scale.place(value) <= 1 + 1e-6 for value, _ in scale.ticks())


@given(st.lists(st.floats(1e-9, 1e9), max_size=20))
def test_a_logarithmic_axis_holds_all_values_and_its_ticks_differ(values: list[float]) -> None:
    scale = scale_for(values, is_log=True, room=0.05)
    assert scale.is_log
    assert 0 < scale.low < scale.high
    assert all(-1e-9 <= scale.place(value) <= 1 + 1e-9 for value in values)
    texts = [text for _, text in scale.ticks()]
    assert 1 <= len(texts) <= 12
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("scale", "texts"),
    [
        (Scale(0, 1440), ["0", "200", "400", "600", "800", "1,000", "1,200", "1,400"]),
        (Scale(0, 14_400), ["0", "2k", "4k", "6k", "8k", "10k", "12k", "14k"]),
        (Scale(0, 2_600_000), ["0", "0.5M", "1M", "1.5M", "2M", "2.5M"]),
        (Scale(0.92, 0.978), ["0.92", "0.93", "0.94", "0.95", "0.96", "0.97"]),
        (Scale(-1, 1), ["-1.0", "-0.5", "0", "0.5", "1.0"]),
        (Scale(0.001, 1000, True), ["0.001", "0.01", "0.1", "1", "10", "100", "1,000"]),
        (Scale(0.20, 0.32, True), ["0.20", "0.22", "0.24", "0.26", "0.28", "0.30", "0.32"]),
        (Scale(0, 2, is_whole=True), ["0", "1", "2"]),
        (Scale(0, 40, is_whole=True), ["0", "10", "20", "30", "40"]),
    ],
)
def test_ticks_are_round_and_written_with_as_many_digits_as_they_need(
    scale: Scale, texts: list[str]
) -> None:
    assert [text for _, text in scale.ticks()] == texts


@pytest.mark.parametrize(
    ("low", "high", "title", "places", "texts"),
    [
        (0, 500, "seconds of training", [0, 100, 200, 300, 400, 500], ["0", "100", "200"]),
        (0, 3700, "minutes of training", [0, 600, 1200, 1800, 2400, 3000, 3600], ["0", "10", "20"]),
        (0, 36_000, "hours of training", [0, 7200, 14_400, 21_600, 28_800, 36_000], ["0", "2"]),
        (3600, 3700, "minutes of training", [3600, 3630, 3660, 3690], ["60.0", "60.5", "61.0"]),
        (3600, 3601, "seconds of training", [3600, 3600.2], ["3,600.0", "3,600.2"]),
    ],
)
def test_a_long_time_is_told_in_minutes_or_hours(
    low: float, high: float, title: str, places: list[float], texts: list[str]
) -> None:
    ticks, found = Scale(low, high).timed("seconds of training")
    assert found == title
    assert [value for value, _ in ticks][: len(places)] == pytest.approx(places)
    assert [text for _, text in ticks][: len(texts)] == texts


def test_other_axes_stay_as_they_are() -> None:
    scale = Scale(0, 50_000)
    assert scale.timed("milliseconds") == (scale.ticks(), "milliseconds")


def test_an_axis_of_nothing_or_of_one_value_is_an_axis_all_the_same() -> None:
    assert scale_for([]) == Scale(0.0, 1.0)
    assert scale_for([5.0]) == Scale(4.5, 5.5)
    assert scale_for([0.0], from_zero=True) == Scale(0.0, 1.0)
    assert scale_for([math.nan, math.inf, 2.0, 4.0]) == Scale(2.0, 4.0)


def test_zero_and_less_have_a_place_on_a_logarithmic_axis() -> None:
    scale = scale_for([0.0, 1.0], is_log=True)
    assert scale.place(0.0) == pytest.approx(0.0)
    assert scale.place(1.0) == pytest.approx(1.0)


def test_numbers_are_short() -> None:
    assert [short(x) for x in (0.5, 12345.6, 1e6, -2.5e9, 1e13)] == [
        "0.5", "12,346", "1M", "-2.5G", "1.00e+13",
    ]  # fmt: skip
