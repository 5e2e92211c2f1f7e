"""Jobs in their worker: whatever they do, an outcome comes back."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from paramserver.errors import JobFailed, LocalProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import JobGrant, Outcome
from paramserver.runtime import context
from paramserver.runtime.flight_recorder import FlightRecorder
from paramserver.runtime.job_runner import JobRunner
from paramserver.runtime.lifeline import ChildConfig

CONTEXT: Any = "the context of this attempt"


class Watching:
    """A context that looks at the recorder when the job asks for its inputs."""

    def __init__(self, recorder: FlightRecorder) -> None:
        self.recorder = recorder
        self.seen: list[tuple[int, int] | None] = []

    def inputs(self) -> None:
        self.seen.append(self.recorder.running())


def take(inputs: None) -> None:
    """Takes what the phase before has given."""


def leave() -> NoReturn:
    sys.exit(3)


def lose() -> NoReturn:
    raise context.LostInput("It is gone.", index=4)


def lock_at_zero(value: int) -> Any:
    return value or threading.Lock()


@pytest.fixture
def recorder() -> Iterator[FlightRecorder]:
    recorder = FlightRecorder.create()
    yield recorder
    recorder.close()


@pytest.fixture
def runner(recorder: FlightRecorder) -> JobRunner:
    config = ChildConfig("unix:///nowhere", "w-0", "w", "token", "run", recorder.fd, os.getpid())
    return JobRunner(config, recorder, trusted=True)


def grant(fn: Any, *args: Any) -> JobGrant:
    return JobGrant(7, 2, calls.encode_call(fn, args, trusted=True))


def raised(runner: JobRunner, fn: Any, *args: Any) -> tuple[Outcome, int, BaseException]:
    ended = runner.run(grant(fn, *args), CONTEXT)
    error = calls.decode_error(ended.payload, trusted=True, worker_id="w-0", attempts=2)
    return ended.outcome, ended.detail, error


def test_a_job_runs_in_its_context_and_its_result_comes_back(
    runner: JobRunner, recorder: FlightRecorder
) -> None:
    ended = runner.run(grant(context.current), CONTEXT)
    assert (ended.outcome, ended.detail) == (Outcome.OK, 0)
    assert calls.decode_value(ended.payload, trusted=True) == CONTEXT
    assert recorder.running() is None
    assert recorder.last_begun() == (7, 2)
    assert recorder.read().n_ended == 1


def test_while_a_job_runs_the_recorder_says_which(
    runner: JobRunner, recorder: FlightRecorder
) -> None:
    payload = calls.encode_call(take, trusted=True, wants_inputs=True)
    watching: Any = Watching(recorder)
    assert runner.run(JobGrant(7, 2, payload), watching).outcome is Outcome.OK
    assert watching.seen == [(7, 2)]


def test_whatever_a_job_raises_is_its_outcome(runner: JobRunner) -> None:
    outcome, detail, error = raised(runner, divmod, 1, 0)
    assert (outcome, detail, type(error)) == (Outcome.ERROR, 0, ZeroDivisionError)
    outcome, _, error = raised(runner, leave)
    assert (outcome, type(error), error.args) == (Outcome.ERROR, SystemExit, (3,))
    outcome, detail, error = raised(runner, lose)
    assert (outcome, detail, type(error)) == (Outcome.LOST_INPUT, 4, context.LostInput)


def test_a_call_that_cannot_be_read_is_refused(runner: JobRunner) -> None:
    plain = JobGrant(7, 2, calls.encode_call(os.getcwd, trusted=False))
    ended = runner.run(plain, CONTEXT)
    error = calls.decode_error(ended.payload, trusted=True, worker_id="w-0", attempts=1)
    assert ended.outcome is Outcome.REFUSED
    assert type(error) is JobFailed


def test_a_result_that_cannot_be_sent_is_the_job_s_error(runner: JobRunner) -> None:
    outcome, _, error = raised(runner, threading.Lock)
    assert (outcome, type(error)) == (Outcome.ERROR, LocalProtocolError)


def test_of_a_chunk_the_results_before_one_that_cannot_be_sent_come_back(
    runner: JobRunner,
) -> None:
    rows = [(1,), (0,), (2,)]
    ended = runner.run(grant(context.run_chunk_until_error, lock_at_zero, rows), CONTEXT)
    assert ended.outcome is Outcome.OK
    results, error, worker_id = calls.decode_value(ended.payload, trusted=True)
    assert (results, worker_id) == ([1], "w-0")
    assert error is not None
