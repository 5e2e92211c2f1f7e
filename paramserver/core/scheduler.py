"""Who runs what, and what becomes of it: jobs, attempts, deadlines, retries. Pure.

Rule 1: the master's machine calls it, with the time; it reads no clock and does nothing itself but
        append commands to the list it is given.
Rule 2: O(1) work for a job: nothing here walks over all jobs, but for the ends of phases.
Rule 3: the first valid result of a job wins; every other one is counted and dropped.
Rule 4: an attempt is in `Worker.held` and in `Job.attempts`, or (once its job is settled) only in
        `Worker.held`, until its worker gives it back or is gone.
Rule 5: a phase whose inputs can never be whole is *doomed*: its jobs are cancelled, now or when
        they would have to wait, also those that are handed in later.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from functools import partial

from paramserver.core import idle, placement
from paramserver.core.commands import MasterCommand, SettleJob
from paramserver.core.deadlines import Deadlines
from paramserver.core.jobs import Attempt, Job, JobSpec, JobState, Phase, PhaseSpec, Step, Verdict
from paramserver.core.loss import Loss
from paramserver.core.ready_queue import ReadyQueue
from paramserver.core.roster import Roster, Worker
from paramserver.protocol.messages import GrantJobs, JobGrant, JobResult, MasterMessage, Outcome

USELESS_S = 1.0
"""How long a worker may run what nobody wants any more, if it is needed; about what it costs to end
its process and start another one."""

Keys = list[tuple[int, int]]


class Scheduler:
    """The jobs of all phases. See the rules of the module."""

    def __init__(self, roster: Roster, counters: Counter[str]) -> None:
        self._roster = roster
        self.counters = counters
        self.phases: dict[int, Phase] = {}
        self.jobs: dict[int, Job] = {}
        """Those not settled, and those their phase keeps."""
        self._dependents: dict[int, list[Phase]] = {}
        self._queue = ReadyQueue()
        self._deadlines = Deadlines(roster)
        self._unwanted: list[Attempt] = []
        self.n_ready = 0
        self.n_unsettled = 0
        self.is_short = False
        """When jobs were last granted, some were left that nobody could take."""
        self.review_at: float | None = None

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
        keep = phase.spec.keep
        waits = not phase.has_inputs
        for spec in specs:
            job = Job(spec, phase, JobState.WAITING)
            phase.n_jobs += 1
            phase.counts[JobState.WAITING] += 1
            self.n_unsettled += 1
            self.jobs[job.number] = job
            if phase.lists_jobs:
                phase.jobs[job.number] = job
            if keep:
                phase.order.append(job.number)
            if phase.is_doomed:
                self._cancel_doomed(job, out)
            elif not waits:
                self._move(job, Step.RELEASE)
                self._queue.add(job)

    def close_phase(self, number: int) -> None:
        """Note that the phase is whole; open those that wait for it if it is complete."""
        phase = self.phases.get(number)
        if phase is not None:
            phase.closed = True
            self._open_dependents(phase)

    def drop_phase(self, now: float, number: int, out: list[MasterCommand]) -> tuple[Worker, ...]:
        """Forget a phase; return the workers that run something of it and must be stopped."""
        phase = self.phases.get(number)
        if phase is None:
            return ()
        busy = self.cancel(now, self._numbers_of(phase), out)
        for dependent in self._dependents.pop(number, ()):
            if dependent.inputs is None:
                self._doom(dependent, out)
        for job_number in phase.jobs if phase.spec.keep else ():
            del self.jobs[job_number]
        phase.jobs.clear()
        del self.phases[number]
        self._stop_waiting(phase)
        self._queue.clear_stale(self.n_ready)
        if not self.phases:
            self._deadlines.extend(0.0)  # forgets those of attempts that have ended
        return busy

    def _numbers_of(self, phase: Phase) -> tuple[int, ...]:
        if phase.lists_jobs:
            return tuple(phase.jobs)
        return tuple(number for number, job in self.jobs.items() if job.phase is phase)

    def _stop_waiting(self, phase: Phase) -> None:
        after = phase.spec.after
        siblings = self._dependents.get(after, []) if after is not None else []
        if phase in siblings:
            siblings.remove(phase)
            if not siblings and after is not None:
                del self._dependents[after]

    def cancel(
        self, now: float, numbers: Iterable[int], out: list[MasterCommand]
    ) -> tuple[Worker, ...]:
        """Cancel jobs; return the workers that are running one, which only their end can stop."""
        busy: dict[int, Worker] = {}
        for number in numbers:
            job = self.jobs.get(number)
            if job is None or job.state >= JobState.SUCCEEDED:
                continue
            attempts = job.attempts
            self._settle(job, Step.CANCEL, out, SettleJob(number, Verdict.CANCELLED))
            for attempt in attempts:
                worker = self._roster.by_incarnation[attempt.incarnation]
                if worker.head is attempt:
                    busy[worker.incarnation] = worker
        self._queue.clear_stale(self.n_ready)
        return tuple(busy.values())

    def withdraw(self, now: float, numbers: Iterable[int], out: list[MasterCommand]) -> None:
        """Cancel jobs whose first grants were never sent, because the owner was there before."""
        unsent: dict[int, set[tuple[int, int]]] = {}
        for number in numbers:
            job = self.jobs.get(number)
            if job is None or job.state >= JobState.SUCCEEDED:
                continue
            for attempt in job.attempts:
                if attempt.number == 1:  # a later one has been sent, and is unwanted like any other
                    worker = self._roster.by_incarnation[attempt.incarnation]
                    del worker.held[attempt.key]
                    unsent.setdefault(worker.incarnation, set()).add(attempt.key)
                    self._start_head(now, worker)
            job.attempts = tuple(attempt for attempt in job.attempts if attempt.number > 1)
            self._settle(job, Step.CANCEL, out, SettleJob(number, Verdict.CANCELLED))
        for incarnation, keys in unsent.items():
            link = self._roster.by_incarnation[incarnation].link
            link.amend(partial(_without, keys=keys))
        self._queue.clear_stale(self.n_ready)

    def fail_pending(self, verdict: Verdict, text: str, out: list[MasterCommand]) -> None:
        """End every job that is not settled."""
        self._fail(JobState.GRANTED, verdict, text, out)

    def fail_waiting(self, verdict: Verdict, text: str, out: list[MasterCommand]) -> None:
        """End every job that no worker has."""
        self._fail(JobState.READY, verdict, text, out)

    def _fail(self, last: JobState, verdict: Verdict, text: str, out: list[MasterCommand]) -> None:
        step = Step.CANCEL if verdict is Verdict.CANCELLED else Step.FAIL
        for job in [job for job in self.jobs.values() if job.state <= last]:
            if job.state <= last:  # one that waits for another may have been cancelled meanwhile
                command = SettleJob(job.number, verdict, attempts=job.tries, text=text)
                self._settle(job, step, out, command)
        self._queue.clear_stale(self.n_ready)

    # --- workers ---------------------------------------------------------------------------------

    def assign(self, now: float) -> dict[int, list[JobGrant]]:
        """Grant queued jobs; return the grants for each incarnation, in order."""
        grants: dict[int, list[JobGrant]] = {}
        if self.n_ready:
            rooms = deque(w for w in self._roster.takers(now) if not idle.is_stuck(w, now))
            while rooms and (job := self._next_ready()) is not None:
                worker = placement.choose(job, rooms)
                if worker is None:
                    break
                self._queue.pop()
                grant = self._grant(now, job, worker, is_backup=False)
                grants.setdefault(worker.incarnation, []).append(grant)
        self.is_short = self.n_ready > 0
        return grants

    def _next_ready(self) -> Job | None:
        while (job := self._queue.peek()) is not None:
            if job.phase.has_inputs:
                return job
            self._move(job, Step.HOLD)  # an input has been lost while it was queued
        return None

    def _grant(self, now: float, job: Job, worker: Worker, *, is_backup: bool) -> JobGrant:
        job.tries += 1
        self._move(job, Step.GRANT)
        attempt = Attempt(job, job.tries, worker.incarnation, is_backup=is_backup)
        attempt.inputs = job.phase.inputs or ()
        job.attempts = (*job.attempts, attempt)
        worker.held[attempt.key] = attempt
        if job.affinity is not None:
            worker.note_cached(job.affinity)
        if len(worker.held) == 1:
            self._start(now, attempt)
        if len(worker.held) > 1 or job.phase.spec.options.pure:
            self._review_by(now + idle.REVIEW_S)
        self.counters["attempts"] += 1
        return JobGrant(job.number, job.tries, job.payload, attempt.inputs)

    def end(self, now: float, worker: Worker, result: JobResult, out: list[MasterCommand]) -> None:
        """Take in how an attempt ended."""
        attempt = worker.held.pop((result.job, result.attempt), None)
        if attempt is None:
            self.counters["stale"] += 1
            return
        worker.n_ended += 1
        self._start_head(now, worker)
        job = attempt.job
        if attempt not in job.attempts:
            self.counters["duplicate"] += 1
            return
        job.attempts = tuple(other for other in job.attempts if other is not attempt)
        if result.outcome is Outcome.OK:
            worker.agent.note_success()
            job.phase.add_duration(result.duration_us * 1e-6)
            command = SettleJob(
                job.number, Verdict.SUCCEEDED, result.payload, worker.worker_id, job.tries
            )
            job.result = result.payload if job.phase.spec.keep else None
            self._settle(job, Step.SUCCEED, out, command)
            self._open_dependents(job.phase)
            return
        if result.outcome is Outcome.LOST_INPUT and self._remake_input(attempt, result.detail):
            job.note(f"try {attempt.number} on {worker.worker_id}: input {result.detail} is lost")
        else:
            job.n_errors += 1
            job.last_incarnation = worker.incarnation
            job.note(f"try {attempt.number} on {worker.worker_id}: {result.outcome.name}")
            if job.n_errors >= job.phase.spec.options.max_failures:
                command = SettleJob(
                    job.number, Verdict.ERROR, result.payload, worker.worker_id, job.tries
                )
                self._settle(job, Step.FAIL, out, command)
                return
        if not job.attempts:
            self._requeue(job, out)

    def take_unwanted(self, now: float) -> dict[int, Keys]:
        """Attempts whose job is settled, by incarnation: not to be started any more."""
        held: dict[int, Keys] = {}
        if not self._unwanted:
            return held
        unwanted, self._unwanted = self._unwanted, []
        for attempt in unwanted:
            worker = self._roster.by_incarnation.get(attempt.incarnation)
            if worker is None or worker.held.get(attempt.key) is not attempt:
                continue
            attempt.taking_back = True
            if attempt.deadline is None or attempt.deadline > now + USELESS_S:
                self._deadlines.put(attempt, now + USELESS_S)
            held.setdefault(attempt.incarnation, []).append(attempt.key)
        return held

    def give_back(
        self,
        now: float,
        worker: Worker,
        keys: Iterable[tuple[int, int]],
        out: list[MasterCommand],
    ) -> None:
        """Take back attempts that were never started; they are charged to nobody."""
        for key in reversed(tuple(keys)):
            attempt = worker.held.pop(key, None)
            if attempt is None:
                self.counters["stale"] += 1
            else:
                self._release(attempt, out)
        self._start_head(now, worker)

    def progress(self, now: float, worker: Worker, key: tuple[int, int]) -> None:
        """Renew the lease of a running attempt."""
        attempt = worker.held.get(key)
        if attempt is None:
            self.counters["stale"] += 1
        elif attempt in attempt.job.attempts and attempt.job.phase.spec.options.lease_s is not None:
            self._set_deadline(now, attempt)

    def lose(self, now: float, worker: Worker, loss: Loss, out: list[MasterCommand]) -> None:
        """Free what a worker held whose life is over, and charge what was running."""
        running = loss.running
        head = worker.head
        if running is None and head is not None:
            running = head.key
        held = tuple(worker.held.values())
        worker.held.clear()
        for attempt in reversed(held):
            if loss.charge and attempt.key == running and attempt in attempt.job.attempts:
                self._charge_loss(worker, attempt, loss, out)
            self._release(attempt, out)

    def expired(self, now: float) -> list[Attempt]:
        """Attempts that have to be ended, with their workers: out of time, or in the way."""
        late: list[Attempt] = []
        for attempt in self._deadlines.take_passed(now):
            job = attempt.job
            if attempt in job.attempts:
                late.append(attempt)
                continue
            worker = self._roster.by_incarnation[attempt.incarnation]
            is_in_the_way = self.is_short or job.state is not JobState.SUCCEEDED
            if worker.head is attempt and is_in_the_way:
                late.append(attempt)
            else:
                self._deadlines.put(attempt, now + USELESS_S)
        return late

    def charge_timeout(self, attempt: Attempt, worker: Worker, out: list[MasterCommand]) -> None:
        """Count a passed deadline against a job; its attempt is given up with its worker."""
        job = attempt.job
        options = job.phase.spec.options
        job.n_timeouts += 1
        job.last_incarnation = worker.incarnation
        job.note(f"try {attempt.number} on {worker.worker_id}: deadline passed")
        self.counters["timeouts"] += 1
        if job.n_timeouts >= options.max_timeouts:
            limit = options.timeout_s if options.timeout_s is not None else options.lease_s
            command = SettleJob(
                job.number, Verdict.TIMEOUT, None, worker.worker_id, job.tries, text=f"{limit}"
            )
            self._settle(job, Step.FAIL, out, command)

    def extend_deadlines(self, lateness: float, not_before: float) -> None:
        """Forgive the workers the master's own pause."""
        self._deadlines.extend(lateness, not_before)

    # --- idle workers ----------------------------------------------------------------------------

    def review(self, now: float) -> tuple[dict[int, Keys], dict[int, list[JobGrant]]]:
        """Put idle workers to use: take back jobs stuck behind a long one, start backup copies.

        Returns
        -------
        take_back : dict of incarnation to attempts
        grants : dict of incarnation to grants
        """
        take_back: dict[int, Keys] = {}
        grants: dict[int, list[JobGrant]] = {}
        self.review_at = None
        if not self.n_unsettled:
            return take_back, grants
        # Idle ones have work when something is queued: then they are granted that.
        hands = [] if self.n_ready else [w for w in self._roster.takers(now) if not w.held]
        found = idle.look_around(now, self._roster.workers.values(), len(hands))
        for worker, behind in found.stuck:
            for attempt in behind:
                attempt.taking_back = True
            take_back[worker.incarnation] = [attempt.key for attempt in behind]
        for attempt in found.stragglers[: len(hands)]:
            home = self._roster.by_incarnation[attempt.incarnation].agent
            other = next((worker for worker in hands if worker.agent is not home), hands[0])
            hands.remove(other)
            grants[other.incarnation] = [self._grant(now, attempt.job, other, is_backup=True)]
            self.counters["backups"] += 1
        if found.again_at is not None:
            self._review_by(found.again_at)
        return take_back, grants

    def _review_by(self, time: float) -> None:
        if self.review_at is None or time < self.review_at:
            self.review_at = time

    # --- inside ----------------------------------------------------------------------------------

    def _move(self, job: Job, step: Step) -> None:
        was_ready = job.state is JobState.READY
        job.phase.move(job, step)
        self.n_ready += (job.state is JobState.READY) - was_ready

    def _settle(self, job: Job, step: Step, out: list[MasterCommand], command: SettleJob) -> None:
        self._move(job, step)
        self.n_unsettled -= 1
        self._unwanted += job.attempts
        job.attempts = ()
        phase = job.phase
        if not phase.spec.keep:
            del self.jobs[job.number]
            phase.jobs.pop(job.number, None)
        out.append(command)
        if step is not Step.SUCCEED:
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
        self._settle(job, Step.CANCEL, out, command)

    def _requeue(self, job: Job, out: list[MasterCommand]) -> None:
        """Let a job that has no attempt any more run again, first of all."""
        phase = job.phase
        if phase.is_doomed:
            self._cancel_doomed(job, out)
        elif not phase.has_inputs:
            self._move(job, Step.HOLD)
        else:
            self._move(job, Step.GIVE_UP)
            self._queue.add(job, first=True)
            self.counters["requeued"] += 1

    def _release(self, attempt: Attempt, out: list[MasterCommand]) -> None:
        job = attempt.job
        if attempt not in job.attempts:
            return
        job.attempts = tuple(other for other in job.attempts if other is not attempt)
        if not job.attempts:
            self._requeue(job, out)

    def _charge_loss(
        self, worker: Worker, attempt: Attempt, loss: Loss, out: list[MasterCommand]
    ) -> None:
        job = attempt.job
        job.n_lost += 1
        job.last_incarnation = worker.incarnation
        job.note(f"try {attempt.number} on {worker.worker_id}: worker lost ({loss.reason})")
        if job.n_lost >= job.phase.spec.options.max_lost:
            command = SettleJob(
                job.number,
                Verdict.POISON,
                None,
                worker.worker_id,
                job.tries,
                loss.exit_code,
                loss.text or loss.reason,
            )
            self._settle(job, Step.FAIL, out, command)

    def _start_head(self, now: float, worker: Worker) -> None:
        head = worker.head
        if head is not None and head.started_at is None:
            self._start(now, head)

    def _start(self, now: float, attempt: Attempt) -> None:
        attempt.started_at = now
        options = attempt.job.phase.spec.options
        if options.timeout_s is not None or options.lease_s is not None:
            self._set_deadline(now, attempt)

    def _set_deadline(self, now: float, attempt: Attempt) -> None:
        options = attempt.job.phase.spec.options
        ends: list[float] = []
        if options.timeout_s is not None and attempt.started_at is not None:
            ends.append(attempt.started_at + options.timeout_s)
        if options.lease_s is not None:
            ends.append(now + options.lease_s)
        self._deadlines.put(attempt, min(ends))

    def _remake_input(self, attempt: Attempt, index: int) -> bool:
        """See to it that a lost input is made again; say whether it can be."""
        before = self._phase_before(attempt.job.phase)
        if before is None or not 0 <= index < len(attempt.inputs):
            return False
        maker = before.jobs[before.order[index]]
        if maker.state is not JobState.SUCCEEDED or maker.result is not attempt.inputs[index]:
            return True  # somebody else has missed it before
        if maker.n_remade >= before.spec.options.max_lost or self._has_lost_its_inputs(before):
            return False
        maker.n_remade += 1
        maker.note(f"output lost, says job {attempt.job.number}")
        maker.result = None
        self._move(maker, Step.REOPEN)
        self._queue.add(maker, first=True)
        self.n_unsettled += 1
        self.counters["reopened"] += 1
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

    def _open_dependents(self, phase: Phase) -> None:
        dependents = self._dependents.get(phase.spec.phase)
        if not dependents or not phase.is_complete:
            return
        results = phase.results()
        for dependent in dependents:
            dependent.inputs = results
            for job in dependent.jobs.values():
                if job.state is JobState.WAITING:
                    self._move(job, Step.RELEASE)
                    self._queue.add(job)
            if dependent.is_empty:
                self._open_dependents(dependent)

    # --- looking in ------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the next attempt's time is over, or idle workers should be looked at."""
        end = self._deadlines.earliest
        if end is None or self.review_at is None:
            return self.review_at if end is None else end
        return min(end, self.review_at)

    def explain(self, number: int) -> str:
        """Say in words where a job is and why it is not further."""
        job = self.jobs.get(number)
        if job is None:
            return f"Job {number} is not known: it has been settled, or never was."
        lines = [f"Job {number} of phase '{job.phase.spec.name}' is {job.state.name}."]
        lines += job.story()
        for attempt in job.attempts:
            worker = self._roster.by_incarnation[attempt.incarnation]
            place = "running" if worker.head is attempt else "queued"
            lines.append(f"try {attempt.number} is {place} on {worker.worker_id}")
        if job.state is JobState.WAITING:
            lines.append(f"it waits for phase {job.phase.spec.after} to be complete")
        elif job.state is JobState.READY:
            lines.append(
                f"{self.n_ready} jobs are queued, {len(self._roster.workers)} workers there"
            )
        return "\n".join(lines)

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
        by_incarnation = self._roster.by_incarnation
        granted = [job for job in self.jobs.values() if job.attempts]
        assert len(granted) == n_granted
        for job in granted:
            assert job.state is JobState.GRANTED, job.story()
            for attempt in job.attempts:
                assert by_incarnation[attempt.incarnation].held.get(attempt.key) is attempt
            assert len(job.attempts) == 1 or job.phase.spec.options.pure, job.story()
        for worker in by_incarnation.values():
            for key, attempt in worker.held.items():
                assert (attempt.key, attempt.incarnation) == (key, worker.incarnation)
            head = worker.head
            assert head is None or head.started_at is not None
        for phase in self.phases.values():
            assert sum(phase.counts) == phase.n_jobs
            if phase.is_doomed:
                assert not phase.counts[JobState.WAITING] + phase.counts[JobState.READY]
            if phase.inputs is not None and phase.spec.after in self.phases:
                assert self.phases[phase.spec.after].is_complete or phase.is_empty


def _without(message: MasterMessage, keys: set[tuple[int, int]]) -> MasterMessage:
    """Leave these attempts out of a grant that may have to be sent again."""
    if type(message) is not GrantJobs:
        return message
    return GrantJobs(
        tuple(grant for grant in message.grants if (grant.job, grant.attempt) not in keys)
    )
