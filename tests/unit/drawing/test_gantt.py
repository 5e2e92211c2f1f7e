"""A row for each worker, a bar for each job."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from paramserver.drawing.gantt import (
    BARS_MAX,
    LEFT_MIN,
    MARKS_MAX,
    NAME_MAX,
    ROWS_MAX,
    Bar,
    gantt,
    overview,
)


def bars_of(svg: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter("rect"))


def draw(bars: list[Bar]) -> str:
    return gantt(bars, x_title="seconds", label="jobs")


def test_bars_lie_on_the_row_of_their_worker_and_are_as_long_as_their_jobs() -> None:
    svg = draw(
        [Bar("w2", 0, 1, 0, "first"), Bar("w10", 0, 2, 0, "next"), Bar("w2", 2, 4, 1, "<b>")]
    )
    first, other, last = bars_of(svg)
    assert first.attrib["y"] == last.attrib["y"] != other.attrib["y"]
    assert float(first.attrib["y"]) < float(other.attrib["y"])
    assert first.attrib["class"] == other.attrib["class"] != last.attrib["class"]
    lengths = [float(bar.attrib["width"]) + 0.6 for bar in (first, other, last)]
    assert abs(lengths[1] - 2 * lengths[0]) < 0.3
    assert last.findtext("title") == "<b>, 2.000 s"


def test_the_latest_bars_of_some_workers_are_drawn() -> None:
    many = [Bar("w", float(i), i + 1.0, i, f"job {i}") for i in range(5_000)]
    drawn = bars_of(draw(many))
    assert len(drawn) == BARS_MAX
    assert drawn[-1].findtext("title") == "job 4999, 1.000 s"
    crowd = [Bar(f"w{i}", 0.0, 1.0, 0, "job") for i in range(100)]
    assert len(bars_of(draw(crowd))) == ROWS_MAX


def test_without_jobs_there_is_an_empty_picture() -> None:
    assert bars_of(draw([])) == []
    assert len(bars_of(draw([Bar("w", 1.0, 1.0, 0, "an instant")]))) == 1


def test_what_came_to_nothing_is_crossed_out_and_a_legend_says_what_is_what() -> None:
    kinds = ("", "backup", "lost", "failed", "unneeded")
    drawn = draw([Bar("w", float(i), i + 1.0, 0, "job", kind) for i, kind in enumerate(kinds)])
    svg, _, legend = drawn.partition("</svg>")
    crosses = [path.get("class") for path in ElementTree.fromstring(f"{svg}</svg>").iter("path")]
    assert crosses == ["cross lost", "cross failed"]
    assert [each.get("class") for each in bars_of(f"{svg}</svg>")] == [
        "bar c1", "bar c1 backup", "bar c1 lost", "bar c1 failed", "bar c1 unneeded"
    ]  # fmt: skip
    assert legend.count("<li>") == 4
    assert "lost with its worker" in legend


def test_an_overview_shows_when_rows_were_busy_and_every_loss() -> None:
    bars = [Bar("w1", i / 100, i / 100 + 0.01, i, "job") for i in range(5_000)]
    bars += [Bar("w1", 60.0, 61.0, 0, "job", "lost"), Bar("w2", 61.0, 62.0, 0, "job")]
    svg, _, legend = overview(bars, x_title="seconds", label="jobs").partition("</svg>")
    assert len(bars_of(f"{svg}</svg>")) == 3
    assert svg.count('class="cross lost"') == 1
    assert legend.count("<li>") == 1
    many = [Bar("w", float(i), i + 1.0, 0, "job", "lost") for i in range(2_000)]
    assert overview(many, x_title="s", label="l").count('class="cross lost"') == MARKS_MAX
    assert bars_of(overview([], x_title="s", label="l")) == []


def test_of_a_long_name_the_ends_are_written() -> None:
    name = "very.far-away.example.org-agent3-17"
    svg = draw([Bar(name, 0.0, 1.0, 0, "job")])
    (shown,) = re.findall(rf"<title>{name}</title>(.*?)</text>", svg)
    assert shown == "very.far-awa…rg-agent3-17"
    assert len(shown) <= NAME_MAX


def test_bars_begin_behind_the_longest_name() -> None:
    lefts = []
    for name in ("w1", "a-name-of-20-letters", "a-name-of-many-more-letters-than-there-is-room"):
        (bar,) = bars_of(draw([Bar(name, 0.0, 1.0, 0, "job")]))
        lefts.append(float(bar.attrib["x"]))
    assert lefts == [LEFT_MIN, 168.0, 207.0]


def test_rows_for_which_there_is_no_room_are_counted() -> None:
    for draw_rows in (gantt, overview):
        bars = [Bar(f"w{i}", i / 10, i / 10 + 1, 0, "job") for i in range(ROWS_MAX + 8)]
        svg = draw_rows(bars, x_title="seconds", label="jobs")
        assert "and 8 more" in svg
        assert "and" not in draw_rows(bars[:ROWS_MAX], x_title="seconds", label="jobs")


def test_a_long_time_is_told_in_minutes_and_a_glimpse_of_it_in_seconds() -> None:
    assert "minutes" in draw([Bar("w", 0.0, 700.0, 0, "job")])
    assert "minutes" not in draw([Bar("w", 700.0, 701.0, 0, "job")])
