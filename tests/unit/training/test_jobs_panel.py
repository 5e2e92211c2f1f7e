"""The panel of a training's jobs."""

from __future__ import annotations

from collections import Counter

from paramserver.core.commands import AnnounceAttempt, AttemptEnd
from paramserver.drawing.panel import Panel, Reading, WorkerColumn
from paramserver.protocol.calls import encode_error
from paramserver.runtime.troubles import Troubles
from paramserver.training.jobs_panel import JobsPanel
from paramserver.training.measures import Measures
from paramserver.training.tally import PartitionState, Tally
from paramserver.training.timeline import Timeline


class Source:
    """A training of two workers, as far as a panel sees it."""

    def __init__(self, staleness: Counter[int] | None) -> None:
        self.staleness = staleness
        self.staleness_by_worker = {} if staleness is None else {"local1-0": staleness}
        self.timeline, self.tally, self.troubles = Timeline(), Tally(), Troubles()
        self.timeline.hand_in(1, 4, 2)
        self.timeline.hand_in(2, 5, 2)
        self.end(1, "local1-0", 0.0, 1.5)
        self.tally.work("local1-0", compute_s=1.0)

    def end(
        self, job: int, worker: str, begun: float, ended: float, end: AttemptEnd = AttemptEnd.DONE
    ) -> None:
        attempt = AnnounceAttempt("rounds", job, 1, worker, begun, ended, end)
        span = self.timeline.end(attempt, 0.0)
        assert span is not None
        self.tally.end(span)

    def partitions(self) -> list[PartitionState]:
        return [PartitionState(2, 1000, "local1-0", 4.5)]

    def measures(self) -> Measures:
        return Measures(1.0, 0.25, 0.5, 0.125, 3_000, 4_000, 0)


def test_an_asynchronous_training_is_told_whole() -> None:
    panel = JobsPanel(Source(Counter({0: 3, 2: 1})))
    text = panel.html()
    for words in (
        "local1-0: epoch 4, partition 2, 1.500 s", "0.50 updates by others on average",
        "computing <b>67%</b>", "on the wire <b>33%</b>",
        "1,000 rows in 1 partition<", "<td>4.50</td>", ">local1-0</td>",
    ):  # fmt: skip
        assert words in text, words
    assert "Errors" not in text


def test_averaging_has_rounds_a_barrier_and_no_staleness() -> None:
    source = Source(None)
    for job, worker, ended in ((1, "local1-1", 2.5), (2, "local1-0", 4.0), (2, "local1-1", 5.0)):
        source.end(job, worker, 2.0, ended)
    source.timeline.hand_in(3, 6, 2)
    source.end(3, "local1-0", 5.0, 6.0)
    text = JobsPanel(source).html()
    assert "round 4, partition 2" in text
    assert "The barrier" in text
    assert "Staleness" not in text


def test_what_is_lost_and_what_is_raised_is_marked() -> None:
    source = Source(None)
    source.end(2, "local1-1", 1.0, 3.0, AttemptEnd.LOST)
    error = encode_error(ValueError("<no> rows"), trusted=False)
    source.troubles.note(
        AnnounceAttempt("rounds", 2, 1, "local1-1", 0.0, 1.0, AttemptEnd.FAILED, False, error)
    )
    text = JobsPanel(source).html()
    assert 'class="cross lost"' in text
    assert "lost with its worker" in text
    assert "ValueError: &lt;no&gt; rows" in text
    assert "once, last on local1-1" in text


def test_each_worker_has_its_share_in_the_table_of_workers() -> None:
    panel: Panel = JobsPanel(Source(None))
    assert isinstance(panel, WorkerColumn)
    (cell,) = panel.cells().values()
    assert "<b>67%</b>" in cell
    assert 'aria-label="computing 67%, on the wire 33%"' in cell


def test_shares_are_live_where_a_worker_tells_amid_a_job() -> None:
    source = Source(Counter())
    panel = JobsPanel(source)
    source.tally.begin_work(3, "local1-1", 0.0, began=10.0)
    source.tally.at_work[3].tell(3.0, 0.0, at=14.0)
    assert "<b>75%</b>" in panel.cells()["local1-1"]
    assert "local1-1" not in source.tally.workers


def test_the_readings_have_units_and_few_labels() -> None:
    found = list(JobsPanel(Source(Counter({0: 3, 2: 1}))).readings())
    assert [(each.name, each.labels, each.value) for each in found] == [
        ("training_wire_bytes_total", (("way", "pushed"),), 3_000),
        ("training_wire_bytes_total", (("way", "pulled"),), 4_000),
        ("training_worker_seconds_total", (("activity", "compute"),), 1.0),
        ("training_worker_seconds_total", (("activity", "wire"),), 0.5),
        ("training_worker_seconds_total", (("activity", "wait"),), 0.0),
        ("training_worker_seconds_total", (("activity", "lost"),), 0.0),
        ("training_apply_seconds_total", (), 0.125),
        ("training_failed_attempts_total", (), 0),
        ("training_staleness_mean", (), 0.5),
    ]
    assert "training_staleness_mean" not in {
        each.name for each in JobsPanel(Source(None)).readings()
    }


def test_what_was_seen_last_stays_and_the_training_is_let_go() -> None:
    source = Source(Counter({0: 3}))
    panel = JobsPanel(source)
    before, numbers = panel.html(), list(panel.readings())
    assert not panel.is_frozen
    panel.freeze()
    assert panel.is_frozen
    panel.freeze()
    assert panel.html() == panel.html() == before
    assert list(panel.readings()) == numbers
    assert isinstance(numbers[0], Reading)
    assert panel._source is not source
