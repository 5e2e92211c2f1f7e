"""Master and workers under a network that an adversary runs: hypothesis chooses every step.

The machines are the real ones. Messages in flight lie in two bags; which one arrives next, twice or
never, when time passes, who dies and who comes, is drawn. After every step the invariants hold; at
the end the adversary gives up, and every job must come to its end.
"""

from __future__ import annotations

from collections import Counter
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from paramserver.core.commands import (
    DeliverReply,
    Exit,
    MasterCommand,
    Say,
    Send,
    SettleJob,
    StartJob,
    WorkerCommand,
)
from paramserver.core.events import (
    AgentRegistered,
    Arrived,
    CancelRequested,
    Connected,
    Disconnected,
    Heard,
    JobEnded,
    JobsSubmitted,
    MasterEvent,
    PhaseClosed,
    PhaseDropped,
    PhaseOpened,
    ProcessEnded,
    RetireRequested,
    Tick,
)
from paramserver.core.jobs import JobOptions, JobSpec, PhaseSpec, Verdict
from paramserver.core.master import MasterMachine
from paramserver.core.worker_life import WorkerLife
from paramserver.protocol.messages import (
    Envelope,
    Hello,
    JobGrant,
    MasterMessage,
    Outcome,
    Payload,
    PayloadKind,
    ProcessExited,
    WorkerMessage,
)

NOTHING = Payload(PayloadKind.PLAIN, b"")
OPTIONS = st.builds(
    JobOptions,
    max_failures=st.integers(1, 3),
    max_timeouts=st.integers(1, 2),
    max_lost=st.integers(1, 3),
    timeout_s=st.sampled_from([None, None, 1.0]),
    lease_s=st.sampled_from([None, None, None, 0.5]),
    priority=st.integers(-1, 1),
    pure=st.booleans(),
)
WAITS = st.sampled_from([0.0, 0.0005, 0.01, 0.03, 0.3, 2.5, 6.0, 70.0])


class Process:
    """A worker process: its machine, its connection, and the job it runs."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.peer = b""
        self.job: JobGrant | None = None
        self.life = WorkerLife(name, "token", self._hello)

    def _hello(self, token: str, epoch: int, life: int) -> Hello:
        return Hello(self.name, "a", token, epoch, life, self.pid, "host", "", "1.0")


class Cluster(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        tokens = count(1)
        self.machine = MasterMachine(
            run="run", epoch=1, release="1.0", make_token=lambda: f"session {next(tokens)}"
        )
        self.pids, self.peers = count(1), count(1)
        self.processes: dict[bytes, Process] = {}
        """Living ones by their connection."""
        self.up: list[tuple[bytes, Envelope, WorkerMessage]] = []
        self.down: list[tuple[bytes, Envelope, MasterMessage]] = []
        self.keeps: set[int] = set()
        self.after: dict[int, int | None] = {}
        self.phase_of: dict[int, int] = {}
        self.open_phases: set[int] = set()
        self.settled: dict[int, SettleJob] = {}
        self.numbers = count(1)
        self.started: Counter[tuple[int, int, int]] = Counter()
        self.master(AgentRegistered(0.0, "a", "token"))

    # --- the drivers ------------------------------------------------------------------------------

    def master(self, event: MasterEvent) -> None:
        self.perform(self.machine.handle(event))

    def tick(self) -> None:
        self.master(Tick(self.now))

    def perform(self, commands: list[MasterCommand]) -> None:
        for command in commands:
            match command:
                case Send(peer, envelope, message):
                    self.down.append((peer, envelope, message))
                case SettleJob():
                    self.settle(command)
                case _:
                    pass

    def settle(self, ended: SettleJob) -> None:
        before = self.settled.get(ended.job)
        if before is not None:
            assert before.verdict is Verdict.SUCCEEDED, f"{before} and then {ended}"
            assert self.phase_of[ended.job] in self.keeps
        if ended.verdict is Verdict.SUCCEEDED:
            assert ended.payload is not None
            assert ended.payload.data == b"%d" % ended.job
        self.settled[ended.job] = ended

    def obey(self, process: Process, commands: list[WorkerCommand]) -> None:
        for command in commands:
            if process.peer not in self.processes:
                return
            match command:
                case Say(envelope, message):
                    self.up.append((process.peer, envelope, message))
                case StartJob(grant):
                    assert process.job is None
                    self.started[process.pid, grant.job, grant.attempt] += 1
                    assert self.started[process.pid, grant.job, grant.attempt] == 1
                    after = self.after.get(self.phase_of[grant.job])
                    if after is not None:
                        makers = [job for job, phase in self.phase_of.items() if phase == after]
                        assert [p.data for p in grant.inputs] == [b"%d" % job for job in makers]
                    process.job = grant
                case Exit():
                    self.die(process, is_told=True)
                case DeliverReply():
                    raise AssertionError("nobody asked")
                case _:
                    raise AssertionError(command)

    def die(self, process: Process, *, is_told: bool) -> None:
        del self.processes[process.peer]
        if is_told:
            running = process.job[:2] if process.job is not None else (0, 0)
            exited = ProcessExited(process.name, process.pid, -9, *running, "")
            self.master(ProcessEnded(self.now, "a", exited))
        else:
            self.master(Disconnected(self.now, process.peer))

    def connect(self, process: Process) -> None:
        process.peer = b"%d" % next(self.peers)
        self.processes[process.peer] = process
        self.obey(process, process.life.handle(Connected(self.now)))

    def arrive(self, index: int, *, is_last: bool = True) -> None:
        take = self.up.pop if is_last else self.up.__getitem__
        peer, envelope, message = take(index % len(self.up))
        self.master(Arrived(self.now, peer, "local", envelope, message))

    def reach(self, index: int, *, is_last: bool = True) -> None:
        take = self.down.pop if is_last else self.down.__getitem__
        peer, envelope, message = take(index % len(self.down))
        process = self.processes.get(peer)
        if process is not None:
            self.obey(process, process.life.handle(Heard(self.now, envelope, message)))
        else:
            self.master(Disconnected(self.now, peer))

    def end_job(self, process: Process, outcome: Outcome, detail: int = 0) -> None:
        assert process.job is not None
        payload = Payload(PayloadKind.PLAIN, b"%d" % process.job.job)
        process.job = None
        ended = JobEnded(self.now, outcome, 500, payload, detail)
        self.obey(process, process.life.handle(ended))

    def pick(self, index: int) -> Process:
        processes = list(self.processes.values())
        return processes[index % len(processes)]

    # --- what may happen --------------------------------------------------------------------------

    @initialize(n=st.integers(1, 3))
    def begin(self, n: int) -> None:
        for _ in range(n):
            self.start_worker()

    @rule()
    @precondition(lambda self: len(self.processes) < 4)
    def start_worker(self) -> None:
        pid = next(self.pids)
        self.connect(Process(f"w{pid}", pid))

    @rule(options=OPTIONS, n=st.integers(0, 4), keep=st.booleans(), follows=st.booleans())
    def hand_in(self, options: JobOptions, n: int, keep: bool, follows: bool) -> None:
        phase = next(self.numbers)
        kept = sorted(self.keeps & self.open_phases)
        self.after[phase] = after = kept[-1] if follows and kept else None
        self.open_phases.add(phase)
        if keep:
            self.keeps.add(phase)
        specs = tuple(JobSpec(next(self.numbers), NOTHING) for _ in range(n))
        self.phase_of.update({spec.job: phase for spec in specs})
        self.master(PhaseOpened(self.now, PhaseSpec(phase, "jobs", options, after, keep)))
        self.master(JobsSubmitted(self.now, phase, specs))
        self.master(PhaseClosed(self.now, phase))

    @rule(index=st.integers(0, 50), is_last=st.sampled_from([True, True, True, False]))
    @precondition(lambda self: self.up)
    def a_message_arrives(self, index: int, is_last: bool) -> None:
        self.arrive(index, is_last=is_last)

    @rule(index=st.integers(0, 50), is_last=st.sampled_from([True, True, True, False]))
    @precondition(lambda self: self.down)
    def a_message_is_heard(self, index: int, is_last: bool) -> None:
        self.reach(index, is_last=is_last)

    @rule()
    @precondition(lambda self: self.up or self.down)
    def all_messages_arrive_in_order(self) -> None:
        self.deliver_all()

    @rule(index=st.integers(0, 50))
    @precondition(lambda self: self.up or self.down)
    def a_message_is_lost(self, index: int) -> None:
        bag: list[object] = self.up or self.down  # type: ignore[assignment]
        bag.pop(index % len(bag))

    @rule(seconds=WAITS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tick()
        for process in list(self.processes.values()):
            deadline = process.life.next_deadline()
            if deadline is not None and deadline <= self.now:
                self.obey(process, process.life.handle(Tick(self.now)))

    @rule(index=st.integers(0, 3), outcome=st.sampled_from([*Outcome, Outcome.OK, Outcome.OK]))
    @precondition(lambda self: any(process.job for process in self.processes.values()))
    def a_job_ends(self, index: int, outcome: Outcome) -> None:
        busy = [process for process in self.processes.values() if process.job is not None]
        self.end_job(busy[index % len(busy)], outcome)

    @rule(index=st.integers(0, 3), is_told=st.booleans())
    @precondition(lambda self: self.processes)
    def a_worker_dies(self, index: int, is_told: bool) -> None:
        self.die(self.pick(index), is_told=is_told)

    @rule(index=st.integers(0, 3), is_noticed=st.booleans())
    @precondition(lambda self: self.processes)
    def a_connection_is_made_anew(self, index: int, is_noticed: bool) -> None:
        process = self.pick(index)
        former = process.peer
        del self.processes[former]
        if is_noticed:
            self.master(Disconnected(self.now, former))
        self.connect(process)

    @rule(index=st.integers(0, 200))
    @precondition(lambda self: self.phase_of)
    def a_job_is_cancelled(self, index: int) -> None:
        jobs = list(self.phase_of)
        self.master(CancelRequested(self.now, (jobs[index % len(jobs)],)))

    @rule(index=st.integers(0, 3))
    @precondition(lambda self: self.machine.roster.workers)
    def a_worker_is_retired(self, index: int) -> None:
        names = list(self.machine.roster.workers)
        self.master(RetireRequested(self.now, (names[index % len(names)],)))

    @rule(index=st.integers(0, 20))
    @precondition(lambda self: self.open_phases)
    def a_phase_is_dropped(self, index: int) -> None:
        phases = sorted(self.open_phases)
        phase = phases[index % len(phases)]
        self.open_phases.discard(phase)
        self.master(PhaseDropped(self.now, phase))

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def the_machine_is_sound(self) -> None:
        self.machine.check()

    def deliver_all(self) -> None:
        while self.up or self.down:
            if self.up:
                self.arrive(0)
            else:
                self.reach(0)
            if not self.up:
                self.tick()

    def teardown(self) -> None:
        """The adversary gives up: jobs end well, messages arrive, workers come. All must end."""
        for _ in range(400):
            if not self.machine.backlog.n_unsettled:
                break
            if not self.processes:
                pid = next(self.pids)
                self.connect(Process(f"w{pid}", pid))
            self.deliver_all()
            for process in list(self.processes.values()):
                if process.job is not None:
                    self.end_job(process, Outcome.OK)
            self.deliver_all()
            self.time_passes(1.0)
        assert set(self.settled) == set(self.phase_of), "every job has come to its end"
        assert not self.machine.backlog.n_unsettled
        for phase in sorted(self.open_phases, reverse=True):
            self.master(PhaseDropped(self.now, phase))
        self.tick()
        assert self.machine.backlog.remembered() == {}


Cluster.TestCase.settings = settings(stateful_step_count=60)
test_an_adversary_cannot_make_the_cluster_lose_or_double_a_job = Cluster.TestCase
