"""Which worker had which job, when, and how that ended."""

from __future__ import annotations

from paramserver.core.commands import AnnounceAttempt, AttemptEnd
from paramserver.training.timeline import KNOWN_MAX, SPANS_MAX, JobSpan, Timeline


def attempt(
    job: int, worker_id: str = "a", end: AttemptEnd = AttemptEnd.DONE, *, is_backup: bool = False
) -> AnnounceAttempt:
    return AnnounceAttempt("rounds", job, 1, worker_id, 11.0, 12.5, end, is_backup)


def test_attempts_are_kept_in_the_order_of_their_ends_with_how_they_ended() -> None:
    timeline = Timeline()
    timeline.hand_in(7, 0, 3)
    timeline.hand_in(8, 1, 3)
    spans = [
        timeline.end(attempt(7, "a", AttemptEnd.LOST), began_at=10.0),
        timeline.end(attempt(7, "b", is_backup=True), began_at=10.0),
        timeline.end(attempt(8), began_at=10.0),
    ]
    assert spans == [
        JobSpan("a", 0, 3, 1.0, 2.5, "lost"),
        JobSpan("b", 0, 3, 1.0, 2.5, "done", is_backup=True),
        JobSpan("a", 1, 3, 1.0, 2.5),
    ]
    assert list(timeline.spans) == spans


def test_jobs_of_others_are_passed_over() -> None:
    timeline = Timeline()
    assert timeline.end(attempt(7), began_at=10.0) is None
    assert list(timeline.spans) == []


def test_what_is_kept_does_not_grow_with_the_training() -> None:
    timeline = Timeline()
    for job in range(5 * KNOWN_MAX):
        timeline.hand_in(job, job, 0)
        assert timeline.end(attempt(job), began_at=0.0) is not None
    assert len(timeline.spans) == SPANS_MAX
    assert timeline.spans[-1].number == 5 * KNOWN_MAX - 1
    assert KNOWN_MAX <= len(timeline._known) <= 2 * KNOWN_MAX
    old = timeline.end(attempt(4 * KNOWN_MAX), began_at=0.0)
    assert old is not None
    assert old.number == 4 * KNOWN_MAX
