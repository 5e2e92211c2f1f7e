"""Waiting for workers: it ends when they are there, when they cannot come, or when time is over."""

from __future__ import annotations

import pytest

from paramserver.core.commands import AnnounceWorker
from paramserver.errors import LaunchFailed, NoWorkers
from paramserver.runtime import membership as module
from paramserver.runtime.membership import Membership


def never() -> None:
    """No failure."""


def joined(incarnation: int) -> AnnounceWorker:
    return AnnounceWorker(incarnation, f"w-{incarnation}", "joined")


def test_those_who_joined_or_resumed_count_until_they_are_lost_or_leave() -> None:
    members = Membership()
    for incarnation in (1, 2, 3):
        members.note(joined(incarnation))
    members.note(AnnounceWorker(1, "w-1", "lost"))
    members.note(AnnounceWorker(2, "w-2", "left"))
    members.note(AnnounceWorker(3, "w-3", "resumed"))
    assert len(members) == 1
    members.wait_for(1, 0.0, never)


def test_a_wait_says_now_and_then_how_many_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMIND_S", 0.001)
    members = Membership()
    members.note(joined(1))
    said: list[tuple[int, int]] = []

    def remind(n_there: int, n: int) -> None:
        said.append((n_there, n))
        if len(said) == 4:
            members.note(joined(2))

    members.wait_for(2, 30.0, never, remind)
    assert said == [(1, 2)] * 4


def test_a_wait_that_is_too_long_names_what_was_there() -> None:
    members = Membership()
    members.note(joined(1))
    with pytest.raises(NoWorkers, match=r"^1 of 3 workers were there after 0\.01 s") as caught:
        members.wait_for(3, 0.01, never)
    assert caught.value.waited_s == 0.01


def test_a_failure_ends_the_wait() -> None:
    failure = LaunchFailed("no", exit_code=1, stderr_tail="")
    with pytest.raises(LaunchFailed):
        Membership().wait_for(1, 30.0, lambda: failure)
