"""Futures are settled whatever their owner does with them, and nobody who waits is forgotten."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future, wait
from typing import Any

import pytest

from paramserver.core.commands import SettleJob
from paramserver.core.jobs import Verdict
from paramserver.errors import ClusterClosed, JobTimeout, NoWorkers, PoisonJob
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.futures import FutureOwner, JobFuture

JOB = 7


def handed_in() -> tuple[FutureOwner, JobFuture[Any]]:
    owner = FutureOwner(trusted=True)
    future: JobFuture[Any] = JobFuture()
    owner.add(JOB, future)
    return owner, future


def succeeded(value: object) -> SettleJob:
    return SettleJob(JOB, Verdict.SUCCEEDED, calls.encode_value(value, trusted=True), "w", 1)


def is_told(future: Future[Any]) -> bool:
    """Whether somebody who waits for the future would be told."""
    return not wait([future], timeout=0).not_done


def test_a_job_that_succeeds_gives_its_value() -> None:
    owner, future = handed_in()
    assert owner.claim(JOB)
    assert future.running()
    owner.settle(succeeded([1, 2]))
    assert future.result(0) == [1, 2]
    assert len(owner) == 0
    assert owner.wait_until_idle(0)


@pytest.mark.parametrize(
    ("ended", "kind", "words"),
    [
        (
            SettleJob(JOB, Verdict.TIMEOUT, None, "w", 2, text="1.5"),
            JobTimeout,
            "1.5 s on each of 2",
        ),
        (
            SettleJob(JOB, Verdict.POISON, None, "w", 3, exit_code=-9, text="!"),
            PoisonJob,
            "signal 9",
        ),
        (SettleJob(JOB, Verdict.POISON, None, "w", 3, exit_code=4, text=""), PoisonJob, "exit 4"),
        (SettleJob(JOB, Verdict.POISON, None, "w", 3, text=""), PoisonJob, "silence"),
        (SettleJob(JOB, Verdict.NO_WORKERS, text="60.0"), NoWorkers, "for 60.0 s"),
    ],
)
def test_a_job_that_fails_says_why(ended: SettleJob, kind: type, words: str) -> None:
    owner, future = handed_in()
    owner.settle(ended)
    assert type(future.exception(0)) is kind
    assert words in str(future.exception(0))


@pytest.mark.parametrize(
    "ended",
    [
        succeeded(1),
        SettleJob(JOB, Verdict.CANCELLED, text="x"),
        SettleJob(JOB, Verdict.NO_WORKERS, text="60.0"),
    ],
)
def test_a_future_cancelled_while_queued_stays_so_however_its_job_ends(ended: SettleJob) -> None:
    owner, future = handed_in()
    assert future.cancel()
    assert owner.cancelled() == (JOB,)
    assert not is_told(future)
    owner.settle(ended)
    assert future.cancelled()
    assert is_told(future)
    assert len(owner) == 0


def test_a_cancelled_future_is_not_claimed_and_is_told_once() -> None:
    owner, future = handed_in()
    future.cancel()
    assert not owner.claim(JOB)
    assert is_told(future)
    assert not owner.claim(JOB)
    owner.settle(SettleJob(JOB, Verdict.CANCELLED))
    assert future.cancelled()


def test_a_job_cancelled_by_the_cluster_is_a_cancelled_future() -> None:
    owner, queued = handed_in()
    owner.settle(SettleJob(JOB, Verdict.CANCELLED, text="the cluster was shut down"))
    assert queued.cancelled()
    assert is_told(queued)
    owner, running = handed_in()
    owner.claim(JOB)
    owner.settle(SettleJob(JOB, Verdict.CANCELLED, text="so it was"))
    with pytest.raises(CancelledError, match="so it was"):
        running.result(0)


def test_a_value_of_the_users_own_stays() -> None:
    owner, future = handed_in()
    future.set_result("mine")
    assert not owner.claim(JOB)
    owner, future = handed_in()
    owner.claim(JOB)
    future.set_result("mine")
    owner.settle(succeeded("theirs"))
    assert future.result(0) == "mine"
    owner, future = handed_in()
    future.set_result("mine")
    owner.break_off(JOB, ClusterClosed("x"))
    assert future.result(0) == "mine"


def test_the_end_of_the_master_fails_what_is_open_and_tells_what_is_cancelled() -> None:
    for claimed in (True, False):
        owner, future = handed_in()
        if claimed:
            owner.claim(JOB)
        owner.break_off(JOB, ClusterClosed("gone"))
        assert isinstance(future.exception(0), ClusterClosed)
        assert owner.wait_until_idle(0)
    owner, future = handed_in()
    future.cancel()
    owner.break_off(JOB, ClusterClosed("gone"))
    assert is_told(future)


def test_a_callback_that_exits_leaves_nothing_open() -> None:
    owner, future = handed_in()

    def leave(_: Future[Any]) -> None:
        raise SystemExit

    future.add_done_callback(leave)
    with pytest.raises(SystemExit):
        owner.settle(succeeded(1))
    assert owner.wait_until_idle(0)
    assert future.result(0) == 1


def test_a_result_that_cannot_be_read_is_the_error() -> None:
    owner, future = handed_in()
    owner.settle(SettleJob(JOB, Verdict.SUCCEEDED, Payload(PayloadKind.PICKLE, b"garbage"), "w", 1))
    assert future.exception(0) is not None


def test_futures_are_found_by_their_owner_alone() -> None:
    owner, future = handed_in()
    _, stranger = handed_in()
    assert owner.job_of(future) == JOB
    assert owner.job_of(stranger) is None
    assert owner.job_of(Future()) is None
    owner.forget(JOB)
    assert owner.job_of(future) is None
