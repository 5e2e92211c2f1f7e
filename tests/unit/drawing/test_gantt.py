"""A row for each worker, a bar for each job."""

from __future__ import annotations

from xml.etree import ElementTree

from paramserver.drawing.gantt import BARS_MAX, ROWS_MAX, Bar, gantt


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
