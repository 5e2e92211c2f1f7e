"""Runs a plan: phases of calls with barriers between them, for a caller who waits.

Rule 1: the barrier is the scheduler's; this only hands everything in and gathers results.
Rule 2: one failed job ends the plan, and what is left of it is cancelled.
Rule 3: whatever ends the wait (an error, Ctrl-C), the phases are dropped from the master.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from paramserver.core.commands import SettleJob
from paramserver.core.events import JobsSubmitted, PhaseClosed, PhaseDropped, PhaseOpened
from paramserver.core.jobs import JobOptions, JobSpec, PhaseSpec, Verdict
from paramserver.errors import ClusterClosed
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload
from paramserver.runtime.master import Master
from paramserver.runtime.plan import Call, PhaseCalls

PROGRESS_S = 0.1

OnProgress = Callable[[str, int, int], None]


class PhaseRun:
    """The jobs of one phase while they run. See `runtime.owners.JobOwner`."""

    def __init__(self, name: str, jobs: Sequence[int], changed: threading.Condition) -> None:
        self.name = name
        self.jobs = tuple(jobs)
        self.results: dict[int, Payload] = {}
        self.failed: SettleJob | None = None
        self.broken: BaseException | None = None
        self._changed = changed

    def claim(self, job: int) -> bool:
        """Jobs of a plan are wanted until the plan ends."""
        return True

    def settle(self, ended: SettleJob) -> None:
        """Keep a result, or the first failure."""
        with self._changed:
            if ended.verdict is Verdict.SUCCEEDED:
                assert ended.payload is not None
                self.results[ended.job] = ended.payload
                if len(self.results) < len(self.jobs):
                    return
            elif self.failed is None:
                self.failed = ended
            self._changed.notify_all()

    def break_off(self, job: int, error: BaseException) -> None:
        """Note that the master is gone."""
        with self._changed:
            self.broken = error
            self._changed.notify_all()

    @property
    def is_done(self) -> bool:
        """Every job has succeeded."""
        return len(self.results) == len(self.jobs)


class PlanRun:
    """One plan on its way.

    Parameters
    ----------
    master : Master
    next_job, next_phase : callables
        Give fresh numbers.
    trusted : bool
        Whether calls and results may be pickled.
    ship_code : bool
        Whether functions may be sent as code to workers outside of the trust domain.
    make_error : callable
        Turns the end of a failed job into an exception.
    """

    def __init__(
        self,
        master: Master,
        next_job: Callable[[], int],
        next_phase: Callable[[], int],
        *,
        trusted: bool,
        ship_code: bool = False,
        make_error: Callable[[SettleJob], BaseException],
    ) -> None:
        self._master = master
        self._next_job = next_job
        self._next_phase = next_phase
        self._trusted = trusted
        self._ship_code = ship_code
        self._make_error = make_error
        self._changed = threading.Condition()
        self._runs: list[PhaseRun] = []
        self._phases: list[int] = []

    def run(
        self, phases: Sequence[PhaseCalls], on_progress: OnProgress | None = None
    ) -> list[list[Any]]:
        """Run the phases one after the other; return the results of each, in order.

        Raises
        ------
        JobError
            What the first failed job ended with; an exception of the user's function as it was.
        """
        try:
            for phase in phases:
                self._hand_in(phase)
            self._wait(on_progress)
            return [
                [calls.decode_value(run.results[job], trusted=self._trusted) for job in run.jobs]
                for run in self._runs
            ]
        finally:
            now = self._master.clock()
            for number in reversed(self._phases):
                self._master.post(PhaseDropped(now, number))

    def _hand_in(self, phase: PhaseCalls) -> None:
        master, now = self._master, self._master.clock()
        options = JobOptions(
            max_failures=phase.max_failures,
            max_timeouts=4,
            max_lost=phase.max_lost,
            pure=phase.pure,
        )
        number = self._next_phase()
        after = self._phases[-1] if self._phases else None
        specs = [JobSpec(self._next_job(), self._encode(phase, call)) for call in phase.calls]
        run = PhaseRun(phase.name, [spec.job for spec in specs], self._changed)
        master.own(run.jobs, run)
        self._runs.append(run)
        self._phases.append(number)
        master.post(PhaseOpened(now, PhaseSpec(number, phase.name, options, after, keep=True)))
        master.post(JobsSubmitted(now, number, tuple(specs)))
        master.post(PhaseClosed(now, number))

    def _encode(self, phase: PhaseCalls, call: Call) -> Payload:
        return calls.encode_call(
            call.fn,
            call.args,
            dict(call.kwargs),
            trusted=self._trusted,
            ship_code=self._ship_code,
            wants_inputs=phase.wants_inputs,
        )

    def _wait(self, on_progress: OnProgress | None) -> None:
        shown: list[int] = [-1] * len(self._runs)
        while True:
            is_over = self._master.has_ended  # before the look: nothing is settled afterwards
            with self._changed:
                self._changed.wait_for(self._has_ended, 0.0 if is_over else PROGRESS_S)
                ended = self._has_ended()
            if is_over and not ended:
                raise ClusterClosed("the master has ended") from self._master.failure
            for index, run in enumerate(self._runs):
                n_done = len(run.results)
                if on_progress is not None and n_done != shown[index]:
                    shown[index] = n_done
                    on_progress(run.name, n_done, len(run.jobs))
            if ended:
                self._raise_failure()
                return

    def _has_ended(self) -> bool:
        return all(run.is_done for run in self._runs) or any(
            run.failed is not None or run.broken is not None for run in self._runs
        )

    def _raise_failure(self) -> None:
        for run in self._runs:
            if run.broken is not None:
                raise ClusterClosed("the master has ended") from run.broken
            if run.failed is not None:
                raise self._make_error(run.failed)
