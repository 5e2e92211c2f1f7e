"""The jobs of all phases: which wait, which could run, which have ended. Pure.

Rule 1: O(1) work for a job: nothing here walks over all jobs, but for the ends of phases.
Rule 2: the barrier between phases is here: a job whose phase has no inputs is never handed out.
Rule 3: a phase whose inputs can never be whole is *doomed*: its jobs are cancelled, now or when
        they would have to wait, also those that are handed in later.
Rule 4: it knows nothing of workers; attempts of settled jobs are kept for who does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from paramserver.core.commands import MasterCommand, SettleJob
from paramserver.core.endings import Endings
from paramserver.core.jobs import Attempt, Job, JobSpec, JobState, Phase, PhaseSpec, Step, Verdict
from paramserver.core.ready_queue import ReadyQueue

_READY: Final = JobState.READY
_SUCCEED: Final = Step.SUCCEED


class Backlog:
    """See the rules of the module."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self.phases: dict[int, Phase] = {}
        self.jobs: dict[int, Job] = {}
        """Those not settled, and those their phase keeps."""
        self.endings = Endings()
        self.n_ready = 0
        self.n_unsettled = 0
        self._unwanted: list[Attempt] = []
        self._dependents: dict[int, list[Phase]] = {}
        self._queue = ReadyQueue()

    # --- owners ----------------------------------------------------------------------------------

    def open_phase(self, spec: PhaseSpec) -> None:
        """Add a phase without jobs."""
        phase = self.phases[spec.phase] = Phase(spec)
        if spec.after is None:
            return
        before = self.phases.get(spec.after)
        if before is None or before.can_never_be_complete:
            phase.is_doomed = True
            return
        self._dependents.setdefault(spec.after, []).append(phase)
        if before.is_complete:
            phase.inputs = before.results()

    def submit(self, phase_number: int, specs: Iterable[JobSpec], out: list[MasterCommand]) -> None:
        """Add jobs to an open phase; those of a phase that is gone or doomed are cancelled."""
        phase = self.phases.get(phase_number)
        if phase is None:
            out += [
                SettleJob(spec.job, Verdict.CANCELLED, text="its phase was dropped")
                for spec in specs
            ]
            return
        state = _READY if phase.has_inputs else JobState.WAITING
        for spec in specs:
            job = self._add(Job(spec, phase, state))
            if phase.is_doomed:
                self._cancel_doomed(job, out)
            elif state is _READY:
                self._queue.add(job)

    def _add(self, job: Job) -> Job:
        phase = job.phase
        phase.n_jobs += 1
        phase.counts[job.state] += 1
        self.n_unsettled += 1
        self.n_ready += job.state is _READY
        self.jobs[job.number] = job
        if phase.lists_jobs:
            phase.jobs[job.number] = job
        if phase.keeps:
            phase.order.append(job.number)
        return job

    def close_phase(self, number: int) -> None:
        """Note that the phase is whole; open those that wait for it if it is complete."""
        phase = self.phases.get(number)
        if phase is not None:
            phase.closed = True
            self.open_dependents(phase)

    def numbers_of(self, number: int) -> tuple[int, ...]:
        """Return the jobs of a phase: those not settled, or all if the phase keeps them."""
        phase = self.phases.get(number)
        if phase is None:
            return ()
        if phase.lists_jobs:
            return tuple(phase.jobs)
        return tuple(number for number, job in self.jobs.items() if job.phase is phase)

    def forget_phase(self, number: int, out: list[MasterCommand]) -> None:
        """Let go of a phase whose jobs are all settled, and doom what waits for it."""
        phase = self.phases.pop(number, None)
        if phase is None:
            return
        for dependent in self._dependents.pop(number, ()):
            if dependent.inputs is None:
                self._doom(dependent, out)
        for job_number in phase.jobs if phase.spec.keep else ():
            del self.jobs[job_number]
        phase.jobs.clear()
        self._stop_waiting(phase)
        self.clear_stale()

    def _stop_waiting(self, phase: Phase) -> None:
        after = phase.spec.after
        siblings = self._dependents.get(after, []) if after is not None else []
        if phase in siblings:
            siblings.remove(phase)
            if not siblings and after is not None:
                del self._dependents[after]

    def end_all(
        self, last: JobState, verdict: Verdict, text: str, out: list[MasterCommand]
    ) -> None:
        """End every job that has not got further than `last`."""
        step = Step.CANCEL if verdict is Verdict.CANCELLED else Step.FAIL
        for job in [job for job in self.jobs.values() if job.state <= last]:
            if job.state <= last:  # one that waits for another may have been cancelled meanwhile
                command = SettleJob(job.number, verdict, attempts=job.tries, text=text)
                self.settle(job, step, out, command)
        self.clear_stale()

    # --- the queue -------------------------------------------------------------------------------

    def peek(self) -> Job | None:
        """Return the job to be granted next; None when none can run."""
        while (job := self._queue.peek()) is not None:
            if job.phase.has_inputs:
                return job
            self.move(job, Step.HOLD)  # an input has been lost while it was queued
        return None

    def pop(self) -> None:
        """Take away the job that `peek` has just returned."""
        self._queue.pop()

    @property
    def has_unwanted(self) -> bool:
        """Whether attempts lived when their jobs were settled."""
        return bool(self._unwanted)

    def take_unwanted(self) -> list[Attempt]:
        """Return the attempts that lived when their jobs were settled, once."""
        unwanted, self._unwanted = self._unwanted, []
        return unwanted

    def clear_stale(self) -> None:
        """Let go of queued jobs that are cancelled, if they are many."""
        self._queue.clear_stale(self.n_ready)

    # --- a job's way -----------------------------------------------------------------------------

    def move(self, job: Job, step: Step) -> None:
        """Step a job and keep the counts true."""
        before = job.state
        job.phase.move(job, step)
        if before is _READY:
            self.n_ready -= 1
        if job.state is _READY:
            self.n_ready += 1

    def settle(self, job: Job, step: Step, out: list[MasterCommand], command: SettleJob) -> None:
        """End a job, with what its owner is told; what can never run then is cancelled."""
        self.move(job, step)
        self.n_unsettled -= 1
        if job.attempts:
            self._unwanted += job.attempts
            job.attempts = ()
        phase = job.phase
        if not phase.keeps:
            del self.jobs[job.number]
            if phase.lists_jobs:
                del phase.jobs[job.number]
        self.endings.note(job, command)
        out.append(command)
        if step is not _SUCCEED:
            for dependent in self._dependents.get(phase.spec.phase, ()):
                self._doom(dependent, out)

    def _doom(self, phase: Phase, out: list[MasterCommand]) -> None:
        """Cancel what waits for inputs that will never be whole, now and later."""
        if phase.is_doomed or phase.is_complete:
            return
        phase.is_doomed = True
        for job in list(phase.jobs.values()):
            if job.state is JobState.WAITING or job.state is JobState.READY:
                self._cancel_doomed(job, out)
        for dependent in self._dependents.get(phase.spec.phase, ()):
            self._doom(dependent, out)

    def _cancel_doomed(self, job: Job, out: list[MasterCommand]) -> None:
        command = SettleJob(job.number, Verdict.CANCELLED, text="phase before failed")
        self.settle(job, Step.CANCEL, out, command)

    def requeue(self, job: Job, out: list[MasterCommand]) -> None:
        """Let a job that has no attempt any more run again, first of all."""
        phase = job.phase
        if phase.is_doomed:
            self._cancel_doomed(job, out)
        elif not phase.has_inputs:
            self.move(job, Step.HOLD)
        else:
            self.move(job, Step.GIVE_UP)
            self._queue.add(job, first=True)
            self._counters["requeued"] += 1

    def remake_input(self, attempt: Attempt, index: int) -> bool:
        """See to it that a lost input is made again; say whether it can be."""
        before = self._phase_before(attempt.job.phase)
        if before is None or not 0 <= index < len(attempt.inputs):
            return False
        maker = before.jobs[before.order[index]]
        if maker.state is not JobState.SUCCEEDED or maker.result is not attempt.inputs[index]:
            return True  # somebody else has missed it before
        n_remade = 0 if maker.mishaps is None else maker.mishaps.n_remade
        if n_remade >= before.spec.options.max_lost or self._has_lost_its_inputs(before):
            return False
        maker.suffer(f"output lost, says job {attempt.job.number}").n_remade += 1
        maker.result = None
        self.move(maker, Step.REOPEN)
        self._queue.add(maker, first=True)
        self.n_unsettled += 1
        self._counters["reopened"] += 1
        for dependent in self._dependents[before.spec.phase]:
            if not dependent.is_empty:
                dependent.inputs = None
        return True

    def _has_lost_its_inputs(self, phase: Phase) -> bool:
        """Say whether jobs of a phase could not run again, for the phase before has failed."""
        if phase.has_inputs:
            return False
        before = self._phase_before(phase)
        return before is None or before.can_never_be_complete

    def _phase_before(self, phase: Phase) -> Phase | None:
        after = phase.spec.after
        return None if after is None else self.phases.get(after)

    def open_dependents(self, phase: Phase) -> None:
        """Let those run that have waited for a phase, if it is complete."""
        if phase.spec.phase not in self._dependents or not phase.is_complete:
            return
        dependents = self._dependents[phase.spec.phase]
        results = phase.results()
        for dependent in dependents:
            dependent.inputs = results
            for job in dependent.jobs.values():
                if job.state is JobState.WAITING:
                    self.move(job, Step.RELEASE)
                    self._queue.add(job)
            if dependent.is_empty:
                self.open_dependents(dependent)

    # --- looking in ------------------------------------------------------------------------------

    def remembered(self) -> dict[str, int]:
        """Count what is kept, by kind: nothing once every phase is dropped, all workers idle."""
        kept = {
            "jobs": len(self.jobs),
            "phases": len(self.phases),
            "dependents": len(self._dependents),
            "queued": len(self._queue),
            "unwanted": len(self._unwanted),
            "ready": self.n_ready,
            "unsettled": self.n_unsettled,
        }
        return {kind: n for kind, n in kept.items() if n}

    def check(self) -> None:
        """Assert what ties the fields together; for tests, after every event."""
        states = [job.state for job in self.jobs.values()]
        n_ready, n_granted = states.count(JobState.READY), states.count(JobState.GRANTED)
        assert self.n_unsettled == states.count(JobState.WAITING) + n_ready + n_granted
        assert self.n_ready == n_ready
        self._queue.check(n_ready)
        for job in self.jobs.values():
            assert bool(job.attempts) == (job.state is JobState.GRANTED), job.story()
            assert len(job.attempts) < 2 or job.phase.spec.options.pure, job.story()
        for phase in self.phases.values():
            assert sum(phase.counts) == phase.n_jobs
            if phase.is_doomed:
                assert not phase.counts[JobState.WAITING] + phase.counts[JobState.READY]
            if phase.inputs is not None and phase.spec.after in self.phases:
                assert self.phases[phase.spec.after].is_complete or phase.is_empty
