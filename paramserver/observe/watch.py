"""What joins a training with those who watch it: displays and the run folder.

Rule 1: it runs on the user's thread, but for the news of workers, which it only puts aside.
Rule 2: it changes nothing of the training; a run folder that cannot be written any more costs its
        lines, not the training.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Self

from paramserver.core.commands import AnnounceWorker
from paramserver.dashboard.cluster_panel import Processes, Usage
from paramserver.errors import ClusterError, DataError
from paramserver.observe.display import Display
from paramserver.observe.events import (
    ErrorRaised,
    Event,
    Progressed,
    RunStarted,
    WorkDone,
    WorkerChanged,
    WorkersCounted,
)
from paramserver.observe.progress_panel import ProgressPanel, WirePanel
from paramserver.observe.run_folder import RunFolder
from paramserver.observe.settings import SettingsPanel
from paramserver.training.result import Progress
from paramserver.training.staleness import summarise

if TYPE_CHECKING:
    from paramserver.cluster import Cluster
    from paramserver.training.run import TrainingRun

NOTE_GROWTH: Final = 1.01
"""Evaluations are noted when the run is so much older than at the last one noted: a few thousand
lines of a run of any length."""
NEWS_MAX: Final = 10_000
"""News of workers that wait to be noted; a crash loop must not fill the memory."""


PANELS: Final = (ProgressPanel, WirePanel, SettingsPanel)
PARTITIONS_MAX: Final = 1_000
"""Partitions that are told of."""
TIME: Final = (
    "n_jobs", "n_failed", "n_unneeded", "compute_s", "wire_s", "wait_s", "lost_s"
)  # fmt: skip
"""What is told of the time of a worker."""


class Watch:
    """Watches one training on a cluster; call it with each `Progress`.

    Parameters
    ----------
    cluster : Cluster or None
        None for a training in this process.
    started : RunStarted
    display : Display
    folder : RunFolder, optional
    config : mapping, optional
        The settings of the run, to be shown.
    command : str
        What repeats the run when it is typed, to be shown.
    """

    def __init__(
        self,
        cluster: Cluster | None,
        started: RunStarted,
        display: Display,
        folder: RunFolder | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        command: str = "",
    ) -> None:
        self._cluster = cluster
        self._display = display
        self._folder = folder
        self._news: deque[WorkerChanged] = deque(maxlen=NEWS_MAX)
        self._next_note_s = 0.0
        self.has_shown = False
        """Whether there was anything to show: not in a resumed run that was over before."""
        self._held: Progressed | None = None
        self.n_unwritten = 0
        """Events that could not be written to the folder."""
        self._run: TrainingRun | None = None
        self._n_errors = 0
        name = "" if folder is None else folder.path.name
        self._panel = ProgressPanel(started, name)
        self._settings = SettingsPanel(started, config or {}, command)
        self._panels = (self._panel, WirePanel(self._panel), self._settings)
        self._note(started)
        display.begin(started)

    def __enter__(self) -> Self:
        self._count_workers()
        if self._cluster is not None:
            internals = self._cluster.internals()
            internals.master.on_worker.append(self._on_worker)
            for panel in list(internals.panels):  # those of runs before were there to be read
                if isinstance(panel, PANELS) and panel.has_ended:
                    internals.panels.remove(panel)
            internals.panels.extend(self._panels)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._cluster is not None:
            self._cluster.internals().master.on_worker.remove(self._on_worker)
        self._tell_news()
        if self._held is not None:
            self._note(self._held)
            self._held = None
        self._tell_errors(is_last=True)
        self._tell_work()
        self._count_workers()
        self._panel.end(error)
        self._settings.end()
        self._display.close()
        if self.n_unwritten:
            self._display.fact(
                "warning",
                f"{self.n_unwritten} events could not be written to the run folder: events.jsonl "
                "has gaps",
            )

    def attach(self, run: Any) -> None:
        """Take in the training itself, before it begins; of one in this process nothing is asked.

        Parameters
        ----------
        run : runs.Run
        """
        if self._cluster is not None:
            self._run = run
            self._panel.attach(run)

    def hear(self, words: str) -> None:
        """Show what the training waits for."""
        self._display.say(words)

    def __call__(self, progress: Progress) -> None:
        self._tell_news()
        self._tell_errors()
        event = Progressed(
            unit=progress.unit,
            epochs=progress.epochs,
            wall_s=progress.wall_s,
            train_loss=progress.train_loss,
            test_score=progress.test_score,
            n_workers=1 if self._cluster is None else self._cluster.n_workers,
            staleness=progress.staleness,
            divergence=progress.divergence,
            **self._wire(),
        )
        self._display.show(event)
        self.has_shown = True
        self._panel.take(event)
        self._held = event
        if event.wall_s >= self._next_note_s:
            self._note(event)
            self._held = None
            self._next_note_s = event.wall_s * NOTE_GROWTH

    def _wire(self) -> dict[str, int]:
        if self._run is None or self._cluster is None:
            return {}
        measures = self._run.measures()
        return {
            "pushed_bytes": measures.pushed_bytes,
            "pulled_bytes": measures.pulled_bytes,
            "n_queued": self._cluster.internals().master.n_queued,
        }

    def _tell_errors(self, *, is_last: bool = False) -> None:
        """Tell of errors that are new, and at the end of those that came again."""
        if self._run is None:
            return
        for number, trouble in enumerate(self._run.troubles):
            is_new = number >= self._n_errors
            if is_new:
                self._n_errors += 1
                line = next(iter(trouble.error.splitlines()), "")
                self._display.say(f"a job raised {line:.200} on {trouble.worker_id}")
            if is_new or (is_last and trouble.n > 1):
                self._note(
                    ErrorRaised(
                        number=number,
                        error=trouble.error,
                        traceback=trouble.traceback,
                        worker_id=trouble.worker_id,
                        n=trouble.n,
                    )
                )

    def _tell_work(self) -> None:
        """Tell who has done what, and keep which attempts there were."""
        run, folder = self._run, self._folder
        if run is None or folder is None:
            return
        workers = [
            {"worker_id": name} | {field: getattr(time, field) for field in TIME}
            for name, time in run.tally.workers.items()
        ]
        states = run.partitions()[:PARTITIONS_MAX]
        self._note(
            WorkDone(
                workers=workers,
                partitions=[state._asdict() for state in states],
                staleness=_staleness(run),
            )
        )
        try:
            folder.write_timeline(run.timeline.spans)
        except DataError as error:
            self._display.fact("warning", str(error))

    def _count_workers(self) -> None:
        """Note who is there; a cluster that has ended is asked nothing more."""
        if self._folder is None or self._cluster is None:
            return
        try:
            status = self._cluster.status()
        except (ClusterError, TimeoutError):
            return
        processes, host = Processes(), socket.gethostname()
        usages = {
            worker.worker_id: processes.usage(worker.pid)
            for worker in status.workers
            if worker.host == host
        }
        workers = [
            {
                "worker_id": worker.worker_id,
                "incarnation": worker.incarnation,
                "host": worker.host,
                "pid": worker.pid,
                "n_ended": worker.n_ended,
            }
            | _memory(usages.get(worker.worker_id))
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


def _staleness(run: TrainingRun) -> dict[str, Any]:
    """Return the staleness of all updates, and of those of each worker; nothing for averaging."""
    if run.staleness is None:
        return {}
    by_worker = {name: summarise(each) for name, each in sorted(run.staleness_by_worker.items())}
    return summarise(run.staleness) | {"by_worker": by_worker}


def _memory(usage: Usage | None) -> dict[str, int]:
    return {} if usage is None else {"memory_bytes": usage.memory_bytes}
