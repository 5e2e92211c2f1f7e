"""What the barrier of a round costs."""

from __future__ import annotations

from paramserver.training.rounds import RoundTime, round_times
from paramserver.training.timeline import SPANS_MAX, JobSpan


def test_attempts_that_came_to_nothing_are_no_part_of_a_round() -> None:
    spans = [
        JobSpan("a", 4, 0, 0.0, 9.0, "lost"),
        JobSpan("a", 4, 0, 1.0, 2.0),
        JobSpan("b", 4, 1, 0.0, 4.0),
        JobSpan("b", 5, 0, 4.0, 5.0),
    ]
    assert round_times(spans) == [RoundTime(4, 2.5, 1.0)]


def test_nothing_is_told_of_rounds_that_are_not_whole() -> None:
    assert round_times([]) == []
    assert round_times([JobSpan("a", 0, 0, 0.0, 1.0)]) == []
    many = [JobSpan("a", i // 2, i % 2, i, i + 1.0) for i in range(SPANS_MAX)]
    numbers = [time.number for time in round_times(many)]
    assert numbers == list(range(1, SPANS_MAX // 2 - 1))
