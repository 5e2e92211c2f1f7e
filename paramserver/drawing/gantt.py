"""Who did what when, as inline SVG: a row for each worker, a bar for each job. Pure.

Rule 1: what is shown is the latest window of time; what lies before it is left out.
Rule 2: what came to nothing, or was done twice, differs in shape as well as in colour, and a legend
        names the shapes that occur.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import ceil
from typing import Final, NamedTuple

from paramserver.drawing.charts import legend
from paramserver.drawing.scales import Scale, by_number

WIDTH: Final = 1100
RIGHT, BOTTOM, ROW = 16, 36, 22
TURNS: Final = ("c1", "c6")
"""Colours that take turns: what follows each other differs, and what stands out is a failure."""
KINDS_OF_JOBS: Final = ("c1", "c3", "c5", "c7", "c4", "c6")
"""Colours of what has names."""
BARS_MAX: Final = 240
ROWS_MAX: Final = 32
APART: Final = 1 / 600
"""Bars of a row that are less than this part of the width apart are one bar of an overview."""
MARKS_MAX: Final = 60
NAME_MAX: Final = 25
"""Characters of a row's name; the middle of a longer one is left out."""
LEFT_MIN: Final = 64
"""Pixels for the names of rows, at least ..."""
CHARACTER: Final = 7.8
"""... and for each character of the longest, in a wide font."""

KINDS: Final = {
    "": "",
    "backup": "backup copy",
    "unneeded": "ended when another copy had been first",
    "failed": "raised an error",
    "lost": "lost with its worker",
}


class Bar(NamedTuple):
    """A stretch of time on a row.

    Attributes
    ----------
    row : str
    begun_s, ended_s : float
    colour : int
        Which of the colours of the picture.
    name : str
    kind : str
        One of `KINDS`; empty for what is as it should be.
    """

    row: str
    begun_s: float
    ended_s: float
    colour: int
    name: str
    kind: str = ""


class Rows(NamedTuple):
    """What is drawn of all rows.

    Attributes
    ----------
    places : dict of str to int
        From above.
    n_hidden : int
        For which there is no room.
    """

    places: dict[str, int]
    n_hidden: int


class Frame(NamedTuple):
    """Where on a picture a moment is.

    Attributes
    ----------
    scale : Scale
        Of seconds.
    left : int
        Pixels for the names of rows.
    """

    scale: Scale
    left: int

    def x(self, moment_s: float) -> float:
        """Return the place of a moment, in pixels."""
        return self.left + (WIDTH - self.left - RIGHT) * self.scale.place(moment_s)


def gantt(bars: Sequence[Bar], *, x_title: str, label: str, colours: Sequence[str] = TURNS) -> str:
    """Draw the latest bars, of the first rows.

    Parameters
    ----------
    bars : sequence of Bar
        In the order of their ends.
    x_title, label : str
    colours : sequence of str
        Classes of `page.css`, to be taken in turns.
    """
    rows = _rows(bars[-BARS_MAX:])
    shown = [bar for bar in bars if bar.row in rows.places][-BARS_MAX:]
    begin = min((bar.begun_s for bar in shown), default=0.0)
    return _drawn(shown, shown, rows, begin, x_title, label, colours)


def overview(bars: Sequence[Bar], *, x_title: str, label: str) -> str:
    """Draw when each row was busy, from 0 on, and what came to nothing; any number of bars.

    Parameters
    ----------
    bars : sequence of Bar
        In the order of their ends.
    x_title, label : str
    """
    end = max((bar.ended_s for bar in bars), default=1.0)
    begin = min(0.0, min((bar.begun_s for bar in bars), default=0.0))
    busy: dict[str, list[Bar]] = {}
    for bar in bars:
        mine = busy.setdefault(bar.row, [])
        if mine and bar.begun_s - mine[-1].ended_s < APART * (end - begin):
            mine[-1] = mine[-1]._replace(
                begun_s=min(mine[-1].begun_s, bar.begun_s), ended_s=bar.ended_s
            )
        else:
            mine.append(bar._replace(name=f"{bar.row}: at work", colour=0, kind=""))
    merged = [bar for mine in busy.values() for bar in mine]
    marked = [bar for bar in bars if bar.kind in ("failed", "lost")][-MARKS_MAX:]
    return _drawn(merged, marked, _rows(bars), begin, x_title, label, TURNS)


def _rows(bars: Sequence[Bar]) -> Rows:
    names = sorted({bar.row for bar in bars}, key=by_number)
    places = {name: i for i, name in enumerate(names[:ROWS_MAX])}
    return Rows(places, len(names) - len(places))


def _drawn(
    bars: Sequence[Bar],
    marked: Sequence[Bar],
    rows: Rows,
    begin: float,
    x_title: str,
    label: str,
    colours: Sequence[str],
) -> str:
    places, n_hidden = rows
    bars, marked = ([bar for bar in each if bar.row in places] for each in (bars, marked))
    end = max((bar.ended_s for bar in bars), default=1.0)
    more = f"and {n_hidden:,} more" if n_hidden else ""
    frame = Frame(Scale(begin, end if end > begin else begin + 1.0), _room_for((*places, more)))
    height = ROW * max(1, len(places) + bool(n_hidden)) + BOTTOM
    parts = [_row_name(row, i, frame) for row, i in places.items()]
    parts += [_bar(bar, places[bar.row], frame, colours) for bar in bars]
    parts += [_cross(bar, places[bar.row], frame) for bar in marked]
    if more:
        parts.append(_note(more, len(places), frame))
    parts.append(_axis(frame, height, x_title))
    kinds = {bar.kind for bar in (*bars, *marked)}
    keys = [(name, kind) for kind, name in KINDS.items() if kind and kind in kinds]
    return (
        f'<svg class="chart wide" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>{legend(keys)}'
    )


def _room_for(names: Iterable[str]) -> int:
    """Return how far from the left the bars begin."""
    longest = max((min(len(name), NAME_MAX) for name in names), default=0)
    return max(LEFT_MIN, ceil(CHARACTER * longest) + 12)


def _row_name(row: str, place: int, frame: Frame) -> str:
    half = (NAME_MAX - 1) // 2
    short = row if len(row) <= NAME_MAX else f"{row[:half]}…{row[-half:]}"
    title = "" if short == row else f"<title>{escape(row)}</title>"
    return _note(escape(short), place, frame, title)


def _note(text: str, place: int, frame: Frame, title: str = "") -> str:
    """Write beside a row."""
    return (
        f'<text class="note" x="{frame.left - 10}" y="{ROW * place + 15}" text-anchor="end">'
        f"{title}{text}</text>"
    )


def _axis(frame: Frame, height: int, x_title: str) -> str:
    base = height - BOTTOM + 2
    ticks, x_title = frame.scale.timed(x_title)
    parts = []
    for value, text in ticks:
        x = frame.x(value)
        parts.append(
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>'
            f'<text class="tick" x="{x:.1f}" y="{base + 16}" text-anchor="middle">{text}</text>'
        )
    parts.append(
        f'<line class="axis" x1="{frame.left}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>'
        f'<text class="title" x="{WIDTH - RIGHT}" y="{height - 3}" text-anchor="end">'
        f"{escape(x_title)}</text>"
    )
    return "".join(parts)


def _bar(bar: Bar, place: int, frame: Frame, colours: Sequence[str]) -> str:
    left, right = frame.x(bar.begun_s), frame.x(bar.ended_s)
    colour = colours[bar.colour % len(colours)]
    classes = f"bar {colour} {bar.kind}".rstrip()
    said = f"{bar.name}, {bar.ended_s - bar.begun_s:.3f} s"
    if bar.kind:
        said += f" ({KINDS[bar.kind]})"
    return (
        f'<rect class="{classes}" x="{left:.1f}" y="{ROW * place + 3}" '
        f'width="{max(0.6, right - left - 0.6):.1f}" height="{ROW - 6}" rx="1.5">'
        f"<title>{escape(said)}</title></rect>"
    )


def _cross(bar: Bar, place: int, frame: Frame) -> str:
    """Mark the end of what came to nothing."""
    if bar.kind not in ("failed", "lost"):
        return ""
    x, y = frame.x(bar.ended_s), ROW * place + ROW / 2
    return (
        f'<path class="cross {bar.kind}" d="M{x - 5:.1f} {y - 5}l10 10m0 -10l-10 10">'
        f"<title>{escape(bar.name)}: {KINDS[bar.kind]}</title></path>"
    )
