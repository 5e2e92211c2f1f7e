"""What master, workers and agents say to each other. Values only: no bytes, no sockets, no logic.

Rule 1: a message is a value (`protocol/values.py`) and a member of exactly one union below.
Rule 2: a field is a plain value, a tuple of plain values, or one of the records `Payload`,
        `JobGrant`, `JobResult`, so that the codec needs to know nothing else.
Rule 3: times travel as relative milliseconds, never as clock readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from paramserver.protocol.values import value

Buffer: TypeAlias = bytes | bytearray | memoryview
"""One contiguous run of bytes: a frame on the wire, or a piece of one."""


class PayloadKind(IntEnum):
    """How the bytes of a payload are to be read, and who may read them."""

    PLAIN = 0
    """msgpack of plain values and checked arrays: may cross any boundary."""
    PICKLE = 1
    """pickle protocol 5 with out-of-band buffers: only inside the local trust domain."""
    ERROR = 2
    """A failure as bounded text: msgpack of (type, message, traceback)."""
    CODE = 3
    """cloudpickle from master to worker, across machines, where both sides asked for it."""


class Payload(NamedTuple):
    """Opaque contents of a job or of its result. The core carries it and never looks inside."""

    kind: PayloadKind
    data: Buffer
    buffers: Sequence[Buffer] = ()
    """Large contiguous pieces (arrays) that belong to `data`, each a raw frame on the wire."""

    def snapshot(self) -> Payload:
        """Return the same with copies of the buffers, which nobody can change any more."""
        if not self.buffers:
            return self
        return self._replace(buffers=tuple(bytes(buffer) for buffer in self.buffers))

    @property
    def n_bytes(self) -> int:
        n_bytes = len(self.data)
        for buffer in self.buffers:
            n_bytes += memoryview(buffer).nbytes
        return n_bytes


class JobGrant(NamedTuple):
    """One attempt of one job, given to one worker."""

    job: int
    attempt: int
    payload: Payload
    inputs: tuple[Payload, ...] = ()
    """Results of the phase this one waited for, in the order of its jobs; those that were sent
    ahead (`GrantInputs`) come before them."""


class Outcome(IntEnum):
    """How an attempt ended, as its worker saw it."""

    OK = 0
    ERROR = 1
    """The user's function raised."""
    REFUSED = 2
    """The worker is not allowed, or not able, to read or run this payload."""
    LOST_INPUT = 3
    """An input made by job number `detail` of the phase before can no longer be read."""


class JobResult(NamedTuple):
    """How one attempt of one job ended."""

    job: int
    attempt: int
    outcome: Outcome
    duration_us: int
    payload: Payload
    detail: int = 0


class Envelope(NamedTuple):
    """What stands above every message: who speaks, in which life, and how far they are."""

    run: str
    """Identity of the run (16 hex digits)."""
    epoch: int
    """Number of the master's life within the run; a restarted master has a higher one."""
    worker_id: str
    """The worker or agent at the far end of the master's link."""
    incarnation: int
    """Number of the worker's life, given by WELCOME; 0 before."""
    seq: int
    """Position in the stream of this direction, from 1; 0 for what is outside of it."""
    ack: int
    """Highest `seq` received in order from the other side."""


# --- said by a worker ----------------------------------------------------------------------------


@value
class Hello:
    """I am here. The first message of every connection."""

    worker_id: str
    agent_id: str
    token: str
    """Secret that goes with the name: of the launch, or (to resume) of the session."""
    resume_epoch: int
    resume_incarnation: int
    """The life to go on with; 0 to start empty."""
    pid: int
    host: str
    machine: str
    """Proof of the machine: a nonce read from the scratch folder, or ''."""
    release: str
    """Version of the package and of Python, for the refusal of an unequal pair."""


@value
class JobsEnded:
    """These attempts have ended, in this order."""

    results: tuple[JobResult, ...]


@value
class JobsReturned:
    """These attempts were never started here and never will be (taken back, or draining)."""

    jobs: tuple[tuple[int, int], ...]
    draining: bool
    """No more grants, please: the worker is about to leave."""


@value
class JobProgressed:
    """The running attempt has got further; renews its lease."""

    job: int
    attempt: int
    done: int
    total: int


@value
class ServiceCall:
    """A running job asks a service of the master (the parameter server, say)."""

    call: int
    job: int
    attempt: int
    service: str
    method: str
    body: Payload


@value
class Goodbye:
    """I leave; nothing of what I held is unfinished and unreturned."""

    reason: str


# --- said by an agent ----------------------------------------------------------------------------


@value
class AgentHello:
    """I watch the worker processes of one machine."""

    agent_id: str
    token: str
    resume_epoch: int
    resume_incarnation: int
    pid: int
    host: str
    n_workers: int
    release: str


@value
class ProcessExited:
    """A worker process of this agent has ended."""

    worker_id: str
    pid: int
    exit_code: int
    """As in `subprocess`: negative for a signal."""
    job: int
    attempt: int
    """The attempt that was begun last, from the flight recorder; 0, 0 for none. It was running, or
    its result may not have been sent."""
    stderr_tail: str


# --- said by the master --------------------------------------------------------------------------


@value
class Welcome:
    """You are in."""

    token: str
    """Secret of this session; needed to resume it."""
    resumed: bool
    """False: forget whatever you held and start empty."""


@value
class Refused:
    """You are not let in, and asking again will not help."""

    reason: str


@value
class Fenced:
    """That life of yours is over, or unknown here: drop its work and say Hello."""

    reason: str


@value
class GrantJobs:
    """Run these, in this order."""

    grants: tuple[JobGrant, ...]


@value
class GrantInputs:
    """The next inputs of a grant that follows, and would be too large with all of them."""

    job: int
    attempt: int
    inputs: tuple[Payload, ...]


@value
class TakeBack:
    """Give back those of these attempts that you have not started."""

    jobs: tuple[tuple[int, int], ...]


@value
class ServiceReply:
    """The answer to a `ServiceCall`."""

    call: int
    ok: bool
    body: Payload


@value
class Stop:
    """Leave. With `drain`, finish the running job first."""

    drain: bool


@value
class KillProcess:
    """To an agent: end this worker process now."""

    worker_id: str
    pid: int
    reason: str


@value
class WorkerJoined:
    """To an agent: a worker process that it has started is in."""

    worker_id: str


# --- said by both --------------------------------------------------------------------------------


@value
class Ack:
    """Nothing but the envelope: what you sent has arrived."""


WorkerMessage: TypeAlias = (
    Hello | JobsEnded | JobsReturned | JobProgressed | ServiceCall | Goodbye | AgentHello
    | ProcessExited | Ack
)  # fmt: skip
"""What a master may receive."""

MasterMessage: TypeAlias = (
    Welcome | Refused | Fenced | GrantJobs | GrantInputs | TakeBack | ServiceReply | Stop
    | KillProcess | WorkerJoined | Ack
)  # fmt: skip
"""What a worker or an agent may receive."""

Message: TypeAlias = WorkerMessage | MasterMessage

MESSAGE_TYPES: dict[int, type] = {
    1: Hello, 2: JobsEnded, 3: JobsReturned, 4: JobProgressed, 5: ServiceCall, 6: Goodbye,
    10: AgentHello, 11: ProcessExited,
    20: Welcome, 21: Refused, 22: Fenced, 23: GrantJobs, 24: TakeBack, 25: ServiceReply, 26: Stop,
    27: KillProcess, 28: WorkerJoined, 29: GrantInputs,
    40: Ack,
}  # fmt: skip
"""The number of each message on the wire. A number is never given to another message."""
