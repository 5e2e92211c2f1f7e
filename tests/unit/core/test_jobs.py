"""A job's life and a phase's book."""

from __future__ import annotations

import pytest

from paramserver.core.jobs import (
    TRANSITIONS,
    Attempt,
    Job,
    JobOptions,
    JobState,
    Phase,
    PhaseSpec,
    Step,
    count_states,
)
from paramserver.errors import InvalidTransition
from tests.unit.core.board import payload, specs


def make_job(state: JobState = JobState.WAITING, phase: Phase | None = None) -> Job:
    phase = phase or Phase(PhaseSpec(1))
    (spec,) = specs(5)
    job = Job(spec, phase, state)
    phase.jobs[5] = job
    phase.n_jobs += 1
    phase.counts[state] += 1
    return job


def test_the_table_has_a_row_for_every_state_and_ends_in_three() -> None:
    assert set(TRANSITIONS) == set(JobState)
    ends = {state for state, row in TRANSITIONS.items() if not row}
    assert ends == {JobState.FAILED, JobState.CANCELLED}
    assert TRANSITIONS[JobState.SUCCEEDED] == {Step.REOPEN: JobState.READY}


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("step", Step)
def test_a_job_goes_where_the_table_says_and_nowhere_else(state: JobState, step: Step) -> None:
    job = make_job(state)
    target = TRANSITIONS[state].get(step)
    if target is None:
        with pytest.raises(InvalidTransition) as caught:
            job.step(step)
        assert f"Job 5 cannot {step.name} while {state.name}" in str(caught.value)
        assert caught.value.story == (
            f"0 tries: 0 errors, 0 timeouts, 0 workers lost; now {state.name}",
        )
        assert job.state is state
    else:
        job.step(step)
        assert job.state is target


def test_a_story_keeps_the_first_twenty_notes() -> None:
    job = make_job()
    for number in range(25):
        bad = job.suffer(f"note {number}")
    bad.n_errors, bad.n_timeouts, bad.n_lost, job.tries = 1, 2, 3, 6
    *notes, last = job.story()
    assert notes == [f"note {number}" for number in range(20)]
    assert last == "6 tries: 1 errors, 2 timeouts, 3 workers lost; now WAITING"


def test_an_attempt_is_known_by_job_and_number() -> None:
    attempt = Attempt(make_job(), 3, 17, is_backup=True)
    assert attempt.key == (5, 3)
    assert (attempt.incarnation, attempt.is_backup, attempt.asked_back_at) == (17, True, None)


def test_a_phase_counts_its_jobs_by_state() -> None:
    phase = Phase(PhaseSpec(1))
    job = make_job(phase=phase)
    phase.move(job, Step.RELEASE)
    phase.move(job, Step.GRANT)
    assert phase.counts == [0, 0, 1, 0, 0, 0]
    assert phase.n_settled == 0
    phase.move(job, Step.FAIL)
    assert phase.counts == [0, 0, 0, 0, 1, 0]
    assert phase.n_settled == 1
    assert count_states([phase, phase]) == {
        "waiting": 0,
        "ready": 0,
        "granted": 0,
        "succeeded": 0,
        "failed": 2,
        "cancelled": 0,
    }


def test_a_phase_is_complete_when_closed_and_all_have_succeeded() -> None:
    phase = Phase(PhaseSpec(1))
    assert not phase.is_complete
    phase.closed = True
    assert phase.is_complete
    job = make_job(JobState.GRANTED, phase)
    assert not phase.is_complete
    phase.move(job, Step.SUCCEED)
    assert phase.is_complete
    assert not phase.can_never_be_complete
    phase.is_doomed = True
    assert not phase.is_complete
    assert phase.can_never_be_complete


@pytest.mark.parametrize("step", [Step.FAIL, Step.CANCEL])
def test_a_phase_with_a_failed_job_can_never_be_complete(step: Step) -> None:
    phase = Phase(PhaseSpec(1))
    phase.move(make_job(JobState.READY, phase), step)
    assert phase.can_never_be_complete


def test_a_phase_has_inputs_when_it_waits_for_none_or_they_are_there() -> None:
    assert Phase(PhaseSpec(1)).has_inputs
    waiting = Phase(PhaseSpec(2, after=0))
    assert not waiting.has_inputs
    waiting.inputs = ()
    assert waiting.has_inputs


def test_a_phase_learns_how_long_its_jobs_run() -> None:
    phase = Phase(PhaseSpec(1))
    assert phase.median_s() is None
    for seconds in (1.0, 2.0, 9.0):
        phase.add_duration(seconds)
    assert phase.median_s() == 2.0
    assert phase.mean_s == pytest.approx(1.0 + 0.2 * 1.0 + 0.2 * (9.0 - 1.2))


def test_results_come_in_the_order_of_the_jobs() -> None:
    phase = Phase(PhaseSpec(1, keep=True))
    for number in (9, 4):
        (spec,) = specs(number)
        job = phase.jobs[number] = Job(spec, phase, JobState.SUCCEEDED)
        job.result = payload(f"of {number}")
        phase.order.append(number)
    assert phase.results() == (payload("of 9"), payload("of 4"))
    phase.jobs[4].result = None
    with pytest.raises(InvalidTransition, match="Job 4 has no result"):
        phase.results()


def test_options_are_those_of_a_plain_function_unless_said_otherwise() -> None:
    assert JobOptions() == JobOptions(
        max_failures=1,
        max_timeouts=2,
        max_lost=3,
        timeout_s=None,
        lease_s=None,
        grace_s=None,
        priority=0,
        pure=False,
    )
