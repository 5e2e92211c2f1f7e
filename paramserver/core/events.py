"""What can happen to the machines of the core: past participles, each with the time it happened.

`now` is in seconds on a monotonic clock that the driver reads; the machines never read one.
"""

from __future__ import annotations

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
from paramserver.protocol.values import value

# --- to the master's machine ---------------------------------------------------------------------


@value
class Arrived:
    """A message came in over a connection."""

    now: float
    peer: bytes
    user: str
    """Whose key the connection has shown."""
    envelope: Envelope
    message: WorkerMessage
    address: str = ""
    """Of the machine that the connection comes from; '' where there is none to tell."""


@value
class Disconnected:
    """A connection is known to be gone."""

    now: float
    peer: bytes


@value
class AgentRegistered:
    """An agent in the master's own process will start workers with this token."""

    now: float
    agent_id: str
    token: str


@value
class ProcessEnded:
    """An agent in the master's own process saw a worker process end."""

    now: float
    agent_id: str
    exited: ProcessExited


@value
class PhaseOpened:
    """The owner announced a phase."""

    now: float
    spec: PhaseSpec


@value
class JobsSubmitted:
    """The owner handed in jobs of an open phase."""

    now: float
    phase: int
    jobs: tuple[JobSpec, ...]


@value
class PhaseClosed:
    """The owner will add no more jobs to the phase."""

    now: float
    phase: int


@value
class PhaseDropped:
    """The owner needs nothing of the phase any more; what is left of it is cancelled."""

    now: float
    phase: int


@value
class CancelRequested:
    """The owner wants these jobs stopped, running ones too."""

    now: float
    jobs: tuple[int, ...]


@value
class JobsWithdrawn:
    """The owner had cancelled these jobs first, so their grants were never sent."""

    now: float
    jobs: tuple[int, ...]


@value
class RetireRequested:
    """These workers shall finish what they run, and leave."""

    now: float
    worker_ids: tuple[str, ...]


@value
class WorkerAccused:
    """A service found that this life of a worker does again and again what it should not."""

    now: float
    incarnation: int
    reason: str


@value
class ServiceReplied:
    """A service has an answer for a job that asked."""

    now: float
    incarnation: int
    call: int
    ok: bool
    body: Payload


@value
class StopRequested:
    """The cluster is being shut down; workers are told to leave."""

    now: float
    drain: bool


@value
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
    | WorkerAccused
    | ServiceReplied
    | StopRequested
    | Tick
)

# --- to the machines of a worker and an agent ----------------------------------------------------


@value
class Connected:
    """The connection to the master was made, or made anew."""

    now: float


@value
class Heard:
    """A message came from the master."""

    now: float
    envelope: Envelope
    message: MasterMessage


@value
class JobEnded:
    """The running attempt has ended."""

    now: float
    outcome: Outcome
    duration_us: int
    payload: Payload
    detail: int = 0


@value
class ProgressMade:
    """The running job says how far it is."""

    now: float
    done: int
    total: int


@value
class ServiceAsked:
    """The running job asks a service of the master."""

    now: float
    call: int
    service: str
    method: str
    body: Payload


@value
class LeaveRequested:
    """The process was told (by a signal) to hand back what it has not begun, and go."""

    now: float
    reason: str


WorkerEvent: TypeAlias = (
    Connected | Heard | JobEnded | ProgressMade | ServiceAsked | LeaveRequested | Tick
)
