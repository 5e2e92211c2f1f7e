"""The master's end of the wire over a unix socket: for processes of one Linux machine.

A job's round trip is so short that what it costs is the threads on its way. Here there is none
between the two processes: who sends writes into the other's socket.

Rule 1: the socket lies in a folder that only its user can enter, and the kernel is asked besides
        who dials: another user is not let in.
Rule 2: the death of a process closes its sockets, so it is known at once. One that is stopped
        (SIGSTOP) is looked for, and after `STOPPED_S` its connection is dropped, as on a network.
Rule 3: what a send has taken leaves at the latest in `poll`; who will not poll for long asks
        `is_flushed` first.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Final, Self

from paramserver.errors import RemoteProtocolError, TransportError
from paramserver.protocol.messages import Buffer
from paramserver.transport.base import MasterTransport, Received, Sent
from paramserver.transport.descriptors import RoomWatch
from paramserver.transport.frames import check_some
from paramserver.transport.socket_file import SocketFile
from paramserver.transport.stopped import is_stopped
from paramserver.transport.stream import Stream
from paramserver.transport.unix_end import UnixEnd, private_path

STOPPED_S: Final = 3.0
"""A process that has been stopped for so long is treated as one that has hung up."""

_LOOK_EVERY_S: Final = 1.0
_POLLOUT: Final = select.POLLOUT
_BACKLOG: Final = 1024
_CREDENTIALS: Final = struct.Struct("=iII")
"""`struct ucred` of unix(7): process, user, group."""


class UnixMasterTransport(UnixEnd[Received], MasterTransport):
    """The master's end: a listening socket and its connections. Made by `bind`.

    Attributes
    ----------
    address : str
        Where to connect.
    trusted : bool
        True: whoever can connect is this user on this machine.
    """

    def __init__(self, listener: socket.socket, path: str) -> None:
        super().__init__()
        self.trusted = True
        self.address = f"unix://{path}"
        self._listener = listener
        self._file = SocketFile(path)
        self._peers: dict[bytes, _Peer] = {}
        self._by_fd: dict[int, _Peer] = {}
        self._n_accepted = 0
        self._disconnected = False
        self._dropped: dict[str, int] = {}
        self._look_at_s = time.monotonic() + _LOOK_EVERY_S
        self._scarcity = RoomWatch(self._bell.fileno(), self._on_scarcity)
        self._poller.register(listener.fileno(), select.POLLIN)

    @classmethod
    def bind(cls, address: str) -> Self:
        """Open the end that many connect to.

        Parameters
        ----------
        address : str
            ``unix:///folder/name`` in a folder of mode 0700.

        Raises
        ------
        ConfigError
            If the address cannot be used.
        TransportError
            If the system refuses it (in use, say).
        """
        path = private_path(address)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            listener.bind(path)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise TransportError(
                f"Cannot listen at {address}: {error.strerror}. Choose another address."
            ) from error
        return cls(listener, path)

    # --- messages --------------------------------------------------------------------------------

    def send(self, peer: bytes, frames: Sequence[Buffer]) -> Sent:
        """Send one message to one peer, without waiting.

        Frames of 1 MiB and more are not copied: they must not change until the peer has
        acknowledged the message (or is gone).

        Raises
        ------
        MessageTooLarge
            If a frame is larger than `MAX_FRAME_BYTES`; nothing was sent.
        LocalProtocolError
            If there is nothing to send.
        """
        found = self._peers.get(peer)
        if found is None:
            check_some(frames)
            return Sent.GONE
        sent = self._send_over(found.stream, frames)
        if sent is Sent.GONE:
            self._read(found)  # what it said last counts still
        return sent

    def receive(self) -> Received | None:
        """Return the next message, or None when there is none now.

        Frames of 64 KiB and more are memoryviews of the memory they were received into.
        """
        if not self._inbox:
            if self._has_looked:  # by the `poll` just before
                self._has_looked = False
                return None
            self._look()
            if not self._inbox:
                return None
        return self._inbox.popleft()

    def _look(self) -> None:
        """Read what is there now, without waiting."""
        for fd, events in self._poller.poll(0):
            if fd in self._by_fd:
                self._on_ready(fd, events)

    # --- connections -----------------------------------------------------------------------------

    def _on_ready(self, fd: int, events: int) -> None:
        peer = self._by_fd.get(fd)
        if peer is None:
            if fd == self._listener.fileno():
                self._accept()
            return  # else it was dropped by what was ready before it
        if events & _POLLOUT:
            self._flush_to(peer.stream)
        if events & ~_POLLOUT:
            self._read(peer)

    def _read(self, peer: _Peer) -> None:
        try:
            for frames in peer.stream.receive(self._room):
                self._inbox.append(Received(peer.name, "local", frames))
        except RemoteProtocolError:
            self._count("mismatched")
            peer.stream.is_open = False
        if not peer.stream.is_open:
            self._drop(peer)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:  # who dialled may have gone again
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._scarcity.look()
            return
        uid, pid = _credentials(sock)
        if uid != os.geteuid():
            self._count("unauthenticated")
            sock.close()
            return
        self._n_accepted += 1
        name = b"\0" + self._n_accepted.to_bytes(4, "big")
        peer = _Peer(name, pid, Stream(sock))
        self._peers[name] = self._by_fd[peer.stream.fd] = peer
        self._watch_stream(peer.stream)
        self._scarcity.note(peer.stream.fd)

    def _drop(self, peer: _Peer) -> None:
        if self._peers.pop(peer.name, None) is not None:
            del self._by_fd[peer.stream.fd]
            self._poller.unregister(peer.stream.fd)
            peer.stream.close()
            self._disconnected = True

    def take_disconnected(self) -> bool:
        """Say whether any connection has dropped since the last call (it names none: probe)."""
        answer = self._disconnected
        self._disconnected = False
        return answer

    def is_connected(self, peer: bytes) -> bool:
        """Say whether this peer is connected, its queue full or not."""
        return peer in self._peers

    # --- duties ----------------------------------------------------------------------------------

    def _next_duty_s(self) -> float | None:
        look_at_s = self._scarcity.look_at_s
        return look_at_s if look_at_s < self._look_at_s else self._look_at_s

    def _do_duty(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._scarcity.look_at_s:
            self._scarcity.look()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_EVERY_S
            for peer in list(self._peers.values()):
                if peer.has_been_stopped(now_s):
                    self._drop(peer)

    def _on_scarcity(self, is_scarce: bool) -> None:
        """Let nobody in while descriptors are scarce: who dials waits, and is let in later."""
        if is_scarce:
            self._count("no_descriptors")
            self._poller.unregister(self._listener.fileno())
        else:
            self._poller.register(self._listener.fileno(), select.POLLIN)

    # --- counters --------------------------------------------------------------------------------

    def _count(self, reason: str) -> None:
        self._dropped[reason] = self._dropped.get(reason, 0) + 1

    def take_counters(self) -> dict[str, int]:
        """Return and reset what was dropped below the protocol, by reason.

        Returns
        -------
        dict of str to int
            Connections of other users (``unauthenticated``), and such as broke the framing
            (``mismatched``); times that ``no_descriptors`` were left to let others in.
        """
        counters = self._dropped
        if counters:
            self._dropped = {}
        return counters

    # --- the end ---------------------------------------------------------------------------------

    def close(self, linger_s: float = 0.0) -> None:
        """Close, giving frames already taken up to `linger_s` to leave. May be called twice."""
        if self._closed:
            return
        self._closed = True
        streams = [peer.stream for peer in self._peers.values()]
        if not self._is_forked:
            self._file.remove()
            self._drain(streams, linger_s)
        self._listener.close()
        for stream in streams:
            stream.close(hang_up=not self._is_forked)
        self._peers.clear()
        self._by_fd.clear()
        self._bell.close()


class _Peer:
    """One connection, as the master sees it."""

    __slots__ = ("_stopped_since", "name", "pid", "stream")

    def __init__(self, name: bytes, pid: int, stream: Stream) -> None:
        self.name = name
        self.pid = pid
        self.stream = stream
        self._stopped_since: float | None = None

    def has_been_stopped(self, now_s: float) -> bool:
        """Say whether its process has been found stopped for `STOPPED_S`."""
        if not is_stopped(self.pid):
            self._stopped_since = None
            return False
        if self._stopped_since is None:
            self._stopped_since = now_s
        return now_s - self._stopped_since >= STOPPED_S


def _credentials(sock: socket.socket) -> tuple[int, int]:
    """Return the user and the process at the other end, as the kernel knows them."""
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(found)
    return uid, pid
