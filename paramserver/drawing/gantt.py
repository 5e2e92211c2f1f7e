"""Who did what when, as inline SVG: a row for each worker, a bar for each job. Pure.

Rule 1: what is shown is the latest window of time; what lies before it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

from paramserver.drawing.scales import Scale, by_number

WIDTH: Final = 960
LEFT, RIGHT, BOTTOM, ROW = 110, 16, 36, 22
COLOURS: Final = ("c1", "c5", "c3", "c4", "c6", "c2", "c7")
BARS_MAX: Final = 240
ROWS_MAX: Final = 32


class Bar(NamedTuple):
    """A stretch of time on a row.

    Attributes
    ----------
    row : str
    begun_s, ended_s : float
    colour : int
        Bars of the same number have the same colour.
    name : str
    """

    row: str
    begun_s: float
    ended_s: float
    colour: int
    name: str


def gantt(bars: Sequence[Bar], *, x_title: str, label: str) -> str:
    """Draw the latest bars.

    Parameters
    ----------
    bars : sequence of Bar
        In the order of their ends.
    x_title, label : str
    """
    shown = bars[-BARS_MAX:]
    rows = sorted({bar.row for bar in shown}, key=by_number)[:ROWS_MAX]
    places = {row: i for i, row in enumerate(rows)}
    begin = min((bar.begun_s for bar in shown), default=0.0)
    end = max((bar.ended_s for bar in shown), default=1.0)
    scale = Scale(begin, end if end > begin else begin + 1.0)
    height = ROW * max(1, len(rows)) + BOTTOM
    parts = [
        f'<text class="note" x="{LEFT - 10}" y="{ROW * i + 15}" text-anchor="end">'
        f"{escape(row)}</text>"
        for row, i in places.items()
    ]
    parts += [_bar(bar, places[bar.row], scale) for bar in shown if bar.row in places]
    base = height - BOTTOM + 2
    for value, text in scale.ticks():
        x = _x(scale, value)
        parts.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>'
            f'<text class="tick" x="{x:.1f}" y="{base + 16}" text-anchor="middle">{text}</text>'
        )
    parts.append(
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>'
        f'<text class="title" x="{WIDTH - RIGHT}" y="{height - 3}" text-anchor="end">'
        f"{escape(x_title)}</text>"
    )
    return (
        f'<svg class="chart wide" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _bar(bar: Bar, place: int, scale: Scale) -> str:
    left, right = _x(scale, bar.begun_s), _x(scale, bar.ended_s)
    colour = COLOURS[bar.colour % len(COLOURS)]
    return (
        f'<rect class="bar {colour}" x="{left:.1f}" y="{ROW * place + 3}" '
        f'width="{max(0.6, right - left - 0.6):.1f}" height="{ROW - 6}" rx="1.5">'
        f"<title>{escape(bar.name)}, {bar.ended_s - bar.begun_s:.3f} s</title></rect>"
    )


def _x(scale: Scale, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * scale.place(value)
