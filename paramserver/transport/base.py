"""How bytes get from one process to another: two small contracts, one for each end.

Rule 1: a transport moves frames and knows nothing of what they say.
Rule 2: it never blocks but in `poll`, and `poll` ends by its time-out, by a frame or by `wake`.
Rule 3: one thread at a time uses an end; only `wake` may be called from any thread.
Rule 4: it says honestly what became of a send: taken, no room yet, or nobody there.
Rule 5: what was taken leaves while its sender polls, if not before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from paramserver.protocol.limits import DEFAULT_LIMITS, Limits
from paramserver.protocol.messages import Buffer


class Sent(Enum):
    """What became of a send."""

    TAKEN = "taken"
    FULL = "full"
    """The peer's queue has no room; try again after the next `poll`."""
    GONE = "gone"
    """Nobody is connected under that name any more."""


class Received(NamedTuple):
    """One message, as the master's end receives it."""

    peer: bytes
    """Name of the connection, chosen by the transport; never reused."""
    user: str
    """Who the connection has proven to be: the key's owner, or 'local' inside the trust domain."""
    frames: Sequence[Buffer]
    address: str = ""
    """Of the machine at the far end, as the kernel knows it; '' over what has no addresses."""


class MasterTransport(ABC):
    """The end that many connect to."""

    address: str
    """Where to connect, with the real port."""
    trusted: bool
    """Whether everyone who can connect is the same user on the same machine."""
    limits: Limits = DEFAULT_LIMITS
    """How messages are cut into frames that this transport carries fast."""

    @abstractmethod
    def send(self, peer: bytes, frames: Sequence[Buffer]) -> Sent:
        """Send one message to one peer, without waiting. Large frames are not copied."""

    @abstractmethod
    def receive(self) -> Received | None:
        """Return the next message, or None when there is none now."""

    @abstractmethod
    def poll(self, timeout_s: float | None) -> None:
        """Wait until a message may be there, `wake` is called, or the time is over."""

    @abstractmethod
    def wake(self) -> None:
        """End a `poll` at once, the current or else the next one. From any thread."""

    def watch(self, fd: int, on_ready: Callable[[], None]) -> None:
        """Let `poll` call `on_ready` whenever a descriptor of this process can be read.

        It is called by the thread that polls, must take in what is there, and must not raise. A
        poll need not end for it.
        """
        raise NotImplementedError(f"{type(self).__name__} watches no other descriptors")

    def unwatch(self, fd: int) -> None:
        """Undo `watch`; a descriptor that is not watched does no harm."""
        raise NotImplementedError(f"{type(self).__name__} watches no other descriptors")

    @abstractmethod
    def take_disconnected(self) -> bool:
        """Say whether any connection has dropped since the last call (it names none: probe)."""

    @abstractmethod
    def is_connected(self, peer: bytes) -> bool:
        """Say whether a message to this peer could be sent now; costs the peer nothing visible."""

    @abstractmethod
    def take_counters(self) -> dict[str, int]:
        """Return and reset what was dropped below the protocol, by reason (`unauthenticated`)."""

    @abstractmethod
    def close(self, linger_s: float = 0.0) -> None:
        """Close, giving frames already taken up to `linger_s` to leave. May be called twice."""


class WorkerTransport(ABC):
    """The end that dials out."""

    trusted: bool
    limits: Limits = DEFAULT_LIMITS
    """See `MasterTransport`."""

    @abstractmethod
    def send(self, frames: Sequence[Buffer]) -> Sent:
        """Send one message to the master, without waiting."""

    def is_flushed(self) -> bool:
        """Say whether what was taken will leave without another `poll`."""
        return True

    @abstractmethod
    def receive(self) -> Sequence[Buffer] | None:
        """Return the frames of the next message, or None when there is none now."""

    @abstractmethod
    def poll(self, timeout_s: float | None) -> None:
        """Wait until a message may be there, `wake` is called, or the time is over."""

    @abstractmethod
    def wake(self) -> None:
        """End a `poll` at once, the current or else the next one. From any thread."""

    @abstractmethod
    def take_reconnected(self) -> bool:
        """Say whether the connection was made anew since the last call (the first one included)."""

    @abstractmethod
    def take_failure(self) -> str:
        """Return why a connection cannot be made (a handshake refused, say), once; '' for none."""

    @abstractmethod
    def close(self, linger_s: float = 0.0) -> None:
        """Close, giving frames already taken up to `linger_s` to leave. May be called twice."""
