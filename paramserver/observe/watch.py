"""What joins a training with those who watch it: displays and the run folder.

Rule 1: it runs on the user's thread, but for the news of workers, which it only puts aside.
Rule 2: it changes nothing of the training; a run folder that cannot be written any more costs its
        lines, not the training.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Self

from paramserver.core.commands import AnnounceWorker
from paramserver.errors import ClusterError
from paramserver.observe.display import Display
from paramserver.observe.events import (
    Event,
    Progressed,
    RunStarted,
    WorkerChanged,
    WorkersCounted,
)
from paramserver.observe.progress_panel import ProgressPanel
from paramserver.observe.run_folder import RunFolder
from paramserver.training.result import Progress

if TYPE_CHECKING:
    from paramserver.cluster import Cluster

NOTE_GROWTH: Final = 1.01
"""Evaluations are noted when the run is so much older than at the last one noted: a few thousand
lines of a run of any length."""
NEWS_MAX: Final = 10_000
"""News of workers that wait to be noted; a crash loop must not fill the memory."""


class Watch:
    """Watches one training on a cluster; call it with each `Progress`.

    Parameters
    ----------
    cluster : Cluster or None
        None for a training in this process.
    started : RunStarted
    display : Display
    folder : RunFolder, optional
    """

    def __init__(
        self,
        cluster: Cluster | None,
        started: RunStarted,
        display: Display,
        folder: RunFolder | None = None,
    ) -> None:
        self._cluster = cluster
        self._display = display
        self._folder = folder
        self._news: deque[WorkerChanged] = deque(maxlen=NEWS_MAX)
        self._next_note_s = 0.0
        self._held: Progressed | None = None
        self.n_unwritten = 0
        """Events that could not be written to the folder."""
        self._panel = ProgressPanel(started)
        self._note(started)
        display.begin(started)

    def __enter__(self) -> Self:
        self._count_workers()
        if self._cluster is not None:
            internals = self._cluster.internals()
            internals.master.on_worker.append(self._on_worker)
            for panel in list(internals.panels):  # those of runs before were there to be read
                if isinstance(panel, ProgressPanel) and panel.has_ended:
                    internals.panels.remove(panel)
            internals.panels.append(self._panel)
        return self

    def __exit__(self, *_: object) -> None:
        if self._cluster is not None:
            self._cluster.internals().master.on_worker.remove(self._on_worker)
        self._tell_news()
        if self._held is not None:
            self._note(self._held)
            self._held = None
        self._count_workers()
        self._panel.end()
        self._display.close()
        if self.n_unwritten:
            self._display.fact(
                "warning",
                f"{self.n_unwritten} events could not be written to the run folder: events.jsonl "
                "has gaps",
            )

    def __call__(self, progress: Progress) -> None:
        self._tell_news()
        event = Progressed(
            unit=progress.unit,
            epochs=progress.epochs,
            wall_s=progress.wall_s,
            train_loss=progress.train_loss,
            test_score=progress.test_score,
            n_workers=1 if self._cluster is None else self._cluster.n_workers,
            staleness=progress.staleness,
            divergence=progress.divergence,
        )
        self._display.show(event)
        self._panel.take(event)
        self._held = event
        if event.wall_s >= self._next_note_s:
            self._note(event)
            self._held = None
            self._next_note_s = event.wall_s * NOTE_GROWTH

    def _count_workers(self) -> None:
        """Note who is there; a cluster that has ended is asked nothing more."""
        if self._folder is None or self._cluster is None:
            return
        try:
            status = self._cluster.status()
        except (ClusterError, TimeoutError):
            return
        workers = [
            {
                "worker_id": worker.worker_id,
                "incarnation": worker.incarnation,
                "host": worker.host,
                "pid": worker.pid,
                "n_ended": worker.n_ended,
            }
            for worker in status.workers
        ]
        self._note(WorkersCounted(workers=workers))

    def _on_worker(self, news: AnnounceWorker) -> None:
        """Put aside that a worker joined or left; on the I/O thread."""
        self._news.append(
            WorkerChanged(
                worker_id=news.worker_id,
                incarnation=news.incarnation,
                change=news.change,
                reason=news.reason,
            )
        )

    def _tell_news(self) -> None:
        while self._news:
            change = self._news.popleft()
            self._note(change)
            if change.change == "lost":
                why = f": {change.reason}" if change.reason else ""
                self._display.say(f"worker {change.worker_id} is lost{why}; others go on")

    def _note(self, event: Event) -> None:
        if self._folder is not None:
            try:
                self._folder.note(event)
            except OSError:
                self.n_unwritten += 1
