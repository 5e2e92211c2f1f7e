"""What running jobs ask the services of the master, and the answers on their way back. Pure.

Rule 1: an attempt that counts may ask; every other one is told that it does not, and ends.
Rule 2: a job waits for its answer. Who asks on and on and takes none in is no job: its life ends
        and its machine is put in quarantine (`Departures.expel`), before what is kept for it grows.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from paramserver.core.commands import CallService, MasterCommand
from paramserver.core.departures import Departures
from paramserver.core.events import ServiceReplied
from paramserver.core.mail import Mail
from paramserver.core.roster import Roster, Worker
from paramserver.protocol.messages import Payload, PayloadKind, ServiceCall, ServiceReply

OPEN_MAX: Final = 16
"""Calls of one life whose answers it has not taken in. A worker's one job has one; others may be
left by jobs that were interrupted while they waited. An answer may be as large as a model."""
FLOODS: Final = f"it asks without taking in what it is told: more than {OPEN_MAX} calls are open"
NOT_CURRENT: Final = Payload(PayloadKind.ERROR, b"")
"""The answer to a call of an attempt that does not count any more."""


class ServiceCalls:
    """The way of calls to services, and back.

    Parameters
    ----------
    roster : Roster
    mail : Mail
    departures : Departures
    counters : Counter
    """

    def __init__(
        self, roster: Roster, mail: Mail, departures: Departures, counters: Counter[str]
    ) -> None:
        self._roster = roster
        self._mail = mail
        self._departures = departures
        self._counters = counters

    def asked(
        self, now: float, worker: Worker, call: ServiceCall, out: list[MasterCommand]
    ) -> None:
        """Pass a call on, if it is one of an attempt that counts."""
        number, job, attempt, body = call.call, call.job, call.attempt, call.body
        held = worker.held.get((job, attempt))
        counts = held is not None and held in held.job.attempts
        if counts:
            if worker.asking not in worker.held:
                worker.asking, worker.n_unanswered = (job, attempt), 0
            worker.n_unanswered += 1
        if self._n_open(worker) > OPEN_MAX:
            self._counters["flooded"] += 1
            self._departures.expel(now, worker, FLOODS, out)
        elif counts:
            life, service, method = worker.incarnation, call.service, call.method
            out.append(CallService(life, number, job, attempt, service, method, body))
        else:
            self._counters["stale"] += 1
            self._mail.send(now, worker, ServiceReply(number, False, NOT_CURRENT), out)

    def replied(self, event: ServiceReplied, out: list[MasterCommand]) -> None:
        """Send an answer to the worker whose job has asked."""
        worker = self._roster.by_incarnation.get(event.incarnation)
        if worker is None:
            self._counters["fenced"] += 1
            return
        if worker.n_unanswered:
            worker.n_unanswered -= 1
        reply = ServiceReply(event.call, event.ok, event.body)
        self._mail.send(event.now, worker, reply, out)

    def _n_open(self, worker: Worker) -> int:
        """Count calls without an answer, and answers that have not been taken in."""
        n, link = worker.n_unanswered, worker.link
        if n + link.n_unacked <= OPEN_MAX:
            return n  # the usual case, for one look
        return n + sum(1 for message in link.unacked if type(message) is ServiceReply)
