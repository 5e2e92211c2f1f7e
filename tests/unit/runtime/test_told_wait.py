"""Waits that are said: when, and why they last."""

from __future__ import annotations

import threading

import pytest

from paramserver.runtime import told_wait as module
from paramserver.runtime.told_wait import ToldWait

PATIENCE_S = 60.0


def reminders(wait: ToldWait, n: int) -> list[float]:
    """Return when the wait says that it is to be said next, n times."""
    times = []
    for _ in range(n):
        at = wait.next_deadline()
        assert at is not None
        assert not wait.take_reminder(at - 0.001)
        assert wait.take_reminder(at)
        times.append(at)
    return times


def test_a_wait_is_said_at_growing_distances_up_to_a_minute() -> None:
    wait = ToldWait()
    wait.begin(100.0, first_s=0.5)
    assert reminders(wait, 7) == [100.5, 105.5, 115.5, 135.5, 175.5, 235.5, 295.5]
    assert wait.lasted_s(130.0) == 30.0


def test_a_new_wait_begins_anew_and_one_that_has_ended_is_not_said() -> None:
    wait = ToldWait()
    assert not wait.is_on
    wait.begin(0.0)
    assert reminders(wait, 3) == [5.0, 10.0, 20.0]
    wait.begin(50.0)
    assert wait.is_on
    assert reminders(wait, 2) == [55.0, 60.0]
    wait.end()
    assert not wait.is_on
    assert wait.next_deadline() is None
    assert not wait.take_reminder(1e9)
    assert wait.lasted_s(1e9) == 0.0


def test_the_reason_is_found_aside_and_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "why_unreachable", lambda address: f"nobody at {address}")
    wait, found = ToldWait(), threading.Event()
    assert wait.take_reason() == ""
    wait.look_for_reason("tcp://h:1", found.set)
    assert found.wait(PATIENCE_S)
    assert wait.take_reason() == "nobody at tcp://h:1"
    assert wait.take_reason() == ""
