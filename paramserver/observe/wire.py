"""How fast a run was, what went over the wire, how many jobs waited: events to pictures. Pure.

Rule 1: a rate is what went between two moments, divided by the time between them; moments that are
        closer than a pixel are taken together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from paramserver.drawing.charts import Line, line_chart, line_charts
from paramserver.drawing.page import figure, figures, section
from paramserver.observe.events import Progressed
from paramserver.observe.words import amount

STRETCHES: Final = 80
"""Into so many stretches of time a run is cut."""


class WireMoment(NamedTuple):
    """What had gone over the wire by a moment.

    Attributes
    ----------
    unit : int
    epochs, wall_s : float
    pushed_bytes, pulled_bytes : int
        To the master, and from it.
    n_queued : int
        Jobs that waited for a worker.
    """

    unit: int
    epochs: float
    wall_s: float
    pushed_bytes: int
    pulled_bytes: int
    n_queued: int


def wire_moment(event: Progressed) -> WireMoment | None:
    """Return what an event tells of the wire; None where nothing is sent."""
    if event.pushed_bytes is None or event.pulled_bytes is None:
        return None
    return WireMoment(
        event.unit,
        event.epochs,
        event.wall_s,
        event.pushed_bytes,
        event.pulled_bytes,
        event.n_queued or 0,
    )


def wire_section(moments: Sequence[WireMoment], unit: str, n_examples: int) -> str:
    """Return figures and curves; nothing where nothing is known.

    Parameters
    ----------
    moments : sequence of WireMoment
        In order of time.
    unit : str
        "round" or "update".
    n_examples : int
        Of the data.
    """
    if not moments or not moments[-1].wall_s:
        return ""
    about = (
        "The wire is whatever way weights, results and gradients went: on one machine that is "
        "shared memory, which costs a copy and no network."
    )
    cells, charts = _cells(moments[-1], unit), _charts(moments, n_examples)
    return section("Throughput", about, f'{figures(cells)}<div class="charts below">{charts}</div>')


def _cells(last: WireMoment, unit: str) -> list[tuple[str, str, str]]:
    """Return what went round until the last moment: names, amounts, and of what."""
    n = max(1, last.unit)
    return [
        ("to the master", amount(last.pushed_bytes / last.wall_s), "a second, on average"),
        ("from the master", amount(last.pulled_bytes / last.wall_s), "a second, on average"),
        (f"pushed, each {unit}", amount(last.pushed_bytes / n), "results or gradients"),
        (f"pulled, each {unit}", amount(last.pulled_bytes / n), "weights"),
        ("queue depth", f"{last.n_queued:,}", "jobs waiting for a worker"),
    ]


def _charts(moments: Sequence[WireMoment], n_examples: int) -> str:
    """Draw speed, wire and queue against time."""
    stretches = _stretches(moments)
    pushed = [(b.wall_s, (b.pushed_bytes - a.pushed_bytes) / 1e6 / s) for a, b, s in stretches]
    pulled = [(b.wall_s, (b.pulled_bytes - a.pulled_bytes) / 1e6 / s) for a, b, s in stretches]
    x_title = "seconds of training"
    speeds = [(b.wall_s, (b.epochs - a.epochs) * n_examples / s) for a, b, s in stretches]
    speed = line_chart(
        speeds, x_title=x_title, y_title="examples a second", colour="c3", from_zero=True
    )
    rates = line_charts(
        [Line("to the master", pushed, "c1"), Line("from the master", pulled, "c5")],
        x_title=x_title,
        y_title="MB a second",
        from_zero=True,
    )
    queue = line_chart(
        [(moment.wall_s, float(moment.n_queued)) for moment in moments],
        x_title=x_title,
        y_title="jobs waiting for a worker",
        colour="c7",
        from_zero=True,
        whole="y",
    )
    return (
        figure("Speed", "examples a second", speed)
        + figure("Wire", "MB a second", rates)
        + figure("Queue depth", "jobs", queue)
    )


def _stretches(moments: Sequence[WireMoment]) -> list[tuple[WireMoment, WireMoment, float]]:
    """Return pairs of moments with the time between them, from the beginning on."""
    least_s = moments[-1].wall_s / STRETCHES
    found, before = [], WireMoment(0, 0.0, 0.0, 0, 0, 0)
    for moment in moments:
        gap_s = moment.wall_s - before.wall_s
        if gap_s > 0 and gap_s >= least_s:
            found.append((before, moment, gap_s))
            before = moment
    return found
