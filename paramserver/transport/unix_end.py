"""One end of a wire over unix sockets of the kernel: its poll, and what it is polled for.

Rule 1: the socket lies in a folder that only its user can enter.
Rule 2: a connection is watched for room only while something waits for it.
"""

from __future__ import annotations

import select
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from paramserver.errors import ConfigError
from paramserver.protocol.messages import Buffer
from paramserver.transport.address import check_private_folder, parse_address
from paramserver.transport.base import Sent
from paramserver.transport.end import End, as_ms
from paramserver.transport.stream import Stream

T = TypeVar("T")

_ROOM_BYTES: Final = 256 * 1024


class UnixEnd(End, Generic[T]):
    """What both ends share: poll(2), the memory that is received into, and what has come."""

    def __init__(self) -> None:
        super().__init__()
        self._poller = select.poll()
        self._bell_fd = self._bell.fileno()
        self._poller.register(self._bell_fd, select.POLLIN)
        self._inbox: deque[T] = deque()
        self._has_looked = False
        """The sockets have been read since `receive` found nothing."""
        self._room = memoryview(bytearray(_ROOM_BYTES))

    def _poll_once(self, timeout_ms: int) -> bool:
        found = self._poller.poll(0 if self._inbox else timeout_ms)
        self._has_looked = True
        only_watched = bool(found)
        for fd, events in found:
            if fd in self._watched:
                self._watched[fd]()
                continue
            only_watched = False
            if fd == self._bell_fd:
                self._bell.clear()
            else:
                self._on_ready(fd, events)
        return only_watched and not self._inbox

    def _on_ready(self, fd: int, events: int) -> None:
        raise NotImplementedError

    def watch(self, fd: int, on_ready: Callable[[], None]) -> None:
        """Let `poll` call `on_ready` whenever a descriptor can be read."""
        self._watched[fd] = on_ready
        self._poller.register(fd, select.POLLIN)

    def unwatch(self, fd: int) -> None:
        """Undo `watch`; a descriptor that is not watched does no harm."""
        if self._watched.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def _watch_stream(self, stream: Stream) -> None:
        wanted = select.POLLIN | select.POLLOUT if stream.wants_room else select.POLLIN
        self._poller.register(stream.fd, wanted)

    def _send_over(self, stream: Stream, frames: Sequence[Buffer]) -> Sent:
        wanted_room = stream.wants_room
        sent = stream.send(frames)
        if stream.wants_room is not wanted_room:
            self._watch_stream(stream)
        return sent

    def _flush_to(self, stream: Stream) -> None:
        if stream.flush():
            self._watch_stream(stream)

    def _drain(self, streams: Sequence[Stream], linger_s: float) -> None:
        """Give what was taken the time to leave."""
        end_at = time.monotonic() + linger_s
        waiting = {stream.fd: stream for stream in streams if stream.has_backlog}
        poller = select.poll()
        for fd in waiting:
            poller.register(fd, select.POLLOUT)
        while waiting and (left_s := end_at - time.monotonic()) > 0:
            for fd, _ in poller.poll(as_ms(left_s)):
                stream = waiting[fd]
                if stream.flush() or not stream.is_open:
                    poller.unregister(fd)
                    del waiting[fd]


def private_path(address: str) -> str:
    """Return the path of the socket at an address.

    Raises
    ------
    ConfigError
        If it is none of a kernel socket, or others can enter its folder.
    """
    parsed = parse_address(address)
    if parsed.scheme != "unix" or not sys.platform.startswith("linux"):
        raise ConfigError(
            f"The address {address!r} cannot be used: a kernel socket has unix:///folder/name, and "
            "only where the kernel says who is at the other end (on Linux). Use ipc:// instead.",
            field="address",
            value=address,
        )
    check_private_folder(parsed)
    return parsed.path
