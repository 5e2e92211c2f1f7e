"""Owners of jobs: each hears of its own, and what one raises hurts nobody else."""

from __future__ import annotations

import logging
from collections import Counter, deque
from typing import NoReturn

import pytest

from paramserver.core.commands import SettleJob
from paramserver.core.jobs import Verdict
from paramserver.protocol.messages import JobGrant, Payload, PayloadKind
from paramserver.runtime.owners import Owners


class Owner:
    """Wants some jobs, and remembers what it hears."""

    def __init__(self, *wanted: int) -> None:
        self.wanted = wanted
        self.asked: list[int] = []
        self.ended: list[int] = []
        self.broken_off: list[tuple[int, BaseException]] = []

    def claim(self, job: int) -> bool:
        self.asked.append(job)
        return job in self.wanted

    def settle(self, ended: SettleJob) -> None:
        self.ended.append(ended.job)

    def break_off(self, job: int, error: BaseException) -> None:
        self.broken_off.append((job, error))


class Rude(Owner):
    """Raises when it hears anything."""

    def settle(self, ended: SettleJob) -> NoReturn:
        raise SystemExit(3)

    def break_off(self, job: int, error: BaseException) -> NoReturn:
        raise SystemExit(3)


def grant(job: int, attempt: int = 1) -> JobGrant:
    return JobGrant(job, attempt, Payload(PayloadKind.PLAIN, b""))


def settled(*jobs: int) -> deque[SettleJob]:
    return deque(SettleJob(job, Verdict.SUCCEEDED) for job in jobs)


def test_an_owner_is_asked_once_before_the_first_try_of_its_job() -> None:
    owners, owner = Owners(Counter()), Owner(1, 2)
    for job in (1, 2, 3, 4):
        owners[job] = owner
    grants = (grant(1), grant(2, attempt=2), grant(3), grant(9))
    assert owners.unwanted(grants) == [3]
    assert owner.asked == [1, 3]


def test_an_owner_hears_of_the_end_of_each_of_its_jobs_once() -> None:
    counters: Counter[str] = Counter()
    owners, owner, other = Owners(counters), Owner(), Owner()
    owners[1] = owners[2] = owner
    owners[3] = other
    ends = settled(2, 1, 2, 9)
    owners.settle(ends)
    assert not ends
    assert owner.ended == [2, 1]
    assert owners == {3: other}
    owners.break_off(OSError("gone"))
    assert [(job, str(error)) for job, error in other.broken_off] == [(3, "gone")]
    assert not owner.broken_off
    assert not owners
    assert not counters


def test_what_an_owner_raises_is_counted_and_logged_and_the_next_one_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counters: Counter[str] = Counter()
    owners, owner = Owners(counters), Owner()
    owners[1] = owners[3] = Rude()
    owners[2] = owners[4] = owner
    with caplog.at_level(logging.ERROR, "paramserver"):
        owners.settle(settled(1, 2))
        owners.break_off(OSError())
    assert owner.ended == [2]
    assert [job for job, _ in owner.broken_off] == [4]
    assert counters == {"owner_errors": 2}
    assert [record.getMessage() for record in caplog.records] == [
        "What waited for job 1 has failed.",
        "What waited for job 3 has failed.",
    ]


def test_an_owner_that_is_named_while_others_are_told_is_kept() -> None:
    owners, late = Owners(Counter()), Owner()

    class Naming(Owner):
        def break_off(self, job: int, error: BaseException) -> None:
            owners[job + 1] = late

    owners[1] = Naming()
    owners.break_off(OSError())
    assert owners == {2: late}
