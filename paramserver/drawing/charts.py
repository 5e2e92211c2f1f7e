"""Charts as inline SVG: lines, bars, shares. Pure: values in, text out.

Rule 1: a colour is a class of `page.css` (`c1` ... `c8`), so that a chart is readable on dark and
        on light; what a colour says is written beside it as well.
Rule 2: an axis has a title with its unit, and round numbers.
Rule 3: all text that comes from elsewhere is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, isfinite
from typing import Final, NamedTuple

from paramserver.drawing.scales import Scale, scale_for, short

Point = tuple[float, float]

WIDTH, HEIGHT = 360, 216
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 38
"""Pixels beside the plot, for what is written there."""
CHARACTER: Final = 7.6
"""Pixels of a digit in a wide font."""
POINTS_MAX: Final = 400
"""Of a longer line every n-th point is drawn: a browser has not more pixels."""
BINS_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Mark:
    """A single point that is named, such as a result to compare with."""

    x: float
    y: float
    name: str
    colour: str = "c2"


class Line(NamedTuple):
    """One of several lines of a chart.

    Attributes
    ----------
    name : str
    points : sequence of (x, y)
        In order of x; those that are not finite are left out.
    colour : str
        Class of `page.css`.
    """

    name: str
    points: Sequence[Point]
    colour: str


def line_chart(
    points: Sequence[Point],
    *,
    x_title: str,
    y_title: str,
    colour: str = "c1",
    is_log: bool = False,
    from_zero: bool = False,
    whole: str = "",
    marks: Sequence[Mark] = (),
    label: str = "",
) -> str:
    """Draw one line, with a dot at its end.

    Parameters
    ----------
    points : sequence of (x, y)
        In order of x; those that are not finite are left out.
    x_title, y_title : str
        With units; an axis of seconds is told in minutes or hours where it is long.
    colour : str
        Class of `page.css`.
    is_log, from_zero : bool
        The axis of y.
    whole : {"", "x", "y", "xy"}
        Axes of whole numbers.
    marks : sequence of Mark
    label : str
        What the picture shows, for those who cannot see it.
    """
    return line_charts(
        [Line(y_title, points, colour)],
        x_title=x_title,
        y_title=y_title,
        is_log=is_log,
        from_zero=from_zero,
        whole=whole,
        marks=marks,
        label=label,
    )


def line_charts(
    lines: Sequence[Line],
    *,
    x_title: str,
    y_title: str,
    is_log: bool = False,
    from_zero: bool = False,
    whole: str = "",
    marks: Sequence[Mark] = (),
    label: str = "",
) -> str:
    """Draw several lines over the same axes, with a legend where there are more than one.

    The parameters are those of `line_chart`.
    """
    drawn = [
        line._replace(
            points=_thinned([(x, y) for x, y in line.points if isfinite(x) and isfinite(y)])
        )
        for line in lines
    ]
    xs = [x for line in drawn for x, _ in line.points] + [m.x for m in marks]
    ys = [y for line in drawn for _, y in line.points] + [m.y for m in marks]
    x_scale = scale_for(xs, from_zero=True, is_whole="x" in whole, room=0.02)
    y_scale = scale_for(ys, is_log=is_log, from_zero=from_zero, is_whole="y" in whole, room=0.06)
    parts = [_axes(x_scale, y_scale, x_title) if xs else _nothing(x_title)]
    parts += [_line(line, x_scale, y_scale) for line in drawn]
    parts += [_mark(mark, x_scale, y_scale) for mark in marks]
    keys = [(line.name, line.colour) for line in lines] if len(lines) > 1 else []
    return _svg("".join(parts), label or f"{y_title} against {x_title}") + legend(keys)


def _line(line: Line, x_scale: Scale, y_scale: Scale) -> str:
    places = [(_x(x_scale, x), _y(y_scale, y)) for x, y in line.points]
    if not places:
        return ""
    path = ""
    if len(places) > 1:
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        path = f'<polyline class="line {line.colour}" points="{corners}"/>'
    x, y = places[-1]
    return path + (
        f'<circle class="dot {line.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
        f"<title>{escape(line.name)}: {short(line.points[-1][1])}</title></circle>"
    )


def legend(keys: Sequence[tuple[str, str]]) -> str:
    """Say which colour is what; nothing for no keys.

    Parameters
    ----------
    keys : sequence of (name, classes of `page.css`)
    """
    if not keys:
        return ""
    items = "".join(
        f'<li><i class="key {classes}"></i>{escape(name)}</li>' for name, classes in keys
    )
    return f'<ul class="legend">{items}</ul>'


def bar_chart(
    counts: Mapping[int, int], *, x_title: str, y_title: str, colour: str = "c1", label: str = ""
) -> str:
    """Draw how often whole numbers from 0 on occur; many different ones in bins of equal width."""
    bins, width = binned(counts)
    n_bins = max(bins, default=0) + 1
    x_scale = Scale(0.0, float(n_bins * width), is_whole=True)
    y_scale = scale_for(bins.values(), from_zero=True, is_whole=True, room=0.04)
    middle = width / 2 if width == 1 else 0.0
    parts = [_axes(x_scale, y_scale, x_title, middle=middle) if bins else _nothing(x_title)]
    gap = 1.0 if n_bins > 20 else 2.0
    for number, n in sorted(bins.items()):
        left, right = _x(x_scale, number * width), _x(x_scale, (number + 1) * width)
        top, bottom = _y(y_scale, n), _y(y_scale, 0)
        if n:
            top = min(top, bottom - 1)  # what occurs at all can be seen
        values = str(number) if width == 1 else f"{number * width} to {(number + 1) * width - 1}"
        parts.append(
            f'<rect class="bar {colour}" x="{left + gap / 2:.1f}" y="{top:.1f}" '
            f'width="{max(1.0, right - left - gap):.1f}" height="{bottom - top:.1f}">'
            f"<title>{values}: {n:,}</title></rect>"
        )
    return _svg("".join(parts), label or f"{y_title} by {x_title}")


def spark_bars(counts: Mapping[int, int], n_bins: int, width: int, colour: str = "c1") -> str:
    """Draw a small histogram without axes, for a cell of a table.

    Parameters
    ----------
    counts : mapping of int to int
    n_bins, width : int
        Of all histograms that are compared: bins, and whole numbers in a bin.
    """
    bins = _grouped(counts, width)
    most = max(bins.values(), default=0) or 1
    wide, high = 160, 22
    step = wide / max(1, n_bins)
    tall = {number: max(1.0, high * n / most) for number, n in sorted(bins.items()) if n}
    rects = "".join(
        f'<rect class="bar {colour}" x="{number * step:.1f}" y="{high - height:.1f}" '
        f'width="{max(0.8, step - 0.8):.1f}" height="{height:.1f}"/>'
        for number, height in tall.items()
    )
    return (
        f'<svg class="spark" viewBox="0 0 {wide} {high}" role="img" '
        f'aria-label="histogram">{rects}<line class="axis" x1="0" x2="{wide}" y1="{high}" '
        f'y2="{high}"/></svg>'
    )


def binned(counts: Mapping[int, int]) -> tuple[dict[int, int], int]:
    """Return counts in at most `BINS_MAX` bins from 0 on, and how many numbers are in a bin.

    Examples
    --------
    >>> binned({0: 5, 3: 1})
    ({0: 5, 3: 1}, 1)
    >>> binned({0: 5, 1: 2, 99: 1})
    ({0: 7, 49: 1}, 2)
    """
    width = ceil((max(counts, default=0) + 1) / BINS_MAX)
    return _grouped(counts, width), width


def shares_bar(shares: Sequence[tuple[str, float, str]], label: str) -> str:
    """Draw parts of a whole as one bar with its legend.

    Parameters
    ----------
    shares : sequence of (name, part of 1, colour)
    label : str
    """
    segments, legend, at = [], [], 0.0
    for name, share, colour in shares:
        segments.append(
            f'<rect class="bar {colour}" x="{at * 100:.2f}%" y="0" width="{share * 100:.2f}%" '
            f'height="100%"><title>{escape(name)}: {share:.1%}</title></rect>'
        )
        legend.append(
            f'<li><i class="key {colour}"></i>{escape(name)} <b>{_percent(share)}</b></li>'
        )
        at += share
    return (
        f'<svg class="shares" role="img" aria-label="{escape(label)}">{"".join(segments)}</svg>'
        f'<ul class="legend">{"".join(legend)}</ul>'
    )


def small_shares(shares: Sequence[tuple[str, float, str]]) -> str:
    """Draw parts of a whole as a small bar without a legend, for a cell of a table.

    Parameters
    ----------
    shares : sequence of (name, part of 1, colour)
    """
    label = ", ".join(f"{name} {_percent(share)}" for name, share, _ in shares)
    segments, at = [], 0.0
    for _, share, colour in shares:
        segments.append(
            f'<rect class="bar {colour}" x="{at * 100:.1f}%" y="0" width="{share * 100:.1f}%" '
            'height="100%"/>'
        )
        at += share
    return (
        f'<svg class="shares small" role="img" aria-label="{escape(label)}">'
        f"<title>{escape(label)}</title>{''.join(segments)}</svg>"
    )


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0 < share < 0.0995 else f"{share:.0%}"


def _grouped(counts: Mapping[int, int], width: int) -> dict[int, int]:
    bins: dict[int, int] = {}
    for value, n in sorted(counts.items()):
        bins[value // width] = bins.get(value // width, 0) + n
    return bins


def _thinned(points: list[Point]) -> list[Point]:
    if len(points) <= POINTS_MAX:
        return points
    step = ceil(len(points) / POINTS_MAX)
    return [*points[:-1:step], points[-1]]


def _x(scale: Scale, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * scale.place(value)


def _y(scale: Scale, value: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * scale.place(value)


def _axes(x_scale: Scale, y_scale: Scale, x_title: str, *, middle: float = 0.0) -> str:
    """Draw both axes; `middle` moves the ticks of x into the middle of what they name."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    x_ticks, x_title = x_scale.timed(x_title)
    parts = []
    for value, text in y_scale.ticks():
        y = _y(y_scale, value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        )
    for value, text in x_ticks:
        x = _x(x_scale, value + middle)
        if x <= right + 1:
            middle_x = min(x, WIDTH - CHARACTER / 2 * len(text))  # whole, also at the edge
            parts.append(
                f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>'
                f'<text class="tick" x="{middle_x:.1f}" y="{bottom + 17}" text-anchor="middle">'
                f"{text}</text>"
            )
    return "".join(parts) + _base(x_title)


def _base(x_title: str) -> str:
    """Draw the line that a chart stands on, and what it counts."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    return (
        f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
        f'<text class="title" x="{right}" y="{HEIGHT - 5}" text-anchor="end">{escape(x_title)}'
        "</text>"
    )


def _mark(mark: Mark, x_scale: Scale, y_scale: Scale) -> str:
    x, y = _x(x_scale, mark.x), _y(y_scale, mark.y)
    is_right = x > (LEFT + WIDTH - RIGHT) / 2
    anchor, dx = ("end", -9) if is_right else ("start", 9)
    low = y + 17 if y < HEIGHT - BOTTOM - 30 else y - 9
    return (
        f'<circle class="mark {mark.colour}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
        f'<text class="note" x="{x + dx:.1f}" y="{low:.1f}" text-anchor="{anchor}">'
        f"{escape(mark.name)}</text>"
    )


def _nothing(x_title: str) -> str:
    """Draw what there is of a chart before there is anything to measure it by."""
    return _base(x_title) + (
        f'<text class="title" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT / 2 - 10}" '
        'text-anchor="middle">nothing yet</text>'
    )


def _svg(inner: str, label: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{inner}</svg>'
    )
