"""What is shown of a training's jobs, live and in its report."""

from __future__ import annotations

from paramserver.drawing.gantt import BARS_MAX
from paramserver.training.sections import (
    PARTITIONS_MAX,
    WORKERS_MAX,
    barrier_figure,
    partitions_figure,
    shares_cell,
    staleness_figure,
    staleness_table,
    time_figure,
    time_table,
    timeline_section,
    work_section,
)
from paramserver.training.tally import PartitionState, WorkerTime
from paramserver.training.timeline import SPANS_MAX, JobSpan

BUSY = WorkerTime(n_jobs=1_200, n_failed=1, compute_s=3.0, wire_s=0.5, wait_s=0.25, lost_s=0.25)


def test_of_many_jobs_all_are_seen_at_a_glance_and_the_latest_in_detail() -> None:
    spans = [JobSpan(f"w{i % 2}", i // 2, i % 2, i / 10, i / 10 + 0.1) for i in range(1_000)]
    spans[10] = spans[10]._replace(end="lost")
    text = timeline_section(spans, "round")
    assert "the latest 1,000 jobs" in text
    assert f"the latest {BARS_MAX}" in text
    assert text.count('class="cross lost"') == 1  # it is older than those in detail


def test_the_words_about_colours_stand_where_each_job_has_a_bar_of_its_own() -> None:
    words = "with each round the colour changes"
    spans = [JobSpan("w0", i, 0, i / 10, i / 10 + 0.1) for i in range(BARS_MAX + 1)]
    assert words in timeline_section(spans[1:], "round")
    begin, whole, latest = timeline_section(spans, "round").split("<figure>")
    assert "one bar" in whole
    assert [words in part for part in (begin, whole, latest)] == [False, False, True]


def test_the_pictures_of_ten_thousand_jobs_are_small() -> None:
    spans = [JobSpan(f"w{i % 10}", i, i % 10, i / 10, i / 10 + 0.5) for i in range(SPANS_MAX)]
    assert len(timeline_section(spans, "round")) < 300_000


def test_where_the_time_of_all_workers_went_is_one_bar() -> None:
    text = time_figure({"a": BUSY, "b": WorkerTime(wait_s=4.0)})
    for words in ("computing <b>38%</b>", "waiting <b>53%</b>", "of 2 workers together"):
        assert words in text, words
    assert "of one worker" in time_figure({"a": BUSY})
    assert time_figure({"a": WorkerTime()}) == ""


def test_where_the_time_of_each_worker_went_is_a_table() -> None:
    text = time_table({"w10": BUSY, "w2": WorkerTime(n_unneeded=3)})
    assert text.index("w2") < text.index("w10")
    assert "<td>1,200</td><td>1</td><td></td><td>3.00 s</td>" in text
    long = time_table({"w": WorkerTime(compute_s=900.0, wire_s=30.0)})
    assert "<td>15.00 min</td><td>0.50 min</td><td></td>" in long
    assert time_table({}) == ""
    assert time_table({f"w{i}": BUSY for i in range(500)}).count("<tr>") == WORKERS_MAX + 1


def test_a_worker_that_has_ended_nothing_has_no_shares() -> None:
    assert shares_cell(WorkerTime()) == ""
    assert "<b>75%</b>" in shares_cell(BUSY)


def test_a_barrier_needs_rounds() -> None:
    assert barrier_figure([]) == ""
    spans = [
        JobSpan(f"w{i % 2}", i // 2, i % 2, i // 2, i // 2 + 0.5 * (1 + i % 2)) for i in range(8)
    ]
    assert "25% of the time of a round is waiting" in barrier_figure(spans)


def test_partitions_are_told_with_their_owners() -> None:
    states = [PartitionState(0, 1_500, "w1", 2.25), PartitionState(1, 500, "", 0.0)]
    text = partitions_figure(states)
    for words in ("2,000 rows in 2 partitions", "<td>1,500</td><td>2.25</td>", "nobody yet"):
        assert words in text, words
    assert partitions_figure([]) == ""
    many = [PartitionState(i, 1, "w", 1.0) for i in range(PARTITIONS_MAX + 9)]
    assert "and 9 more" in partitions_figure(many)


def test_staleness_is_told_of_all_updates_and_of_each_worker() -> None:
    text = staleness_figure({0: 90, 1: 7, 9: 3})
    assert "0.34 updates by others on average" in text
    assert "at most 1 for 95 of 100, 9 at worst." in text
    by_worker = staleness_table({"w10": {0: 9, 4: 1}, "w2": {3: 1}})
    assert by_worker.index("w2") < by_worker.index("w10")
    assert "<td>10</td><td>0.40</td><td>4</td><td>4</td>" in by_worker
    assert staleness_table({}) == ""
    assert "and 9 more" in staleness_table({f"w{i}": {0: 1} for i in range(WORKERS_MAX + 9)})


def test_where_nothing_is_known_there_is_no_section() -> None:
    assert work_section("Work", "", ("", "", ""), "") == ""
    assert "<h2>Work</h2>" in work_section("Work", "", ("", "<figure/>"), "")
