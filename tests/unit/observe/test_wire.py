"""What went over the wire, in figures and drawn."""

from __future__ import annotations

from dataclasses import replace

from paramserver.observe.wire import STRETCHES, WireMoment, _stretches, wire_moment, wire_section
from tests.unit.observe.run_files import progressed


def test_a_moment_without_a_wire_tells_nothing_of_one() -> None:
    event = progressed(3, 1.5)
    assert wire_moment(event) is None
    told = replace(event, pushed_bytes=6, pulled_bytes=12, n_queued=4)
    assert wire_moment(told) == WireMoment(3, 3.0, 1.5, 6, 12, 4)


def test_bytes_are_told_by_the_second_and_by_the_update() -> None:
    moments = [
        WireMoment(10, 0.5, 1.0, 1_000_000, 2_000_000, 0),
        WireMoment(20, 1.0, 2.0, 3_000_000, 0, 7),
    ]
    text = wire_section(moments, "update", 100)
    for words in (
        "to the master</dt><dd>1.5 MB", "from the master</dt><dd>0 B", "pushed, each update",
        "<dd>150.0 kB", "queue depth</dt><dd>7", "MB a second",
    ):  # fmt: skip
        assert words in text, words


def test_where_nothing_is_known_nothing_is_shown() -> None:
    assert wire_section([], "round", 1) == ""
    assert wire_section([WireMoment(0, 0.0, 0.0, 0, 0, 0)], "round", 1) == ""


def test_rates_are_of_stretches_that_can_be_told_apart() -> None:
    moments = [WireMoment(i, 0.0, i / 1000, i, i, 0) for i in range(1, 10_001)]
    stretches = _stretches(moments)
    assert STRETCHES - 2 <= len(stretches) <= STRETCHES
    assert all(b.pushed_bytes - a.pushed_bytes == round(1000 * s) for a, b, s in stretches)
