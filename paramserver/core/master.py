"""The master's machine: one door, `handle(event) -> commands`, before roster and scheduler. Pure.

Rule 1: `handle` is the only method that changes anything.
Rule 2: a message counts only if it comes over the connection of a living member, in that member's
        name and life; every other one is answered FENCED, counted by reason and dropped.
Rule 3: decisions that can wait for company (grants, take-backs, deadlines) are made on `Tick`,
        which the driver sends once it has delivered everything it had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import assert_never

from paramserver.core.batches import batches
from paramserver.core.commands import (
    AnnounceWorker,
    CallService,
    KillWorker,
    MasterCommand,
    Send,
)
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
)
from paramserver.core.jobs import Verdict
from paramserver.core.loss import Loss, describe_exit
from paramserver.core.roster import Agent, Change, Member, Roster, Worker, WorkerState
from paramserver.core.scheduler import Scheduler
from paramserver.protocol.messages import (
    Ack,
    AgentHello,
    Envelope,
    Fenced,
    Goodbye,
    GrantJobs,
    Hello,
    JobProgressed,
    JobsEnded,
    JobsReturned,
    KillProcess,
    MasterMessage,
    Payload,
    PayloadKind,
    ProcessExited,
    Refused,
    ServiceCall,
    ServiceReply,
    Stop,
    TakeBack,
    Welcome,
    WorkerJoined,
    WorkerMessage,
)

LINKS_S = 0.1
"""How often the links are asked for what is due; their own waits are longer."""
LATE_S = 1.0
"""A tick this late means that the master itself was paused."""
SHUT_DOWN = "the cluster was shut down"
NOT_CURRENT = Payload(PayloadKind.ERROR, b"")
"""The answer to a call of an attempt that does not count any more."""


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
        self.release = release
        self.machine = machine
        self.grace_s = grace_s
        self.no_workers_timeout_s = no_workers_timeout_s
        self.max_members = max_members
        self.counters: Counter[str] = Counter()
        self.roster = Roster(make_token)
        self.scheduler = Scheduler(self.roster, self.counters)
        self.stopping = False
        self._wake_at: float | None = None
        self._links_at: float | None = None
        self._alone_since: float | None = None

    # --- the door --------------------------------------------------------------------------------

    def handle(self, event: MasterEvent) -> list[MasterCommand]:
        """Take in one event and return what is to be done, in order."""
        out: list[MasterCommand] = []
        scheduler = self.scheduler
        match event:
            case Arrived():
                self._arrived(event, out)
            case Tick(now):
                self._tick(now, out)
            case JobsSubmitted(_, phase, jobs):
                scheduler.submit(phase, jobs, out)
                if self.stopping:
                    scheduler.fail_pending(Verdict.CANCELLED, SHUT_DOWN, out)
            case PhaseOpened(_, spec):
                scheduler.open_phase(spec)
            case PhaseClosed(_, phase):
                scheduler.close_phase(phase)
            case PhaseDropped(now, phase):
                self._stop_workers(now, scheduler.drop_phase(now, phase, out), out)
            case CancelRequested(now, numbers):
                self._stop_workers(now, scheduler.cancel(now, numbers, out), out)
            case JobsWithdrawn(now, numbers):
                scheduler.withdraw(now, numbers, out)
            case ServiceReplied():
                self._service_replied(event, out)
            case Disconnected(now, peer):
                self._disconnected(now, peer)
            case AgentRegistered(_, agent_id, token):
                self.roster.register(agent_id, token)
            case ProcessEnded(now, agent_id, exited):
                self._process_ended(now, agent_id, exited, out)
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
            self._hello(event, message, out)
            return
        if type(message) is AgentHello:
            self._agent_hello(event, message, out)
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
            self._fence(event, member, out)
            return
        now = event.now
        if member.suspect_until is not None:
            self._heard_again(member)
            # It may have been said before the connection broke; if so, this finds nobody.
            out.append(Send(event.peer, self._envelope(member, 0), Ack()))
            self._tend_links_by(now + LINKS_S)
        if type(member) is Worker:
            member.last_heard = now
        link = member.link
        ready = link.receive(now, envelope.seq, envelope.ack, message)
        if envelope.seq or link.n_unacked:
            self._tend_links_by(now + LINKS_S)
        if envelope.seq and not ready:
            self._count_undelivered(member)
        for each in ready:
            self._deliver(now, member, each, out)

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
        if worker.state >= WorkerState.LOST:  # an earlier message of the same batch ended its life
            self.counters["fenced"] += 1
            return
        match message:
            case JobsEnded(results):
                for result in results:
                    self.scheduler.end(now, worker, result, out)
            case JobsReturned(jobs, draining):
                if draining and worker.state is not WorkerState.DRAINING:
                    worker.step(Change.DRAIN)
                self.scheduler.give_back(now, worker, jobs, out)
            case JobProgressed(job, attempt, _, _):
                self.scheduler.progress(now, worker, (job, attempt))
            case ServiceCall(call, job, attempt, service, method, body):
                held = worker.held.get((job, attempt))
                if held is not None and held in held.job.attempts:
                    out.append(
                        CallService(worker.incarnation, call, job, attempt, service, method, body)
                    )
                else:
                    self.counters["stale"] += 1
                    self._send(now, worker, ServiceReply(call, ok=False, body=NOT_CURRENT), out)
            case Goodbye(reason):
                out.append(Send(worker.peer, self._envelope(worker, 0), Ack()))
                self._leave(now, worker, reason, out)
            case _:
                self.counters["mismatched"] += 1

    def _deliver_of_agent(
        self, now: float, agent: Agent, message: WorkerMessage, out: list[MasterCommand]
    ) -> None:
        match message:
            case ProcessExited():
                self._process_ended(now, agent.agent_id, message, out)
            case Goodbye() if agent.peer is not None:
                out.append(Send(agent.peer, self._envelope(agent, 0), Ack()))
                self.roster.part(agent)
            case _:
                self.counters["mismatched"] += 1

    def _fence(self, event: Arrived, member: Member | None, out: list[MasterCommand]) -> None:
        envelope = event.envelope
        if member is None:
            reason = "unknown"
        elif envelope.worker_id != member.member_id:
            reason = "unauthenticated"
        else:
            reason = "fenced"
        self.counters[reason] += 1
        answer = Envelope(self.run, self.epoch, envelope.worker_id, envelope.incarnation, 0, 0)
        out.append(Send(event.peer, answer, Fenced(f"{reason}: say Hello")))

    # --- greetings -------------------------------------------------------------------------------

    def _hello(self, event: Arrived, hello: Hello, out: list[MasterCommand]) -> None:
        roster = self.roster
        bound = roster.by_peer.get(event.peer)
        live = roster.workers.get(hello.worker_id)
        if refusal := self._refusal(hello.release, hello.worker_id, bound):
            self._refuse(event, refusal, out)
        elif hello.resume_incarnation:
            self._resume(event, hello, live, out)
        else:
            if not roster.is_entitled(hello.agent_id, hello.token, live):
                self.counters["unauthenticated"] += 1
                self._refuse(event, "the launch token is not the one of this name", out)
                return
            agent = roster.agent(hello.agent_id, hello.token)
            if (hello.worker_id, hello.pid) in agent.ended:
                self.counters["unknown"] += 1  # the last word of a process that is no more
            elif live is None:
                self._admit(event, hello, agent, out)
            elif live.peer == event.peer and not self._gives_up(event.envelope, live):
                self._welcome(live, out, resumed=False)  # its greeting came twice
            else:
                loss = Loss("replaced by a newer life", charge=not _is_same_process(live, hello))
                self._lose(event.now, live, loss, out)
                self._admit(event, hello, agent, out)

    def _gives_up(self, envelope: Envelope, live: Member) -> bool:
        """Say whether a greeting to start empty comes from this very life, which is over there."""
        return (envelope.run, envelope.epoch, envelope.incarnation) == (
            self.run,
            self.epoch,
            live.incarnation,
        )

    def _admit(self, event: Arrived, hello: Hello, agent: Agent, out: list[MasterCommand]) -> None:
        worker = self.roster.join(event.now, hello.worker_id, agent, event.peer)
        worker.user = event.user
        worker.pid = hello.pid
        worker.host = hello.host
        worker.is_local = bool(self.machine) and hello.machine == self.machine
        self._alone_since = None
        self.counters["workers_joined"] += 1
        self._welcome(worker, out, resumed=False)
        out.append(AnnounceWorker(worker.incarnation, worker.worker_id, "joined"))
        if agent.is_remote:
            self._send(event.now, agent, WorkerJoined(worker.worker_id), out)
        if self.stopping:
            self._send(event.now, worker, Stop(drain=True), out)

    def _resume(
        self, event: Arrived, hello: Hello, live: Member | None, out: list[MasterCommand]
    ) -> None:
        if (
            live is None
            or live.incarnation != hello.resume_incarnation
            or self.epoch != hello.resume_epoch
            or live.session != hello.token
        ):
            if type(live) is Worker and self._has_successor(hello, live):
                self._refuse(event, "another process has come and taken its name", out)
            else:
                self._fence(event, None, out)
            return
        if live.peer == event.peer and live.suspect_until is None:
            self._welcome(live, out, resumed=True)  # its greeting came twice
            return
        self.roster.rebind(live, event.peer)
        if live.suspect_until is not None:
            self._heard_again(live)
        live.link.resume(event.now, event.envelope.ack)
        self._links_at = event.now
        self._welcome(live, out, resumed=True)
        if type(live) is Worker:
            out.append(AnnounceWorker(live.incarnation, live.worker_id, "resumed"))

    def _has_successor(self, hello: Hello, live: Worker) -> bool:
        """Say whether a newer process, which has proven to be alive, has the name by now."""
        return (
            hello.resume_epoch == self.epoch
            and hello.resume_incarnation < live.incarnation
            and live.last_heard > live.joined_at
            and not _is_same_process(live, hello)
        )

    def _agent_hello(self, event: Arrived, hello: AgentHello, out: list[MasterCommand]) -> None:
        bound = self.roster.by_peer.get(event.peer)
        if refusal := self._refusal(hello.release, hello.agent_id, bound):
            self._refuse(event, refusal, out)
        elif hello.resume_incarnation:
            live = self.roster.agents.get(hello.agent_id)
            self._resume(event, _as_hello(hello), live, out)
        else:
            if not self.roster.is_entitled(hello.agent_id, hello.token, None):
                self.counters["unauthenticated"] += 1
                self._refuse(event, "the launch token is not the one of this agent", out)
                return
            agent = self.roster.agent(hello.agent_id, hello.token)
            if agent.peer != event.peer or self._gives_up(event.envelope, agent):
                self.roster.join_agent(agent, event.peer)
                agent.host = hello.host
            self._welcome(agent, out, resumed=False)
            if self.stopping:
                self._send(event.now, agent, Stop(drain=True), out)

    def _refusal(self, release: str, name: str, bound: Member | None) -> str:
        if release != self.release:
            return (
                f"it runs {release}, the master runs {self.release}: install the same versions of "
                "paramserver and Python on both machines"
            )
        if bound is not None and bound.member_id != name:
            self.counters["unauthenticated"] += 1
            return f"this connection belongs to {bound.member_id}"
        if bound is None and self._is_full and not self._knows(name):
            self.counters["no_room"] += 1
            return (
                f"it has room for {self.max_members} workers and agents (its limit of open files): "
                "start fewer, or raise the limit where the master runs (ulimit -n)"
            )
        return ""

    def _knows(self, name: str) -> bool:
        return name in self.roster.workers or name in self.roster.agents

    @property
    def _is_full(self) -> bool:
        return self.max_members is not None and len(self.roster.by_peer) >= self.max_members

    def _refuse(self, event: Arrived, reason: str, out: list[MasterCommand]) -> None:
        self.counters["refused"] += 1
        envelope = Envelope(self.run, self.epoch, event.envelope.worker_id, 0, 0, 0)
        out.append(Send(event.peer, envelope, Refused(reason)))

    def _welcome(self, member: Member, out: list[MasterCommand], *, resumed: bool) -> None:
        assert member.peer is not None
        message = Welcome(member.session, resumed)
        out.append(Send(member.peer, self._envelope(member, 0), message))

    # --- the end of a life -----------------------------------------------------------------------

    def _heard_again(self, member: Member) -> None:
        member.suspect_until = None
        self.roster.suspects.discard(member)
        if type(member) is Worker and member.state is WorkerState.SUSPECT:
            member.step(Change.HEAR)

    def _disconnected(self, now: float, peer: bytes) -> None:
        member = self.roster.by_peer.get(peer)
        if member is None or member.suspect_until is not None:
            return
        member.suspect_until = now + self.grace_s
        self.roster.suspects.add(member)
        if type(member) is Worker and member.state is WorkerState.READY:
            member.step(Change.MISS)

    def _process_ended(
        self, now: float, agent_id: str, exited: ProcessExited, out: list[MasterCommand]
    ) -> None:
        agent = self.roster.agents.get(agent_id)
        if agent is not None:
            agent.ended.append((exited.worker_id, exited.pid))
        worker = self.roster.workers.get(exited.worker_id)
        if worker is None or worker.agent.agent_id != agent_id or worker.pid != exited.pid:
            return
        if worker.state is WorkerState.DRAINING and not worker.held:
            self._leave(now, worker, "left", out)
            return
        loss = Loss(
            describe_exit(exited.exit_code),
            # One that was leaving was ended by whoever had told it to leave.
            charge=worker.state is not WorkerState.DRAINING,
            running=(exited.job, exited.attempt),
            exit_code=exited.exit_code,
            text=exited.stderr_tail,
        )
        self._lose(now, worker, loss, out)

    def _lose(self, now: float, worker: Worker, loss: Loss, out: list[MasterCommand]) -> None:
        self.scheduler.lose(now, worker, loss, out)
        worker.step(Change.LOSE)
        self.roster.remove(worker)
        self.counters["workers_lost"] += 1
        if loss.charge and worker.agent.note_loss(now):
            self.counters["quarantines"] += 1
        out.append(AnnounceWorker(worker.incarnation, worker.worker_id, "lost", loss.reason))

    def _leave(self, now: float, worker: Worker, reason: str, out: list[MasterCommand]) -> None:
        self.scheduler.lose(now, worker, Loss(reason, charge=False), out)
        worker.step(Change.LEAVE)
        self.roster.remove(worker)
        self.counters["workers_left"] += 1
        out.append(AnnounceWorker(worker.incarnation, worker.worker_id, "left", reason))

    def _kill(self, now: float, worker: Worker, reason: str, out: list[MasterCommand]) -> None:
        """End a worker's life here and have its process ended there."""
        agent = worker.agent
        if agent.is_local:
            out.append(KillWorker(agent.agent_id, worker.worker_id, reason))
        elif agent.is_remote:
            self._send(now, agent, KillProcess(worker.worker_id, worker.pid, reason), out)
        else:
            self.counters["unkillable"] += 1  # nobody is its parent here: it will be fenced
        self._lose(now, worker, Loss(reason, charge=False), out)

    def _stop_workers(
        self, now: float, workers: tuple[Worker, ...], out: list[MasterCommand]
    ) -> None:
        for worker in workers:
            self._kill(now, worker, "its job was cancelled", out)

    def _retire(self, now: float, worker_ids: tuple[str, ...], out: list[MasterCommand]) -> None:
        for worker_id in worker_ids:
            worker = self.roster.workers.get(worker_id)
            if worker is not None and worker.state is not WorkerState.DRAINING:
                worker.step(Change.DRAIN)
                self._send(now, worker, Stop(drain=True), out)

    def _stop(self, now: float, drain: bool, out: list[MasterCommand]) -> None:
        self.stopping = True
        self.scheduler.fail_pending(Verdict.CANCELLED, SHUT_DOWN, out)
        for member in tuple(self.roster.members()):
            if type(member) is Worker and member.state is not WorkerState.DRAINING:
                member.step(Change.DRAIN)
            self._send(now, member, Stop(drain), out)

    # --- time ------------------------------------------------------------------------------------

    def _tick(self, now: float, out: list[MasterCommand]) -> None:
        scheduler = self.scheduler
        if self._wake_at is not None and now - self._wake_at > LATE_S:
            self._forgive(now - self._wake_at, now + LATE_S)
        for attempt in scheduler.expired(now):
            late = self.roster.by_incarnation[attempt.incarnation]
            if attempt in attempt.job.attempts:
                scheduler.charge_timeout(attempt, late, out)
                self._kill(now, late, "its job passed the deadline", out)
            else:
                self._kill(now, late, "nobody needs what it runs any more", out)
        if self.roster.suspects:
            self._give_up_suspects(now, out)
        for incarnation, keys in scheduler.take_unwanted(now).items():
            self._send_to(now, incarnation, TakeBack(tuple(keys)), out)
        for incarnation, grants in scheduler.assign(now).items():
            for batch in batches(grants):
                self._send_to(now, incarnation, GrantJobs(batch), out)
        if scheduler.review_at is not None and scheduler.review_at <= now:
            take_back, backups = scheduler.review(now)
            for incarnation, keys in take_back.items():
                self._send_to(now, incarnation, TakeBack(tuple(keys)), out)
            for incarnation, grants in backups.items():
                self._send_to(now, incarnation, GrantJobs(tuple(grants)), out)
        if self._links_at is not None and self._links_at <= now:
            self._tend_links(now, out)
        self._watch_loneliness(now, out)
        self._wake_at = self._find_wake_at(now)

    def _give_up_suspects(self, now: float, out: list[MasterCommand]) -> None:
        for suspect in sorted(self.roster.suspects, key=lambda member: member.incarnation):
            if _due(suspect) > now:
                continue
            if isinstance(suspect, Worker):
                self._lose(now, suspect, Loss(f"silent for {self.grace_s:g} s"), out)
            else:
                self.roster.part(suspect)
                self.counters["agents_lost"] += 1

    def _forgive(self, lateness: float, not_before: float) -> None:
        """The master was paused: nobody else is to blame for that time.

        What had come meanwhile is not all taken in yet, so that nobody's time is over at once.
        """
        self.counters["master_pauses"] += 1
        self.scheduler.extend_deadlines(lateness, not_before)
        for member in self.roster.suspects:
            member.suspect_until = max(_due(member) + lateness, not_before)
        if self._alone_since is not None:
            earliest = not_before - self.no_workers_timeout_s
            self._alone_since = max(self._alone_since + lateness, earliest)

    def _tend_links(self, now: float, out: list[MasterCommand]) -> None:
        self._links_at = None
        for member in self.roster.members():
            link = member.link
            if member.peer is None or member.suspect_until is not None:
                continue  # nobody is there to hear it
            for seq, message in link.take_due(now):
                self.counters["retransmits"] += 1
                out.append(Send(member.peer, self._envelope(member, seq), message))
            if link.must_ack(now):
                link.acknowledged_now()
                out.append(Send(member.peer, self._envelope(member, 0), Ack()))
            end = link.next_deadline()
            if end is not None:
                self._tend_links_by(max(end, now + LINKS_S))

    def _tend_links_by(self, time: float) -> None:
        if self._links_at is None or time < self._links_at:
            self._links_at = time

    def _watch_loneliness(self, now: float, out: list[MasterCommand]) -> None:
        if not self._is_lonely():
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since >= self.no_workers_timeout_s:
            waited = now - self._alone_since
            self.scheduler.fail_waiting(Verdict.NO_WORKERS, f"{waited:.1f}", out)
            self._alone_since = None

    def _is_lonely(self) -> bool:
        """Say whether jobs wait while nobody is there but workers that are about to leave."""
        if not self.scheduler.n_unsettled:
            return False
        workers = self.roster.workers.values()
        if any(worker.state is not WorkerState.DRAINING for worker in workers):
            return False
        held = (attempt for worker in workers for attempt in worker.held.values())
        running = {attempt.job.number for attempt in held if attempt in attempt.job.attempts}
        return self.scheduler.n_unsettled > len(running)

    def _find_wake_at(self, now: float) -> float | None:
        scheduler, roster = self.scheduler, self.roster
        ends = [end for end in (scheduler.next_deadline(), self._links_at) if end is not None]
        ends += [_due(member) for member in roster.suspects]
        if self._alone_since is not None:
            ends.append(self._alone_since + self.no_workers_timeout_s)
        if scheduler.n_unsettled:
            ends += [
                agent.quarantined_until
                for agent in roster.agents.values()
                if agent.quarantined_until > now
            ]
        return min(ends, default=None)

    # --- sending ---------------------------------------------------------------------------------

    def _service_replied(self, event: ServiceReplied, out: list[MasterCommand]) -> None:
        worker = self.roster.by_incarnation.get(event.incarnation)
        if worker is None:
            self.counters["fenced"] += 1
            return
        self._send(event.now, worker, ServiceReply(event.call, event.ok, event.body), out)

    def _send_to(
        self, now: float, incarnation: int, message: MasterMessage, out: list[MasterCommand]
    ) -> None:
        self._send(now, self.roster.by_incarnation[incarnation], message, out)

    def _send(
        self, now: float, member: Member, message: MasterMessage, out: list[MasterCommand]
    ) -> None:
        seq = member.link.send(now, message)
        self._tend_links_by(now + LINKS_S)
        if member.peer is not None:
            out.append(Send(member.peer, self._envelope(member, seq), message))

    def _envelope(self, member: Member, seq: int) -> Envelope:
        return Envelope(
            self.run, self.epoch, member.member_id, member.incarnation, seq, member.link.ack
        )

    # --- looking in ------------------------------------------------------------------------------

    def explain(self, job: int) -> str:
        """Say in words where a job is and why it is not further."""
        return self.scheduler.explain(job)

    def check(self) -> None:
        """Assert the invariants; for tests, after every event."""
        self.scheduler.check()
        roster = self.roster
        assert set(roster.by_incarnation) == {w.incarnation for w in roster.workers.values()}
        for worker in roster.workers.values():
            assert worker.state < WorkerState.LOST
            assert roster.by_peer.get(worker.peer) is worker
            assert (worker.state is WorkerState.SUSPECT) <= (worker.suspect_until is not None)


def _due(suspect: Member) -> float:
    assert suspect.suspect_until is not None
    return suspect.suspect_until


def _is_same_process(worker: Worker, hello: Hello) -> bool:
    return (worker.pid, worker.host) == (hello.pid, hello.host)


def _as_hello(hello: AgentHello) -> Hello:
    return Hello(
        hello.agent_id,
        hello.agent_id,
        hello.token,
        hello.resume_epoch,
        hello.resume_incarnation,
        hello.pid,
        hello.host,
        "",
        hello.release,
    )
