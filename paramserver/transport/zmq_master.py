"""The master's end of the wire over ZeroMQ: a ROUTER that many connect to.

Rule 1: names of connections are chosen by ZeroMQ, never by a peer, and never handed over.
Rule 2: over TCP a message counts only if its connection has proven a key: fail closed.
Rule 3: the frames of a message arrive together and in order, or not at all. A message of one empty
        frame is the probe of `is_connected`; the far end drops it.
Rule 4: no exception may be raised into the thread that uses an end (by a signal handler, say): it
        could cut a message in two.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from typing import Any, Final, Self

import zmq

from paramserver.errors import TransportError
from paramserver.protocol.limits import SEALED_LIMITS
from paramserver.protocol.messages import Buffer
from paramserver.transport.address import Address, parse_address
from paramserver.transport.base import MasterTransport, Received, Sent
from paramserver.transport.descriptors import RoomWatch, is_scarce
from paramserver.transport.security import Doorkeeper, MasterKeys
from paramserver.transport.socket_file import SocketFile
from paramserver.transport.zmq_end import NOW, NOW_AND_MORE, READABLE, ZmqEnd, check_safety, pack

MAX_KNOWN_PEERS: Final = 4096
"""Connections whose user and address are remembered; beyond, it is read anew from messages."""

_LOCAL: Final = ("local", "")
_ECHOES_S: Final = (0.05, 1.0)
"""A drop is announced by the I/O thread a moment before the peer becomes unreachable, so
`take_disconnected` says it again after these times: a probe that came too early is repeated."""


class ZmqMasterTransport(ZmqEnd, MasterTransport):
    """The master's end: one ROUTER socket. Made by `bind`.

    Attributes
    ----------
    address : str
        Where to connect, with the real port.
    trusted : bool
        True for ipc: whoever can connect is this user on this machine.
    """

    _EVENTS: Final = int(
        zmq.EVENT_ACCEPTED
        | zmq.EVENT_DISCONNECTED
        | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
        | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    )

    def __init__(self, address: Address, keys: MasterKeys | None) -> None:
        super().__init__(zmq.ROUTER, address, self._EVENTS)
        self.trusted = address.scheme == "ipc"
        self._needs_key = keys is not None
        self._known: dict[bytes, tuple[str, str]] = {}
        """User and address of those who have been heard, by the name of their connection."""
        self._dropped: dict[str, int] = {}
        self._disconnected = False
        self._echoes: list[float] = []
        self._file: SocketFile | None = None
        self._room = RoomWatch(self._bell.fileno(), self._on_scarcity)
        self._socket.set(zmq.ROUTER_MANDATORY, 1)
        self._socket.set(zmq.BACKLOG, 1024)
        self._doorkeeper: Doorkeeper | None = None
        if keys is not None:
            self.limits = SEALED_LIMITS
            self._doorkeeper = Doorkeeper(self._context, keys)
            self._doorkeeper.guard(self._socket)
            self._sockets.append(self._doorkeeper.socket)
            self._items.append((self._doorkeeper.socket, READABLE))

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
        check_safety(address, parsed, keys is not None, allow_insecure)
        end = cls(parsed, keys if parsed.scheme == "tcp" else None)
        try:
            end._socket.bind(parsed.endpoint)
        except zmq.ZMQError as error:
            end.close()
            why = str(error.strerror).partition(" (addr=")[0]  # it is named already
            if error.errno == errno.ENODEV:
                why = "this machine has no address or network interface of that name"
            raise TransportError(
                f"Cannot listen at {address}: {why}. Choose another address, or port 0 for a free "
                "one."
            ) from error
        end.address = end._socket.get_string(zmq.LAST_ENDPOINT)
        if parsed.path:
            end._file = SocketFile(parsed.path)
        return end

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
        parts = pack(frames)
        send = self._socket.send
        try:
            send(peer, NOW_AND_MORE)
        except zmq.Again:
            return Sent.FULL
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            self._known.pop(peer, None)
            return Sent.GONE
        # From here on ZeroMQ takes every frame: room was found for the message as a whole.
        last = parts.pop()
        for part in parts:
            send(part, NOW_AND_MORE)
        send(last, NOW)
        return Sent.TAKEN

    def receive(self) -> Received | None:
        """Return the next message, or None when there is none now.

        Frames of 64 KiB and more are memoryviews of ZeroMQ's memory, the others are bytes.
        """
        recv = self._recv
        while self._has_message():
            try:
                peer = recv(NOW)
            except zmq.Again:
                return None
            head = recv(NOW, False)
            known = _LOCAL if self.trusted else self._known.get(peer) or self._identify(peer, head)
            frames = self._take_frames(head)
            if known is not None and (len(frames) > 1 or frames[0]):
                return Received(peer, known[0], frames, known[1])
        return None

    def _identify(self, peer: bytes, frame: zmq.Frame) -> tuple[str, str] | None:
        """Return whom the connection of this frame has proven to be, and where it comes from.

        None, and counted, for nobody.
        """
        user = _told(frame, "User-Id") if self._needs_key else ""
        if self._needs_key:
            if not user:
                self._count("unauthenticated")
                return None
            if len(peer) != 5 or peer[0] != 0:  # what ZeroMQ chooses: a zero and a running number
                self._count("chosen_name")
                return None
        if len(self._known) >= MAX_KNOWN_PEERS:
            self._known.clear()
        self._known[peer] = known = (user, _told(frame, "Peer-Address"))
        return known

    # --- connections -----------------------------------------------------------------------------

    def poll(self, timeout_s: float | None) -> None:
        """Wait until a message may be there, `wake` is called, or the time is over.

        Who knocks is answered here too. That needs no thread of its own: a master too busy to
        poll is also too busy to welcome whom it would let in.
        """
        super().poll(timeout_s)
        if time.monotonic() >= self._room.look_at_s:
            self._room.look()

    def _on_ready(self, item: Any) -> None:
        if self._doorkeeper is not None and item is self._doorkeeper.socket:
            self._doorkeeper.answer()
        else:
            super()._on_ready(item)

    def _next_duty_s(self) -> float | None:
        if self._room.is_scarce:
            return min((self._room.look_at_s, *self._echoes))
        return self._echoes[0] if self._echoes else None

    def _do_duty(self) -> None:
        while self._echoes and time.monotonic() >= self._echoes[0]:
            del self._echoes[0]
            self._disconnected = True

    def _on_event(self, event: int, value: int) -> None:
        if event == zmq.EVENT_ACCEPTED:
            if is_scarce(value):
                self._room.note(value)
        elif event == zmq.EVENT_DISCONNECTED:
            self._disconnected = True
            now_s = time.monotonic()
            self._echoes = [now_s + wait_s for wait_s in _ECHOES_S]
        else:
            self._count("handshake_failed")

    def _on_scarcity(self, is_scarce: bool) -> None:
        """Let nobody in, where that is possible, while descriptors are scarce.

        To unbind would also drop everybody who is in: ZeroMQ's connections belong to the listener.
        But a socket whose file has another name is not found. Over tcp there is no such way;
        there ZeroMQ survives to have no descriptor.
        """
        if is_scarce:
            self._count("no_descriptors")
        if self._file is not None:
            if is_scarce:
                self._file.hide()
            else:
                self._file.show()

    def close(self, linger_s: float = 0.0) -> None:
        """Close, giving frames already taken up to `linger_s` to leave. May be called twice."""
        if self._file is not None and not self._is_forked:
            self._file.remove()
        super().close(linger_s)

    def take_disconnected(self) -> bool:
        """Say whether any connection has dropped since the last call (it names none: probe)."""
        self._read_monitor()
        answer = self._disconnected
        self._disconnected = False
        return answer

    def is_connected(self, peer: bytes) -> bool:
        """Say whether this peer is connected, its queue full or not.

        With ROUTER_MANDATORY the one question that names a peer is a send: so an empty message
        goes out, which `receive` at the far end drops.
        """
        self._socket.get(zmq.EVENTS)  # makes ZeroMQ look at what the I/O thread has told it
        try:
            self._socket.send(peer, NOW_AND_MORE)
        except zmq.Again:
            return True
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            self._known.pop(peer, None)
            return False
        self._socket.send(b"", NOW)
        return True

    # --- counters --------------------------------------------------------------------------------

    def _count(self, reason: str) -> None:
        self._dropped[reason] = self._dropped.get(reason, 0) + 1

    def take_counters(self) -> dict[str, int]:
        """Return and reset what was dropped below the protocol, by reason.

        Returns
        -------
        dict of str to int
            Messages ``unauthenticated`` or under a ``chosen_name``; connections with
            ``handshake_failed``; keys ``refused``; times that ``no_descriptors`` were left to let
            others in (raise ``ulimit -n``).
        """
        counters = self._dropped
        self._dropped = {}
        if self._doorkeeper is not None and self._doorkeeper.n_refused:
            counters["refused"] = self._doorkeeper.n_refused
            self._doorkeeper.n_refused = 0
        return counters


def _told(frame: zmq.Frame, what: str) -> str:
    """Return what ZeroMQ knows of the connection that a frame came over; '' for nothing."""
    try:
        return str(frame.get(what))
    except zmq.ZMQError:
        return ""
