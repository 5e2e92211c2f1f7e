"""Both ends of the wire over ZeroMQ: a ROUTER that many connect to, a DEALER that dials out.

Rule 1: one private context an end, so that two clusters in one process share nothing.
Rule 2: nothing waits but `poll`; nothing is queued for a peer that is not connected.
Rule 3: names of connections are chosen by ZeroMQ, never by a peer, and never handed over.
Rule 4: over TCP a message counts only if its connection has proven a key: fail closed.

The frames of a message arrive together or not at all, in order. A message of one empty frame is
the probe of `is_connected`: it is dropped by `receive` at the far end.

No exception may be raised into the thread that uses an end (by a signal handler, say): it could
cut a message in two.
"""

from __future__ import annotations

import errno
import math
import os
import struct
import time
import warnings
from collections.abc import Sequence
from typing import Any, Final, Self

import zmq

from paramserver.errors import (
    AuthenticationFailed,
    LocalProtocolError,
    MessageTooLarge,
    TransportError,
)
from paramserver.protocol.messages import Buffer
from paramserver.transport.address import Address, check_private_folder, parse_address
from paramserver.transport.base import MasterTransport, Received, Sent, WorkerTransport
from paramserver.transport.bell import Bell
from paramserver.transport.handshake import HandshakeWatch
from paramserver.transport.security import Doorkeeper, MasterKeys, WorkerKeys

LARGE_FRAME_BYTES: Final = 64 * 1024
"""From here on a frame is lent to ZeroMQ instead of copied."""
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024 + 128 * 1024
"""Arrays are split at 16 MiB; the rest is room for what stands around them."""
HIGH_WATER_MARK: Final = 1000
"""Messages queued for one peer. It counts messages, not bytes: flow control is by credit."""
MAX_KNOWN_PEERS: Final = 4096
"""Connections whose proof of identity is remembered; beyond, it is read anew from messages."""

_NOW: Final = int(zmq.DONTWAIT)
_NOW_AND_MORE: Final = int(zmq.DONTWAIT | zmq.SNDMORE)
_READABLE: Final = int(zmq.POLLIN)
_ECHOES_S: Final = (0.05, 1.0)
"""A drop is announced by the I/O thread a moment before the peer becomes unreachable, so
`take_disconnected` says it again after these times: a probe that came too early is repeated."""


class _ZmqEnd:
    """What both ends share: socket, monitor, bell, and an orderly end."""

    trusted: bool

    def __init__(self, kind: int, address: Address, events: int) -> None:
        self._pid = os.getpid()
        self._address = address
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._context.set(zmq.MAX_SOCKETS, 32)
        self._bell = Bell()
        self._socket = self._context.socket(kind)
        self._set_options()
        self._monitor = self._open_monitor(events)
        self._recv = self._socket.recv
        self._sockets = [self._socket, self._monitor]
        self._items: list[tuple[Any, int]] = [
            (self._socket, _READABLE),
            (self._bell.fileno(), _READABLE),
            (self._monitor, _READABLE),
        ]
        self._closed = False

    def _set_options(self) -> None:
        sock = self._socket
        sock.set(zmq.LINGER, 0)
        sock.set(zmq.SNDHWM, HIGH_WATER_MARK)
        sock.set(zmq.RCVHWM, HIGH_WATER_MARK)
        sock.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        sock.set(zmq.HANDSHAKE_IVL, 2000)
        sock.set(zmq.HEARTBEAT_IVL, 1000)
        sock.set(zmq.HEARTBEAT_TIMEOUT, 3000)
        sock.set(zmq.HEARTBEAT_TTL, 3000)
        sock.set(zmq.IPV6, int(self._address.is_ipv6))

    def _open_monitor(self, events: int) -> zmq.Socket[bytes]:
        name = "inproc://events"
        self._socket.monitor(name, events)
        monitor = self._context.socket(zmq.PAIR)
        monitor.set(zmq.LINGER, 0)
        # The I/O thread *blocks* when this queue is full, heartbeats and all; so it has no end.
        monitor.set(zmq.RCVHWM, 0)
        monitor.connect(name)
        return monitor

    def poll(self, timeout_s: float | None) -> None:
        """Wait until a message may be there, `wake` is called, or the time is over."""
        self._after_poll(zmq.zmq_poll(self._items, _as_ms(timeout_s)))

    def _after_poll(self, ready: list[tuple[Any, int]]) -> None:
        for item, _ in ready:
            if item is self._socket:
                continue
            if item is self._monitor:
                self._read_monitor()
            else:
                self._bell.clear()

    def wake(self) -> None:
        """End a `poll` at once, the current or else the next one. From any thread."""
        self._bell.ring()

    def _read_monitor(self) -> None:
        while True:
            try:
                head = self._monitor.recv(_NOW)
            except zmq.Again:
                return
            self._monitor.recv(_NOW)  # the endpoint
            event, value = struct.unpack("=HI", head)
            self._on_event(event, value)

    def _on_event(self, event: int, value: int) -> None:
        raise NotImplementedError

    def _take_frames(self, frame: zmq.Frame) -> list[Buffer]:
        """Collect the rest of a message whose first frame is given."""
        # `Frame.more` is read in C; asking the socket for RCVMORE costs as much as a receive.
        recv = self._recv
        frames: list[Buffer] = []
        while True:
            frames.append(frame.bytes if len(frame) < LARGE_FRAME_BYTES else frame.buffer)
            if not frame.more:
                return frames
            frame = recv(_NOW, False)

    def close(self, linger_s: float = 0.0) -> None:
        """Close, giving frames already taken up to `linger_s` to leave. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._bell.close()
        if os.getpid() != self._pid:  # a forked copy: sockets and threads belong to the parent
            return
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        for sock in self._sockets:
            sock.close(linger=_as_ms(linger_s) if sock is self._socket else 0)
        self._context.term()  # waits for `linger_s` at most: every socket is closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class ZmqMasterTransport(_ZmqEnd, MasterTransport):
    """The master's end: one ROUTER socket. Made by `bind`.

    Attributes
    ----------
    address : str
        Where to connect, with the real port.
    trusted : bool
        True for ipc: whoever can connect is this user on this machine.
    """

    def __init__(self, address: Address, keys: MasterKeys | None) -> None:
        events = int(zmq.EVENT_DISCONNECTED) | int(zmq.EVENT_ACCEPT_FAILED) | _HANDSHAKE_FAILED
        super().__init__(zmq.ROUTER, address, events)
        self.trusted = address.scheme == "ipc"
        self._users: dict[bytes, str] = {}
        self._everyone: str | None = "local" if self.trusted else "" if keys is None else None
        self._dropped: dict[str, int] = {}
        self._disconnected = False
        self._echoes: list[float] = []
        self._doorkeeper: Doorkeeper | None = None
        self._socket.set(zmq.ROUTER_MANDATORY, 1)
        self._socket.set(zmq.BACKLOG, 1024)
        if keys is not None:
            self._doorkeeper = Doorkeeper(self._context, keys)
            self._doorkeeper.guard(self._socket)
            self._sockets.append(self._doorkeeper.socket)
            self._items.append((self._doorkeeper.socket, _READABLE))

    @classmethod
    def bind(
        cls, address: str, keys: MasterKeys | None = None, *, allow_insecure: bool = False
    ) -> Self:
        """Open the end that many connect to.

        Parameters
        ----------
        address : str
            ``ipc:///folder/name`` in a folder of mode 0700, or ``tcp://host:port``; port ``0``
            or ``*`` lets the system choose: read `address` afterwards.
        keys : MasterKeys, optional
            Needed for TCP, on loopback too; see `paramserver.transport.security.make_keys`.
        allow_insecure : bool, default=False
            Bind TCP without keys all the same: whoever reaches the port is let in, and everyone
            on the way can read along. Warns.

        Raises
        ------
        ConfigError
            If the address cannot be used.
        AuthenticationFailed
            If it is a TCP address and there are no keys.
        TransportError
            If the system refuses the address (in use, say).
        """
        parsed = parse_address(address)
        _check_keys(address, parsed, keys is not None, allow_insecure)
        end = cls(parsed, keys)
        try:
            end._socket.bind(parsed.endpoint)
        except zmq.ZMQError as error:
            end.close()
            raise TransportError(
                f"Cannot listen at {address}: {error.strerror}. Choose another address, or port 0 "
                "for a free one."
            ) from error
        end.address = end._socket.get_string(zmq.LAST_ENDPOINT)
        return end

    def send(self, peer: bytes, frames: Sequence[Buffer]) -> Sent:
        """Send one message to one peer, without waiting.

        Frames of 64 KiB and more are not copied: they must not change until the peer has
        acknowledged the message (or is gone).

        Raises
        ------
        MessageTooLarge
            If a frame is larger than `MAX_FRAME_BYTES`; nothing was sent.
        LocalProtocolError
            If there is nothing to send.
        """
        copies = _check_frames(frames)
        send = self._socket.send
        try:
            send(peer, _NOW_AND_MORE)
        except zmq.Again:
            return Sent.FULL
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            self._users.pop(peer, None)
            return Sent.GONE
        # From here on ZeroMQ takes every frame: room was found for the message as a whole.
        last = len(copies) - 1
        for i, frame in enumerate(frames):
            send(frame, _NOW if i == last else _NOW_AND_MORE, copies[i])
        return Sent.TAKEN

    def receive(self) -> Received | None:
        """Return the next message, or None when there is none now.

        Frames of 64 KiB and more are memoryviews of ZeroMQ's memory, the others are bytes.
        """
        recv = self._recv
        while True:
            try:
                peer = recv(_NOW)
            except zmq.Again:
                return None
            head = recv(_NOW, False)
            user = self._everyone
            if user is None:
                user = self._users.get(peer) or self._identify(peer, head)
            frames = self._take_frames(head)
            if user is not None and (len(frames) > 1 or frames[0]):
                return Received(peer, user, frames)

    def _identify(self, peer: bytes, frame: zmq.Frame) -> str | None:
        """Return whom the connection of this frame has proven to be; count it if nobody."""
        try:
            user = str(frame.get("User-Id"))
        except zmq.ZMQError:
            user = ""
        if not user:
            self._count("unauthenticated")
            return None
        if len(peer) != 5 or peer[0] != 0:  # what ZeroMQ chooses: a zero and a running number
            self._count("chosen_name")
            return None
        if len(self._users) >= MAX_KNOWN_PEERS:
            self._users.clear()
        self._users[peer] = user
        return user

    def poll(self, timeout_s: float | None) -> None:
        """Wait until a message may be there, `wake` is called, or the time is over.

        Handshakes are answered here too. That needs no thread of its own: a master that is too
        busy to poll is also too busy to welcome whom it would let in.
        """
        if self._echoes:
            due_s = max(0.0, self._echoes[0] - time.monotonic())
            timeout_s = due_s if timeout_s is None else min(timeout_s, due_s)
        super().poll(timeout_s)

    def _after_poll(self, ready: list[tuple[Any, int]]) -> None:
        keeper = self._doorkeeper
        if keeper is not None:
            for entry in ready:
                if entry[0] is keeper.socket:
                    ready.remove(entry)
                    keeper.answer()
                    break
        super()._after_poll(ready)

    def _on_event(self, event: int, value: int) -> None:
        if event == zmq.EVENT_DISCONNECTED:
            self._disconnected = True
            now = time.monotonic()
            self._echoes = [now + wait_s for wait_s in _ECHOES_S]
        elif event == zmq.EVENT_ACCEPT_FAILED:
            self._count("accept_failed")
        else:
            self._count("handshake_failed")

    def take_disconnected(self) -> bool:
        """Say whether any connection has dropped since the last call (it names none: probe)."""
        self._read_monitor()
        answer = self._disconnected
        self._disconnected = False
        if self._echoes and time.monotonic() >= self._echoes[0]:
            del self._echoes[0]
            answer = True
        return answer

    def is_connected(self, peer: bytes) -> bool:
        """Say whether this peer is connected, its queue full or not.

        With ROUTER_MANDATORY the one question that names a peer is a send: so an empty message
        goes out, which `receive` at the far end drops.
        """
        self._socket.get(zmq.EVENTS)  # makes ZeroMQ look at what the I/O thread has told it
        try:
            self._socket.send(peer, _NOW_AND_MORE)
        except zmq.Again:
            return True
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            self._users.pop(peer, None)
            return False
        self._socket.send(b"", _NOW)
        return True

    def _count(self, reason: str) -> None:
        self._dropped[reason] = self._dropped.get(reason, 0) + 1

    def take_counters(self) -> dict[str, int]:
        """Return and reset what was dropped below the protocol, by reason.

        Returns
        -------
        dict of str to int
            Messages ``unauthenticated`` or under a ``chosen_name``; connections with
            ``handshake_failed`` or ``accept_failed`` (no file descriptor left, say); keys
            ``refused``.
        """
        counters = self._dropped
        self._dropped = {}
        if self._doorkeeper is not None and self._doorkeeper.n_refused:
            counters["refused"] = self._doorkeeper.n_refused
            self._doorkeeper.n_refused = 0
        return counters


class ZmqWorkerTransport(_ZmqEnd, WorkerTransport):
    """The worker's end: one DEALER socket. Made by `connect`; it connects again by itself."""

    def __init__(self, address: Address, keys: WorkerKeys | None) -> None:
        super().__init__(zmq.DEALER, address, HandshakeWatch.EVENTS)
        self.trusted = address.scheme == "ipc"
        self._watch = HandshakeWatch(address.endpoint, keys)
        self._socket.set(zmq.IMMEDIATE, 1)  # queue nothing for a master that is not there
        self._socket.set(zmq.RECONNECT_IVL, 50)
        self._socket.set(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.set(zmq.CONNECT_TIMEOUT, 5000)
        if keys is not None:
            keys.apply_to(self._socket)

    @classmethod
    def connect(
        cls, address: str, keys: WorkerKeys | None = None, *, allow_insecure: bool = False
    ) -> Self:
        """Dial a master; returns at once, and goes on dialling until `close`.

        Parameters
        ----------
        address : str
            The `address` of the master's end.
        keys : WorkerKeys, optional
            Needed for TCP.
        allow_insecure : bool, default=False
            Dial TCP without keys all the same. Warns.

        Raises
        ------
        ConfigError
            If the address cannot be used.
        AuthenticationFailed
            If it is a TCP address and there are no keys.
        """
        parsed = parse_address(address)
        _check_keys(address, parsed, keys is not None, allow_insecure)
        end = cls(parsed, keys)
        try:
            end._socket.connect(parsed.endpoint)
        except zmq.ZMQError as error:
            end.close()
            raise TransportError(f"Cannot connect to {address}: {error.strerror}.") from error
        return end

    def send(self, frames: Sequence[Buffer]) -> Sent:
        """Send one message to the master, without waiting.

        `Sent.FULL` also while there is no connection. Frames of 64 KiB and more are not copied:
        they must not change until the master has acknowledged the message.

        Raises
        ------
        MessageTooLarge
            If a frame is larger than `MAX_FRAME_BYTES`; nothing was sent.
        LocalProtocolError
            If there is nothing to send.
        """
        copies = _check_frames(frames)
        send = self._socket.send
        last = len(copies) - 1
        for i, frame in enumerate(frames):
            try:
                send(frame, _NOW if i == last else _NOW_AND_MORE, copies[i])
            except zmq.Again:
                if 0 < i < last:
                    # The connection fell away between two frames. ZeroMQ has taken the first
                    # ones back and swallows what follows, up to a frame that ends the message.
                    send(b"", _NOW)
                return Sent.FULL
        return Sent.TAKEN

    def receive(self) -> Sequence[Buffer] | None:
        """Return the frames of the next message, or None when there is none now.

        Frames of 64 KiB and more are memoryviews of ZeroMQ's memory, the others are bytes.
        """
        while True:
            try:
                head = self._recv(_NOW, False)
            except zmq.Again:
                return None
            frames = self._take_frames(head)
            if len(frames) > 1 or frames[0]:
                return frames

    def _on_event(self, event: int, value: int) -> None:
        self._watch.note(event, value)

    def take_reconnected(self) -> bool:
        """Say whether the connection was made anew since the last call (the first one included)."""
        self._read_monitor()
        return self._watch.take_reconnected()

    def take_failure(self) -> str:
        """Return why a connection cannot be made (a handshake refused, say), once; '' for none."""
        self._read_monitor()
        return self._watch.take_failure()


_HANDSHAKE_FAILED: Final = int(
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


def _as_ms(timeout_s: float | None) -> int:
    """Round up to milliseconds, as ZeroMQ counts time; -1 for no end."""
    if timeout_s is None:
        return -1
    return min(2**31 - 1, max(0, math.ceil(timeout_s * 1000.0)))


def _check_frames(frames: Sequence[Buffer]) -> list[bool]:
    """Check all frames before the first one leaves; say of each whether it is to be copied."""
    copies = []
    for frame in frames:
        if isinstance(frame, bytes):
            n_bytes = len(frame)
        else:
            view = memoryview(frame)
            n_bytes = view.nbytes
            if not view.contiguous:
                raise LocalProtocolError("A frame must be one contiguous run of bytes.")
        if n_bytes > MAX_FRAME_BYTES:
            raise MessageTooLarge(
                f"A frame of {n_bytes} bytes cannot be sent: the limit is {MAX_FRAME_BYTES}. "
                "Split it.",
                size_bytes=n_bytes,
                limit_bytes=MAX_FRAME_BYTES,
            )
        copies.append(n_bytes < LARGE_FRAME_BYTES)
    if not copies or (len(copies) == 1 and not frames[0]):
        raise LocalProtocolError("An empty message cannot be sent: it is the probe.")
    return copies


def _check_keys(address: str, parsed: Address, has_keys: bool, allow_insecure: bool) -> None:
    """Refuse TCP in the open, and ipc where others could come in."""
    if parsed.scheme == "ipc":
        check_private_folder(parsed.path)
        return
    if has_keys:
        return
    if not allow_insecure:
        raise AuthenticationFailed(
            f"The address {address} is used only with keys: without, whoever reaches it could "
            "join, and everyone on the way could read along. Make them once with `paramserver "
            "keys DIR`, and give DIR to the master and to its workers.",
            field="address",
        )
    warnings.warn(
        f"{address} IS USED WITHOUT KEYS: whoever reaches this port can join the cluster and read "
        "all of its traffic. Do this only on a network where you trust everyone.",
        RuntimeWarning,
        stacklevel=3,
    )
