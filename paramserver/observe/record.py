"""A run read back from its folder: what began, how it went, who worked, how it ended.

Rule 1: it reads what there is: a run that was killed has no summary and no `history.csv`, and its
        events tell the rest.
Rule 2: what cannot be understood is passed over, so that runs of other versions can be read.
"""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paramserver.errors import DataError
from paramserver.observe.events import (
    ErrorRaised,
    Event,
    Progressed,
    RunEnded,
    RunStarted,
    WorkDone,
    WorkerChanged,
    WorkersCounted,
    from_lines,
)
from paramserver.observe.run_folder import CONFIG, EVENTS, HISTORY, SUMMARY, TIMELINE, check_is_run
from paramserver.observe.wire import WireMoment, wire_moment
from paramserver.training.tally import PartitionState, WorkerTime
from paramserver.training.timeline import JobSpan


@dataclass(frozen=True, slots=True)
class Moment:
    """The weights were evaluated; see `paramserver.training.result.Progress`."""

    unit: int
    epochs: float
    wall_s: float
    train_loss: float | None
    test_score: float | None
    staleness: float | None = None
    divergence: float | None = None


@dataclass(slots=True)
class WorkerRecord:
    """One life of a worker, as far as the events tell it.

    Attributes
    ----------
    worker_id : str
    incarnation : int
    host : str
    pid : int or None
    n_ended : int or None
        Attempts it had ended when it was last counted.
    joined_s, gone_s : float or None
        Seconds after the beginning of the run; None for what was not seen.
    memory_bytes : int or None
        What its process held when it was last counted.
    end : str
        How it went ("lost: killed by SIGKILL"); empty if it was there to the end.
    """

    worker_id: str
    incarnation: int
    host: str = ""
    pid: int | None = None
    n_ended: int | None = None
    joined_s: float | None = None
    gone_s: float | None = None
    end: str = ""
    memory_bytes: int | None = None


@dataclass(slots=True)
class RunRecord:
    """What is known of a run.

    Attributes
    ----------
    started : RunStarted
        The first time.
    started_at : float
        Seconds since the epoch.
    resumed_at : list of float
    moments : list of Moment
        In order of time.
    workers : list of WorkerRecord
        In order of their lives.
    ended : RunEnded or None
        None while it goes on, and if its master was killed.
    ended_at : float or None
    summary : dict
        As in ``summary.json``; empty if there is none.
    config : dict
        As in ``config.toml``.
    timeline : list of JobSpan
        As in ``timeline.csv``.
    wire : list of WireMoment
        In order of time.
    errors : dict
        What jobs have raised: `ErrorRaised` by how often the run was resumed, and their numbers.
    times : dict of str to WorkerTime
        Where the time of each worker went.
    partitions : list of PartitionState
    staleness : dict
        Of all updates, and by worker; empty where there is none.
    """

    started: RunStarted
    started_at: float
    resumed_at: list[float] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    workers: list[WorkerRecord] = field(default_factory=list)
    ended: RunEnded | None = None
    ended_at: float | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    timeline: list[JobSpan] = field(default_factory=list)
    wire: list[WireMoment] = field(default_factory=list)
    errors: dict[tuple[int, int], ErrorRaised] = field(default_factory=dict)
    times: dict[str, WorkerTime] = field(default_factory=dict)
    partitions: list[PartitionState] = field(default_factory=list)
    staleness: dict[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """How it ended: "done", "interrupted", "failed", or "unfinished"."""
        return self.ended.outcome if self.ended is not None else "unfinished"

    @property
    def is_averaging(self) -> bool:
        """Whether it averaged."""
        return self.started.mode == "avg"

    def take(self, at: float, event: Event) -> None:
        """Take in the next event.

        Parameters
        ----------
        at : float
            Seconds since the epoch.
        event : Event
        """
        match event:
            case RunStarted():
                self.resumed_at.append(at)
                self.ended = self.ended_at = None
            case Progressed():
                self.add_moment(_moment_of(event))
                self._add_wire(wire_moment(event))
            case WorkerChanged():
                self._change(at - self.started_at, event)
            case WorkersCounted(workers=workers):
                for facts in workers:
                    self._count(facts)
            case ErrorRaised(number=number):
                self.errors[len(self.resumed_at), number] = event
            case WorkDone():
                self.times = {str(told["worker_id"]): _time(told) for told in event.workers}
                self.partitions = [_partition(told) for told in event.partitions]
                self.staleness = event.staleness
            case RunEnded():
                self.ended, self.ended_at = event, at
                self.summary = event.summary or self.summary

    def add_moment(self, moment: Moment) -> None:
        """Append a moment; a resumed run does once more what came after its checkpoint."""
        while self.moments and self.moments[-1].wall_s >= moment.wall_s:
            self.moments.pop()
        self.moments.append(moment)

    def _add_wire(self, moment: WireMoment | None) -> None:
        while moment is not None and self.wire and self.wire[-1].wall_s >= moment.wall_s:
            self.wire.pop()
        if moment is not None:
            self.wire.append(moment)

    def _life(self, worker_id: str, incarnation: int) -> WorkerRecord:
        for worker in reversed(self.workers):
            if (worker.worker_id, worker.incarnation) == (worker_id, incarnation):
                return worker
        self.workers.append(WorkerRecord(worker_id, incarnation))
        return self.workers[-1]

    def _change(self, at_s: float, event: WorkerChanged) -> None:
        life = self._life(event.worker_id, event.incarnation)
        if event.change == "joined":
            life.joined_s = at_s
        elif event.change in ("left", "lost"):
            life.gone_s = at_s
            life.end = f"{event.change}: {event.reason}" if event.reason else event.change

    def _count(self, facts: Mapping[str, Any]) -> None:
        life = self._life(str(facts["worker_id"]), int(facts["incarnation"]))
        life.host, life.pid = str(facts.get("host", "")), facts.get("pid")
        life.n_ended, life.memory_bytes = facts.get("n_ended"), facts.get("memory_bytes")


def read_run(path: Path) -> RunRecord:
    """Read a run from its folder.

    Raises
    ------
    ConfigError
        If it is not the folder of a run.
    DataError
        If nothing in it tells of a beginning.
    """
    check_is_run(path)
    try:
        with (path / EVENTS).open(encoding="utf-8", errors="replace") as lines:
            record = record_of(from_lines(lines))
    except OSError as error:
        raise DataError(
            f"{path / EVENTS} cannot be read: {error.strerror or error}.", path=str(path / EVENTS)
        ) from error
    if record is None:
        raise DataError(
            f"{path / EVENTS} tells of no run: it was broken off before the training began. Start "
            f"it again with  python -m paramserver.train --config {path / CONFIG}",
            path=str(path / EVENTS),
        )
    record.config = _read(path / CONFIG, tomllib.loads) or {}
    record.summary = _read(path / SUMMARY, json.loads) or record.summary
    record.timeline = _read(path / TIMELINE, _spans) or []
    history = _read(path / HISTORY, _moments)
    if history and (not record.moments or history[-1].wall_s >= record.moments[-1].wall_s):
        record.moments = history
    return record


def record_of(events: Iterable[tuple[float, Event]]) -> RunRecord | None:
    """Return the record of a run from its events; None if it did not begin."""
    record: RunRecord | None = None
    for at, event in events:
        if record is not None:
            with suppress(KeyError, TypeError, ValueError):  # of another version
                record.take(at, event)
        elif isinstance(event, RunStarted):
            record = RunRecord(event, at)
    return record


def _read(path: Path, parse: Any) -> Any:
    """Return what a file holds; None if it is not there, or no such file."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _moments(text: str) -> list[Moment]:
    def number(cell: str | None) -> float | None:
        return float(cell) if cell else None

    return [
        Moment(
            int(row["unit"]),
            float(row["epochs"]),
            float(row["wall_s"]),
            number(row["train_loss"]),
            number(row["test_score"]),
            number(row.get("staleness")),
            number(row.get("divergence")),
        )
        for row in csv.DictReader(text.splitlines())
    ]


def _spans(text: str) -> list[JobSpan]:
    return [
        JobSpan(
            row["worker_id"],
            int(row["number"]),
            int(row["partition"]),
            float(row["begun_s"]),
            float(row["ended_s"]),
            row.get("end") or "done",
            row.get("is_backup") == "True",
        )
        for row in csv.DictReader(text.splitlines())
    ]


def _moment_of(event: Progressed) -> Moment:
    return Moment(
        event.unit,
        event.epochs,
        event.wall_s,
        event.train_loss,
        event.test_score,
        event.staleness,
        event.divergence,
    )


def _time(told: Mapping[str, Any]) -> WorkerTime:
    return WorkerTime(
        n_jobs=int(told.get("n_jobs", 0)),
        n_failed=int(told.get("n_failed", 0)),
        n_unneeded=int(told.get("n_unneeded", 0)),
        compute_s=float(told.get("compute_s", 0.0)),
        wire_s=float(told.get("wire_s", 0.0)),
        wait_s=float(told.get("wait_s", 0.0)),
        lost_s=float(told.get("lost_s", 0.0)),
    )


def _partition(told: Mapping[str, Any]) -> PartitionState:
    return PartitionState(
        int(told["partition"]),
        int(told["n_examples"]),
        str(told.get("owner", "")),
        float(told.get("epochs", 0.0)),
    )
