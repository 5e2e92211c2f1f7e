"""What happens in a run, as it is written to ``events.jsonl``. Values only, and their text.

Rule 1: one line is one event: a JSON object with its name (``event``), the seconds since the epoch
        (``at``), and the fields below. What shows a run (table, report, dashboard) reads these.
Rule 2: a field may be added; none changes its meaning or its unit. A reader passes over events and
        fields that it does not know. What is more than that is another `SCHEMA`.

``docs/events.md`` tells it to those who read the file with other tools.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, TypeAlias

SCHEMA: Final = 1
"""Which of the schemas a line is of; there is one so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A run begins, or goes on after its master was gone (`resumed`).

    Attributes
    ----------
    version : str
        Of paramserver.
    mode : str
        "avg" or "async".
    model, data : str
    n_workers, n_partitions, n_examples, n_features, n_parameters : int
    total : float
        Rounds (avg) or epochs (async) to come to.
    host : str
    pid : int
    resumed : bool
    schema : int
        Of the lines from here on: `SCHEMA`.
    """

    version: str
    mode: str
    model: str
    data: str
    n_workers: int
    n_partitions: int
    n_examples: int
    n_features: int
    n_parameters: int
    total: float
    host: str
    pid: int
    resumed: bool = False
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """The weights were evaluated on the way.

    Attributes
    ----------
    unit : int
        Rounds (avg) or updates (async) that led to them.
    epochs, wall_s, train_loss : float
    test_score : float or None
    n_workers : int
    staleness : float or None
        Mean over all updates so far (async).
    divergence : float or None
        Mean distance of the learners of the round from the mean of their weights (averaging).
    pushed_bytes, pulled_bytes : int or None
        Of results or gradients to the master so far, and of weights from it; None where nothing
        is sent (a training in this process).
    n_queued : int or None
        Jobs that wait for a worker.
    """

    unit: int
    epochs: float
    wall_s: float
    train_loss: float
    test_score: float | None
    n_workers: int
    staleness: float | None = None
    divergence: float | None = None
    pushed_bytes: int | None = None
    pulled_bytes: int | None = None
    n_queued: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerChanged:
    """A worker joined, resumed, left or was lost.

    Attributes
    ----------
    worker_id : str
    incarnation : int
    change : str
    reason : str
    """

    worker_id: str
    incarnation: int
    change: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersCounted:
    """Who was there when the training began, or when it ended.

    Attributes
    ----------
    workers : list of dict
        `worker_id`, `incarnation`, `host`, `pid`, and `n_ended`: attempts it has ended, also those
        of trainings before; `memory_bytes`: what its process holds in memory, where it is on the
        master's machine.
    """

    workers: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRaised:
    """Jobs have raised an error; told when it is first seen, and at the end how often it was.

    Attributes
    ----------
    number : int
        Of the error in this run, from 0 on; a later event of the same number replaces this one.
    error : str
        Type and message.
    traceback : str
    worker_id : str
        Where it was raised last.
    n : int
        How often so far.
    """

    number: int
    error: str
    traceback: str = ""
    worker_id: str = ""
    n: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkDone:
    """Who has done what, when the training is over, however it ended.

    Attributes
    ----------
    workers : list of dict
        `worker_id`, `n_jobs`, `n_failed`, `n_unneeded`: attempts that ended well, that failed or
        were lost, that came second; `compute_s`, `wire_s`, `wait_s`, `lost_s`: what its time went
        to, up to the end of its last job.
    partitions : list of dict
        `partition`, `n_examples`, `owner`: the worker that had it last; `epochs`: how often its
        examples were seen. The first 1,000.
    staleness : dict
        As in the summary (async); empty for averaging.
    """

    workers: list[dict[str, Any]]
    partitions: list[dict[str, Any]]
    staleness: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """A run is over, or is broken off to go on later.

    Attributes
    ----------
    outcome : str
        "done", "interrupted" or "failed".
    reason : str
        In words, where it is not "done".
    summary : dict
        As in ``summary.json``; empty where there are no weights to speak of.
    """

    outcome: str
    reason: str = ""
    summary: dict[str, Any] = field(default_factory=dict)


Event: TypeAlias = (
    RunStarted | Progressed | WorkerChanged | WorkersCounted | ErrorRaised | WorkDone | RunEnded
)

EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        RunStarted,
        Progressed,
        WorkerChanged,
        WorkersCounted,
        ErrorRaised,
        WorkDone,
        RunEnded,
    )
}


def to_line(event: Event, at: float) -> str:
    """Return an event as a line of ``events.jsonl``, with its end.

    Parameters
    ----------
    event : Event
    at : float
        Seconds since the epoch.
    """
    fields = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
    record = {"event": type(event).__name__, "at": at, **fields}
    return json.dumps(plain(record), allow_nan=False) + "\n"


def from_lines(lines: Iterable[str]) -> Iterator[tuple[float, Event]]:
    """Read events back, with their times.

    A line that is no JSON is passed over: a master that was killed leaves the last one half
    written, and a resumed one writes on after it.
    """
    for line in lines:
        try:
            record = json.loads(line)
            kind, at = EVENTS.get(record.pop("event")), float(record.pop("at"))
            if kind is None:
                continue
            known = {f.name for f in dataclasses.fields(kind)}
            yield at, kind(**{name: record[name] for name in record.keys() & known})
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: numbers that are not finite become None."""
    match value:
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case float():
            return value if isfinite(value) else None
    return value
