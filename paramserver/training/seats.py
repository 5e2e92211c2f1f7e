"""Who may push for which partition: the attempt that joined last. Pure, but for its numbers.

Rule 1: a partition has one seat, and a worker's life sits on one: whoever joins unseats both.
Rule 2: a near worker shows the number of its ticket on its line: nobody can guess it.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple


class Ticket(NamedTuple):
    """What the holder of a number may push for."""

    incarnation: int
    epoch: int
    partition: int


class Seats:
    """The seats of one training."""

    def __init__(self) -> None:
        self._tickets: dict[int, Ticket] = {}
        self._lines: dict[int, int] = {}
        """Number of the line of each incarnation that has rung."""

    def take(self, incarnation: int, epoch: int, partition: int) -> int:
        """Seat an attempt; return the number of its ticket."""
        for old, ticket in list(self._tickets.items()):
            if ticket.partition == partition or ticket.incarnation == incarnation:
                del self._tickets[old]
        number = secrets.randbits(64)
        self._tickets[number] = Ticket(incarnation, epoch, partition)
        return number

    def admit(self, number: int, line: int) -> Ticket | None:
        """Return the ticket that is shown on a line; None if it does not count, or not any more."""
        ticket = self._tickets.get(number)
        if ticket is not None:
            self._lines[ticket.incarnation] = line
        return ticket

    def clear(self, incarnation: int) -> int | None:
        """Unseat a worker whose life is over; return its line, if it has rung."""
        for number, ticket in list(self._tickets.items()):
            if ticket.incarnation == incarnation:
                del self._tickets[number]
        return self._lines.pop(incarnation, None)
