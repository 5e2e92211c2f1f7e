"""What running jobs can call on the master: services by name, and how calls reach them.

Rule 1: all of it happens on the I/O thread, so a service must not block, and must not raise.
Rule 2: a call of a service that is not there (any more) is answered at once: with an error without
        words, by which the job knows that nobody wants it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.protocol.messages import Payload, PayloadKind


class Service(Protocol):
    """Something of the master's that running jobs can call. All on the I/O thread."""

    def call(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        """Take in a call; return the answers that are due now, to this call or to held ones."""

    def worker_gone(self, incarnation: int, now: float) -> Iterable[ServiceReplied]:
        """Note that this life of a worker is over; return the answers that this sets free."""


class Services(dict[str, Service]):
    """The services of one master, by their names."""

    def answer(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        """Hand a call to its service; return the answers that are due now."""
        service = self.get(command.service)
        if service is not None:
            return service.call(command, now)
        nobody = Payload(PayloadKind.ERROR, b"")
        return (ServiceReplied(now, command.incarnation, command.call, False, nobody),)

    def worker_gone(self, incarnation: int, now: float) -> Iterable[ServiceReplied]:
        """Tell all that this life of a worker is over; yield the answers that this sets free."""
        for service in self.values():
            yield from service.worker_gone(incarnation, now)
