"""What workers have asked the parameter server, and what they are told.

Rule 1: a worker's life has one open question at most; the next one takes its place.
Rule 2: a near worker is told on its line, and finds the weights in memory; a far one is told over
        its connection, which brings them.
Rule 3: everything happens on the I/O thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.runtime.master import Master
from paramserver.training.desks import Desk, Rows
from paramserver.training.formats import LINE, PUSH, REPLY, payload_of
from paramserver.training.push_pull import ParameterServer
from paramserver.training.pushes import Verdict
from paramserver.transport.lines import Exchange


class Asked(NamedTuple):
    """A question that waits for its answer."""

    to: int | CallService
    """The line of a near worker, or the call of a far one."""
    want: Rows
    since: float


class Answers:
    """Gives the answers of one training.

    Parameters
    ----------
    master : Master
    desk : Desk
        Where weights are handed out.
    server : ParameterServer
        Whose weights these are.

    Attributes
    ----------
    waited_s : float
        From questions to their answers, all workers together.
    """

    def __init__(self, master: Master, desk: Desk, server: ParameterServer) -> None:
        self.waited_s = 0.0
        self._master = master
        self._desk = desk
        self._server = server
        self._exchange: Exchange | None = None
        self._open: dict[int, Asked] = {}
        """By incarnation."""
        self._waited_s_of: dict[int, float] = {}
        """In the job that each incarnation is at."""

    def open_lines(self, folder: Path, on_ring: Callable[[int, bytes], None]) -> None:
        """Let near workers ring, on lines that are opened in a folder."""
        master = self._master
        self._exchange = Exchange(folder / LINE, PUSH.size, on_ring, master.watch, master.unwatch)

    def hang_up(self, line: int) -> None:
        """Close the line of a worker that does not count any more."""
        if self._exchange is not None:
            self._exchange.hang_up(line)

    def close(self) -> None:
        """Close all lines."""
        if self._exchange is not None:
            self._exchange.close()

    def hold(self, incarnation: int, to: int | CallService, want: Rows, since: float) -> None:
        """Take in a question that is answered by `give`."""
        self._open[incarnation] = Asked(to, want, since)

    def give(self, incarnation: int, verdict: Verdict) -> None:
        """Answer the open question of a worker, if it has one."""
        asked = self._open.pop(incarnation, None)
        if asked is not None:
            self.send(asked.to, incarnation, verdict, asked.want)
            took_s = perf_counter() - asked.since
            self.waited_s += took_s
            self._waited_s_of[incarnation] = self._waited_s_of.get(incarnation, 0.0) + took_s

    def send(self, to: int | CallService, incarnation: int, verdict: Verdict, want: Rows) -> None:
        """Answer straight away, with what a worker wants to see of the weights."""
        server, desk = self._server, self._desk
        if isinstance(to, int):
            assert self._exchange is not None
            buffer = desk.show(incarnation, want, server.w)
            self._exchange.answer(to, REPLY.pack(verdict, server.version, buffer))
        else:
            w = desk.send(incarnation, want, server.w)
            body = payload_of(REPLY.pack(verdict, server.version, 0), w)
            now = self._master.clock()
            self._master.post(ServiceReplied(now, to.incarnation, to.call, True, body))

    def drop(self, incarnation: int) -> None:
        """Forget the open question of a worker: it begins anew."""
        self._open.pop(incarnation, None)

    def forget(self, incarnation: int) -> None:
        """Forget a worker whose life is over."""
        self.drop(incarnation)
        self._waited_s_of.pop(incarnation, None)

    def waited_s_of(self, incarnation: int) -> float:
        """Return how long a life has waited for answers in the job that it is at."""
        return self._waited_s_of.get(incarnation, 0.0)

    def take_waited_s(self, incarnations: Iterable[int]) -> float:
        """Return how long these lives have waited for answers since it was asked."""
        return sum(self._waited_s_of.pop(each, 0.0) for each in incarnations)
