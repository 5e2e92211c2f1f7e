"""A row for each worker, a bar for each job."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from paramserver.drawing.gantt import BARS_MAX, MARKS_MAX, NAME_MAX, ROWS_MAX, Bar, gantt, overview


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
    svg = draw([Bar("far-away.example.org-17", 0.0, 1.0, 0, "job")])
    (shown,) = re.findall(r"<title>far-away.example.org-17</title>(.*?)</text>", svg)
    assert shown == "far-awa….org-17"
    assert len(shown) <= NAME_MAX
