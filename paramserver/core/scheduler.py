"""Who runs what, and what becomes of it: attempts, deadlines, retries. Pure.

Rule 1: the master's machine calls it, with the time; it reads no clock and does nothing itself but
        append commands to the list it is given.
Rule 2: it ties jobs to workers; which jobs there are, and which could run, is the backlog's.
Rule 3: the first valid result of a job wins; every other one is counted and dropped. What a try
        that went wrong costs is in `charges`.
Rule 4: an attempt is in `Worker.held` and in `Job.attempts`, or (once its job is settled, or it was
        given up) only in `Worker.held`, until its worker gives it back or is gone.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from functools import partial
from typing import Final

from paramserver.core import idle, placement
from paramserver.core.attempt_news import AttemptNews
from paramserver.core.backlog import Backlog
from paramserver.core.charges import Charges
from paramserver.core.commands import MasterCommand, SettleJob
from paramserver.core.deadlines import Deadlines
from paramserver.core.jobs import Attempt, Job, JobState, Step, Verdict
from paramserver.core.loss import Loss
from paramserver.core.roster import Roster, Worker
from paramserver.protocol.messages import GrantJobs, JobGrant, JobResult, MasterMessage, Outcome

USELESS_S = 1.0
"""How long a worker may run what nobody wants any more, if it is needed; about what it costs to end
its process and start another one."""

_GRANT: Final = Step.GRANT
_SUCCEED: Final = Step.SUCCEED
_SUCCEEDED: Final = Verdict.SUCCEEDED
_OK: Final = Outcome.OK

Keys = list[tuple[int, int]]


class Scheduler:
    """The attempts of all jobs. See the rules of the module."""

    def __init__(self, roster: Roster, backlog: Backlog, counters: Counter[str]) -> None:
        self._roster = roster
        self._backlog = backlog
        self.counters = counters
        self.charges = Charges(backlog, counters)
        self._deadlines = Deadlines(roster)
        self.is_short = False
        """When jobs were last granted, some were left that nobody could take."""
        self.review_at: float | None = None
        self.news = AttemptNews()
        self._forgiven_until = 0.0
        """No suspect has kept a job for too long before: the master has not heard all there is."""

    # --- owners ----------------------------------------------------------------------------------

    def drop_phase(self, now: float, number: int, out: list[MasterCommand]) -> tuple[Worker, ...]:
        """Forget a phase; return the workers that run something of it and must be stopped."""
        busy = self.cancel(now, self._backlog.numbers_of(number), out)
        self._backlog.forget_phase(number, out)
        if not self._backlog.phases:
            self._deadlines.extend(0.0)  # forgets those of attempts that have ended
        return busy

    def cancel(
        self, now: float, numbers: Iterable[int], out: list[MasterCommand]
    ) -> tuple[Worker, ...]:
        """Cancel jobs; return the workers that are running one, which only their end can stop."""
        busy: dict[int, Worker] = {}
        for number in numbers:
            job = self._backlog.jobs.get(number)
            if job is None or job.state >= JobState.SUCCEEDED:
                continue
            attempts = job.attempts
            self._backlog.settle(job, Step.CANCEL, out, SettleJob(number, Verdict.CANCELLED))
            for attempt in attempts:
                worker = self._roster.by_incarnation[attempt.incarnation]
                if worker.head is attempt:
                    busy[worker.incarnation] = worker
        self._backlog.clear_stale()
        return tuple(busy.values())

    def withdraw(self, now: float, numbers: Iterable[int], out: list[MasterCommand]) -> None:
        """Cancel jobs whose first grants were never sent, because the owner was there before."""
        unsent: dict[int, set[tuple[int, int]]] = {}
        for number in numbers:
            job = self._backlog.jobs.get(number)
            if job is None or job.state >= JobState.SUCCEEDED:
                continue
            for attempt in job.attempts:
                if attempt.number == 1:  # a later one has been sent, and is unwanted like any other
                    worker = self._roster.by_incarnation[attempt.incarnation]
                    del worker.held[attempt.key]
                    unsent.setdefault(worker.incarnation, set()).add(attempt.key)
                    self._start_head(now, worker)
            job.attempts = tuple(attempt for attempt in job.attempts if attempt.number > 1)
            self._backlog.settle(job, Step.CANCEL, out, SettleJob(number, Verdict.CANCELLED))
        for incarnation, keys in unsent.items():
            link = self._roster.by_incarnation[incarnation].link
            link.amend(partial(_without, keys=keys))
        self._backlog.clear_stale()

    # --- workers ---------------------------------------------------------------------------------

    def assign(self, now: float) -> dict[int, list[JobGrant]]:
        """Grant queued jobs; return the grants for each incarnation, in order."""
        grants: dict[int, list[JobGrant]] = {}
        backlog = self._backlog
        if backlog.n_ready:
            takers = self._roster.takers(now)
            rooms = deque([w for w in takers if not w.held or not idle.is_stuck(w, now)])
            while rooms and backlog.n_ready and (job := backlog.peek()) is not None:
                worker = placement.choose(job, rooms)
                if worker is None:
                    break
                backlog.pop()
                grant = self._grant(now, job, worker, is_backup=False)
                grants.setdefault(worker.incarnation, []).append(grant)
        self.is_short = backlog.n_ready > 0
        return grants

    def _grant(self, now: float, job: Job, worker: Worker, *, is_backup: bool) -> JobGrant:
        job.tries = tries = job.tries + 1
        self._backlog.move(job, _GRANT)
        attempt = Attempt(job, tries, worker.incarnation, is_backup=is_backup)
        phase = job.phase
        if phase.inputs:
            attempt.inputs = phase.inputs
        job.attempts = (*job.attempts, attempt)
        worker.held[job.number, tries] = attempt
        if job.affinity is not None:
            worker.note_cached(job.affinity)
        is_ahead = len(worker.held) > 1
        if not is_ahead:
            self._start(now, attempt)
        if is_ahead or phase.spec.options.pure:
            self._review_by(now + idle.REVIEW_S)
        self.counters["attempts"] += 1
        return JobGrant(job.number, tries, job.payload, attempt.inputs)

    def end(self, now: float, worker: Worker, result: JobResult, out: list[MasterCommand]) -> None:
        """Take in how an attempt ended."""
        attempt = worker.held.pop((result.job, result.attempt), None)
        if attempt is None:
            self.counters["stale"] += 1
            return
        worker.n_ended += 1
        if worker.held:
            self._start_head(now, worker)
        job = attempt.job
        if self.news.is_wanted:
            self.news.ended(now, worker, attempt, result, out)
        if attempt not in job.attempts:
            self.counters["duplicate"] += 1
            return
        job.drop(attempt)
        if result.outcome is _OK:
            self._succeed(worker, job, result, out)
        else:
            self._fail(worker, attempt, result, out)

    def _succeed(
        self, worker: Worker, job: Job, result: JobResult, out: list[MasterCommand]
    ) -> None:
        phase = job.phase
        worker.agent.standing.note_success()
        phase.add_duration(result.duration_us * 1e-6)
        if phase.keeps:
            job.result = result.payload
        command = SettleJob(job.number, _SUCCEEDED, result.payload, worker.worker_id, job.tries)
        self._backlog.settle(job, _SUCCEED, out, command)
        self._backlog.open_dependents(phase)

    def _fail(
        self, worker: Worker, attempt: Attempt, result: JobResult, out: list[MasterCommand]
    ) -> None:
        job = attempt.job
        if result.outcome is Outcome.LOST_INPUT and self._backlog.remake_input(
            attempt, result.detail
        ):
            where = f"try {attempt.number} on {worker.worker_id}"
            job.suffer(f"{where}: input {result.detail} is lost")
        elif self.charges.error(worker, attempt, result, out):
            return
        if not job.attempts:
            self._backlog.requeue(job, out)

    def take_unwanted(self, now: float) -> dict[int, Keys]:
        """Attempts whose job is settled, by incarnation: not to be started any more."""
        held: dict[int, Keys] = {}
        for attempt in self._backlog.take_unwanted():
            worker = self._roster.by_incarnation.get(attempt.incarnation)
            if worker is None or worker.held.get(attempt.key) is not attempt:
                continue
            attempt.asked_back_at = now
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
        if head is not None and self.news.is_wanted:
            self.news.lost(now, worker, head, out)
        held = tuple(worker.held.values())
        worker.held.clear()
        for attempt in reversed(held):
            if loss.charge and attempt.key == running and _counts(attempt):
                self.charges.loss(worker, attempt, loss, out)
            self._release(attempt, out)

    def give_up(self, now: float, worker: Worker, since: float, out: list[MasterCommand]) -> None:
        """Free what a worker that is suspect since then has kept for long enough.

        It may be running it still: whose jobs have such a limit sees to it that this does no harm.
        Nothing is charged unless the worker is lost: it may be the job that keeps it.
        """
        for end, attempt in reversed(self._graces(worker, since)):
            if end > now:
                continue
            if attempt is worker.head and self.news.is_wanted:
                self.news.lost(now, worker, attempt, out)
            attempt.is_given_up = True
            attempt.job.suffer(f"try {attempt.number} on {worker.worker_id}: given up, no sign")
            self.counters["given_up"] += 1
            self._release(attempt, out)

    def grace_ends(self, worker: Worker, since: float) -> list[float]:
        """When `give_up` finds something next, and after that."""
        return [end for end, _ in self._graces(worker, since)]

    def _graces(self, worker: Worker, since: float) -> list[tuple[float, Attempt]]:
        return [
            (max(since + grace_s, self._forgiven_until), attempt)
            for attempt in worker.held.values()
            if (grace_s := attempt.job.phase.spec.options.grace_s) is not None
            and attempt in attempt.job.attempts
        ]

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

    def extend_deadlines(self, lateness: float, not_before: float) -> None:
        """Forgive the workers the master's own pause."""
        self._deadlines.extend(lateness, not_before)
        self._forgiven_until = not_before

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
        if not self._backlog.n_unsettled:
            return take_back, grants
        # Idle ones have work when something is queued: then they are granted that.
        hands = [] if self._backlog.n_ready else [w for w in self._roster.takers(now) if not w.held]
        found = idle.look_around(now, self._roster.workers.values(), len(hands))
        for worker, behind in found.stuck:
            for attempt in behind:
                attempt.asked_back_at = now
            take_back[worker.incarnation] = [attempt.key for attempt in behind]
        for attempt in found.worth_a_copy[: len(hands)]:
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

    def _release(self, attempt: Attempt, out: list[MasterCommand]) -> None:
        job = attempt.job
        if attempt not in job.attempts:
            return
        job.drop(attempt)
        if not job.attempts:
            self._backlog.requeue(job, out)

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

    # --- looking in ------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the next attempt's time is over, or idle workers should be looked at."""
        end = self._deadlines.earliest
        if end is None or self.review_at is None:
            return self.review_at if end is None else end
        return min(end, self.review_at)

    def check(self) -> None:
        """Assert what ties the fields together; for tests, after every event."""
        by_incarnation = self._roster.by_incarnation
        for job in self._backlog.jobs.values():
            for attempt in job.attempts:
                assert by_incarnation[attempt.incarnation].held.get(attempt.key) is attempt
        for worker in by_incarnation.values():
            for key, attempt in worker.held.items():
                assert (attempt.key, attempt.incarnation) == (key, worker.incarnation)
            head = worker.head
            assert head is None or head.started_at is not None


def _counts(attempt: Attempt) -> bool:
    """Say whether what becomes of an attempt's worker matters to its job."""
    job = attempt.job
    return attempt in job.attempts or (attempt.is_given_up and job.state < JobState.SUCCEEDED)


def _without(message: MasterMessage, keys: set[tuple[int, int]]) -> MasterMessage:
    """Leave these attempts out of a grant that may have to be sent again."""
    if type(message) is not GrantJobs:
        return message
    return GrantJobs(
        tuple(grant for grant in message.grants if (grant.job, grant.attempt) not in keys)
    )
