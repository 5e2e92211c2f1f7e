"""Who watches a training: what reaches the display and the folder."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paramserver.core.commands import AnnounceAttempt, AnnounceWorker, AttemptEnd
from paramserver.errors import ClusterClosed, DataError
from paramserver.observe.events import (
    ErrorRaised,
    Event,
    Progressed,
    RunStarted,
    WorkDone,
    WorkerChanged,
    WorkersCounted,
)
from paramserver.observe.watch import Watch
from paramserver.protocol.calls import encode_error
from paramserver.runtime.troubles import Troubles
from paramserver.training.measures import Measures
from paramserver.training.result import Progress
from paramserver.training.tally import PartitionState, Tally
from paramserver.training.timeline import Timeline

STARTED = RunStarted(
    version="1", mode="avg", model="softmax", data="digits", n_workers=2, n_partitions=2,
    n_examples=1000, n_features=4, n_parameters=5, total=20.0, host="here", pid=7,
)  # fmt: skip


class FakeCluster:
    n_workers = 2

    def __init__(self) -> None:
        self.on_worker: list[Any] = []
        self.panels: list[Any] = []
        self.is_closed = False
        self.n_ended = 0

    def status(self) -> Any:
        if self.is_closed:
            raise ClusterClosed("The cluster has been shut down.")
        self.n_ended += 5
        worker = SimpleNamespace(
            worker_id="local1-0", incarnation=1, host="here", pid=7, n_ended=self.n_ended - 5
        )
        return SimpleNamespace(workers=(worker,))

    def internals(self) -> Any:
        master = SimpleNamespace(on_worker=self.on_worker, n_queued=4)
        return SimpleNamespace(master=master, panels=self.panels)


class Recorder:
    """A display and a folder in one: takes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.noted: list[Event] = []
        self.is_full = False

    def say(self, line: str) -> None:
        self.told.append(line)

    def fact(self, label: str, text: str) -> None:
        self.told.append((label, text))

    def begin(self, started: RunStarted) -> None:
        self.told.append(started)

    def show(self, progress: Progressed) -> None:
        self.told.append(progress)

    def close(self) -> None:
        self.told.append("closed")

    @property
    def path(self) -> Path:
        return Path("runs/mine")

    def write_timeline(self, spans: Any) -> None:
        if self.is_full:
            raise DataError("timeline.csv cannot be written.", path="timeline.csv")
        self.timeline = list(spans)

    def note(self, event: Event) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.noted.append(event)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def watch(cluster: FakeCluster, recorder: Recorder) -> Watch:
    told = "python -m paramserver.train --mode avg"
    return Watch(cluster, STARTED, recorder, recorder, command=told)  # type: ignore[arg-type]


def counted(n_ended: int) -> WorkersCounted:
    worker = {
        "worker_id": "local1-0", "incarnation": 1, "host": "here", "pid": 7, "n_ended": n_ended
    }  # fmt: skip
    return WorkersCounted(workers=[worker])


def progressed(unit: int, wall_s: float) -> Progressed:
    return Progressed(
        unit=unit, epochs=1.0, wall_s=wall_s, train_loss=0.5, test_score=None, n_workers=2
    )


def test_what_a_training_waits_for_is_shown_at_once(recorder: Recorder) -> None:
    with watch(FakeCluster(), recorder) as watching:
        watching.hear("kernels are being compiled")
        assert recorder.told == [STARTED, "kernels are being compiled"]


def test_progress_and_the_news_of_workers_are_shown_and_noted(recorder: Recorder) -> None:
    cluster = FakeCluster()
    with watch(cluster, recorder) as watching:
        (listener,) = cluster.on_worker
        listener(AnnounceWorker(3, "local1-0", "joined"))
        listener(AnnounceWorker(2, "local1-1", "lost", "killed by SIGKILL"))
        watching(Progress(1, 1.0, 0.5, 0.5, None))
    joined = WorkerChanged(worker_id="local1-0", incarnation=3, change="joined")
    lost = WorkerChanged(
        worker_id="local1-1", incarnation=2, change="lost", reason="killed by SIGKILL"
    )
    assert recorder.noted == [
        STARTED, counted(0), joined, lost, progressed(1, 0.5), counted(5)
    ]  # fmt: skip
    assert recorder.told == [
        STARTED,
        "worker local1-1 is lost: killed by SIGKILL; others go on",
        progressed(1, 0.5),
        "closed",
    ]
    assert cluster.on_worker == []


def test_of_many_evaluations_few_are_noted_and_always_the_last(recorder: Recorder) -> None:
    with watch(FakeCluster(), recorder) as watching:
        for i in range(1, 100_001):
            watching(Progress(i, 1.0, i / 10, 0.5, None, divergence=i / 2))
    assert len(recorder.noted) < 1500
    last = replace(progressed(100_000, 10_000.0), divergence=50_000.0)
    assert recorder.noted[-2:] == [last, counted(5)]


def test_a_cluster_that_has_ended_is_not_counted_and_ends_nothing(recorder: Recorder) -> None:
    cluster = FakeCluster()
    with watch(cluster, recorder):
        cluster.is_closed = True
    assert recorder.noted == [STARTED, counted(0)]
    assert recorder.told == [STARTED, "closed"]


def test_a_full_disk_costs_the_events_and_not_the_training(recorder: Recorder) -> None:
    with watch(FakeCluster(), recorder) as watching:
        recorder.is_full = True
        watching(Progress(1, 1.0, 0.5, 0.5, None))
    assert recorder.noted == [STARTED, counted(0)]
    assert recorder.told[-1][0] == "warning"
    assert recorder.told[-1][1].startswith("2 events could not be written")


def test_the_dashboard_shows_the_newest_run_and_keeps_it_until_the_next(recorder: Recorder) -> None:
    cluster = FakeCluster()
    with watch(cluster, recorder) as watching:
        panel, _, settings = cluster.panels
        watching(Progress(1, 1.0, 0.5, 0.5, None))
    assert "width:100.0%" in panel.html()
    assert "run mine" in panel.html()
    assert "--mode avg" in settings.html()
    with watch(cluster, recorder):
        other, _, _ = cluster.panels
        assert other is not panel
        with watch(cluster, recorder):
            assert len(cluster.panels) == 6
            assert cluster.panels[0] is other  # it goes on, and keeps its own


def test_what_ends_a_training_before_its_time_is_seen(recorder: Recorder) -> None:
    cluster = FakeCluster()
    for error, word in ((KeyboardInterrupt(), "interrupted"), (ValueError(), "failed")):
        with suppress(type(error)), watch(cluster, recorder):
            raise error
        assert f">{word}</span>" in cluster.panels[-3].html()


class FakeRun:
    """A training, as far as it is asked."""

    def __init__(self) -> None:
        self.troubles, self.tally, self.timeline = Troubles(), Tally(), Timeline()
        self.unit, self.examples = 0, 0
        self.staleness: Counter[int] | None = Counter({1: 4})
        self.staleness_by_worker = {"local1-0": Counter({1: 4})}
        self.timeline.hand_in(7, 2, 1)

    def end(self, end: AttemptEnd, value: int = 0) -> None:
        error = None
        if end is AttemptEnd.FAILED:
            error = encode_error(ValueError(f"no {value}"), trusted=False)
        attempt = AnnounceAttempt("rounds", 7, 1, "local1-0", 1.0, 3.0, end, False, error)
        self.troubles.note(attempt)
        span = self.timeline.end(attempt, 0.0)
        assert span is not None
        self.tally.end(span)

    def partitions(self) -> list[PartitionState]:
        return [PartitionState(1, 500, "local1-0", 2.5)]

    def measures(self) -> Measures:
        return Measures(0.0, 0.0, 0.0, 0.0, 3_000, 4_000, 0)


def test_errors_work_and_wire_of_the_training_are_noted(recorder: Recorder) -> None:
    run = FakeRun()
    with watch(FakeCluster(), recorder) as watching:
        watching.attach(run)
        for value in (1, 2):
            run.end(AttemptEnd.FAILED, value)
            watching(Progress(value, 1.0, 0.5 * value, 0.5, None))
        run.end(AttemptEnd.DONE)
    noted = [e for e in recorder.noted if isinstance(e, (ErrorRaised, WorkDone))]
    once, twice, done = noted
    assert isinstance(once, ErrorRaised)
    assert (once.number, once.error, once.n) == (0, "ValueError: no 1", 1)
    assert once.traceback.startswith("ValueError")
    assert isinstance(twice, ErrorRaised)
    assert (twice.number, twice.error, twice.n) == (0, "ValueError: no 2", 2)
    told = {"mean": 1.0, "p50": 1, "p95": 1, "max": 1, "histogram": {"1": 4}}
    assert done == WorkDone(
        workers=[
            {
                "worker_id": "local1-0", "n_jobs": 1, "n_failed": 2, "n_unneeded": 0,
                "compute_s": 0.0, "wire_s": 0.0, "wait_s": 1.0, "lost_s": 2.0,
            }
        ],
        partitions=[{"partition": 1, "n_examples": 500, "owner": "local1-0", "epochs": 2.5}],
        staleness=told | {"by_worker": {"local1-0": told}},
    )  # fmt: skip
    moments = [e for e in recorder.noted if isinstance(e, Progressed)]
    assert [(e.pushed_bytes, e.pulled_bytes, e.n_queued) for e in moments] == [
        (3_000, 4_000, 4)
    ] * 2
    assert [span.end for span in recorder.timeline] == ["failed", "failed", "done"]
    assert recorder.told.count("a job raised ValueError: no 1 on local1-0") == 1


def test_averaging_has_no_staleness_to_tell(recorder: Recorder) -> None:
    run = FakeRun()
    run.staleness = None
    with watch(FakeCluster(), recorder) as watching:
        watching.attach(run)
    (done,) = [event for event in recorder.noted if isinstance(event, WorkDone)]
    assert done.staleness == {}


def test_a_timeline_that_cannot_be_written_costs_the_timeline(recorder: Recorder) -> None:
    with watch(FakeCluster(), recorder) as watching:
        watching.attach(FakeRun())
        recorder.is_full = True
    assert ("warning", "timeline.csv cannot be written.") in recorder.told


def test_a_training_in_this_process_is_not_asked(recorder: Recorder) -> None:
    with Watch(None, STARTED, recorder, recorder) as watching:  # type: ignore[arg-type]
        watching.attach(object())
        watching(Progress(1, 1.0, 0.5, 0.5, None))
    assert [type(event) for event in recorder.noted] == [RunStarted, Progressed]
