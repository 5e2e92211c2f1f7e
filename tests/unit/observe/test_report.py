"""The report of a run: true, whole, and one file."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from paramserver.observe.events import ErrorRaised, Event, RunEnded, WorkDone
from paramserver.observe.record import Moment, RunRecord, record_of
from paramserver.observe.report import report_html
from paramserver.training.result import MAX_ROWS
from paramserver.training.timeline import SPANS_MAX, JobSpan
from tests.unit.observe.run_files import BEGAN, STARTED, STORY, SUMMARY, progressed


class Words(HTMLParser):
    """What can be read on a page, and the elements it is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.headings: list[str] = []
        self._words: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()
        self.text = re.sub(r"\s+", " ", " ".join(self._words))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.add(tag)
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside != "style":
            self._words.append(data)
        if self._inside == "h2" and data.strip():
            self.headings.append(data)


def record(story: list[tuple[float, Event]] = STORY, **summary: Any) -> RunRecord:
    run = record_of((BEGAN + at, event) for at, event in story)
    assert run is not None
    if run.summary:
        run.summary = deepcopy(run.summary) | summary
    run.config = {"mode": "async", "data": "digits", "workers": 2, "staleness_aware": False}
    return run


def read(run: RunRecord) -> Words:
    return Words(report_html(run, "python -m paramserver.train --mode async"))


def test_the_report_tells_all_there_is() -> None:
    page = read(record())
    assert page.headings == [
        "Convergence", "Where the time went", "Workers", "Refused", "Configuration"
    ]  # fmt: skip
    for words in (
        "softmax on digits", "paramserver 1.2.3", "26 November 2026, 05:57 UTC", "done",
        "2 workers trained 650 weights on 1,000 examples in 2 partitions.",
        "of scikit-learn, in one process, took 4.00 s to the same score: this run was",
        "2.0 times faster", "0.9375", "held-out accuracy", "1,500", "computing 25%",
        "1.00 updates by others on average", "lost: killed by SIGKILL", "nonfinite",
        "python -m paramserver.train --mode async", "c0ffee",
    ):  # fmt: skip
        assert words in page.text, words


def test_the_jobs_of_each_worker_are_drawn_where_they_are_known() -> None:
    run = record()
    run.timeline = [JobSpan("local1-0", 4, i % 2, i / 2, i / 2 + 0.5) for i in range(300)]
    page = read(run)
    assert page.headings.index("Timeline") == 1
    assert "of each worker, the latest 240" in page.text
    assert "the latest 300 jobs" in page.text
    assert "local1-0: epoch 4, partition 1" in page.text


def test_what_another_version_has_not_measured_is_not_shown() -> None:
    run = record()
    del run.summary["wire_s"]
    page = read(run)
    assert "Workers' time" not in page.text
    assert "1.00 updates by others on average" in page.text


def test_the_report_is_one_file_that_runs_and_loads_nothing() -> None:
    text = report_html(record(), "x")
    assert not {"script", "link", "img", "iframe", "object"} & Words(text).names
    assert not re.findall(r"(?:src|href|xlink)\s*=|url\(|@import", text)


def test_slower_than_one_process_is_said_as_it_is() -> None:
    assert "4.0 times slower" in read(record(speedup=0.25)).text
    not_reached = read(record(speedup=None)).text
    assert "came to 0.9375 at best in 4.00 s and did not reach the score of this run" in not_reached


def test_an_averaging_run_has_rounds_and_no_staleness() -> None:
    story: list[tuple[float, Event]] = [(0.0, replace(STARTED, mode="avg")), *STORY[1:]]
    page = read(record(story, staleness=None, rounds=3, updates=None, rejected={}))
    assert page.headings == ["Convergence", "Where the time went", "Workers", "Configuration"]
    assert "iterative averaging" in page.text
    assert "updates" not in page.text


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (RunEnded(outcome="failed", reason="Round 3 is not finite."), "Round 3 is not finite."),
        (RunEnded(outcome="interrupted"), "until it was interrupted. It can be resumed"),
        (None, "No end was written"),
    ],
)
def test_a_run_that_did_not_come_to_its_end_says_so(end: RunEnded | None, words: str) -> None:
    story = STORY[:-1] + ([(2.5, end)] if end is not None else [])
    page = read(record(story))
    assert page.headings == ["Convergence", "Workers", "Configuration"]
    assert words in page.text
    assert "scikit-learn" not in page.text


def test_a_run_that_was_broken_off_tells_what_was_done_and_raised_till_then() -> None:
    work = WorkDone(
        workers=[{"worker_id": "local1-0", "n_jobs": 7, "compute_s": 3.0, "wait_s": 1.0}],
        partitions=[{"partition": 0, "n_examples": 600, "owner": "local1-0", "epochs": 2.25}],
        staleness=SUMMARY["staleness"],
    )
    once = ErrorRaised(number=0, error="OSError: no rows", traceback="Traceback: line 7", n=1)
    wire = replace(progressed(3, 1.5), pushed_bytes=6_000_000, pulled_bytes=3_000_000, n_queued=4)
    end = RunEnded(outcome="interrupted")
    told = [(1.6, wire), (1.7, once), (1.8, replace(once, n=3)), (1.9, work), (2.0, end)]
    page = read(record([*STORY[:-2], *told]))
    assert page.headings == [
        "Convergence", "Errors", "Where the time went", "Throughput", "Workers", "Configuration"
    ]  # fmt: skip
    for words in (
        "computing 75%", "600 rows in 1 partition", "2.25", "1.00 updates by others on average",
        "OSError: no rows 3 times", "Traceback: line 7", "4.0 MB a second", "2.0 MB results",
        "when it was last evaluated",
    ):  # fmt: skip
        assert words in page.text, words
    assert page.text.count("Traceback: line 7") == 1


def test_of_a_run_that_was_killed_nothing_is_claimed_that_nobody_wrote() -> None:
    page = read(record(STORY[:3]))
    assert "not known" in page.text
    assert "from the beginning to the end" not in page.text


def test_a_report_of_ten_thousand_jobs_is_small() -> None:
    run = record()
    run.timeline = [
        JobSpan(f"w{i % 10}", i // 10, i % 10, i / 10, i / 10 + 0.9) for i in range(SPANS_MAX)
    ]
    run.moments = [Moment(i, i, i, 1 / (i + 1), 0.5, 1.0) for i in range(MAX_ROWS)]
    assert len(report_html(run, "x")) < 500_000


def test_a_run_without_a_single_evaluation_has_a_report() -> None:
    page = read(record(STORY[:1]))
    assert page.headings == ["Convergence", "Configuration"]
    assert "nothing yet" in page.text


def test_a_loss_that_is_zero_or_unknown_is_drawn_on_a_linear_axis() -> None:
    zero = read(record([STORY[0], (0.5, progressed(1, 0.4)), (0.9, progressed(2, 0.8, 0.0))]))
    assert "logarithmic" not in zero.text
    some = read(record([STORY[0], (0.5, progressed(1, 0.4)), (0.9, progressed(2, 0.8, 0.1))]))
    assert "logarithmic" in some.text


def test_names_from_elsewhere_are_text() -> None:
    evil = "<script>alert(1)</script>"
    run = record(weights_sha256=evil, metric=evil, baseline={**SUMMARY["baseline"], "name": evil})
    run.started = replace(run.started, model=evil, data=evil, host=evil)
    run.workers[0].worker_id = run.workers[0].host = evil
    run.config["data"] = evil
    text = report_html(run, evil)
    assert "script" not in Words(text).names
    assert "<script" not in text


def test_of_many_workers_the_first_are_shown_and_the_rest_counted() -> None:
    run = record()
    run.workers = [replace(run.workers[0], worker_id=f"w{i}") for i in range(150)]
    page = read(run)
    assert "and 50 more" in page.text
    assert page.text.index(" w2 ") < page.text.index(" w10 ")
