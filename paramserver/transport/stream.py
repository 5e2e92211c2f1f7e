"""One connection over a stream socket of the kernel: messages in, messages out, no thread.

Rule 1: nothing here waits; who polls says when the socket can be read or has room.
Rule 2: a message is taken as a whole or not at all. Of one that is taken, what the kernel has no
        room for is kept and leaves by `flush`; until then the next one is `FULL`.
Rule 3: what had arrived before the other side hung up is handed on first.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from paramserver.errors import TransportError
from paramserver.protocol.messages import Buffer
from paramserver.transport.base import Sent
from paramserver.transport.frames import Assembler, prefix

_TAKEN: Final = Sent.TAKEN
SOCKET_BYTES: Final = 1024 * 1024
"""Room in the kernel for what the other side has not read, where the system allows so much."""
JOINED_BYTES: Final = 64 * 1024
"""Up to here the frames of a message are copied together: cheaper than to gather them."""
LENT_BYTES: Final = 1024 * 1024
"""From here on a frame that has to wait is not copied."""
READS_AT_ONCE: Final = 32
"""Reads of one connection before it is the others' turn."""
GATHERED: Final = 512
"""Pieces handed to the kernel at once; POSIX allows 16, Linux and macOS 1024."""


class Stream:
    """A connected stream socket.

    Parameters
    ----------
    sock : socket
        Owned from now on.

    Attributes
    ----------
    is_open : bool
        False once the other side has hung up, or the connection has failed.
    wants_room : bool
        Whether something waits for the socket to be writable.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        self.fd = sock.fileno()
        self.is_open = True
        self.wants_room = False
        self._socket = sock
        self._assembler = Assembler()
        self._backlog: deque[Buffer] = deque()

    def send(self, frames: Sequence[Buffer]) -> Sent:
        """Send one message, without waiting; `GONE` when the connection is.

        Raises
        ------
        MessageTooLarge
            If a frame is larger than `frames.MAX_FRAME_BYTES`; nothing was sent.
        LocalProtocolError
            If there is nothing to send.
        """
        head, sizes = prefix(frames)
        if not self.is_open:
            return Sent.GONE
        if self.wants_room and not self.flush():
            return Sent.FULL
        n_bytes = len(head) + sum(sizes)
        pieces: list[Buffer]
        if n_bytes <= JOINED_BYTES:
            pieces = [b"".join((head, *frames))]
        else:
            pieces = [head]
            pieces += [
                memoryview(f).cast("B") for f, size in zip(frames, sizes, strict=True) if size
            ]
        n_sent = self._write(pieces)
        if n_sent == n_bytes:
            return _TAKEN
        if not self.is_open:
            return Sent.GONE
        self.wants_room = True
        if not n_sent:
            return Sent.FULL
        for piece in _without_first(pieces, n_sent):
            self._backlog.append(piece if len(piece) >= LENT_BYTES else bytes(piece))
        self.flush()
        return Sent.TAKEN

    @property
    def has_backlog(self) -> bool:
        """Whether a part of what was taken is in this process still."""
        return bool(self._backlog)

    def flush(self) -> bool:
        """Write what waits, as far as there is room; return whether the next message has room."""
        backlog = self._backlog
        while backlog:
            pieces = [backlog[i] for i in range(min(len(backlog), GATHERED))]
            n_sent = self._write(pieces)
            if not n_sent:
                return False
            for _ in pieces:
                backlog.popleft()
            backlog.extendleft(reversed(_without_first(pieces, n_sent)))
        self.wants_room = False
        return True

    def _write(self, pieces: list[Buffer]) -> int:
        """Write without waiting; return how many bytes were taken."""
        try:
            if len(pieces) == 1:
                return self._socket.send(pieces[0])
            return self._socket.sendmsg(pieces[:GATHERED])
        except BlockingIOError:
            return 0
        except OSError as error:
            _check_own_descriptor(error)
            self.is_open = False
            self._backlog.clear()
            return 0

    def receive(self, room: memoryview) -> list[list[Buffer]]:
        """Read what is there, without waiting; return the messages that are whole.

        Parameters
        ----------
        room : memoryview
            Where small messages are received; overwritten.

        Raises
        ------
        RemoteProtocolError
            If the other side breaks the rules.
        TransportError
            If this process itself has closed the descriptor.
        """
        messages: list[list[Buffer]] = []
        assembler = self._assembler
        for _ in range(READS_AT_ONCE):
            space = assembler.space()
            target = room if space is None else space
            try:
                n_bytes = self._socket.recv_into(target)
            except BlockingIOError:
                break
            except OSError as error:
                _check_own_descriptor(error)
                n_bytes = 0
            if not n_bytes:
                self.is_open = False
                break
            if space is None:
                messages += assembler.feed(room[:n_bytes])
            else:
                messages += assembler.filled(n_bytes)
            if n_bytes < len(target):
                break
        return messages

    def close(self, *, hang_up: bool = True) -> None:
        """Close the socket. May be called twice.

        Parameters
        ----------
        hang_up : bool
            End the connection also where a forked process has a copy of the socket.
        """
        self.is_open = False
        if hang_up:
            with suppress(OSError):  # the other side was faster
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _check_own_descriptor(error: OSError) -> None:
    """Tell an end of the connection from a process that has closed what is not its own."""
    if error.errno == errno.EBADF:
        raise TransportError(
            "Some code in this process has closed the descriptor of the connection between master "
            "and worker: perhaps a job that closes all files."
        ) from error


def _without_first(pieces: list[Buffer], n_bytes: int) -> list[Buffer]:
    """Return what is left of pieces of bytes once the first `n_bytes` have gone."""
    for i, piece in enumerate(pieces):
        if n_bytes < len(piece):
            return [memoryview(piece)[n_bytes:], *pieces[i + 1 :]]
        n_bytes -= len(piece)
    return []
