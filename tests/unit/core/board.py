"""A master's machine on the table: the words to speak with it, and an ear that checks it.

Every event goes through `Board.do`, which checks the invariants after it and returns the commands.
"""

from __future__ import annotations

from itertools import count

from paramserver.core.commands import AnnounceWorker, KillWorker, MasterCommand, Send, SettleJob
from paramserver.core.events import (
    AgentRegistered,
    Arrived,
    Disconnected,
    JobsSubmitted,
    MasterEvent,
    PhaseClosed,
    PhaseOpened,
    ProcessEnded,
    Tick,
)
from paramserver.core.jobs import JobOptions, JobSpec, PhaseSpec, Verdict
from paramserver.core.master import MasterMachine
from paramserver.core.roster import Worker
from paramserver.protocol.messages import (
    Ack,
    AgentHello,
    Envelope,
    GrantJobs,
    Hello,
    JobGrant,
    JobResult,
    JobsEnded,
    MasterMessage,
    Outcome,
    Payload,
    PayloadKind,
    ProcessExited,
    Welcome,
    WorkerMessage,
)

RUN, EPOCH, RELEASE = "run", 3, "1.0"
CALM = 1e6
"""Longer than anything waits."""
TRIES = JobOptions(max_failures=3)
PURE = JobOptions(max_failures=3, pure=True)
FAILED_BEFORE = "phase before failed"


def payload(text: str | int = "") -> Payload:
    return Payload(PayloadKind.PLAIN, str(text).encode())


def grant(job: int, attempt: int = 1, inputs: tuple[Payload, ...] = ()) -> JobGrant:
    return JobGrant(job, attempt, payload(job), inputs)


def result(
    job: int,
    attempt: int = 1,
    outcome: Outcome = Outcome.OK,
    *,
    seconds: float = 1.0,
    detail: int = 0,
) -> JobResult:
    body = payload(f"result {job}.{attempt}")
    return JobResult(job, attempt, outcome, int(seconds * 1e6), body, detail)


def lost(job: int, index: int, attempt: int = 1) -> JobResult:
    """Return that an attempt could not read its input of this place."""
    return result(job, attempt, Outcome.LOST_INPUT, detail=index)


def succeeded(job: int, attempt: int = 1, worker_id: str = "w1", attempts: int = 1) -> SettleJob:
    body = payload(f"result {job}.{attempt}")
    return SettleJob(job, Verdict.SUCCEEDED, body, worker_id, attempts)


def error(job: int, worker_id: str = "w1", attempt: int = 1, attempts: int = 1) -> SettleJob:
    body = payload(f"result {job}.{attempt}")
    return SettleJob(job, Verdict.ERROR, body, worker_id, attempts)


def cancelled(job: int, text: str = "") -> SettleJob:
    return SettleJob(job, Verdict.CANCELLED, text=text)


def specs(*jobs: int, affinity: str | None = None) -> tuple[JobSpec, ...]:
    return tuple(JobSpec(job, payload(job), affinity) for job in jobs)


class Board:
    """See the module."""

    def __init__(self, **options: float) -> None:
        tokens = count(1)
        self.machine = MasterMachine(
            run=RUN,
            epoch=EPOCH,
            release=RELEASE,
            make_token=lambda: f"session {next(tokens)}",
            **options,  # type: ignore[arg-type]
        )
        self.now = 100.0
        self.seqs: dict[bytes, int] = {}
        self.do(AgentRegistered(self.now, "local", "token"))

    @property
    def counters(self) -> dict[str, int]:
        return dict(self.machine.counters)

    def mishaps(self, job: int) -> tuple[int, int, int, int]:
        """(errors, timeouts, workers lost, the incarnation that was last to blame) of a job."""
        bad = self.machine.backlog.jobs[job].mishaps
        if bad is None:
            return (0, 0, 0, 0)
        return (bad.n_errors, bad.n_timeouts, bad.n_lost, bad.last_incarnation)

    def worker(self, name: str = "w1") -> Worker:
        return self.machine.roster.workers[name]

    def do(self, event: MasterEvent) -> list[MasterCommand]:
        commands = self.machine.handle(event)
        self.machine.check()
        return commands

    def tick(self, after_s: float = 0.0) -> list[MasterCommand]:
        """Tick now, as a driver does after events, and whenever due until some time has passed."""
        commands, end = self.do(Tick(self.now)), self.now + after_s
        for _ in range(10_000):
            deadline = self.machine.next_deadline()
            if deadline is None or deadline >= end:
                break
            self.now = max(deadline, self.now)
            commands += self.do(Tick(self.now))
        else:
            raise AssertionError(f"it wants a tick at {deadline} again and again")
        if after_s:
            self.now = end
            commands += self.do(Tick(self.now))
        return commands

    # --- workers and agents -----------------------------------------------------------------------

    def hears(
        self, peer: bytes, message: WorkerMessage, envelope: Envelope, address: str = ""
    ) -> list[MasterCommand]:
        return self.do(Arrived(self.now, peer, "user", envelope, message, address))

    def hello(
        self,
        name: str = "w1",
        peer: bytes = b"p1",
        *,
        agent: str = "local",
        token: str = "token",
        resume: int = 0,
        epoch: int = EPOCH,
        pid: int | None = None,
        release: str = RELEASE,
        machine: str = "",
        ack: int = 0,
        given_up: int = 0,
        address: str = "",
    ) -> list[MasterCommand]:
        pid = int(name[1:]) if pid is None else pid
        hello = Hello(
            name, agent, token, epoch if resume else 0, resume, pid, "host", machine, release
        )
        run, life_epoch = (RUN, EPOCH) if given_up else ("", 0)
        return self.hears(peer, hello, Envelope(run, life_epoch, name, given_up, 0, ack), address)

    def agent_hello(
        self,
        agent_id: str = "far",
        peer: bytes = b"a1",
        *,
        token: str = "token",
        resume: int = 0,
        release: str = RELEASE,
        given_up: int = 0,
        address: str = "",
    ) -> list[MasterCommand]:
        hello = AgentHello(
            agent_id, token, EPOCH if resume else 0, resume, 7, "far host", 2, release
        )
        run, epoch = (RUN, EPOCH) if given_up else ("", 0)
        return self.hears(peer, hello, Envelope(run, epoch, agent_id, given_up, 0, 0), address)

    def join(self, name: str = "w1", peer: bytes = b"p1", **hello: str) -> int:
        """Let a worker in; return its incarnation."""
        commands = self.hello(name, peer, **hello)  # type: ignore[arg-type]
        life = self.worker(name).incarnation
        assert AnnounceWorker(life, name, "joined") in commands
        self.seqs[peer] = 0
        return life

    def says(
        self, peer: bytes, message: WorkerMessage, *, ack: int | None = None, seq: int | None = None
    ) -> list[MasterCommand]:
        """Let a member say its next message (or `seq`), acknowledging everything (or `ack`)."""
        member = self.machine.roster.by_peer[peer]
        if seq is None:
            seq = self.seqs[peer] = self.seqs.get(peer, 0) + 1
        if ack is None:
            ack = member.link._last_sent
        name, life = member.member_id, member.incarnation
        return self.hears(peer, message, Envelope(RUN, EPOCH, name, life, seq, ack))

    def ends(self, peer: bytes, *results: JobResult) -> list[MasterCommand]:
        return self.says(peer, JobsEnded(results))

    def disconnect(self, peer: bytes = b"p1") -> list[MasterCommand]:
        return self.do(Disconnected(self.now, peer))

    def exits(
        self,
        name: str = "w1",
        code: int = -9,
        running: tuple[int, int] = (0, 0),
        *,
        pid: int | None = None,
        agent: str = "local",
        stderr: str = "",
    ) -> list[MasterCommand]:
        pid = int(name[1:]) if pid is None else pid
        return self.do(
            ProcessEnded(self.now, agent, ProcessExited(name, pid, code, *running, stderr))
        )

    # --- jobs -------------------------------------------------------------------------------------

    def open(
        self,
        phase: int = 1,
        *jobs: int,
        options: JobOptions | None = None,
        after: int | None = None,
        keep: bool = False,
        close: bool = True,
    ) -> list[MasterCommand]:
        """Open a phase with these jobs; return what the jobs' coming brought about."""
        spec = PhaseSpec(phase, f"phase {phase}", options or JobOptions(), after, keep)
        commands = self.do(PhaseOpened(self.now, spec))
        commands += self.do(JobsSubmitted(self.now, phase, specs(*jobs)))
        if close:
            commands += self.do(PhaseClosed(self.now, phase))
        return commands

    # --- what the machine says --------------------------------------------------------------------

    def sends(
        self, message: MasterMessage, peer: bytes = b"p1", *, seq: int = 0, ack: int = 0
    ) -> Send:
        """Say how a message to a living member looks as a command."""
        member = self.machine.roster.by_peer[peer]
        envelope = Envelope(RUN, EPOCH, member.member_id, member.incarnation, seq, ack)
        return Send(peer, envelope, message)


def welcome(name: str, peer: bytes, life: int, *, resumed: bool = False, ack: int = 0) -> Send:
    return Send(peer, Envelope(RUN, EPOCH, name, life, 0, ack), Welcome(f"session {life}", resumed))


def granted(commands: list[MasterCommand]) -> dict[bytes, list[tuple[int, int]]]:
    """Return what was granted over which connection, in order."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    for command in commands:
        if type(command) is Send and type(command.message) is GrantJobs:
            found.setdefault(command.peer, []).extend(g[:2] for g in command.message.grants)
    return found


def killed(name: str, life: int, reason: str) -> list[MasterCommand]:
    return [KillWorker("local", name, reason), AnnounceWorker(life, name, "lost", reason)]


def calm(board: Board, seconds: float) -> list[MasterCommand]:
    """Let time pass while every member acknowledges what it was sent."""
    for peer in list(board.machine.roster.by_peer):
        board.says(peer, Ack(), seq=0)
    commands = board.tick(seconds)
    return [c for c in commands if not (type(c) is Send and type(c.message) is Ack)]


# --- boards on which something goes on ---------------------------------------------------------


def open_two(board: Board, *, options: JobOptions = TRIES) -> None:
    board.open(1, 1, 2, options=options, keep=True)
    board.open(2, 11, 12, options=options, after=1)


def hold_two(board: Board) -> None:
    """Let worker w1 run job 2, with job 3 behind it."""
    board.join("w1", b"p1")
    board.open(1, 1, 2, 3)
    board.tick()
    board.ends(b"p1", result(1, seconds=0.001))
    assert granted(board.tick()) == {b"p1": [(2, 1), (3, 1)]}


def to_reduce(crew: Board, options: JobOptions = PURE) -> None:
    """Bring both workers to run the reduce jobs 11 and 12; job 13 is queued."""
    crew.open(1, 1, 2, options=JobOptions(max_lost=2), keep=True)
    crew.open(2, 11, 12, 13, options=options, after=1)
    crew.tick()
    crew.ends(b"p1", result(1))
    crew.ends(b"p2", result(2))
    assert granted(crew.tick()) == {b"p1": [(11, 1)], b"p2": [(12, 1)]}
