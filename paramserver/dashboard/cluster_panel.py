"""The panel of a cluster: its workers, jobs and counters."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import psutil

from paramserver import __version__
from paramserver.drawing.page import Html, figures, html, section, table
from paramserver.drawing.panel import Panel, Reading, WorkerColumn
from paramserver.drawing.scales import by_number
from paramserver.runtime.status import ClusterStatus, PhaseStatus, WorkerStatus

WORKERS_MAX: Final = 100
"""Workers in the table; more are counted."""
FORGET_AT: Final = 1_000
"""Processes that are known; of more all are forgotten and learnt again."""
PHASES_MAX: Final = 12
"""Phases in the table: the latest."""
STATES: Final = {
    "ready": ("queued", "for a worker"),
    "waiting": ("held back", "for the phase before"),
    "granted": ("running", "or about to"),
    "succeeded": ("done", ""),
    "failed": ("failed", ""),
    "cancelled": ("cancelled", ""),
}
"""What states of jobs are called on the page, in the order in which they stand."""


class Usage(NamedTuple):
    """What a process takes.

    Attributes
    ----------
    cpu : float or None
        Part of one core, since it was asked before; None the first time.
    memory_bytes : int
        Resident.
    """

    cpu: float | None
    memory_bytes: int


class Processes:
    """Asks the system about processes of this machine."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def usage(self, pid: int) -> Usage | None:
        """Return what a process takes; None if it is gone, or nobody may know."""
        try:
            process = self._known.get(pid)
            is_new = process is None
            if process is None:
                if len(self._known) >= FORGET_AT:
                    self._known.clear()
                process = self._known[pid] = psutil.Process(pid)
            with process.oneshot():
                cpu = process.cpu_percent() / 100  # 0.0 the first time, whatever it takes
                return Usage(None if is_new else cpu, process.memory_info().rss)
        except psutil.Error:
            self._known.pop(pid, None)
            return None


class ClusterPanel:
    """Shows a cluster.

    Parameters
    ----------
    ask : callable
        Returns the status of the cluster.
    usage_of : callable, optional
        Returns what a process of this machine takes.
    others : sequence of Panel
        Other panels; a `WorkerColumn` among them gets its column in the table of workers.
    """

    name = "cluster"
    rank = 30

    def __init__(
        self,
        ask: Callable[[], ClusterStatus],
        usage_of: Callable[[int], Usage | None] | None = None,
        others: Sequence[Panel] = (),
    ) -> None:
        self._ask = ask
        self._others = others
        self._usage_of = usage_of or Processes().usage
        self._host = socket.gethostname()

    def html(self) -> str:
        """Return workers, jobs by state, and counters."""
        status = self._ask()
        counters = [(name.replace("_", " "), f"{n:,}") for name, n in status.counters.items() if n]
        told = (
            table(("since the start", "how often"), counters)
            if counters
            else '<p class="about">Nothing has happened yet.</p>'
        )
        about = Html(f"The master listens at <code>{html(status.address)}</code>.")
        return (
            section("Workers", about, self._table(status.workers))
            + section("Jobs", "Of the phases that are not done with.", _jobs(status))
            + section("Counters", "", f'<div class="narrow">{told}</div>')
        )

    def readings(self) -> Iterator[Reading]:
        """Return how many workers and jobs there are, counters, and what workers take."""
        about = "Always 1; the release of paramserver is in the label."
        yield Reading("build_info", about, 1, (("version", __version__),))
        status = self._ask()
        states = dict.fromkeys(("ready", "quarantined", "suspect", "draining"), 0)
        for worker in status.workers:
            states[worker.state] = states.get(worker.state, 0) + 1
        for state, n in states.items():
            yield Reading("workers", "Workers by state.", n, (("state", state),))
        for state, n in status.jobs.items():
            yield Reading("jobs", "Jobs of open phases by state.", n, (("state", state),))
        for event, n in status.counters.items():
            about = "What has happened and what was discarded, by reason."
            yield Reading("events_total", about, n, (("event", event),))
        usages = self._usages(status.workers)
        about = "Resident memory of the workers on the master's machine."
        yield Reading("workers_resident_memory_bytes", about, sum(u.memory_bytes for u in usages))

    def _usages(self, workers: Iterable[WorkerStatus]) -> list[Usage]:
        found = (self._usage(worker) for worker in workers)
        return [usage for usage in found if usage is not None]

    def _usage(self, worker: WorkerStatus) -> Usage | None:
        return self._usage_of(worker.pid) if worker.host == self._host else None

    def _table(self, workers: tuple[WorkerStatus, ...]) -> str:
        if not workers:
            return '<p class="about">There are none.</p>'
        columns = {
            panel.column: panel.cells()
            for panel in list(self._others)
            if isinstance(panel, WorkerColumn)
        }
        names = (
            "worker", "host", "pid", "life", "state", *columns, "attempts", "holds", "runs job",
            "cpu", "memory", "last heard",
        )  # fmt: skip
        in_order = sorted(workers, key=lambda worker: by_number(worker.worker_id))
        rows = [self._row(worker, columns.values()) for worker in in_order[:WORKERS_MAX]]
        if len(workers) > WORKERS_MAX:
            rows.append([f"and {len(workers) - WORKERS_MAX} more", *[""] * (len(names) - 1)])
        return table(names, rows, left=(0, 1, 4))

    def _row(self, worker: WorkerStatus, columns: Iterable[Mapping[str, Html]]) -> list[object]:
        usage = self._usage(worker)
        mood = "ok" if worker.state == "ready" else "odd"
        return [
            worker.worker_id,
            worker.host,
            worker.pid,
            worker.incarnation,
            Html(f'<span class="{mood}">{html(worker.state)}</span>'),
            *(cells.get(worker.worker_id, "") for cells in columns),
            f"{worker.n_ended:,}",
            worker.n_held,
            "none" if worker.job is None else worker.job,
            "" if usage is None or usage.cpu is None else f"{usage.cpu:.0%}",
            "" if usage is None else f"{usage.memory_bytes / 1e6:,.0f} MB",
            f"{worker.silent_s:.1f} s ago",
        ]


def _jobs(status: ClusterStatus) -> str:
    """Return how many jobs are in which state, together and in each phase."""
    states = [(*STATES.get(state, (state, "")), n) for state, n in status.jobs.items()]
    order = [name for name, _ in STATES.values()]
    states.sort(key=lambda each: order.index(each[0]) if each[0] in order else len(order))
    whole = figures((name, f"{n:,}", about) for name, about, n in states)
    if not status.phases:
        return whole
    rows = [_phase(phase) for phase in status.phases[-PHASES_MAX:]]
    names = ("phase", "done", "jobs", "queued", "running", "failed", "")
    return f'{whole}<div class="below">{table(names, rows, left=(0, 6))}</div>'


def _phase(phase: PhaseStatus) -> list[object]:
    n_done, n = phase.jobs.get("succeeded", 0), phase.n_jobs
    bar = Html(f'<div class="part small"><i style="width:{n_done / n:.1%}"></i></div>')
    numbers = (phase.jobs.get(state, 0) for state in ("ready", "granted", "failed"))
    return [phase.name, f"{n_done:,}", f"{n:,}", *(f"{each:,}" for each in numbers), bar]
