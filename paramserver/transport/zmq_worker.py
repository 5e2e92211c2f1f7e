"""The worker's end of the wire over ZeroMQ: a DEALER that dials; see `zmq_master`.

Rule 1: it dials again by itself, in `poll`; nothing is queued while there is no connection.
Rule 2: a message of one empty frame is the master asking whether anybody is there: it is dropped.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence
from typing import Self

import zmq

from paramserver.errors import TransportError
from paramserver.protocol.limits import SEALED_LIMITS
from paramserver.protocol.messages import Buffer
from paramserver.transport.address import Address, parse_address
from paramserver.transport.base import Sent, WorkerTransport
from paramserver.transport.handshake import HandshakeWatch
from paramserver.transport.security import WorkerKeys
from paramserver.transport.zmq_end import NOW, NOW_AND_MORE, ZmqEnd, check_safety, pack


class ZmqWorkerTransport(ZmqEnd, WorkerTransport):
    """The worker's end: one DEALER socket. Made by `connect`; it connects again by itself."""

    def __init__(self, address: Address, keys: WorkerKeys | None) -> None:
        super().__init__(zmq.DEALER, address, HandshakeWatch.EVENTS)
        self.trusted = address.scheme == "ipc"
        self._endpoint = address.endpoint
        self._watch = HandshakeWatch(self._endpoint, keys)
        self._socket.set(zmq.IMMEDIATE, 1)  # queue nothing for a master that is not there
        # Less than the master's, so that a master too busy to answer is seen as that.
        self._socket.set(zmq.HANDSHAKE_IVL, 1500)
        self._socket.set(zmq.RECONNECT_IVL, 50)
        self._socket.set(zmq.RECONNECT_IVL_MAX, 1000)
        self._socket.set(zmq.CONNECT_TIMEOUT, 5000)
        if keys is not None:
            self.limits = SEALED_LIMITS
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
        check_safety(address, parsed, keys is not None, allow_insecure)
        end = cls(parsed, keys if parsed.scheme == "tcp" else None)
        try:
            end._socket.connect(parsed.endpoint)
        except zmq.ZMQError as error:
            end.close()
            raise TransportError(f"Cannot connect to {address}: {error.strerror}.") from error
        return end

    # --- messages --------------------------------------------------------------------------------

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
        parts = pack(frames)
        send = self._socket.send
        last = len(parts) - 1
        for i, part in enumerate(parts):
            try:
                send(part, NOW if i == last else NOW_AND_MORE)
            except zmq.Again:
                if 0 < i < last:
                    # The connection fell away between two frames. ZeroMQ has taken the first
                    # ones back and swallows what follows, up to a frame that ends the message.
                    send(b"", NOW)
                return Sent.FULL
        return Sent.TAKEN

    def receive(self) -> Sequence[Buffer] | None:
        """Return the frames of the next message, or None when there is none now.

        Frames of 64 KiB and more are memoryviews of ZeroMQ's memory, the others are bytes.
        """
        while self._has_message():
            try:
                head = self._recv(NOW, False)
            except zmq.Again:
                return None
            frames = self._take_frames(head)
            if len(frames) > 1 or frames[0]:
                return frames
        return None

    # --- the connection --------------------------------------------------------------------------

    def _on_event(self, event: int, value: int) -> None:
        self._watch.note(event, value, time.monotonic())

    def _next_duty_s(self) -> float | None:
        return self._watch.redial_at_s

    def _do_duty(self) -> None:
        """Dial again, where ZeroMQ has given up (it does after what it takes for a bad word)."""
        self._watch.note_redial()
        try:
            self._socket.disconnect(self._endpoint)
        except zmq.ZMQError as error:
            if error.errno != errno.ENOENT:
                raise
        self._socket.connect(self._endpoint)

    def is_up(self) -> bool:
        """Say whether the connection to the master stands now."""
        self._read_monitor()
        return self._watch.is_up

    def take_reconnected(self) -> bool:
        """Say whether the connection was made anew since the last call (the first one included)."""
        self._read_monitor()
        return self._watch.take_reconnected()

    def take_failure(self) -> str:
        """Return why a connection cannot be made (a handshake refused, say), once; '' for none."""
        self._read_monitor()
        return self._watch.take_failure()
