"""The worker's end of the wire over a unix socket of the kernel; see `unix_master`.

Rule 1: it dials again by itself, in `poll`; nothing is queued while there is no connection.
Rule 2: what had arrived when the connection broke stays readable.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Sequence
from typing import Final, Self

from paramserver.errors import RemoteProtocolError
from paramserver.protocol.messages import Buffer
from paramserver.transport.base import Sent, WorkerTransport
from paramserver.transport.frames import check_some
from paramserver.transport.stream import Stream
from paramserver.transport.unix_end import UnixEnd, private_path

DIAL_S: Final = (0.05, 1.0)
"""How soon a master that is not there is dialled again: first, and at the longest."""

_POLLOUT: Final = select.POLLOUT
_NOBODY: Final = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN})
"""What `connect` says where there is no master, or one that is too busy to accept."""


class UnixWorkerTransport(UnixEnd[Sequence[Buffer]], WorkerTransport):
    """The worker's end. Made by `connect`; it connects again by itself, in `poll`."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.trusted = True
        self._path = path
        self._stream: Stream | None = None
        self._reconnected = False
        self._failure = ""
        self._wait_s = DIAL_S[0]
        self._dial_at_s: float | None = None
        self._dial()

    @classmethod
    def connect(cls, address: str) -> Self:
        """Dial a master; returns at once, and goes on dialling until `close`.

        Raises
        ------
        ConfigError
            If the address cannot be used.
        """
        return cls(private_path(address))

    def send(self, frames: Sequence[Buffer]) -> Sent:
        """Send one message to the master, without waiting.

        `Sent.FULL` also while there is no connection. Frames of 1 MiB and more are not copied:
        they must not change until the master has acknowledged the message.

        Raises
        ------
        MessageTooLarge
            If a frame is larger than `MAX_FRAME_BYTES`; nothing was sent.
        LocalProtocolError
            If there is nothing to send.
        """
        stream = self._stream
        if stream is None:
            check_some(frames)
            return Sent.FULL
        sent = self._send_over(stream, frames)
        if sent is Sent.GONE:
            self._read(stream)
            return Sent.FULL
        return sent

    def is_flushed(self) -> bool:
        """Say whether all that was taken has left this process."""
        return self._stream is None or not self._stream.has_backlog

    def receive(self) -> Sequence[Buffer] | None:
        """Return the frames of the next message, or None when there is none now.

        Frames of 64 KiB and more are memoryviews of the memory they were received into.
        """
        if not self._inbox:
            if self._has_looked:  # by the `poll` just before
                self._has_looked = False
                return None
            if self._stream is not None:
                self._read(self._stream)
            if not self._inbox:
                return None
        return self._inbox.popleft()

    # --- the connection --------------------------------------------------------------------------

    def _on_ready(self, fd: int, events: int) -> None:
        stream = self._stream
        if stream is None or fd != stream.fd:
            return
        if events & _POLLOUT:
            self._flush_to(stream)
        if events & ~_POLLOUT:
            self._read(stream)

    def _read(self, stream: Stream) -> None:
        try:
            self._inbox.extend(stream.receive(self._room))
        except RemoteProtocolError as error:
            self._failure = f"What listens at {self._path} is no master: {error}."
            stream.is_open = False
        if not stream.is_open:
            self._poller.unregister(stream.fd)
            stream.close()
            self._stream = None
            self._dial_at_s = time.monotonic()

    def _next_duty_s(self) -> float | None:
        return self._dial_at_s

    def _do_duty(self) -> None:
        self._dial()

    def _dial(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(self._path)
        except OSError as error:
            sock.close()
            if error.errno not in _NOBODY:
                self._failure = f"Cannot connect to unix://{self._path}: {error.strerror}."
            self._dial_at_s = time.monotonic() + self._wait_s
            self._wait_s = min(2 * self._wait_s, DIAL_S[1])
            return
        self._dial_at_s = None
        self._wait_s = DIAL_S[0]
        self._stream = Stream(sock)
        self._watch_stream(self._stream)
        self._reconnected = True

    def take_reconnected(self) -> bool:
        """Say whether the connection was made anew since the last call (the first one included)."""
        answer = self._reconnected
        self._reconnected = False
        return answer

    def take_failure(self) -> str:
        """Return why a connection cannot be made, once; '' for none."""
        answer = self._failure
        self._failure = ""
        return answer

    # --- the end ---------------------------------------------------------------------------------

    def close(self, linger_s: float = 0.0) -> None:
        """Close, giving frames already taken up to `linger_s` to leave. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._stream is not None:
            if not self._is_forked:
                self._drain([self._stream], linger_s)
            self._stream.close(hang_up=not self._is_forked)
            self._stream = None
        self._dial_at_s = None
        self._bell.close()
