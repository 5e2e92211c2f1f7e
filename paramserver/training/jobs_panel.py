"""The panel of a training's jobs: who had which when, and how stale gradients were.

Rule 1: it only reads what the I/O thread writes, and copies it first: one step of the interpreter.
Rule 2: after `freeze` it holds what was seen last, and nothing of the training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

from paramserver.drawing.charts import bar_chart
from paramserver.drawing.gantt import BARS_MAX, Bar, gantt
from paramserver.drawing.page import figure, section
from paramserver.drawing.panel import Reading
from paramserver.training.staleness import summarise
from paramserver.training.timeline import JobSpan, Timeline


class Source(Protocol):
    """What is shown of a training."""

    @property
    def timeline(self) -> Timeline: ...

    @property
    def staleness(self) -> Counter[int] | None:
        """How many updates had which staleness; None for averaging."""


class JobsPanel:
    """Shows the jobs of a training.

    Parameters
    ----------
    source : Source
    """

    name = "training"
    rank = 20

    def __init__(self, source: Source) -> None:
        self._source: Source | None = source
        self._last = ""

    @property
    def is_frozen(self) -> bool:
        """Whether the training is over."""
        return self._source is None

    def freeze(self) -> None:
        """Keep the picture as it is, and let the training go."""
        source = self._source
        if source is not None:
            self._last, self._source = _drawn(source), None

    def html(self) -> str:
        """Return the jobs as a Gantt chart, and the staleness as a histogram."""
        source = self._source
        return self._last if source is None else _drawn(source)

    def readings(self) -> Iterable[Reading]:
        """Return the mean staleness."""
        source = self._source
        if source is None or source.staleness is None:
            return
        mean = summarise(dict(source.staleness))["mean"]
        yield Reading("training_staleness_mean", "Mean staleness of all updates so far.", mean)


def _drawn(source: Source) -> str:
    staleness = source.staleness
    counts = None if staleness is None else dict(staleness)
    unit = "round" if counts is None else "epoch"
    drawn = timeline_section(list(source.timeline.spans), unit)
    if counts is None:
        return drawn
    found = summarise(counts)
    picture = bar_chart(counts, x_title="staleness (updates by others)", y_title="updates")
    about = (
        f"{found['mean']:.2f} updates by others on average between reading the weights and "
        f"changing them, at most {found['p95']} for 95 of 100, {found['max']} at worst."
    )
    charts = f'<div class="charts">{figure("Staleness", "of all updates", picture)}</div>'
    return drawn + section("Staleness", about, charts)


def timeline_section(spans: Sequence[JobSpan], unit: str) -> str:
    """Return the picture of the latest jobs, with how to read it.

    Parameters
    ----------
    spans : sequence of JobSpan
    unit : str
        "round" or "epoch".
    """
    about = (
        f"One bar is a job on its worker, one colour is one {unit}. In a gap the worker had no job "
        "of this training."
    )
    bars = gantt(
        _bars(spans[-BARS_MAX:], unit), x_title="seconds of training", label="jobs of each worker"
    )
    what = "of each worker" if len(spans) <= BARS_MAX else f"of each worker, the latest {BARS_MAX}"
    return section("Timeline", about, figure("Jobs", what, bars))


def _bars(spans: Sequence[JobSpan], unit: str) -> list[Bar]:
    return [
        Bar(
            span.worker_id,
            span.begun_s,
            span.ended_s,
            span.number,
            f"{span.worker_id}: {unit} {span.number}, partition {span.partition}",
        )
        for span in spans
    ]
