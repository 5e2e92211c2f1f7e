"""What the machines of the core want done: imperatives, compared by value in tests."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from paramserver.core.jobs import Verdict
from paramserver.protocol.messages import (
    Envelope,
    JobGrant,
    MasterMessage,
    Payload,
    WorkerMessage,
)
from paramserver.protocol.values import value

# --- of the master's machine ---------------------------------------------------------------------


@value
class Send:
    """Send a message to a peer."""

    peer: bytes
    envelope: Envelope
    message: MasterMessage


@value
class KillWorker:
    """End the process of a worker that belongs to the agent in the master's process."""

    agent_id: str
    worker_id: str
    reason: str


@value
class SettleJob:
    """Tell the owner how a job ended; it will not end again, unless its output is lost."""

    job: int
    verdict: Verdict
    payload: Payload | None = None
    worker_id: str = ""
    attempts: int = 0
    exit_code: int | None = None
    text: str = ""
    """Words for the error: the last lines of stderr, the time waited, the reason."""


@value
class AnnounceWorker:
    """Tell whoever listens that a worker joined, left or was lost."""

    incarnation: int
    worker_id: str
    change: str
    """joined, resumed, left, lost"""
    reason: str = ""


class AttemptEnd(Enum):
    """How an attempt ended."""

    DONE = "done"
    """Its result is that of the job."""
    UNNEEDED = "unneeded"
    """It ended well or not; another one was first, or the job was cancelled."""
    FAILED = "failed"
    """Its function raised."""
    LOST = "lost"
    """Its worker was lost, or ended by us, under it; or gave no sign for longer than it may."""


@value
class AnnounceAttempt:
    """Tell whoever watches how an attempt ended that was running."""

    phase: str
    """The name of its phase."""
    job: int
    number: int
    worker_id: str
    begun: float
    """When it came to the head of its worker's queue; the clock of the events."""
    ended: float
    end: AttemptEnd
    is_backup: bool = False
    error: Payload | None = None
    """What its function raised."""
    told_by_owner: bool = False
    """The owner of its phase shows it itself."""


@value
class CallService:
    """Pass a call of a running job to a service."""

    incarnation: int
    call: int
    job: int
    attempt: int
    service: str
    method: str
    body: Payload


MasterCommand: TypeAlias = (
    Send | KillWorker | SettleJob | AnnounceWorker | AnnounceAttempt | CallService
)

# --- of the machines of a worker and an agent ----------------------------------------------------


@value
class Say:
    """Send a message to the master."""

    envelope: Envelope
    message: WorkerMessage


@value
class StartJob:
    """Run this now; report with `JobEnded`."""

    grant: JobGrant


@value
class DeliverReply:
    """Hand the answer of a service to the running job."""

    call: int
    ok: bool
    body: Payload


@value
class KillChild:
    """To an agent's driver: end this worker process."""

    worker_id: str
    reason: str


@value
class NoteChild:
    """To an agent's driver: this worker process is in."""

    worker_id: str


@value
class StopChildren:
    """To an agent's driver: end all worker processes, no replacements."""

    drain: bool


@value
class Exit:
    """End the process."""

    code: int
    reason: str


WorkerCommand: TypeAlias = (
    Say | StartJob | DeliverReply | KillChild | NoteChild | StopChildren | Exit
)
