"""The restart policy: who is replaced, and when."""

from __future__ import annotations

import pytest

from paramserver.core.restarts import RestartLimits, RestartPolicy
from paramserver.errors import InvalidTransition


class Crew:
    """A policy together with the names it never has to invent."""

    def __init__(self, limits: RestartLimits | None = None) -> None:
        self.policy = RestartPolicy(limits)
        self.n_named = 0

    def start_due(self, now: float) -> list[str]:
        names = []
        while self.policy.due(now):
            names.append(f"a-{self.n_named}")
            self.n_named += 1
            self.policy.started(names[-1], now)
            self.policy.check()
        return names

    def exited(self, name: str, now: float, n_ended: int = 0) -> bool:
        expected = self.policy.exited(name, now, n_ended)
        self.policy.check()
        return expected


def test_all_workers_asked_for_are_due_at_once() -> None:
    crew = Crew()
    crew.policy.scale(3, now=5.0)
    assert crew.policy.due(5.0) == 3
    assert crew.policy.next_deadline() == 5.0
    assert crew.start_due(5.0) == ["a-0", "a-1", "a-2"]
    assert crew.policy.due(1e9) == 0
    assert crew.policy.next_deadline() is None


def test_a_lost_worker_is_replaced_at_once() -> None:
    crew = Crew()
    crew.policy.scale(2, now=0.0)
    crew.start_due(0.0)
    assert crew.exited("a-0", now=1.0) is False
    assert crew.policy.due(1.0) == 1


def waits_of_a_crash_loop(limits: RestartLimits, n_lives: int) -> list[float]:
    """Return how long each life of one line had to wait for its start."""
    crew = Crew(limits)
    crew.policy.scale(1, now=0.0)
    now, waits = 0.0, []
    for _ in range(n_lives):
        due = crew.policy.next_deadline()
        assert due is not None
        waits.append(due - now)
        now = due
        (name,) = crew.start_due(now)
        now += 0.25
        crew.exited(name, now)
    return waits


def test_a_crash_loop_backs_off_to_half_a_minute() -> None:
    waits = waits_of_a_crash_loop(RestartLimits(), n_lives=12)
    assert waits == [0, 0, 0, 0, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_thousand_restarts_overflow_nothing_and_are_forgotten() -> None:
    limits = RestartLimits()
    assert limits.delay_s(2_000) == limits.max_delay_s
    crew = Crew(limits)
    crew.policy.scale(1, now=0.0)
    now = 0.0
    for _ in range(2_000):
        now = crew.policy.next_deadline() or now
        (name,) = crew.start_due(now)
        crew.exited(name, now)
    assert len(crew.policy._lives) == 0
    assert len(crew.policy._vacancies) == 1


def test_a_job_that_ended_makes_the_line_sound_again() -> None:
    crew = Crew()
    crew.policy.scale(1, now=0.0)
    now = 0.0
    for _ in range(6):
        now = crew.policy.next_deadline() or now
        (name,) = crew.start_due(now)
        crew.exited(name, now)
    now = crew.policy.next_deadline() or now
    (name,) = crew.start_due(now)
    crew.exited(name, now, n_ended=1)
    assert crew.policy.next_deadline() == now


def test_a_long_life_makes_the_line_sound_again() -> None:
    crew = Crew(RestartLimits(n_free=0))
    crew.policy.scale(1, now=0.0)
    (name,) = crew.start_due(0.0)
    crew.exited(name, now=9.9)
    assert crew.policy.next_deadline() == pytest.approx(10.4)
    (name,) = crew.start_due(20.0)
    crew.exited(name, now=30.0)
    assert crew.policy.next_deadline() == 30.0


def test_ten_workers_killed_in_one_stroke_are_no_crash_loop() -> None:
    crew = Crew()
    crew.policy.scale(10, now=0.0)
    for name in crew.start_due(0.0):
        crew.exited(name, now=1.0)
    assert crew.policy.due(1.0) == 10


def test_a_retired_worker_is_expected_to_go_and_is_not_replaced() -> None:
    crew = Crew()
    crew.policy.scale(3, now=0.0)
    crew.start_due(0.0)
    crew.policy.retire("a-1")
    crew.policy.check()
    assert crew.policy.target == 2
    assert crew.exited("a-1", now=1.0) is True
    assert crew.policy.next_deadline() is None
    crew.exited("a-0", now=2.0)
    assert crew.policy.due(2.0) == 1


@pytest.mark.parametrize("scale_first", [True, False])
def test_scaling_down_and_retiring_come_to_the_same_in_either_order(scale_first: bool) -> None:
    crew = Crew()
    crew.policy.scale(5, now=0.0)
    crew.start_due(0.0)
    if scale_first:
        crew.policy.scale(3, now=1.0)
    for name in ("a-0", "a-1"):
        crew.policy.retire(name)
        crew.policy.retire(name)  # once more is the same as once
    if not scale_first:
        crew.policy.scale(3, now=1.0)
    crew.policy.check()
    assert crew.policy.target == 3
    assert crew.policy.next_deadline() is None


def test_one_too_many_that_is_lost_is_not_replaced() -> None:
    crew = Crew()
    crew.policy.scale(2, now=0.0)
    crew.start_due(0.0)
    crew.policy.scale(1, now=1.0)
    assert crew.exited("a-0", now=2.0) is False
    assert crew.policy.next_deadline() is None
    crew.exited("a-1", now=3.0)
    assert crew.policy.due(3.0) == 1


def test_scaling_down_cancels_the_replacements_that_would_have_waited_longest() -> None:
    crew = Crew(RestartLimits(n_free=0))
    crew.policy.scale(2, now=0.0)
    crew.start_due(0.0)
    crew.exited("a-0", now=1.0)
    crew.exited("a-1", now=2.0)
    crew.policy.scale(1, now=2.0)
    assert crew.policy._vacancies[0].due == 1.5
    assert len(crew.policy._vacancies) == 1


def test_scaling_up_does_not_make_a_crash_loop_impatient() -> None:
    crew = Crew(RestartLimits(n_free=0, first_delay_s=8.0))
    crew.policy.scale(1, now=0.0)
    crew.start_due(0.0)
    crew.exited("a-0", now=1.0)
    crew.policy.scale(2, now=1.0)
    assert crew.policy.due(1.0) == 1
    assert crew.policy.due(9.0) == 2


def test_unknown_names_are_not_retired() -> None:
    crew = Crew()
    crew.policy.scale(1, now=0.0)
    crew.policy.retire("somebody")
    assert crew.policy.target == 1


def test_three_deaths_before_anyone_was_ready_are_hopeless() -> None:
    crew = Crew()
    crew.policy.scale(3, now=0.0)
    names = crew.start_due(0.0)
    crew.exited(names[0], now=0.1)
    crew.exited(names[1], now=0.1)
    assert not crew.policy.launch_is_hopeless
    crew.exited(names[2], now=0.1)
    assert crew.policy.launch_is_hopeless


@pytest.mark.parametrize("sign_of_life", ["ready", "a job ended"])
def test_after_one_sign_of_life_nothing_is_hopeless(sign_of_life: str) -> None:
    crew = Crew()
    crew.policy.scale(9, now=0.0)
    first, *others = crew.start_due(0.0)
    assert not crew.policy.was_ever_ready
    if sign_of_life == "ready":
        crew.policy.ready()
    else:
        crew.exited(first, now=0.1, n_ended=1)
    assert crew.policy.was_ever_ready
    for name in others:
        crew.exited(name, now=0.2)
    assert not crew.policy.launch_is_hopeless


def test_a_retired_worker_does_not_count_as_a_failed_launch() -> None:
    crew = Crew(RestartLimits(n_launches=1))
    crew.policy.scale(1, now=0.0)
    crew.start_due(0.0)
    crew.policy.retire("a-0")
    crew.exited("a-0", now=0.1)
    assert not crew.policy.launch_is_hopeless


def test_processes_that_cannot_be_started_back_off_and_are_hopeless_too() -> None:
    crew = Crew()
    crew.policy.scale(1, now=0.0)
    waits = []
    for _ in range(5):
        now = crew.policy.next_deadline()
        assert now is not None
        crew.policy.start_failed(now)
        crew.policy.check()
        waits.append((crew.policy.next_deadline() or 0.0) - now)
    assert waits == [0, 0, 0, 0.5, 1]
    assert crew.policy.launch_is_hopeless


def test_what_cannot_happen_is_refused() -> None:
    crew = Crew()
    with pytest.raises(InvalidTransition, match="not due"):
        crew.policy.started("a-0", now=0.0)
    with pytest.raises(InvalidTransition, match="none was due"):
        crew.policy.start_failed(now=0.0)
    with pytest.raises(InvalidTransition, match="without having been started"):
        crew.policy.exited("a-0", now=0.0, n_ended=0)
    crew.policy.scale(2, now=0.0)
    crew.policy.started("a-0", now=0.0)
    with pytest.raises(InvalidTransition, match="not due"):
        crew.policy.started("a-0", now=0.0)


def test_who_was_stopped_before_it_came_up_proves_nothing_and_is_replaced() -> None:
    crew = Crew()
    crew.policy.scale(4, now=0.0)
    for name in crew.start_due(0.0):
        crew.policy.exited(name, 4.0, 0, was_halted=True)
        crew.policy.check()
    assert not crew.policy.launch_is_hopeless
    assert crew.policy.due(4.0) == 4
    now = 4.0
    for _ in range(3):  # again and again: each line waits longer, like any other crash loop
        due = crew.policy.next_deadline()
        assert due is not None
        now = due
        for name in crew.start_due(now):
            crew.policy.exited(name, now + 4.0, 0, was_halted=True)
    assert crew.policy.due(now + 4.0) == 0
