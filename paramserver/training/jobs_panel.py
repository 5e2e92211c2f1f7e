"""The panel of a training's jobs: who had which when, where the time goes, how stale gradients are.

Rule 1: it only reads what the I/O thread writes, and copies it first: one step of the interpreter.
Rule 2: after `freeze` it holds values, and nothing that maps memory; a training that nobody looks
        at is never drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from paramserver.drawing.page import Html
from paramserver.drawing.panel import Reading
from paramserver.drawing.troubles import errors_section
from paramserver.runtime.troubles import Troubles
from paramserver.training.measures import Measures
from paramserver.training.sections import (
    barrier_figure,
    partitions_figure,
    shares_cell,
    staleness_figure,
    staleness_table,
    time_figure,
    timeline_section,
    work_section,
)
from paramserver.training.staleness import summarise
from paramserver.training.tally import PartitionState, Tally
from paramserver.training.timeline import Timeline

ACTIVITIES: Final = ("compute", "wire", "wait", "lost")


class Source(Protocol):
    """What is shown of a training."""

    @property
    def timeline(self) -> Timeline: ...

    @property
    def tally(self) -> Tally: ...

    @property
    def troubles(self) -> Troubles: ...

    @property
    def staleness(self) -> Counter[int] | None:
        """How many updates had which staleness; None for averaging."""

    @property
    def staleness_by_worker(self) -> dict[str, Counter[int]]:
        """The same of each worker."""

    def partitions(self) -> list[PartitionState]:
        """Return how far it is with each partition."""

    def measures(self) -> Measures:
        """Return where the time went, and how much went round."""


@dataclass(frozen=True, slots=True)
class Still:
    """A training as it was at its end, without the training. See `Source`."""

    timeline: Timeline
    tally: Tally
    troubles: Troubles
    staleness: Counter[int] | None
    staleness_by_worker: dict[str, Counter[int]]
    states: list[PartitionState]
    measured: Measures

    def partitions(self) -> list[PartitionState]:
        """Return how far it was with each partition."""
        return self.states

    def measures(self) -> Measures:
        """Return where the time went, and how much went round."""
        return self.measured


class JobsPanel:
    """Shows the jobs of a training.

    Parameters
    ----------
    source : Source
    """

    name = "training"
    rank = 20
    column = "time computing"
    """Of the table of workers; see `drawing.panel.WorkerColumn`."""

    def __init__(self, source: Source) -> None:
        self._source: Source | Still = source
        self._last: str | None = None

    @property
    def is_frozen(self) -> bool:
        """Whether the training is over."""
        return isinstance(self._source, Still)

    def freeze(self) -> None:
        """Keep what there is to see, undrawn, and let the training go."""
        source = self._source
        if not isinstance(source, Still):
            self._source = Still(
                source.timeline,
                source.tally,
                source.troubles,
                source.staleness,
                source.staleness_by_worker,
                source.partitions(),
                source.measures(),
            )

    def html(self) -> str:
        """Return where the time goes, the jobs as a Gantt chart, staleness, partitions, errors."""
        source = self._source
        if not isinstance(source, Still):
            return _drawn(source)
        if self._last is None:
            self._last = _drawn(source)
        return self._last

    def cells(self) -> Mapping[str, Html]:
        """Return the shares of the time of each worker."""
        return _cells(self._source)

    def readings(self) -> Iterable[Reading]:
        """Return staleness, bytes and seconds; those of the end after it."""
        return _readings(self._source)


def _cells(source: Source | Still) -> dict[str, Html]:
    return {name: shares_cell(time) for name, time in source.tally.now().items()}


def _drawn(source: Source | Still) -> str:
    staleness = source.staleness
    counts = None if staleness is None else dict(staleness)
    spans = list(source.timeline.spans)
    figures = (
        time_figure(source.tally.now()),
        barrier_figure(spans) if counts is None else staleness_figure(counts),
        partitions_figure(source.partitions()),
    )
    by_worker = {name: dict(each) for name, each in source.staleness_by_worker.items()}
    return (
        timeline_section(spans, "round" if counts is None else "epoch")
        + errors_section(list(source.troubles), source.troubles.n_others)
        + work_section("Where the time goes", "", figures, staleness_table(by_worker))
    )


def _readings(source: Source | Still) -> Iterable[Reading]:
    measures = source.measures()
    about = "Bytes of results or gradients to the master, and of weights from it."
    for way, n in (("pushed", measures.pushed_bytes), ("pulled", measures.pulled_bytes)):
        yield Reading("training_wire_bytes_total", about, n, (("way", way),))
    times = list(source.tally.workers.values())  # not `now()`: a counter must not go back
    about = "What the time of the workers went to, up to the end of their last jobs."
    for what in ACTIVITIES:
        seconds = sum(getattr(time, f"{what}_s") for time in times)
        yield Reading("training_worker_seconds_total", about, seconds, (("activity", what),))
    about = "Time of the master in averaging or applying gradients."
    yield Reading("training_apply_seconds_total", about, measures.apply_s)
    about = "Attempts at jobs of the training that raised an error or were lost with their worker."
    yield Reading("training_failed_attempts_total", about, sum(time.n_failed for time in times))
    if source.staleness is not None:
        mean = summarise(dict(source.staleness))["mean"]
        yield Reading("training_staleness_mean", "Mean staleness of all updates so far.", mean)
