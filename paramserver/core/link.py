"""Reliable, ordered delivery over something that may lose, repeat and reorder. Pure.

One `Link` is one end of a conversation between the master and one life of a worker or agent.

Rule 1: every message gets the next number of its direction and is kept until the other side has
        said that it arrived in order (`ack`, on top of everything the other side sends).
Rule 2: what arrives is handed on in order, each number once.
Rule 3: nothing is sent again because of time alone before `RETRANSMIT_S`: on a living connection
        the transport loses nothing, so a repeat is for a connection that was replaced, and for a
        frame that was dropped. Each fruitless repeat doubles the wait, and much data waits longer.
Rule 4: over the same connection only the first few are sent again, which the other side waits for:
        a slow peer is not buried under repeats of what it has not come to yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Generic, TypeVar

from paramserver.protocol.messages import (
    GrantInputs,
    GrantJobs,
    JobsEnded,
    MasterMessage,
    ServiceCall,
    ServiceReply,
    WorkerMessage,
)

OutT = TypeVar("OutT", WorkerMessage, MasterMessage)
InT = TypeVar("InT", WorkerMessage, MasterMessage)

RETRANSMIT_S = 2.0
"""First wait for an acknowledgement. A peer that computes with the interpreter lock held answers
late, and repeats only cost bytes, so this is far above any round trip."""
RETRANSMIT_MAX_S = 30.0
RESEND_MAX = 16
"""Messages sent again at a time over the same connection."""
SLOW_BYTES_S = 5e6
"""As slow as a connection may be without its data being sent again while it is on its way."""
ACK_DELAY_S = 0.2
"""How long an acknowledgement may wait for a message to ride on."""
ACK_EVERY = 64
"""... and how many messages may wait for it."""
EARLY_MAX = 256
"""Messages kept that came too early, of 64 KiB each beside their payloads. More are dropped and
counted, which costs nothing but time: they have not been acknowledged, so whoever sent them sends
them again. On a living connection nothing comes early, and over a new one all that lacks is sent in
order."""
EARLY_BYTES = 64 * 1024 * 1024
"""... and their payloads together. What is next in order is handed on at once, however large it is,
so that a message that could never be kept still arrives."""


class Link(Generic[OutT, InT]):
    """One end of a numbered conversation. See the rules of the module."""

    __slots__ = (
        "_ack_due_at",
        "_early",
        "_early_bytes",
        "_is_patient",
        "_is_resumed",
        "_last_sent",
        "_recover_to",
        "_retransmit_at",
        "_retransmit_s",
        "_unacked",
        "_unreported",
        "ack",
        "n_gaps",
        "n_repeated",
        "n_retransmits",
    )

    def __init__(self) -> None:
        self._last_sent = 0
        self.ack = 0
        """The highest number received in order. Only `receive` changes it."""
        self._unacked: deque[tuple[int, OutT]] = deque()
        self._early: dict[int, InT] = {}
        self._early_bytes = 0
        self._ack_due_at: float | None = None
        self._unreported = 0
        self._retransmit_at: float | None = None
        self._retransmit_s = RETRANSMIT_S
        self._recover_to = 0
        """Last message there was when some were sent again: up to it, others may lack as well."""
        self._is_resumed = False
        """The connection is new: whatever is not confirmed has to be sent again."""
        self._is_patient = False
        """So much is on its way that it has been given more time."""
        self.n_repeated = 0
        """Messages dropped because they had come before."""
        self.n_gaps = 0
        """Messages dropped because too many, or too much, had come before their turn."""
        self.n_retransmits = 0

    @property
    def unacked(self) -> tuple[OutT, ...]:
        """What was sent and has not been confirmed."""
        return tuple(message for _, message in self._unacked)

    @property
    def n_early(self) -> int:
        """How many messages are kept that came before their turn."""
        return len(self._early)

    @property
    def n_unacked(self) -> int:
        """How many messages the other side has not confirmed."""
        return len(self._unacked)

    def send(self, now: float, message: OutT) -> int:
        """Number a message and keep it until it is acknowledged; return its number."""
        self._last_sent = seq = self._last_sent + 1
        self._unacked.append((seq, message))
        if self._retransmit_at is None:
            self._retransmit_at = now + self._retransmit_s
        self._ack_due_at = None  # this message takes the current `ack` along
        self._unreported = 0
        return seq

    def acknowledged_now(self) -> None:
        """Note that a message with the current `ack` is on its way."""
        self._ack_due_at = None
        self._unreported = 0

    def receive(self, now: float, seq: int, ack: int, message: InT) -> tuple[InT, ...]:
        """Take in one message; return what can be handed on now, in order.

        Parameters
        ----------
        now : float
            Seconds, monotonic.
        seq : int
            Its number; 0 for a message outside of the order (it is never handed on from here).
        ack : int
            What the other side has received in order.
        message : Message
        """
        if ack:
            self._take_ack(now, ack)
        if seq == 0:
            return ()
        self._unreported += 1
        if self._unreported >= ACK_EVERY:
            self._ack_due_at = now
        elif self._ack_due_at is None:
            self._ack_due_at = now + ACK_DELAY_S
        if seq == self.ack + 1:
            self.ack = seq
            if not self._early:
                return (message,)
            ready = [message]
            while (follower := self._early.pop(self.ack + 1, None)) is not None:
                self.ack += 1
                self._early_bytes -= size_bytes(follower)
                ready.append(follower)
            return tuple(ready)
        if seq <= self.ack or seq in self._early:
            self.n_repeated += 1
        else:
            self._keep_for_its_turn(seq, message)
        return ()

    def _keep_for_its_turn(self, seq: int, message: InT) -> None:
        n_bytes = size_bytes(message)
        if len(self._early) >= EARLY_MAX or self._early_bytes + n_bytes > EARLY_BYTES:
            self.n_gaps += 1
            return
        self._early[seq] = message
        self._early_bytes += n_bytes

    def _take_ack(self, now: float, ack: int) -> None:
        unacked = self._unacked
        if not unacked or unacked[0][0] > ack:
            return
        while unacked and unacked[0][0] <= ack:
            unacked.popleft()
        self._retransmit_s = RETRANSMIT_S
        self._is_patient = False
        if not unacked:
            self._retransmit_at = None
        elif unacked[0][0] <= self._recover_to:
            self._retransmit_at = now  # the next ones
        else:
            self._retransmit_at = now + RETRANSMIT_S

    def amend(self, change: Callable[[OutT], OutT]) -> None:
        """Change what would be sent again: what was left out when a message was first sent."""
        self._unacked = deque((seq, change(message)) for seq, message in self._unacked)

    def resume(self, now: float, ack: int) -> None:
        """Go on over a new connection: all that the other side lacks is due at once."""
        self._take_ack(now, ack)
        if self._unacked:
            self._retransmit_s = RETRANSMIT_S
            self._retransmit_at = now
            self._is_resumed = True
        self._ack_due_at = now

    def take_due(self, now: float) -> tuple[tuple[int, OutT], ...]:
        """Return the messages to send again now, with their numbers."""
        if self._retransmit_at is None or now < self._retransmit_at:
            return ()
        if self._is_resumed:
            due = tuple(self._unacked)
        elif self._has_to_wait(now):
            return ()
        else:
            due = tuple(islice(self._unacked, RESEND_MAX))
        self._is_resumed = False
        self._recover_to = self._last_sent
        self._retransmit_at = now + self._retransmit_s
        self._retransmit_s = min(2 * self._retransmit_s, RETRANSMIT_MAX_S)
        self.n_retransmits += len(due)
        self.acknowledged_now()
        return due

    def _has_to_wait(self, now: float) -> bool:
        """Say whether so much is on its way that it may still arrive; give it the time, once."""
        if self._is_patient:
            return False
        needed_s = sum(size_bytes(message) for _, message in self._unacked) / SLOW_BYTES_S
        if needed_s <= self._retransmit_s:
            return False
        self._is_patient = True
        self._retransmit_at = now + needed_s
        return True

    def must_ack(self, now: float) -> bool:
        """Say whether an acknowledgement of its own has to be sent now."""
        return self._ack_due_at is not None and now >= self._ack_due_at

    def next_deadline(self) -> float | None:
        """When `take_due` or `must_ack` will have something, or None."""
        if self._ack_due_at is None:
            return self._retransmit_at
        if self._retransmit_at is None:
            return self._ack_due_at
        return min(self._ack_due_at, self._retransmit_at)


def size_bytes(message: WorkerMessage | MasterMessage) -> int:
    """Add up the payloads of a message: what takes long on a slow connection."""
    match message:
        case JobsEnded(results):
            return sum(result.payload.n_bytes for result in results)
        case GrantJobs(grants):
            payloads = (payload for grant in grants for payload in (grant.payload, *grant.inputs))
            return sum(payload.n_bytes for payload in payloads)
        case GrantInputs(_, _, inputs):
            return sum(payload.n_bytes for payload in inputs)
        case ServiceCall() | ServiceReply():
            return message.body.n_bytes
        case _:
            return 0
