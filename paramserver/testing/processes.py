"""Simulated processes: workers that run scripted jobs, and the agents that watch them.

Rule 1: what a process decides is decided by the very machines of the core; here are only their
        drivers, as slow, deaf and mortal as real ones.
Rule 2: a worker whose job computes hears nothing for ATTEND_S, and not at all if the job is deaf.
Rule 3: a stopped process does nothing; what came meanwhile is handled when it goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from paramserver.core.agent_life import AgentLife
from paramserver.core.commands import (
    DeliverReply,
    Exit,
    KillChild,
    NoteChild,
    Say,
    StartJob,
    StopChildren,
    WorkerCommand,
)
from paramserver.core.events import (
    Connected,
    Heard,
    JobEnded,
    LeaveRequested,
    ProcessEnded,
    ProgressMade,
    ServiceAsked,
    Tick,
)
from paramserver.core.worker_life import WorkerLife
from paramserver.protocol.messages import (
    AgentHello,
    Envelope,
    Hello,
    JobGrant,
    MasterMessage,
    Outcome,
    Payload,
    PayloadKind,
    ProcessExited,
)
from paramserver.testing.network import HEARTBEAT_S, Connection
from paramserver.testing.workload import Fate, JobScript, answer_of

if TYPE_CHECKING:
    from paramserver.testing.simulator import Simulation

ATTEND_S = 0.02
"""As in the driver of real workers: how long a job runs before somebody listens."""
RELEASE = "simulated"
SIGKILL, SIGSEGV = -9, -11
NOTHING = Payload(PayloadKind.PLAIN, b"")
PROBLEM = Payload(PayloadKind.ERROR, b"")


class Process:
    """What workers and agents have in common: a connection, a timer, and the ways to suffer."""

    def __init__(self, sim: Simulation, name: str) -> None:
        self.sim = sim
        self.name = name
        self.pid = sim.next_pid()
        self.is_dead = False
        self.is_stopped = False
        self.connection: Connection | None = None
        self._timer_at: float | None = None
        self._backlog: deque[tuple[Envelope, MasterMessage]] = deque()
        self._unsent: list[Say] = []
        self._wants_connection = False

    # --- what subclasses say ----------------------------------------------------------------------

    def life_connected(self) -> list[WorkerCommand]:
        raise NotImplementedError

    def life_heard(self, envelope: Envelope, message: MasterMessage) -> list[WorkerCommand]:
        raise NotImplementedError

    def life_tick(self) -> list[WorkerCommand]:
        raise NotImplementedError

    def life_deadline(self) -> float | None:
        raise NotImplementedError

    def deaf_until(self) -> float:
        """Until when nobody listens."""
        return 0.0

    # --- connection -------------------------------------------------------------------------------

    def connect(self) -> None:
        """Dial the master, and greet as soon as somebody listens."""
        if self.is_dead:
            return
        if self.is_stopped:
            self._wants_connection = True
            return
        self._wants_connection = False
        self.connection = self.sim.network.connect(self)
        unsent, self._unsent = self._unsent, []
        if self.sim.rng.random() < 0.5:  # a real transport sends first what it still has
            for say in unsent:
                self.sim.network.up(self.connection, say.envelope, say.message)
        self.perform(self.life_connected())

    def disconnect(self, *, detect_s: float, reconnect_s: float) -> None:
        """Lose the connection, and make another one after a while."""
        if self.connection is None or self.is_dead:
            return
        self.sim.network.close(self.connection, detect_s)
        self.connection = None
        self.sim.at(self.sim.now + reconnect_s, self.connect)

    def hear(self, envelope: Envelope, message: MasterMessage) -> None:
        """Take in a message of the master, at once or when somebody listens."""
        if self.is_dead:
            return
        deaf_until = self.deaf_until()
        if self._backlog or self.is_stopped or deaf_until > self.sim.now:
            self._backlog.append((envelope, message))
            if len(self._backlog) == 1 and not self.is_stopped:
                self.sim.at(deaf_until, self.listen)
            return
        self.perform(self.life_heard(envelope, message))

    def listen(self) -> None:
        """Handle what has come meanwhile, as far as somebody listens."""
        while self._backlog and not self.is_stopped and not self.is_dead:
            deaf_until = self.deaf_until()
            if deaf_until > self.sim.now:
                self.sim.at(deaf_until, self.listen)
                return
            self.perform(self.life_heard(*self._backlog.popleft()))

    # --- time -------------------------------------------------------------------------------------

    def arm(self) -> None:
        """See to it that the machine is asked when its deadline comes."""
        deadline = self.life_deadline()
        if deadline is not None and (self._timer_at is None or deadline < self._timer_at):
            self._timer_at = deadline
            self.sim.at(max(deadline, self.sim.now), self._ring, deadline)

    def _ring(self, set_for: float) -> None:
        if self.is_dead or self._timer_at != set_for:
            return
        self._timer_at = None
        if self.is_stopped:
            return
        deaf_until = self.deaf_until()
        if deaf_until > self.sim.now:
            self._timer_at = deaf_until
            self.sim.at(deaf_until, self._ring, deaf_until)
            return
        deadline = self.life_deadline()
        if deadline is not None and deadline <= self.sim.now:
            self.perform(self.life_tick())
        else:
            self.arm()

    # --- suffering --------------------------------------------------------------------------------

    def stop(self, seconds: float) -> None:
        """Be stopped by a signal for a while."""
        if self.is_dead or self.is_stopped:
            return
        self.sim.note(self.name, "is stopped")
        self.is_stopped = True
        if seconds > HEARTBEAT_S:
            self.sim.at(self.sim.now + HEARTBEAT_S, self._fall_silent)
        self.sim.at(self.sim.now + seconds, self.go_on)

    def _fall_silent(self) -> None:
        if self.is_stopped and not self.is_dead and self.connection is not None:
            self.sim.network.close(self.connection, 0.0)
            self.connection = None
            self._wants_connection = True

    def go_on(self) -> None:
        """Be continued."""
        if self.is_dead:
            return
        self.sim.note(self.name, "goes on")
        self.is_stopped = False
        self.listen()
        if self._wants_connection:
            self.connect()
        self.arm()

    def die(self) -> None:
        """Be gone, with the connection."""
        self.is_dead = True
        if self.connection is not None:
            self.sim.network.close(self.connection, self.sim.faults.detect_s)
            self.connection = None

    # --- doing ------------------------------------------------------------------------------------

    def perform(self, commands: list[WorkerCommand]) -> None:
        """Carry out what the machine wants."""
        for command in commands:
            if self.is_dead:
                return
            if type(command) is Say:
                if self.connection is not None:
                    self.sim.network.up(self.connection, command.envelope, command.message)
                elif len(self._unsent) < 100:
                    self._unsent.append(command)
            else:
                self.do(command)
        if not self.is_dead:
            self.arm()

    def do(self, command: WorkerCommand) -> None:
        """Carry out one command that is not a message."""
        raise NotImplementedError


class SimulatedWorker(Process):
    """A worker process."""

    def __init__(self, sim: Simulation, name: str, agent: SimulatedAgent) -> None:
        super().__init__(sim, name)
        self.agent = agent
        self.is_kept = True
        """Its agent replaces it when it ends."""
        self.slowness = 1.0
        self.life = WorkerLife(name, agent.token, self._make_hello)
        self.job: JobGrant | None = None
        self._script: JobScript | None = None
        self._token = 0
        self._job_started = 0.0
        self._deaf_until = 0.0
        self._n_calls = 0
        self._awaits: tuple[int, int] | None = None
        """The call that the job waits for, and how many calls come after it."""
        self._frozen: deque[tuple[int, int]] = deque()

    def _make_hello(self, token: str, epoch: int, incarnation: int) -> Hello:
        agent_id = self.agent.agent_id
        return Hello(self.name, agent_id, token, epoch, incarnation, self.pid, "host", "", RELEASE)

    def life_connected(self) -> list[WorkerCommand]:
        return self.life.handle(Connected(self.sim.now))

    def life_heard(self, envelope: Envelope, message: MasterMessage) -> list[WorkerCommand]:
        return self.life.handle(Heard(self.sim.now, envelope, message))

    def life_tick(self) -> list[WorkerCommand]:
        return self.life.handle(Tick(self.sim.now))

    def life_deadline(self) -> float | None:
        return self.life.next_deadline()

    def deaf_until(self) -> float:
        return self._deaf_until

    def leave(self, reason: str) -> None:
        """Be told by a signal to leave."""
        if not self.is_dead and not self.is_stopped:
            self.perform(self.life.handle(LeaveRequested(self.sim.now, reason)))

    def crash(self, code: int = SIGKILL, *, is_reported: bool = True) -> None:
        """End without a word."""
        if self.is_dead:
            return
        self.sim.note(self.name, "dies", code, "running", self.job and self.job[:2])
        self.die()
        self.agent.child_died(self, code, is_reported=is_reported)

    def do(self, command: WorkerCommand) -> None:
        match command:
            case StartJob(grant):
                self._begin(grant)
            case DeliverReply(call, ok, _):
                self._take_reply(call, ok=ok)
            case Exit(code, reason):
                self.sim.note(self.name, "exits", code, reason)
                self.die()
                self.agent.child_died(self, code, is_reported=True)
            case _:
                raise AssertionError(f"not a worker's command: {command}")

    # --- the job ----------------------------------------------------------------------------------

    def _begin(self, grant: JobGrant) -> None:
        sim = self.sim
        assert self.job is None, "two jobs at once in one process"
        self.job = grant
        self._token += 1
        self._job_started = sim.now
        script = self._script = sim.workload.scripts[grant.job]
        sim.log.started(self, grant)
        seconds = script.seconds * self.slowness
        self._deaf_until = sim.now + (seconds if script.is_deaf else min(seconds, ATTEND_S))
        if script.fate is Fate.KILLS:
            sim.at(sim.now + seconds / 2, self._die_of_job, self._token)
        elif script.fate is Fate.HANGS:
            self._deaf_until = sim.now + ATTEND_S
        else:
            piece = seconds / (script.n_calls + 1)
            sim.at(sim.now + piece, self._pass_piece, self._token, script.n_calls)
            lease_s = sim.workload.phase_of[grant.job].spec.options.lease_s
            if lease_s is not None and not script.is_deaf:
                sim.at(sim.now + lease_s / 3, self._progress, self._token, lease_s / 3)

    def _die_of_job(self, token: int) -> None:
        if token == self._token and self.job is not None:
            self.crash(SIGSEGV)

    def _progress(self, token: int, every_s: float) -> None:
        if token != self._token or self.job is None or self.is_dead:
            return
        if not self.is_stopped:
            self.perform(self.life.handle(ProgressMade(self.sim.now, 1, 2)))
        self.sim.at(self.sim.now + every_s, self._progress, token, every_s)

    def _pass_piece(self, token: int, n_calls_left: int) -> None:
        if token != self._token or self.is_dead or self.job is None:
            return
        if self.is_stopped:
            self._frozen.append((token, n_calls_left))
            return
        if n_calls_left:
            self._n_calls += 1
            self._awaits = (self._n_calls, n_calls_left - 1)
            self._deaf_until = 0.0
            asked = ServiceAsked(self.sim.now, self._n_calls, "echo", "ask", NOTHING)
            self.perform(self.life.handle(asked))
            self.listen()
            return
        self._end(*self._outcome())

    def go_on(self) -> None:
        super().go_on()
        frozen, self._frozen = self._frozen, deque()
        for token, n_calls_left in frozen:
            self._pass_piece(token, n_calls_left)

    def _take_reply(self, call: int, *, ok: bool) -> None:
        if self._awaits is None or self._awaits[0] != call:
            return
        n_calls_left = self._awaits[1]
        self._awaits = None
        if not ok:
            self._end(Outcome.ERROR, PROBLEM, 0)
            return
        assert self._script is not None
        piece = self._script.seconds * self.slowness / (self._script.n_calls + 1)
        self._deaf_until = self.sim.now + (piece if self._script.is_deaf else min(piece, ATTEND_S))
        self.sim.at(self.sim.now + piece, self._pass_piece, self._token, n_calls_left)

    def _outcome(self) -> tuple[Outcome, Payload, int]:
        grant, script = self.job, self._script
        assert grant is not None
        assert script is not None
        log = self.sim.log
        for index, payload in enumerate(grant.inputs):
            if bytes(payload.data) in self.sim.lost_outputs:
                return Outcome.LOST_INPUT, PROBLEM, index
        if script.fate is Fate.RAISES or log.n_raised[script.job] < script.n_errors:
            log.n_raised[script.job] += 1
            return Outcome.ERROR, PROBLEM, 0
        answer = answer_of(script.job, _makers_named(grant))
        # Which try made it is part of the result: so a file that was lost is not its successor.
        return Outcome.OK, Payload(PayloadKind.PLAIN, b"%s@%d" % (answer, grant.attempt)), 0

    def _end(self, outcome: Outcome, payload: Payload, detail: int) -> None:
        assert self.job is not None
        self.sim.log.ended(self, self.job, outcome)
        duration_us = int((self.sim.now - self._job_started) * 1e6)
        self.job = None
        self._awaits = None
        self._deaf_until = 0.0
        ended = JobEnded(self.sim.now, outcome, duration_us, payload, detail)
        self.perform(self.life.handle(ended))
        self.listen()


def _makers_named(grant: JobGrant) -> Iterator[bytes]:
    for payload in grant.inputs:
        yield bytes(payload.data).split(b"/", 1)[0]


class SimulatedAgent(Process):
    """The parent of some workers: in the master's process, or (`is_remote`) one of its own."""

    def __init__(self, sim: Simulation, agent_id: str) -> None:
        super().__init__(sim, agent_id)
        self.agent_id = agent_id
        self.token = f"token of {agent_id}"
        self.is_remote = sim.faults.is_remote
        self.children: dict[str, SimulatedWorker] = {}
        self._n_named = 0
        self.is_stopping = False
        self.life = AgentLife(agent_id, self.token, self._make_hello)

    def _make_hello(self, token: str, epoch: int, incarnation: int) -> AgentHello:
        return AgentHello(self.agent_id, token, epoch, incarnation, self.pid, "host", 1, RELEASE)

    def life_connected(self) -> list[WorkerCommand]:
        return self.life.connected(self.sim.now)

    def life_heard(self, envelope: Envelope, message: MasterMessage) -> list[WorkerCommand]:
        return self.life.heard(self.sim.now, envelope, message)

    def life_tick(self) -> list[WorkerCommand]:
        return self.life.tick(self.sim.now)

    def life_deadline(self) -> float | None:
        return self.life.next_deadline()

    # --- children ---------------------------------------------------------------------------------

    def spawn(self, name: str | None = None) -> None:
        """Start a worker process."""
        if self.is_dead or self.is_stopping:
            return
        if name is None:
            self._n_named += 1
            name = f"{self.agent_id}.w{self._n_named}"
        worker = self.children[name] = SimulatedWorker(self.sim, name, self)
        self.sim.workers.append(worker)
        worker.slowness = self.sim.next_slowness()
        self.sim.note(name, "starts", worker.pid)
        worker.connect()

    def child_died(self, worker: SimulatedWorker, code: int, *, is_reported: bool) -> None:
        """A worker process has ended: tell the master, and start another one."""
        sim, rng = self.sim, self.sim.rng
        if self.children.get(worker.name) is worker:
            del self.children[worker.name]
        sim.workers.remove(worker)
        if self.is_dead:
            return
        running = (worker.job.job, worker.job.attempt) if worker.job is not None else (0, 0)
        exited = ProcessExited(worker.name, worker.pid, code, *running, "")
        sim.log.ran_at_death[worker.pid] = running[0]
        if is_reported and rng.random() >= sim.faults.unreported:
            sim.at(sim.now + rng.choice((0.0005, 0.002, 0.4)), self._report, exited)
        if worker.is_kept and not self.is_stopping:
            name = worker.name if rng.random() < sim.faults.same_name else None
            sim.at(sim.now + sim.faults.restart_s * (0.5 + rng.random()), self.spawn, name)

    def _report(self, exited: ProcessExited) -> None:
        if self.is_dead:
            return
        if self.is_remote:
            self.perform(self.life.child_ended(self.sim.now, exited))
        else:
            self.sim.master.take_in(ProcessEnded(self.sim.now, self.agent_id, exited))

    def kill(self, worker_id: str) -> None:
        """End a worker process."""
        worker = self.children.get(worker_id)
        if worker is not None:
            worker.crash()

    def crash(self) -> None:
        """End without a word, and all workers with it."""
        self.sim.note(self.name, "dies with its workers")
        self.die()
        for worker in list(self.children.values()):
            worker.crash()

    def do(self, command: WorkerCommand) -> None:
        match command:
            case KillChild(worker_id, _):
                self.kill(worker_id)
            case StopChildren(drain):
                self.is_stopping = True
                for worker in list(self.children.values()):
                    if drain:
                        worker.leave("the agent stops")
                    else:
                        worker.crash()
            case NoteChild():
                pass
            case Exit(code, reason):
                self.sim.note(self.name, "exits", code, reason)
                self.crash()
            case _:
                raise AssertionError(f"not an agent's command: {command}")
