"""Who runs what, and what becomes of it: jobs, attempts, deadlines, retries. Pure.

Rule 1: the master's machine calls it, with the time; it reads no clock and does nothing itself but
        append commands to the list it is given.
Rule 2: O(1) work for a job: nothing here walks over all jobs, but for the ends of phases.
Rule 3: the first valid result of a job wins; every other one is counted and dropped.
Rule 4: an attempt is in `Worker.held` and in `Job.attempts`, or (once its job is settled) only in
        `Worker.held`, until its worker gives it back or is gone.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable

from paramserver.core import placement
from paramserver.core.commands import MasterCommand, SettleJob
from paramserver.core.jobs import Attempt, Job, JobSpec, JobState, Phase, PhaseSpec, Step, Verdict
from paramserver.core.roster import Roster, Worker
from paramserver.protocol.messages import JobGrant, JobResult, Outcome, Payload

REVIEW_S = 0.02
"""While some workers idle and others are busy, how often take-backs and backups are considered."""
STUCK_BEHIND_S = 0.01
"""Jobs held ahead are taken back when the job before them has run this long."""


class Loss:
    """How a worker was lost, for the jobs it held."""

    __slots__ = ("charge", "exit_code", "reason", "running", "text")

    def __init__(
        self,
        reason: str,
        *,
        charge: bool = True,
        running: tuple[int, int] | None = None,
        exit_code: int | None = None,
        text: str = "",
    ) -> None:
        self.reason = reason
        self.charge = charge
        """Whether the attempt that was running is to blame at all."""
        self.running = running
        """That attempt, when it is known; (0, 0) when it is known that none was."""
        self.exit_code = exit_code
        self.text = text


class Scheduler:
    """The jobs of all phases. See the rules of the module."""

    def __init__(self, roster: Roster, counters: Counter[str]) -> None:
        self._roster = roster
        self.counters = counters
        self.phases: dict[int, Phase] = {}
        self.jobs: dict[int, Job] = {}
        """Those not settled, and those their phase keeps."""
        self._dependents: dict[int, list[Phase]] = {}
        self._queues: dict[int, deque[Job]] = {}
        self._priorities: list[int] = []
        self.n_ready = 0
        self.n_unsettled = 0
        self._deadlines: list[tuple[float, int, int]] = []
        self._compact_at = 1024
        self._unwanted: dict[int, list[tuple[int, int]]] = {}
        self.review_at: float | None = None

    # --- owners ----------------------------------------------------------------------------------

    def open_phase(self, spec: PhaseSpec) -> None:
        """Add a phase without jobs."""
        phase = self.phases[spec.phase] = Phase(spec)
        if spec.after is not None:
            self._dependents.setdefault(spec.after, []).append(phase)
            before = self.phases.get(spec.after)
            if before is not None and before.is_complete:
                phase.inputs = before.results()

    def submit(self, phase_number: int, specs: Iterable[JobSpec]) -> None:
        """Add jobs to an open phase."""
        phase = self.phases[phase_number]
        spec = phase.spec
        waits = spec.after is not None and phase.inputs is None
        for job_spec in specs:
            job = Job(job_spec, phase, JobState.WAITING)
            phase.n_jobs += 1
            phase.counts[JobState.WAITING] += 1
            self.n_unsettled += 1
            self.jobs[job.number] = phase.jobs[job.number] = job
            if spec.keep:
                phase.order.append(job.number)
            if not waits:
                self._move(job, Step.RELEASE)
                self._enqueue(job)

    def close_phase(self, number: int) -> None:
        """Note that the phase is whole; open those that wait for it if it is complete."""
        phase = self.phases[number]
        phase.closed = True
        self._open_dependents(phase)

    def drop_phase(self, now: float, number: int, out: list[MasterCommand]) -> tuple[Worker, ...]:
        """Forget a phase; return the workers that run something of it and must be stopped."""
        phase = self.phases.get(number)
        if phase is None:
            return ()
        busy = self.cancel(now, tuple(phase.jobs), out)
        for job_number in phase.jobs:
            self.jobs.pop(job_number, None)
        phase.jobs.clear()
        del self.phases[number]
        self._dependents.pop(number, None)
        waiting_for = self._dependents.get(phase.spec.after) if phase.spec.after else None
        if waiting_for is not None:
            waiting_for.remove(phase)
        return busy

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
        return tuple(busy.values())

    def withdraw(self, now: float, numbers: Iterable[int], out: list[MasterCommand]) -> None:
        """Undo grants that were never sent, because the owner had cancelled the jobs."""
        for number in numbers:
            job = self.jobs.get(number)
            if job is None or job.state >= JobState.SUCCEEDED:
                continue
            attempts, job.attempts = job.attempts, ()
            for attempt in attempts:
                worker = self._roster.by_incarnation[attempt.incarnation]
                del worker.held[attempt.key]
                self._start_head(now, worker)
            self._settle(job, Step.CANCEL, out, SettleJob(number, Verdict.CANCELLED))

    def fail_pending(self, verdict: Verdict, text: str, out: list[MasterCommand]) -> None:
        """End every job that is not settled."""
        for job in [job for job in self.jobs.values() if job.state < JobState.SUCCEEDED]:
            if job.state < JobState.SUCCEEDED:  # a dependent may have been cancelled meanwhile
                step = Step.CANCEL if verdict is Verdict.CANCELLED else Step.FAIL
                command = SettleJob(job.number, verdict, attempts=job.tries, text=text)
                self._settle(job, step, out, command)

    # --- workers ---------------------------------------------------------------------------------

    def assign(self, now: float) -> dict[int, list[JobGrant]]:
        """Grant queued jobs; return the grants for each incarnation, in order."""
        grants: dict[int, list[JobGrant]] = {}
        if not self.n_ready:
            return grants
        rooms = deque(self._roster.takers(now))
        while rooms and (job := self._peek()) is not None:
            worker = placement.choose(job, rooms)
            if worker is None:
                break
            self._pop()
            grant = self._grant(now, job, worker, is_backup=False)
            grants.setdefault(worker.incarnation, []).append(grant)
        return grants

    def _grant(self, now: float, job: Job, worker: Worker, *, is_backup: bool) -> JobGrant:
        job.tries += 1
        self._move(job, Step.GRANT)
        attempt = Attempt(job, job.tries, worker.incarnation, is_backup=is_backup)
        job.attempts = (*job.attempts, attempt)
        worker.held[attempt.key] = attempt
        if job.affinity is not None:
            worker.caches.add(job.affinity)
        if len(worker.held) == 1:
            self._start(now, attempt)
        if self.review_at is None and (len(worker.held) > 1 or job.phase.spec.options.pure):
            self.review_at = now + REVIEW_S
        self.counters["attempts"] += 1
        return JobGrant(job.number, job.tries, job.payload, job.phase.inputs or ())

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
        job.n_errors += 1
        job.last_incarnation = worker.incarnation
        job.note(f"try {attempt.number} on {worker.worker_id}: {result.outcome.name}")
        if job.n_errors >= job.phase.spec.options.max_failures:
            command = SettleJob(
                job.number, Verdict.ERROR, result.payload, worker.worker_id, job.tries
            )
            self._settle(job, Step.FAIL, out, command)
        elif result.outcome is Outcome.LOST_INPUT and job.phase.spec.after is not None:
            self._reopen(job, result.detail)
        elif not job.attempts:
            self._requeue(job)

    def take_unwanted(self) -> dict[int, list[tuple[int, int]]]:
        """Attempts whose job is settled, by incarnation: not to be started any more."""
        if not self._unwanted:
            return self._unwanted
        unwanted, self._unwanted = self._unwanted, {}
        return unwanted

    def give_back(self, now: float, worker: Worker, keys: Iterable[tuple[int, int]]) -> None:
        """Take back attempts that were never started; they are charged to nobody."""
        for key in reversed(tuple(keys)):
            attempt = worker.held.pop(key, None)
            if attempt is None:
                self.counters["stale"] += 1
            else:
                self._release(attempt)
        self._start_head(now, worker)

    def progress(self, now: float, worker: Worker, key: tuple[int, int]) -> None:
        """Renew the lease of a running attempt."""
        attempt = worker.held.get(key)
        if attempt is None:
            self.counters["stale"] += 1
        elif attempt.job.phase.spec.options.lease_s is not None:
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
            self._release(attempt)

    def expired(self, now: float) -> list[Attempt]:
        """Attempts whose deadline has passed: they are charged; their workers must be killed."""
        late: list[Attempt] = []
        heap = self._deadlines
        while heap and heap[0][0] <= now:
            _, number, attempt_number = heapq.heappop(heap)
            job = self.jobs.get(number)
            for attempt in job.attempts if job is not None else ():
                if attempt.number != attempt_number or attempt.deadline is None:
                    continue
                if attempt.deadline <= now:
                    late.append(attempt)
                else:
                    heapq.heappush(heap, (attempt.deadline, number, attempt_number))
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

    def extend_deadlines(self, lateness: float) -> None:
        """Forgive the workers the master's own pause."""
        heap: list[tuple[float, int, int]] = []
        for worker in self._roster.workers.values():
            for attempt in worker.held.values():
                if attempt.deadline is not None:
                    attempt.deadline += lateness
                    heap.append((attempt.deadline, attempt.job.number, attempt.number))
        heapq.heapify(heap)
        self._deadlines = heap

    # --- idle workers ----------------------------------------------------------------------------

    def review(
        self, now: float
    ) -> tuple[dict[int, list[tuple[int, int]]], dict[int, list[JobGrant]]]:
        """Put idle workers to use: take back jobs stuck behind a long one, start backup copies.

        Returns
        -------
        take_back : dict of incarnation to attempts
        grants : dict of incarnation to grants
        """
        take_back: dict[int, list[tuple[int, int]]] = {}
        grants: dict[int, list[JobGrant]] = {}
        self.review_at = None
        if not self.n_unsettled:
            return take_back, grants
        idle = [worker for worker in self._roster.takers(now) if not worker.held]
        if self.n_ready:
            idle.clear()  # there is work for them in the queue
        candidates: list[tuple[float, Attempt]] = []
        for worker in self._roster.workers.values():
            head = worker.head
            if head is None or head.started_at is None:
                continue
            ran_s = now - head.started_at
            if len(worker.held) > 1 or head.job.phase.spec.options.pure:
                self.review_at = now + REVIEW_S
            if len(worker.held) > 1 and ran_s >= STUCK_BEHIND_S:
                stuck = self._stuck(worker, len(idle))
                if stuck:
                    take_back[worker.incarnation] = stuck
            if len(head.job.attempts) == 1 and head in head.job.attempts:
                candidates.append((ran_s, head))
        candidates.sort(key=lambda pair: -pair[0])
        for ran_s, attempt in candidates:
            limit = placement.straggler_after_s(attempt.job.phase)
            if limit is not None and ran_s >= limit and idle:
                worker = idle.pop()
                grant = self._grant(now, attempt.job, worker, is_backup=True)
                grants.setdefault(worker.incarnation, []).append(grant)
                self.counters["backups"] += 1
        return take_back, grants

    def _stuck(self, worker: Worker, n_idle: int) -> list[tuple[int, int]]:
        behind = [attempt for attempt in worker.held.values() if not attempt.taking_back][1:]
        take = behind[len(behind) // (n_idle + 1) :] if n_idle else []
        for attempt in take:
            attempt.taking_back = True
        return [attempt.key for attempt in take]

    # --- inside ----------------------------------------------------------------------------------

    def _move(self, job: Job, step: Step) -> None:
        was_ready = job.state is JobState.READY
        job.phase.move(job, step)
        self.n_ready += (job.state is JobState.READY) - was_ready

    def _settle(self, job: Job, step: Step, out: list[MasterCommand], command: SettleJob) -> None:
        self._move(job, step)
        self.n_unsettled -= 1
        for attempt in job.attempts:
            self._unwanted.setdefault(attempt.incarnation, []).append(attempt.key)
        job.attempts = ()
        phase = job.phase
        if not phase.spec.keep:
            del self.jobs[job.number]
            del phase.jobs[job.number]
        out.append(command)
        if step is not Step.SUCCEED:
            for dependent in self._dependents.get(phase.spec.phase, ()):
                for waiting in list(dependent.jobs.values()):
                    if waiting.state is JobState.WAITING:
                        number = waiting.number
                        cancelled = SettleJob(number, Verdict.CANCELLED, text="phase before failed")
                        self._settle(waiting, Step.CANCEL, out, cancelled)

    def _enqueue(self, job: Job, *, first: bool = False) -> None:
        priority = job.phase.spec.options.priority
        queue = self._queues.get(priority)
        if queue is None:
            queue = self._queues[priority] = deque()
            self._priorities = sorted(self._queues, reverse=True)
        if first:
            queue.appendleft(job)
        else:
            queue.append(job)

    def _peek(self) -> Job | None:
        for priority in self._priorities:
            queue = self._queues[priority]
            while queue:
                job = queue[0]
                if job.state is JobState.READY:
                    phase = job.phase
                    if phase.spec.after is None or phase.inputs is not None:
                        return job
                    self._move(job, Step.HOLD)
                queue.popleft()
        return None

    def _pop(self) -> None:
        for priority in self._priorities:
            queue = self._queues[priority]
            if queue:
                queue.popleft()
                return

    def _requeue(self, job: Job) -> None:
        self._move(job, Step.GIVE_UP)
        self._enqueue(job, first=True)
        self.counters["requeued"] += 1

    def _release(self, attempt: Attempt) -> None:
        job = attempt.job
        if attempt not in job.attempts:
            return
        job.attempts = tuple(other for other in job.attempts if other is not attempt)
        if not job.attempts:
            self._requeue(job)

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
        for attempt in worker.held.values():
            if attempt.started_at is None:
                self._start(now, attempt)
            return

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
        known = attempt.deadline is not None
        attempt.deadline = min(ends)
        if not known:  # an extended one is found, and put back, when its old time comes
            heapq.heappush(self._deadlines, (attempt.deadline, attempt.job.number, attempt.number))
            if len(self._deadlines) >= self._compact_at:  # those of ended attempts go
                self.extend_deadlines(0.0)
                self._compact_at = max(1024, 2 * len(self._deadlines))

    def _reopen(self, job: Job, index: int) -> None:
        """Run the job again that made a lost input; hold back those that need it."""
        before = self.phases.get(job.phase.spec.after or 0)
        if before is None or not 0 <= index < len(before.order):
            self._requeue(job)
            return
        job.attempts = ()
        self._move(job, Step.HOLD)
        job.phase.inputs = None
        maker = before.jobs[before.order[index]]
        if maker.state is JobState.SUCCEEDED:
            maker.note(f"output lost, says job {job.number}")
            maker.result = None
            self._move(maker, Step.REOPEN)
            self.n_unsettled += 1
            self._enqueue(maker, first=True)
            self.counters["reopened"] += 1
        self._open_dependents(before)

    def _open_dependents(self, phase: Phase) -> None:
        dependents = self._dependents.get(phase.spec.phase)
        if not dependents or not phase.is_complete:
            return
        results: tuple[Payload, ...] = phase.results()
        for dependent in dependents:
            dependent.inputs = results
            for job in dependent.jobs.values():
                if job.state is JobState.WAITING:
                    self._move(job, Step.RELEASE)
                    self._enqueue(job)

    # --- looking in ------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the next attempt's time is over, or idle workers should be looked at."""
        if not self._deadlines:
            return self.review_at
        end = self._deadlines[0][0]
        return end if self.review_at is None else min(end, self.review_at)

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

    def check(self) -> None:
        """Assert what ties the fields together; for tests, after every event."""
        live = [job for job in self.jobs.values() if job.state < JobState.SUCCEEDED]
        assert self.n_unsettled == len(live), (self.n_unsettled, len(live))
        assert self.n_ready == sum(job.state is JobState.READY for job in live)
        queued = {id(job) for queue in self._queues.values() for job in queue}
        for job in self.jobs.values():
            assert (job.state is JobState.GRANTED) == bool(job.attempts), job.story()
            assert job.state is not JobState.READY or id(job) in queued, job.story()
            for attempt in job.attempts:
                worker = self._roster.by_incarnation[attempt.incarnation]
                assert worker.held.get(attempt.key) is attempt, job.story()
        for worker in self._roster.workers.values():
            for key, attempt in worker.held.items():
                assert attempt.key == key
                assert attempt.incarnation == worker.incarnation
            head = worker.head
            assert head is None or head.started_at is not None
        for phase in self.phases.values():
            assert sum(phase.counts) == phase.n_jobs
            for dependent in self._dependents.get(phase.spec.phase, ()):
                if dependent.inputs is not None:
                    assert phase.is_complete
