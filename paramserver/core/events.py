"""What can happen to the machines of the core: past participles, each with the time it happened.

`now` is in seconds on a monotonic clock that the driver reads; the machines never read one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from paramserver.core.jobs import JobSpec, PhaseSpec
from paramserver.protocol.messages import (
    Envelope,
    MasterMessage,
    Outcome,
    Payload,
    ProcessExited,
    WorkerMessage,
)

# --- to the master's machine ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message came in over a connection."""

    now: float
    peer: bytes
    user: str
    envelope: Envelope
    message: WorkerMessage


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection is known to be gone."""

    now: float
    peer: bytes


@dataclass(frozen=True, slots=True)
class AgentRegistered:
    """An agent in the master's own process will start workers with this token."""

    now: float
    agent_id: str
    token: str


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """An agent in the master's own process saw a worker process end."""

    now: float
    agent_id: str
    exited: ProcessExited


@dataclass(frozen=True, slots=True)
class PhaseOpened:
    """The owner announced a phase."""

    now: float
    spec: PhaseSpec


@dataclass(frozen=True, slots=True)
class JobsSubmitted:
    """The owner handed in jobs of an open phase."""

    now: float
    phase: int
    jobs: tuple[JobSpec, ...]


@dataclass(frozen=True, slots=True)
class PhaseClosed:
    """The owner will add no more jobs to the phase."""

    now: float
    phase: int


@dataclass(frozen=True, slots=True)
class PhaseDropped:
    """The owner needs nothing of the phase any more; what is left of it is cancelled."""

    now: float
    phase: int


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The owner wants these jobs stopped, running ones too."""

    now: float
    jobs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class JobsWithdrawn:
    """The owner had cancelled these jobs first, so their grants were never sent."""

    now: float
    jobs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RetireRequested:
    """These workers shall finish what they run, and leave."""

    now: float
    worker_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceReplied:
    """A service has an answer for a job that asked."""

    now: float
    incarnation: int
    call: int
    ok: bool
    body: Payload


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The cluster is being shut down; workers are told to leave."""

    now: float
    drain: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """The driver has delivered all there was, or a deadline has come: decide."""

    now: float


MasterEvent: TypeAlias = (
    Arrived
    | Disconnected
    | AgentRegistered
    | ProcessEnded
    | PhaseOpened
    | JobsSubmitted
    | PhaseClosed
    | PhaseDropped
    | CancelRequested
    | JobsWithdrawn
    | RetireRequested
    | ServiceReplied
    | StopRequested
    | Tick
)

# --- to the machines of a worker and an agent ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection to the master was made, or made anew."""

    now: float


@dataclass(frozen=True, slots=True)
class Heard:
    """A message came from the master."""

    now: float
    envelope: Envelope
    message: MasterMessage


@dataclass(frozen=True, slots=True)
class JobEnded:
    """The running attempt has ended."""

    now: float
    outcome: Outcome
    duration_us: int
    payload: Payload
    detail: int = 0


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """The running job says how far it is."""

    now: float
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class ServiceAsked:
    """The running job asks a service of the master."""

    now: float
    call: int
    service: str
    method: str
    body: Payload


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    """The process was told (by a signal) to hand back what it has not begun, and go."""

    now: float
    reason: str


WorkerEvent: TypeAlias = (
    Connected | Heard | JobEnded | ProgressMade | ServiceAsked | LeaveRequested | Tick
)
