"""The panels of a run: how far it is and how it converges; and, further down, what went where.

Rule 1: events come in on the user's thread, the page asks from its own: what is shown is copied.
Rule 2: it does not grow with the run: of more than `MOMENTS_MAX` moments every second one goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from time import monotonic, time
from typing import Final, Protocol

from paramserver.drawing.page import figures, html, section
from paramserver.drawing.panel import Reading
from paramserver.observe.display import part_done, rate_of, seconds_left
from paramserver.observe.events import Event, Progressed, RunStarted
from paramserver.observe.record import RunRecord
from paramserver.observe.report import convergence_charts
from paramserver.observe.wire import wire_section
from paramserver.observe.words import count, duration

MOMENTS_MAX: Final = 2_000


class Training(Protocol):
    """How far a training is, at any moment."""

    examples: int

    @property
    def unit(self) -> int:
        """Rounds (averaging) or updates (async) so far."""


class ProgressPanel:
    """Shows a run.

    Parameters
    ----------
    started : RunStarted
    run : str
        Its name; empty where it has none.

    Attributes
    ----------
    has_ended : bool
        Whether the training is over.
    """

    name = "progress"
    rank = 10

    def __init__(self, started: RunStarted, run: str = "") -> None:
        self._started = started
        self._run = run
        self._record = RunRecord(started, time())
        self._progress: Progressed | None = None
        self._best_loss: float | None = None
        self._best_score: float | None = None
        self._told_at = 0.0
        self._training: Training | None = None
        self._end: tuple[str, str] | None = None
        """Mood and words of its end."""

    @property
    def has_ended(self) -> bool:
        """Whether the training is over."""
        return self._end is not None

    def attach(self, training: Training) -> None:
        """Take in the training, to tell how far it is between two evaluations."""
        self._training = training

    def take(self, event: Event) -> None:
        """Take in what has happened."""
        record = self._record
        if not isinstance(event, Progressed):
            return
        self._progress, self._told_at = event, monotonic()
        record.take(time(), event)
        loss, score = event.train_loss, event.test_score
        if loss is not None:
            self._best_loss = loss if self._best_loss is None else min(loss, self._best_loss)
        if score is not None:
            self._best_score = score if self._best_score is None else max(score, self._best_score)
        for kept in (record.moments, record.wire):
            if len(kept) > MOMENTS_MAX:
                del kept[1:-1:2]

    def _latest(self) -> Progressed | None:
        """Return the latest evaluation, with how far the training has come since then."""
        progress, training = self._progress, self._training
        if progress is None or training is None or self.has_ended:
            return progress
        epochs = training.examples / max(1, self._started.n_examples)
        return replace(
            progress,
            unit=max(progress.unit, training.unit),
            epochs=max(progress.epochs, epochs),
            wall_s=progress.wall_s + monotonic() - self._told_at,
        )

    def end(self, error: BaseException | None = None) -> None:
        """Take in that the training is over, and what has ended it before its time."""
        self._training = None
        if error is None:
            self._end = ("ok", "done")
        elif isinstance(error, KeyboardInterrupt):
            self._end = ("odd", "interrupted")
        else:
            self._end = ("bad", "failed")

    def html(self) -> str:
        """Return figures and curves."""
        progress = self._latest()
        if progress is None:
            waiting = (
                "No evaluation yet." if self.has_ended else "Waiting for the first evaluation."
            )
            return f'{self._head(progress)}<p class="about">{waiting}</p></header>'
        part = part_done(self._started, progress)
        if self._end is not None and self._end[1] == "done":
            part = 1.0  # a callback may have ended it early
        bar = f'<div class="part"><i style="width:{part:.1%}"></i></div>'
        record = replace(self._record, moments=list(self._record.moments))
        about = "Training loss on a sample of the rows; held-out rows are never trained on."
        return (
            f"{self._head(progress)}{bar}{figures(self._figures(progress))}</header>\n"
            + section("Convergence", about, convergence_charts(record))
        )

    def wire(self) -> str:
        """Return what went over the wire."""
        unit = "round" if self._started.mode == "avg" else "update"
        return wire_section(list(self._record.wire), unit, self._started.n_examples)

    def readings(self) -> Iterable[Reading]:
        """Return how far it is."""
        progress = self._latest()
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

    def _head(self, progress: Progressed | None) -> str:
        started = self._started
        mood, state = self._end or (
            ("ok", "making ready") if progress is None else ("ok", "training")
        )
        workers = count(started.n_workers if progress is None else progress.n_workers, "worker")
        mode = "iterative averaging" if started.mode == "avg" else "asynchronous SGD"
        run = f"<span>run {html(self._run)}</span>" if self._run else ""
        return (
            f'<header><div class="eyebrow">{run}<span>{mode}</span>'
            f'<span class="badge {mood}">{state}</span></div>'
            f"<h1>{html(started.model)} on {html(started.data)}</h1>"
            f'<p class="lede">{started.n_parameters:,} weights, {started.n_examples:,} '
            f"examples in {count(started.n_partitions, 'partition')}, {workers}</p>"
        )

    def _figures(self, progress: Progressed) -> Iterator[tuple[str, object, str]]:
        started = self._started
        now_s = progress.wall_s
        left_s = seconds_left(started, progress, now_s)
        left = "" if left_s is None or self.has_ended else f"about {_roughly(left_s)} left"
        yield "elapsed", duration(now_s), "in all" if self.has_ended else left
        unit = "rounds" if started.mode == "avg" else "updates"
        yield unit, f"{progress.unit:,}", f"{progress.epochs:,.1f} epochs"
        best = "" if self._best_loss is None else f"best {self._best_loss:.4g}"
        yield "training loss", f"{progress.train_loss:.4g}", best
        if progress.test_score is not None:
            best = "" if self._best_score is None else f"best {self._best_score:.4f}"
            yield "held-out score", f"{progress.test_score:.4f}", best
        yield "speed", f"{rate_of(started, progress):,.0f}", "examples a second"
        if progress.staleness is not None:
            yield "mean staleness", f"{progress.staleness:.2f}", "of all updates"


def _roughly(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else duration(seconds)


class WirePanel:
    """Shows what went over the wire in a run; below the jobs of its training.

    Parameters
    ----------
    progress : ProgressPanel
        Of the run.
    """

    name = "wire"
    rank = 22

    def __init__(self, progress: ProgressPanel) -> None:
        self._progress = progress

    @property
    def has_ended(self) -> bool:
        """Whether the training is over."""
        return self._progress.has_ended

    def html(self) -> str:
        """Return figures and curves."""
        return self._progress.wire()

    def readings(self) -> Iterable[Reading]:
        """Return nothing: the training tells of its bytes."""
        return ()
