"""The panel of a run: how far it is, and how it converges.

Rule 1: events come in on the user's thread, the page asks from its own: what is shown is copied.
Rule 2: it does not grow with the run: of more than `MOMENTS_MAX` moments every second one goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from time import time
from typing import Final

from paramserver.drawing.page import figures, html, section
from paramserver.drawing.panel import Reading
from paramserver.observe.display import part_done, rate_of, seconds_left
from paramserver.observe.events import Event, Progressed, RunStarted
from paramserver.observe.record import RunRecord
from paramserver.observe.report import convergence_charts

MOMENTS_MAX: Final = 2_000


class ProgressPanel:
    """Shows a run.

    Parameters
    ----------
    started : RunStarted

    Attributes
    ----------
    has_ended : bool
        Whether the training is over.
    """

    name = "progress"
    rank = 10

    def __init__(self, started: RunStarted) -> None:
        self._started = started
        self._record = RunRecord(started, time())
        self._progress: Progressed | None = None
        self._best: float | None = None
        self.has_ended = False

    def take(self, event: Event) -> None:
        """Take in what has happened."""
        record = self._record
        if not isinstance(event, Progressed):
            return
        self._progress = event
        record.take(time(), event)
        if event.train_loss is not None:
            self._best = min(event.train_loss, self._best or event.train_loss)
        if len(record.moments) > MOMENTS_MAX:
            del record.moments[1:-1:2]

    def end(self) -> None:
        """Take in that the training is over."""
        self.has_ended = True

    def html(self) -> str:
        """Return figures and curves."""
        started, progress = self._started, self._progress
        n_workers = started.n_workers if progress is None else progress.n_workers
        mode = "iterative averaging" if started.mode == "avg" else "asynchronous SGD"
        head = (
            f"<header><h1>{html(started.model)} on {html(started.data)}</h1>"
            f'<p class="lede">{mode}: {started.n_parameters:,} weights, {started.n_examples:,} '
            f"examples in {started.n_partitions} partitions, {n_workers} workers</p>"
        )
        if progress is None:
            return f'{head}<p class="about">Waiting for the first evaluation.</p></header>'
        part = 1.0 if self.has_ended else part_done(started, progress)
        bar = f'<div class="part"><i style="width:{part:.1%}"></i></div>'
        record = replace(self._record, moments=list(self._record.moments))
        about = "Training loss on a sample of the rows; held-out rows are never trained on."
        return f"{head}{bar}{figures(self._figures(progress))}</header>\n" + section(
            "Convergence", about, convergence_charts(record)
        )

    def readings(self) -> Iterable[Reading]:
        """Return how far it is."""
        progress = self._progress
        if progress is None:
            return
        started = self._started
        yield Reading("training_loss", "Training loss, on a sample.", progress.train_loss)
        if progress.test_score is not None:
            yield Reading("training_held_out_score", "Held-out score.", progress.test_score)
        yield Reading("training_epochs_total", "Passes over all examples.", progress.epochs)
        examples = progress.epochs * started.n_examples
        yield Reading("training_examples_total", "Examples trained on.", examples)
        unit = "rounds" if started.mode == "avg" else "updates"
        yield Reading(f"training_{unit}_total", f"{unit.capitalize()} so far.", progress.unit)
        yield Reading("training_duration_seconds", "Time of training.", progress.wall_s)

    def _figures(self, progress: Progressed) -> Iterator[tuple[str, object, str]]:
        started = self._started
        left_s = seconds_left(started, progress, progress.wall_s)
        left = "" if left_s is None or self.has_ended else f"about {left_s:.0f} s left"
        yield "elapsed", f"{progress.wall_s:.1f} s", "at the end" if self.has_ended else left
        unit = "rounds" if started.mode == "avg" else "updates"
        yield unit, f"{progress.unit:,}", f"{progress.epochs:.1f} epochs"
        best = "" if self._best is None else f"best {self._best:.4g}"
        yield "training loss", f"{progress.train_loss:.4g}", best
        if progress.test_score is not None:
            yield "held-out score", f"{progress.test_score:.4f}", ""
        yield "speed", f"{rate_of(started, progress):,.0f}", "examples a second"
        if progress.staleness is not None:
            yield "mean staleness", f"{progress.staleness:.2f}", "of all updates"
