"""Members may say whatever the codec lets through: the master's machine takes it in unharmed.

A member that has a key, and so a connection, can still lie about everything: names, numbers of jobs
and lives, what it holds and who has died. Nothing of that may raise (it would end the I/O thread
and with it every job), break an invariant, settle a job twice, or keep one from ever being settled.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count

import pytest

from paramserver.core.commands import MasterCommand, Send, SettleJob
from paramserver.core.events import (
    AgentRegistered,
    Arrived,
    CancelRequested,
    Disconnected,
    JobsSubmitted,
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
from paramserver.core.jobs import JobOptions, JobSpec, PhaseSpec
from paramserver.core.master import MasterMachine
from paramserver.core.service_calls import OPEN_MAX
from paramserver.protocol.messages import (
    Ack,
    AgentHello,
    Envelope,
    Goodbye,
    GrantJobs,
    Hello,
    JobProgressed,
    JobResult,
    JobsEnded,
    JobsReturned,
    Outcome,
    Payload,
    PayloadKind,
    ProcessExited,
    ServiceCall,
    Welcome,
    WorkerMessage,
)

N_RUNS = 150
SOMETHING = Payload(PayloadKind.PLAIN, b"x")
NUMBERS = (0, 1, 2, 3, 2**31, 2**63 - 1)
NAMES = ("w0", "w1", "w2", "a0", "a1", "")
PEERS = tuple(bytes([0, n]) for n in range(5))


class Intrigue:
    """A master, what its owner wants of it, and members who lie; all from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        tokens = count()
        self.machine = MasterMachine(
            run="r",
            epoch=1,
            release="v",
            make_token=lambda: f"secret {next(tokens)}",
            grace_s=2.0,
            no_workers_timeout_s=30.0,
            max_members=self.rng.choice((None, 3, 6)),
        )
        self.now = 0.0
        self.tokens = ["launch", ""]
        self.lives: dict[bytes, Envelope] = {}
        self.seqs: dict[bytes, int] = {}
        self.granted: list[tuple[int, int]] = []
        self.settled: list[int] = []
        self.n_jobs = 0
        self.phases: list[int] = []
        self.open_phases: list[int] = []

    def run(self) -> None:
        if self.rng.random() < 0.5:
            self.handle(AgentRegistered(self.now, "a0", "launch"))
        steps: list[tuple[Callable[[], None], int]] = [
            (self.owner_acts, 35),
            (self.world_acts, 8),
            (self.member_speaks, 39),
            (self.member_floods, 1),
            (lambda: self.handle(Tick(self.now)), 17),
        ]
        actions, weights = zip(*steps, strict=True)
        for _ in range(self.rng.randrange(50, 400)):
            self.now += self.rng.choice((0.0, 0.0, 0.001, 0.1, 0.5, 3.0))
            self.rng.choices(actions, weights)[0]()
        self.handle(StopRequested(self.now, drain=False))
        assert sorted(self.settled) == list(range(1, self.n_jobs + 1))

    def handle(self, event: MasterEvent) -> None:
        for command in self.machine.handle(event):
            self.note(command)
        self.machine.check()

    def note(self, command: MasterCommand) -> None:
        match command:
            case Send(peer, envelope, Welcome(token)):
                self.lives[peer], self.seqs[peer] = envelope, 0
                self.tokens.append(token)
            case Send(message=GrantJobs(grants)):
                self.granted += [(grant.job, grant.attempt) for grant in grants]
            case SettleJob(job):
                self.settled.append(job)

    # --- who is to be trusted --------------------------------------------------------------------

    def owner_acts(self) -> None:
        rng, now = self.rng, self.now
        deed = rng.randrange(8)
        if deed < 2 or not self.phases:
            number = len(self.phases) + 1
            after = rng.choice((None, *self.phases))
            self.phases.append(number)
            self.open_phases.append(number)
            options = JobOptions(
                max_failures=rng.choice((1, 3)),
                timeout_s=rng.choice((None, 1.0)),
                lease_s=rng.choice((None, 1.0)),
                grace_s=rng.choice((None, 1.0)),
                priority=rng.randrange(2),
                pure=rng.random() < 0.5,
            )
            keep = rng.random() < 0.6
            self.handle(PhaseOpened(now, PhaseSpec(number, "p", options, after, keep=keep)))
        elif deed < 5 and self.open_phases:
            first = self.n_jobs + 1
            self.n_jobs += rng.randrange(1, 5)
            specs = tuple(JobSpec(job, SOMETHING) for job in range(first, self.n_jobs + 1))
            self.handle(JobsSubmitted(now, rng.choice(self.open_phases), specs))
        elif deed == 5 and self.open_phases:
            number = self.open_phases.pop(rng.randrange(len(self.open_phases)))
            self.handle(PhaseClosed(now, number))
        elif deed == 6:
            self.handle(PhaseDropped(now, rng.choice(self.phases)))
        else:
            self.handle(CancelRequested(now, (rng.randint(0, self.n_jobs),)))

    def world_acts(self) -> None:
        rng, now = self.rng, self.now
        match rng.randrange(5):
            case 0:
                self.handle(Disconnected(now, rng.choice(PEERS)))
            case 1:
                self.handle(ProcessEnded(now, rng.choice(("a0", "a1")), self.obituary()))
            case 2:
                self.handle(RetireRequested(now, (rng.choice(NAMES),)))
            case 3:
                self.handle(WorkerAccused(now, rng.randrange(6), "nonsense"))
            case _:
                self.handle(ServiceReplied(now, self.number(), self.number(), True, SOMETHING))

    # --- who is not ------------------------------------------------------------------------------

    def member_speaks(self) -> None:
        rng = self.rng
        peer = rng.choice(PEERS)
        life = self.lives.get(peer)
        if life is not None and rng.random() < 0.85:
            self.seqs[peer] += 1
            seq = self.seqs[peer] if rng.random() < 0.9 else self.number()
            envelope = life._replace(seq=seq, ack=self.number())
        else:
            run, name = rng.choice(("r", "another")), rng.choice(NAMES)
            envelope = Envelope(run, self.number(), name, self.number(), self.number(), 0)
        address = rng.choice(("", "192.0.2.1", "192.0.2.2"))
        self.handle(Arrived(self.now, peer, "u", envelope, self.lie(), address))

    def member_floods(self) -> None:
        """Ask on and on, about one job, and take no answer in."""
        peer = self.rng.choice(list(self.lives) or [b""])
        life, key = self.lives.get(peer), self.key()
        for call in range(2 * OPEN_MAX) if life is not None else ():
            self.seqs[peer] += 1
            asked = ServiceCall(call, *key, "service", "method", SOMETHING)
            envelope = life._replace(seq=self.seqs[peer], ack=0)
            self.handle(Arrived(self.now, peer, "u", envelope, asked))

    def lie(self) -> WorkerMessage:
        rng, number, key = self.rng, self.number, self.key
        match rng.randrange(9):
            case 0:
                resumed = rng.choice((0, 0, 0, 1, 2, 3, 4, 5))
                agent, release = rng.choice(("a0", "a1", "w0", "")), rng.choice("vvvvvvvvx")
                return Hello(
                    rng.choice(NAMES), agent, self.token(), 1, resumed, number(), "h", "", release
                )
            case 1:
                resumed, name = rng.choice((0, 0, 1, 2, 3)), rng.choice(("a0", "a1", "w0"))
                return AgentHello(name, self.token(), 1, resumed, number(), "h", number(), "v")
            case 2:
                outcomes = tuple(Outcome)
                return JobsEnded(
                    tuple(
                        JobResult(*key(), rng.choice(outcomes), number(), SOMETHING, number())
                        for _ in range(rng.randrange(4))
                    )
                )
            case 3:
                returned = tuple(key() for _ in range(rng.randrange(4)))
                return JobsReturned(returned, draining=rng.random() < 0.1)
            case 4:
                return JobProgressed(*key(), number(), number())
            case 5:
                return ServiceCall(number(), *key(), "service", "method", SOMETHING)
            case 6:
                return self.obituary()
            case 7 if rng.random() < 0.2:
                return Goodbye("bored")
            case _:
                return Ack()

    def obituary(self) -> ProcessExited:
        rng = self.rng
        code = rng.choice((-9, 0, 1))
        return ProcessExited(rng.choice(NAMES), self.number(), code, *self.key(), "last words")

    def number(self) -> int:
        return self.rng.choice(NUMBERS)

    def token(self) -> str:
        return self.rng.choice(("launch", "launch", *self.tokens[-6:]))

    def key(self) -> tuple[int, int]:
        if self.granted and self.rng.random() < 0.8:
            return self.rng.choice(self.granted[-8:])
        return self.number(), self.number()


@pytest.mark.parametrize("block", range(3))
def test_whatever_members_say_every_job_is_settled_once(block: int) -> None:
    n_flooded = 0
    for seed in range(block * N_RUNS // 3, (block + 1) * N_RUNS // 3):
        intrigue = Intrigue(seed)
        try:
            intrigue.run()
        except Exception as error:
            raise AssertionError(f"Intrigue({seed}).run() repeats it") from error
        n_flooded += intrigue.machine.counters["flooded"]
    assert n_flooded, "some have asked too much"
