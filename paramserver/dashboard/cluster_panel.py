"""The panel of a cluster: its workers, jobs and counters."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import psutil

from paramserver.drawing.page import Html, figures, html, section, table
from paramserver.drawing.panel import Reading
from paramserver.drawing.scales import by_number
from paramserver.runtime.status import ClusterStatus, WorkerStatus

WORKERS_MAX: Final = 100
"""Workers in the table; more are counted."""
FORGET_AT: Final = 1_000
"""Processes that are known; of more all are forgotten and learnt again."""


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
    """

    name = "cluster"
    rank = 30

    def __init__(
        self,
        ask: Callable[[], ClusterStatus],
        usage_of: Callable[[int], Usage | None] | None = None,
    ) -> None:
        self._ask = ask
        self._usage_of = usage_of or Processes().usage
        self._host = socket.gethostname()

    def html(self) -> str:
        """Return workers, jobs by state, and counters."""
        status = self._ask()
        jobs = [(state, f"{n:,}", "jobs") for state, n in status.jobs.items()]
        counters = [(name.replace("_", " "), f"{n:,}") for name, n in status.counters.items() if n]
        told = (
            table(("since the start", "how often"), counters)
            if counters
            else '<p class="about">Nothing out of the ordinary has happened.</p>'
        )
        about = Html(f"The master listens at <code>{html(status.address)}</code>.")
        return (
            section("Workers", about, self._table(status.workers))
            + section("Jobs", "Of the phases that are not done with.", figures(jobs))
            + section("Counters", "", told)
        )

    def readings(self) -> Iterator[Reading]:
        """Return how many workers and jobs there are, counters, and what workers take."""
        status = self._ask()
        states = dict.fromkeys(("ready", "suspect", "draining"), 0)
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
        names = (
            "worker", "host", "pid", "life", "state", "runs job", "holds", "jobs ended",
            "one core", "memory", "last heard",
        )  # fmt: skip
        in_order = sorted(workers, key=lambda worker: by_number(worker.worker_id))
        rows = [self._row(worker) for worker in in_order[:WORKERS_MAX]]
        if len(workers) > WORKERS_MAX:
            rows.append([f"and {len(workers) - WORKERS_MAX} more", *[""] * (len(names) - 1)])
        return table(names, rows, left=(0, 1, 4))

    def _row(self, worker: WorkerStatus) -> list[object]:
        usage = self._usage(worker)
        mood = "ok" if worker.state == "ready" else "odd"
        return [
            worker.worker_id,
            worker.host,
            worker.pid,
            worker.incarnation,
            Html(f'<span class="{mood}">{html(worker.state)}</span>'),
            "idle" if worker.job is None else worker.job,
            worker.n_held,
            f"{worker.n_ended:,}",
            "" if usage is None or usage.cpu is None else f"{usage.cpu:.0%}",
            "" if usage is None else f"{usage.memory_bytes / 1e6:,.0f} MB",
            f"{worker.silent_s:.1f} s ago",
        ]
