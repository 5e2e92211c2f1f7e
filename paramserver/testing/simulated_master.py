"""The simulated driver of the master's machine, and the owner of the jobs.

Rule 1: events go in, commands come out and are carried out, a `Tick` follows soon, as in the real
        driver; nothing else happens here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from paramserver.core.commands import (
    AnnounceAttempt,
    AnnounceWorker,
    CallService,
    KillWorker,
    MasterCommand,
    Send,
    SettleJob,
)
from paramserver.core.events import (
    Arrived,
    Disconnected,
    JobsSubmitted,
    JobsWithdrawn,
    MasterEvent,
    PhaseClosed,
    PhaseDropped,
    PhaseOpened,
    ServiceReplied,
    Tick,
)
from paramserver.core.jobs import JobSpec, Verdict
from paramserver.core.master import MasterMachine
from paramserver.protocol.messages import GrantInputs, GrantJobs, JobGrant, Payload, PayloadKind
from paramserver.testing.workload import PhaseScript

if TYPE_CHECKING:
    from paramserver.testing.simulator import Simulation

TURN_S = 0.00002
"""Events closer than this are handled before one common tick."""
SERVICE_S = 0.00005


class SimulatedMaster:
    """The process of the master."""

    def __init__(self, sim: Simulation, machine: MasterMachine, check_every: int) -> None:
        self.sim = sim
        self.machine = machine
        machine.scheduler.news.is_wanted = True
        self.n_handled = 0
        self.is_paused = False
        self._check_every = check_every
        self._held_up: deque[MasterEvent] = deque()
        self._tick_at: float | None = None
        self._crash_at = sim.faults.crash_at

    def take_in(self, event: MasterEvent) -> None:
        """Give the machine an event, now or when the master goes on."""
        if self.is_paused:
            self._held_up.append(event)
            return
        self._handle(event)
        self._tick_no_later_than(self.sim.now + TURN_S)

    def pause(self, seconds: float) -> None:
        """Stop for a while."""
        if not self.is_paused:
            self.sim.note("master", "is paused")
            self.is_paused = True
            self.sim.at(self.sim.now + seconds, self._go_on)

    def _go_on(self) -> None:
        self.sim.note("master", "goes on")
        self.is_paused = False
        while self._held_up:
            self._handle(replace(self._held_up.popleft(), now=self.sim.now))
        self._tick()

    def _tick_no_later_than(self, time: float) -> None:
        if self._tick_at is None or time < self._tick_at:
            self._tick_at = time
            self.sim.at(time, self._ring, time)

    def _ring(self, set_for: float) -> None:
        if self._tick_at == set_for and not self.is_paused:
            self._tick()

    def _tick(self) -> None:
        self._tick_at = None
        self._handle(Tick(self.sim.now))
        deadline = self.machine.next_deadline()
        if deadline is not None:
            self._tick_no_later_than(max(deadline, self.sim.now))

    def _handle(self, event: MasterEvent) -> None:
        sim = self.sim
        link = None
        n_before = 0
        if type(event) is Arrived:
            member = self.machine.roster.by_peer.get(event.peer)
            link = None if member is None else member.link
            n_before = sim.log.n_accounted(link)
            sim.note("master", "hears", event.peer, event.envelope[3:], event.message)
        elif type(event) is not Tick:
            sim.note("master", "handles", event)
        commands = self.machine.handle(event)
        self.n_handled += 1
        if type(event) is Arrived:
            sim.log.arrived(event, link, n_before)
        if self._check_every and self.n_handled % self._check_every == 0:
            self.machine.check()
        for command in commands:
            self._perform(command)
        if self._crash_at is not None and self.n_handled == self._crash_at.event and sim.workers:
            victim = sim.workers[self._crash_at.worker % len(sim.workers)]
            victim.crash(is_reported=self._crash_at.is_reported)

    def _perform(self, command: MasterCommand) -> None:
        sim = self.sim
        match command:
            case Send(peer, envelope, message):
                if type(message) is GrantJobs:
                    sim.log.granted(envelope, message.grants)
                    message = GrantJobs(self._claim(message.grants))
                elif type(message) is GrantInputs:
                    sim.log.sent_ahead(envelope, message)
                sim.note("master", "says to", peer, envelope[3:], message)
                if not sim.network.down(peer, envelope, message):
                    sim.at(sim.now, self.take_in, Disconnected(sim.now, peer))
            case SettleJob():
                sim.note("master", "settles", command.job, command.verdict.name, command.worker_id)
                sim.owner.settle(command)
            case KillWorker(agent_id, worker_id, reason):
                sim.note("master", "kills", worker_id, reason)
                for agent in sim.agents:
                    if agent.agent_id == agent_id:
                        sim.at(sim.now + 0.0001, agent.kill, worker_id)
            case CallService(incarnation, call):
                sim.log.called(command)
                delay = SERVICE_S * (1 + sim.rng.random())
                sim.at(sim.now + delay, self._answer, incarnation, call)
            case AnnounceAttempt():
                sim.log.attempted(command)
            case AnnounceWorker():
                sim.note("master", "announces", command.worker_id, command.change, command.reason)
                sim.log.announced(command)

    def _answer(self, incarnation: int, call: int) -> None:
        body = Payload(PayloadKind.PLAIN, b"answer")
        self.take_in(ServiceReplied(self.sim.now, incarnation, call, True, body))

    def _claim(self, grants: tuple[JobGrant, ...]) -> tuple[JobGrant, ...]:
        unwanted = tuple(
            grant.job
            for grant in grants
            if grant.attempt == 1 and grant.job in self.sim.owner.withdrawn
        )
        if not unwanted:
            return grants
        self.sim.owner.n_withdrawn += len(unwanted)
        self.sim.at(self.sim.now, self.take_in, JobsWithdrawn(self.sim.now, unwanted))
        return tuple(grant for grant in grants if grant.job not in unwanted)


class Owner:
    """Hands the jobs in and keeps what becomes of them."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.cancelled: set[int] = set()
        self.withdrawn: set[int] = set()
        """Cancelled before they were ever granted, without a word to the master."""
        self.n_withdrawn = 0
        self.results: dict[int, Payload] = {}
        """Of the jobs that have succeeded, the latest."""
        self._handed_in: set[int] = set()
        self._open: set[int] = set(sim.workload.scripts)
        """Jobs that are not settled, as far as the owner knows."""

    @property
    def is_done(self) -> bool:
        """Every job has come to an end."""
        return not self._open

    def is_handed_in(self, job: int) -> bool:
        """Whether the master knows of it."""
        return job in self._handed_in

    def begin(self) -> None:
        """Hand in the phases, each at its time."""
        sim = self._sim
        jobs = list(sim.workload.scripts)
        if sim.faults.n_withdrawals and jobs:
            self.withdrawn.update(sim.rng.choice(jobs) for _ in range(sim.faults.n_withdrawals))
        for phase in sim.workload.phases:
            sim.master.take_in(PhaseOpened(sim.now, phase.spec))
            half = len(phase.jobs) // 2 if phase.submit_at else len(phase.jobs)
            self._at(phase.submit_at, self._hand_in, phase, 0, half)
            if half < len(phase.jobs):
                self._at(phase.submit_at * 1.1, self._hand_in, phase, half, len(phase.jobs))

    def _at(self, time: float, do: object, *args: object) -> None:
        if time:
            self._sim.at(time, do, *args)  # type: ignore[arg-type]
        else:
            do(*args)  # type: ignore[operator]

    def _hand_in(self, phase: PhaseScript, start: int, end: int) -> None:
        sim = self._sim
        specs = tuple(
            JobSpec(job.job, Payload(PayloadKind.PLAIN, b"%d" % job.job), job.affinity)
            for job in phase.jobs[start:end]
        )
        self._handed_in.update(spec.job for spec in specs)
        sim.master.take_in(JobsSubmitted(sim.now, phase.spec.phase, specs))
        if end == len(phase.jobs):
            sim.master.take_in(PhaseClosed(sim.now, phase.spec.phase))

    def settle(self, ended: SettleJob) -> None:
        """Take in how a job ended."""
        self._sim.log.settled(ended)
        self._open.discard(ended.job)
        if ended.verdict is Verdict.SUCCEEDED:
            assert ended.payload is not None
            self.results[ended.job] = ended.payload
        else:
            self.results.pop(ended.job, None)

    def drop_phases(self) -> None:
        """Need nothing any more."""
        for phase in reversed(self._sim.workload.phases):
            self._sim.master.take_in(PhaseDropped(self._sim.now, phase.spec.phase))
