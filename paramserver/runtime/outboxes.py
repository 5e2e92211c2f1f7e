"""What waits for peers that do not read as fast as they are written to.

Rule 1: the order of the messages to one peer is kept; nobody waits for another's sake.
Rule 2: what is kept is bounded. What is dropped beyond is counted, and sent again by the link.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from paramserver.protocol.messages import Buffer
from paramserver.transport.base import MasterTransport, Sent

_TAKEN: Final = Sent.TAKEN
OUTBOX_MESSAGES: Final = 10_000
"""Messages kept for one peer."""


class Outboxes:
    """Sends, and keeps what the transport has no room for.

    Parameters
    ----------
    transport : MasterTransport
    counters : Counter
        Gets ``full``: messages that were dropped.
    """

    def __init__(self, transport: MasterTransport, counters: Counter[str]) -> None:
        self._transport = transport
        self._counters = counters
        self._waiting: dict[bytes, deque[list[Buffer]]] = {}

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def send(self, peer: bytes, frames: list[Buffer]) -> bool:
        """Send a message, now or when there is room; return False if nobody is there."""
        waiting = self._waiting.get(peer)
        if waiting is None:
            sent = self._transport.send(peer, frames)
            if sent is _TAKEN:
                return True
            if sent is Sent.GONE:
                return False
            waiting = self._waiting[peer] = deque()
        if len(waiting) < OUTBOX_MESSAGES:
            waiting.append(frames)
        else:
            self._counters["full"] += 1
        return True

    def flush(self) -> list[bytes]:
        """Send what there is room for; return the peers that are gone."""
        gone = []
        for peer, waiting in list(self._waiting.items()):
            while waiting:
                sent = self._transport.send(peer, waiting[0])
                if sent is Sent.FULL:
                    break
                waiting.popleft()
                if sent is Sent.GONE:
                    waiting.clear()
                    gone.append(peer)
            if not waiting:
                del self._waiting[peer]
        return gone
