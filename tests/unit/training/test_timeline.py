"""Which worker had which job, and when."""

from __future__ import annotations

from paramserver.training.timeline import SPANS_MAX, JobSpan, Timeline


def test_a_job_begins_when_it_is_handed_in_or_when_its_worker_is_free() -> None:
    timeline = Timeline()
    for job in (1, 2, 3):
        timeline.hand_in(job, 1.0)
    timeline.end(1, 0, 0, "a", 2.0)
    timeline.end(2, 0, 1, "b", 2.5)
    timeline.end(3, 0, 2, "a", 3.0)
    timeline.hand_in(4, 5.0)
    timeline.end(4, 1, 0, "a", 6.0)
    assert list(timeline.spans) == [
        JobSpan("a", 0, 0, 1.0, 2.0),
        JobSpan("b", 0, 1, 1.0, 2.5),
        JobSpan("a", 0, 2, 2.0, 3.0),
        JobSpan("a", 1, 0, 5.0, 6.0),
    ]


def test_what_is_kept_does_not_grow_with_the_training() -> None:
    timeline = Timeline()
    for job in range(SPANS_MAX + 50):
        timeline.hand_in(job, float(job))
        timeline.end(job, job, 0, "a", job + 1.0)
    assert len(timeline.spans) == SPANS_MAX
    assert timeline.spans[0] == JobSpan("a", 50, 0, 50.0, 51.0)
    assert timeline._handed_in == {}
