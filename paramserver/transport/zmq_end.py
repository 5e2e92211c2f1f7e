"""One end of a wire over ZeroMQ: its socket, its events, its bell, and an orderly close.

Rule 1: one private context an end, so that two clusters in one process share nothing.
Rule 2: nothing waits but `poll`; nothing is queued for a peer that is not connected.
Rule 3: a message is checked as a whole before its first frame leaves.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import zmq

from paramserver.errors import AuthenticationFailed, ConfigError
from paramserver.protocol.messages import Buffer
from paramserver.transport.address import Address, check_private_folder
from paramserver.transport.end import End, as_ms
from paramserver.transport.frames import MAX_FRAME_BYTES, VIEWED_BYTES, check_frame, check_some

HIGH_WATER_MARK: Final = 1000
"""Messages queued for one peer. It counts messages, not bytes: flow control is by credit."""
LENT_BYTES: Final = 1024 * 1024
"""From here on a frame is lent to ZeroMQ instead of copied. pyzmq learns through a thread of its
own when ZeroMQ gives it back; below this size that costs more than the copy (measured over ipc:
78 against 71 us a round trip at 64 KiB, 231 against 241 at 1 MiB, 4.5 against 5.7 ms at 16 MiB)."""

NOW: Final = int(zmq.DONTWAIT)
NOW_AND_MORE: Final = int(zmq.DONTWAIT | zmq.SNDMORE)
READABLE: Final = int(zmq.POLLIN)


class ZmqEnd(End):
    """What both ends share.

    Parameters
    ----------
    kind : int
        Type of the socket.
    address : Address
        Where it will be bound or connected.
    events : int
        Which events of the socket's life `_on_event` wants to be told.
    """

    trusted: bool

    def __init__(self, kind: int, address: Address, events: int) -> None:
        super().__init__()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self._context.set(zmq.MAX_SOCKETS, 32)
        self._socket = self._context.socket(kind)
        self._set_options(address)
        self._monitor = self._open_monitor(events)
        self._sockets = [self._socket, self._monitor]
        self._items: list[tuple[Any, int]] = [
            (self._socket, READABLE),
            (self._bell.fileno(), READABLE),
            (self._monitor, READABLE),
        ]
        self._recv = self._socket.recv
        self._is_readable = False

    def _set_options(self, address: Address) -> None:
        sock = self._socket
        sock.set(zmq.LINGER, 0)
        sock.set(zmq.SNDHWM, HIGH_WATER_MARK)
        sock.set(zmq.RCVHWM, HIGH_WATER_MARK)
        sock.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        sock.set(zmq.HANDSHAKE_IVL, 2000)
        sock.set(zmq.HEARTBEAT_IVL, 1000)
        sock.set(zmq.HEARTBEAT_TIMEOUT, 3000)
        sock.set(zmq.HEARTBEAT_TTL, 3000)
        sock.set(zmq.IPV6, int(address.is_ipv6))

    def _open_monitor(self, events: int) -> zmq.Socket[bytes]:
        name = "inproc://events"
        self._socket.monitor(name, events)
        monitor = self._context.socket(zmq.PAIR)
        monitor.set(zmq.LINGER, 0)
        # The I/O thread *blocks* when this queue is full, heartbeats and all; so it has no end.
        monitor.set(zmq.RCVHWM, 0)
        monitor.connect(name)
        return monitor

    # --- waiting ---------------------------------------------------------------------------------

    def _poll_once(self, timeout_ms: int) -> bool:
        """Wait once; return whether watched descriptors, and nothing else, were ready."""
        # One call of zmq_poll costs the same 2 us as asking the socket for its events and then
        # the kernel, and it cannot miss an edge of ZeroMQ's edge-triggered descriptor.
        found = zmq.zmq_poll(self._items, timeout_ms)
        only_watched = bool(found)
        for item, _ in found:
            if item is self._socket:
                self._is_readable = True
                only_watched = False
            elif item in self._watched:
                self._watched[item]()
            else:
                self._on_ready(item)
                only_watched = False
        return only_watched

    def _on_ready(self, item: Any) -> None:
        if item is self._monitor:
            self._read_monitor()
        elif item == self._bell.fileno():
            self._bell.clear()
        # else it has been unwatched by one that was ready before it

    def watch(self, fd: int, on_ready: Callable[[], None]) -> None:
        """Let `poll` call `on_ready` whenever a descriptor can be read."""
        self._watched[fd] = on_ready
        self._items.append((fd, READABLE))

    def unwatch(self, fd: int) -> None:
        """Undo `watch`; a descriptor that is not watched does no harm."""
        if self._watched.pop(fd, None) is not None:
            self._items.remove((fd, READABLE))

    # --- events of the socket's life -------------------------------------------------------------

    def _read_monitor(self) -> None:
        # Asking first costs 2 us; the exception that says "nothing there" costs three times that.
        while int(self._monitor.get(zmq.EVENTS)) & READABLE:
            head = self._monitor.recv(NOW)
            self._monitor.recv(NOW)  # the endpoint, of which the events of ours say nothing new
            event, value = struct.unpack("=HI", head)
            self._on_event(event, value)

    def _on_event(self, event: int, value: int) -> None:
        """Take note of one event."""
        raise NotImplementedError

    # --- frames ----------------------------------------------------------------------------------

    def _has_message(self) -> bool:
        """Say whether a receive is worth trying.

        To ask costs half of what the exception costs that says "nothing there", and nothing
        needs to be asked for the first message after a `poll`.
        """
        if self._is_readable:
            self._is_readable = False
            return True
        return bool(int(self._socket.get(zmq.EVENTS)) & READABLE)

    def _take_frames(self, frame: zmq.Frame) -> list[Buffer]:
        """Collect a message whose first frame is given. It is there as a whole, or not at all."""
        # `Frame.more` is read in C; asking the socket for RCVMORE costs as much as a receive.
        recv = self._recv
        frames: list[Buffer] = []
        while True:
            frames.append(frame.bytes if len(frame) < VIEWED_BYTES else frame.buffer)
            if not frame.more:
                return frames
            frame = recv(NOW, False)

    # --- the end ---------------------------------------------------------------------------------

    def close(self, linger_s: float = 0.0) -> None:
        """Close, giving frames already taken up to `linger_s` to leave. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._bell.close()
        if self._is_forked:
            return
        self._socket.disable_monitor()
        for sock in self._sockets:
            sock.close(linger=as_ms(linger_s) if sock is self._socket else 0)
        self._context.term()  # waits for `linger_s` at most: every socket is closed


def pack(frames: Sequence[Buffer]) -> list[Buffer | zmq.Frame]:
    """Check a message and make it ready to leave; afterwards nothing about it can fail.

    Raises
    ------
    MessageTooLarge
        If a frame passes `MAX_FRAME_BYTES`.
    LocalProtocolError
        If there is nothing to send, or a frame is not contiguous.
    """
    check_some(frames)
    return [frame if check_frame(frame) < LENT_BYTES else _lend(frame) for frame in frames]


def _lend(frame: Buffer) -> Buffer | zmq.Frame:
    try:
        return zmq.Frame(frame, copy=False)
    except RuntimeError:  # the interpreter is exiting and pyzmq lends no more: let it be copied
        return frame


def check_safety(address: str, parsed: Address, has_keys: bool, allow_insecure: bool) -> None:
    """Refuse TCP in the open, and ipc where others could come in.

    Parameters
    ----------
    address : str
        As it was given.
    parsed : Address
        What it means.
    has_keys, allow_insecure : bool

    Raises
    ------
    ConfigError
        If ZeroMQ has no such address, or the folder of an ipc address is open to others.
    AuthenticationFailed
        If it is a TCP address without keys, and that is not allowed.
    """
    if parsed.scheme not in ("ipc", "tcp"):
        raise ConfigError(
            f"ZeroMQ listens at tcp://HOST:PORT or ipc:///folder/name, not at {address}.",
            field="address",
            value=address,
        )
    if parsed.scheme == "ipc":
        check_private_folder(parsed)
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
