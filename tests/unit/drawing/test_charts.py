"""Charts are SVG that any reader of XML understands, with all that was asked for."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from paramserver.drawing.charts import (
    BINS_MAX,
    POINTS_MAX,
    WIDTH,
    Mark,
    bar_chart,
    binned,
    line_chart,
    shares_bar,
    spark_bars,
)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter("text")]


def of_class(svg: str, name: str) -> list[ElementTree.Element]:
    return [each for each in parsed(svg).iter() if name in each.get("class", "").split()]


def line(points: list[tuple[float, float]], **options: object) -> str:
    return line_chart(points, x_title="seconds", y_title="loss", **options)  # type: ignore[arg-type]


def test_a_line_goes_from_lower_left_to_upper_right_inside_of_its_axes() -> None:
    svg = line([(0.0, 0.0), (5.0, 1.0), (10.0, 2.0)])
    (drawn,) = of_class(svg, "line")
    places = [tuple(map(float, pair.split(","))) for pair in drawn.attrib["points"].split()]
    assert len(places) == 3
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    assert "seconds" in texts(svg)
    assert parsed(svg).get("aria-label") == "loss against seconds"


def test_a_long_figure_below_the_end_of_an_axis_is_within_the_picture() -> None:
    points = [(0.0, 0.0), (2_000.0, 1.0)]
    svg = parsed(line_chart(points, x_title="updates", y_title="loss", whole="x"))
    (last,) = (each for each in svg.iter("text") if each.text == "2,000")
    assert float(last.attrib["x"]) <= WIDTH - 19


def test_what_is_not_finite_is_left_out() -> None:
    svg = line([(0.0, math.nan), (1.0, 1.0), (2.0, math.inf), (3.0, 2.0)])
    (drawn,) = of_class(svg, "line")
    assert len(drawn.attrib["points"].split()) == 2


def test_a_long_line_is_thinned_out_and_keeps_its_end() -> None:
    many = line([(float(i), float(i)) for i in range(100_000)])
    (drawn,) = of_class(many, "line")
    points = drawn.attrib["points"].split()
    assert len(points) <= POINTS_MAX + 1
    (dot,) = of_class(many, "dot")
    assert points[-1] == f"{dot.attrib['cx']},{dot.attrib['cy']}"


def test_no_points_are_an_empty_picture_that_says_so() -> None:
    assert texts(line([])) == ["seconds", "nothing yet"]
    assert texts(bar_chart({}, x_title="x", y_title="y")) == ["x", "nothing yet"]


def test_a_single_point_is_a_dot_without_a_line() -> None:
    svg = line([(1.0, 1.0)])
    assert (len(of_class(svg, "line")), len(of_class(svg, "dot"))) == (0, 1)


def test_what_is_counted_has_no_ticks_between_whole_numbers() -> None:
    points = [(1.0, 0.0), (2.0, 1.0), (3.0, 2.0)]
    assert texts(line(points, whole="xy", from_zero=True)) == [*"012", *"0123", "seconds"]
    assert "0.5" in texts(line(points, from_zero=True))
    assert texts(bar_chart({0: 1, 1: 2}, x_title="x", y_title="y")) == [*"012", *"01", "x"]


def test_names_from_elsewhere_cannot_break_out() -> None:
    evil = '<script>alert(1)</script>&"'
    svg = line([(0.0, 1.0)], marks=[Mark(0.5, 0.5, evil)], label=evil)
    assert evil in texts(svg)
    assert parsed(svg).get("aria-label") == evil
    assert "<script" not in svg + shares_bar([(evil, 1.0, "c1")], evil)


def test_a_mark_beyond_the_line_is_within_the_picture() -> None:
    svg = line([(0.0, 0.0), (1.0, 1.0)], marks=[Mark(50.0, 9.0, "far")])
    (mark,) = of_class(svg, "mark")
    assert 0 < float(mark.attrib["cx"]) < 460
    assert 0 < float(mark.attrib["cy"]) < 250


def test_bars_stand_for_their_counts() -> None:
    svg = bar_chart({0: 10, 1: 5, 3: 1}, x_title="staleness", y_title="updates")
    bars = of_class(svg, "bar")
    assert [bar.findtext("title") for bar in bars] == ["0: 10", "1: 5", "3: 1"]
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)


def test_what_occurs_once_among_a_million_can_be_seen() -> None:
    svg = bar_chart({0: 1_000_000, 1: 1}, x_title="x", y_title="y")
    assert float(of_class(svg, "bar")[1].attrib["height"]) >= 1


def test_many_different_numbers_share_bins_and_none_is_lost() -> None:
    counts = {i: i for i in range(1000)}
    bins, width = binned(counts)
    assert len(bins) <= BINS_MAX
    assert width == 20
    assert sum(bins.values()) == sum(counts.values())
    bars = of_class(bar_chart(counts, x_title="x", y_title="y"), "bar")
    assert (bars[0].findtext("title") or "").startswith("0 to 19: ")


def test_small_histograms_share_an_axis() -> None:
    short, long = spark_bars({0: 4}, 10, 1), spark_bars({0: 1, 9: 2}, 10, 1)
    assert of_class(short, "bar")[0].attrib["width"] == of_class(long, "bar")[0].attrib["width"]
    assert of_class(long, "bar")[1].attrib["x"] == "144.0"


def test_shares_follow_one_another_and_are_named() -> None:
    svg = shares_bar([("computing", 0.75, "c1"), ("idle", 0.25, "c8")], "time")
    assert 'x="0.00%"' in svg
    assert 'x="75.00%"' in svg
    assert "computing <b>75%</b>" in svg
    assert "idle <b>25%</b>" in svg
    written = [shares_bar([("idle", share, "c8")], "time") for share in (0.0994, 0.0999, 0.2)]
    assert [re.findall("<b>(.*)</b>", each) for each in written] == [["9.9%"], ["10%"], ["20%"]]
