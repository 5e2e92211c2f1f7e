"""The master's machine: one door, `handle(event) -> commands`, before roster and scheduler. Pure.

It delivers and gives orders; how members come, go and are spoken to is in `admission`, `departures`
and `mail`.

Rule 1: `handle` is the only method that changes anything.
Rule 2: a message counts only if it comes over the connection of a living member, in that member's
        name and life; every other one is answered FENCED, counted by reason and dropped.
Rule 3: decisions that can wait for company (grants, take-backs, deadlines) are made on `Tick`,
        which the driver sends once it has delivered everything it had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, assert_never

from paramserver.core.admission import Admission
from paramserver.core.backlog import Backlog
from paramserver.core.batches import batches
from paramserver.core.commands import MasterCommand
from paramserver.core.departures import Departures
from paramserver.core.events import (
    AgentRegistered,
    Arrived,
    CancelRequested,
    Disconnected,
    JobsSubmitted,
    JobsWithdrawn,
    MasterEvent,
    PhaseClosed,
    PhaseDropped,
    PhaseOpened,
    ProcessEnded,
    RetireRequested,
    ServiceReplied,
    StopRequested,
    Tick,
    WorkerAccused,
)
from paramserver.core.explanation import explain
from paramserver.core.jobs import JobState, Verdict
from paramserver.core.loneliness import Loneliness
from paramserver.core.mail import LINKS_S, Mail
from paramserver.core.roster import Agent, Change, Member, Roster, Worker, WorkerState
from paramserver.core.scheduler import Scheduler
from paramserver.core.service_calls import ServiceCalls
from paramserver.protocol.messages import (
    Ack,
    AgentHello,
    Goodbye,
    Hello,
    JobProgressed,
    JobsEnded,
    JobsReturned,
    MasterMessage,
    ProcessExited,
    ServiceCall,
    Stop,
    TakeBack,
    WorkerMessage,
)

LATE_S = 1.0
"""A tick this late means that the master itself was paused."""
SHUT_DOWN = "the cluster was shut down"
_LOST: Final = WorkerState.LOST


class MasterMachine:
    """Everything the master decides.

    Parameters
    ----------
    run : str
        Identity of the run.
    epoch : int
        Number of this master's life within the run.
    release : str
        What workers must say in their greeting to be let in.
    machine : str
        Nonce that proves a worker to be on the master's machine; '' for none.
    make_token : callable
        Returns a fresh secret at each call.
    grace_s : float
        How long the work of a disconnected worker is kept for it.
    no_workers_timeout_s : float
        How long jobs wait while nobody is there.
    max_members : int or None
        How many workers and remote agents there is room for (each needs a connection).
    """

    def __init__(
        self,
        *,
        run: str,
        epoch: int,
        release: str,
        make_token: Callable[[], str],
        machine: str = "",
        grace_s: float = 5.0,
        no_workers_timeout_s: float = 60.0,
        max_members: int | None = None,
    ) -> None:
        self.run = run
        self.epoch = epoch
        self.counters: Counter[str] = Counter()
        self.roster = Roster(make_token)
        self.backlog = Backlog(self.counters)
        self.scheduler = Scheduler(self.roster, self.backlog, self.counters)
        self.stopping = False
        self._mail = Mail(run, epoch, self.roster, self.counters)
        self._departures = Departures(
            self.roster, self.scheduler, self._mail, self.counters, grace_s
        )
        self._admission = Admission(
            self.roster,
            self._mail,
            self._departures,
            self.counters,
            release=release,
            machine=machine,
            max_members=max_members,
        )
        self._service_calls = ServiceCalls(self.roster, self._mail, self._departures, self.counters)
        self._loneliness = Loneliness(self.roster, self.backlog, no_workers_timeout_s)
        self._wake_at: float | None = None

    # --- the door --------------------------------------------------------------------------------

    def handle(self, event: MasterEvent) -> list[MasterCommand]:
        """Take in one event and return what is to be done, in order."""
        out: list[MasterCommand] = []
        scheduler = self.scheduler
        match event:  # the frequent ones first, and not taken apart: each look costs
            case Tick():
                self._tick(event.now, out)
            case Arrived():
                self._arrived(event, out)
            case JobsSubmitted():
                self.backlog.submit(event.phase, event.jobs, out)
                if self.stopping:
                    self.backlog.end_all(JobState.GRANTED, Verdict.CANCELLED, SHUT_DOWN, out)
            case PhaseOpened(_, spec):
                self.backlog.open_phase(spec)
            case PhaseClosed(_, phase):
                self.backlog.close_phase(phase)
            case PhaseDropped(now, phase):
                self._stop_workers(now, scheduler.drop_phase(now, phase, out), out)
            case CancelRequested(now, numbers):
                self._stop_workers(now, scheduler.cancel(now, numbers, out), out)
            case JobsWithdrawn(now, numbers):
                scheduler.withdraw(now, numbers, out)
            case ServiceReplied():
                self._service_calls.replied(event, out)
            case WorkerAccused(now, incarnation, reason):
                accused = self.roster.by_incarnation.get(incarnation)
                if accused is not None:  # else its life has ended meanwhile
                    self._departures.expel(now, accused, reason, out)
            case Disconnected(now, peer):
                self._departures.disconnected(now, peer)
            case AgentRegistered(_, agent_id, token):
                self.roster.register(agent_id, token)
            case ProcessEnded(now, agent_id, exited):
                self._departures.process_ended(now, agent_id, exited, out)
            case RetireRequested(now, worker_ids):
                self._retire(now, worker_ids, out)
            case StopRequested(now, drain):
                self._stop(now, drain, out)
            case _:
                assert_never(event)
        return out

    def next_deadline(self) -> float | None:
        """When `Tick` is due even if nothing happens; None for never."""
        return self._wake_at

    # --- arrivals --------------------------------------------------------------------------------

    def _arrived(self, event: Arrived, out: list[MasterCommand]) -> None:
        message = event.message
        if type(message) is Hello:
            self._welcomed(event.now, self._admission.hello(event, message, out), out)
            return
        if type(message) is AgentHello:
            self._welcomed(event.now, self._admission.agent_hello(event, message, out), out)
            return
        envelope = event.envelope
        member = self.roster.by_peer.get(event.peer)
        if (
            member is None
            or envelope.incarnation != member.incarnation
            or envelope.epoch != self.epoch
            or envelope.worker_id != member.member_id
            or envelope.run != self.run
        ):
            self._admission.fence(event, member, out)
            return
        now = event.now
        if member.suspect_until is not None:
            self._departures.heard_again(member)
            # It may have been said before the connection broke; if so, this finds nobody.
            self._mail.say(member, Ack(), out)
            self._mail.tend_by(now + LINKS_S)
        if type(member) is Worker:
            member.last_heard = now
        link = member.link
        ready = link.receive(now, envelope.seq, envelope.ack, message)
        if envelope.seq or link.n_unacked:
            self._mail.tend_by(now + LINKS_S)
        if not ready and envelope.seq:
            self._count_undelivered(member)
        for each in ready:
            self._deliver(now, member, each, out)

    def _welcomed(self, now: float, member: Member | None, out: list[MasterCommand]) -> None:
        """Note who has just been let in, if anybody."""
        if type(member) is Worker:
            self._loneliness.end()
        if member is not None and self.stopping:
            self._mail.send(now, member, Stop(drain=True), out)

    def _count_undelivered(self, member: Member) -> None:
        """Count a message that is not handed on: never, or not before others have come."""
        link = member.link
        if link.n_repeated:
            self.counters["repeated"] += link.n_repeated
        if link.n_gaps:
            self.counters["gap"] += link.n_gaps
        link.n_repeated = link.n_gaps = 0

    def _deliver(
        self, now: float, member: Member, message: WorkerMessage, out: list[MasterCommand]
    ) -> None:
        if type(member) is Agent:
            self._deliver_of_agent(now, member, message, out)
            return
        assert type(member) is Worker
        worker = member
        if worker.state >= _LOST:  # an earlier message of the same batch ended its life
            self.counters["fenced"] += 1
            return
        match message:
            case JobsEnded():
                for result in message.results:
                    self.scheduler.end(now, worker, result, out)
            case JobsReturned(jobs, draining):
                if draining and worker.state is not WorkerState.DRAINING:
                    worker.step(Change.DRAIN)
                self.scheduler.give_back(now, worker, jobs, out)
            case JobProgressed(job, attempt, _, _):
                self.scheduler.progress(now, worker, (job, attempt))
            case ServiceCall():
                self._service_calls.asked(now, worker, message, out)
            case Goodbye(reason):
                self._mail.say(worker, Ack(), out)
                self._departures.leave(now, worker, reason, out)
            case _:
                self.counters["mismatched"] += 1

    def _deliver_of_agent(
        self, now: float, agent: Agent, message: WorkerMessage, out: list[MasterCommand]
    ) -> None:
        match message:
            case ProcessExited():
                self._departures.process_ended(now, agent.agent_id, message, out)
            case Goodbye() if agent.peer is not None:
                self._mail.say(agent, Ack(), out)
                self.roster.part(agent)
            case _:
                self.counters["mismatched"] += 1

    # --- orders ----------------------------------------------------------------------------------

    def _stop_workers(
        self, now: float, workers: tuple[Worker, ...], out: list[MasterCommand]
    ) -> None:
        for worker in workers:
            self._departures.kill(now, worker, "its job was cancelled", out)

    def _retire(self, now: float, worker_ids: tuple[str, ...], out: list[MasterCommand]) -> None:
        for worker_id in worker_ids:
            worker = self.roster.workers.get(worker_id)
            if worker is not None and worker.state is not WorkerState.DRAINING:
                worker.step(Change.DRAIN)
                self._mail.send(now, worker, Stop(drain=True), out)

    def _stop(self, now: float, drain: bool, out: list[MasterCommand]) -> None:
        self.stopping = True
        self.backlog.end_all(JobState.GRANTED, Verdict.CANCELLED, SHUT_DOWN, out)
        for member in tuple(self.roster.members()):
            if type(member) is Worker and member.state is not WorkerState.DRAINING:
                member.step(Change.DRAIN)
            self._mail.send(now, member, Stop(drain), out)

    # --- time ------------------------------------------------------------------------------------

    def _tick(self, now: float, out: list[MasterCommand]) -> None:
        scheduler = self.scheduler
        if self._wake_at is not None and now - self._wake_at > LATE_S:
            self._forgive(now - self._wake_at, now + LATE_S)
        for attempt in scheduler.expired(now):
            late = self.roster.by_incarnation[attempt.incarnation]
            if attempt in attempt.job.attempts:
                scheduler.charges.timeout(late, attempt, out)
                self._departures.kill(now, late, "its job passed the deadline", out)
            else:
                self._departures.kill(now, late, "nobody needs what it runs any more", out)
        if self.roster.suspects:
            self._departures.give_up_suspects(now, out)
        if self.backlog.has_unwanted:
            for incarnation, keys in scheduler.take_unwanted(now).items():
                self._send(now, incarnation, TakeBack(tuple(keys)), out)
        for incarnation, grants in scheduler.assign(now).items():
            for message in batches(grants):
                self._send(now, incarnation, message, out)
        if scheduler.review_at is not None and scheduler.review_at <= now:
            take_back, backups = scheduler.review(now)
            for incarnation, keys in take_back.items():
                self._send(now, incarnation, TakeBack(tuple(keys)), out)
            for incarnation, grants in backups.items():
                for message in batches(grants):
                    self._send(now, incarnation, message, out)
        if self._mail.due_at is not None and self._mail.due_at <= now:
            self._mail.tend(now, out)
        waited_s = self._loneliness.waited_too_long(now)
        if waited_s is not None:
            waited = f"{waited_s:.1f}"
            self.backlog.end_all(JobState.READY, Verdict.NO_WORKERS, waited, out)
        self._wake_at = self._find_wake_at(now)

    def _send(
        self, now: float, incarnation: int, message: MasterMessage, out: list[MasterCommand]
    ) -> None:
        self._mail.send(now, self.roster.by_incarnation[incarnation], message, out)

    def _forgive(self, lateness: float, not_before: float) -> None:
        """The master was paused: nobody else is to blame for that time.

        What had come meanwhile is not all taken in yet, so that nobody's time is over at once.
        """
        self.counters["master_pauses"] += 1
        self.scheduler.extend_deadlines(lateness, not_before)
        self._departures.extend_grace(lateness, not_before)
        self._loneliness.extend(lateness, not_before)

    def _find_wake_at(self, now: float) -> float | None:
        scheduler, roster = self.scheduler, self.roster
        dues = [scheduler.next_deadline(), self._mail.due_at, self._loneliness.ends_at]
        if roster.suspects:
            dues += self._departures.grace_ends()
        if self.backlog.n_unsettled:
            dues += roster.quarantine_ends(now)
        wake_at = None
        for due in dues:
            if due is not None and (wake_at is None or due < wake_at):
                wake_at = due
        return wake_at

    # --- looking in ------------------------------------------------------------------------------

    def explain(self, job: int) -> str:
        """Say in words where a job is and why it is not further, or how it ended."""
        return explain(job, self.backlog, self.roster)

    def check(self) -> None:
        """Assert the invariants; for tests, after every event."""
        self.backlog.check()
        self.scheduler.check()
        roster = self.roster
        assert set(roster.by_incarnation) == {w.incarnation for w in roster.workers.values()}
        for worker in roster.workers.values():
            assert worker.state < WorkerState.LOST
            assert roster.by_peer.get(worker.peer) is worker
            assert (worker.state is WorkerState.SUSPECT) <= (worker.suspect_until is not None)
