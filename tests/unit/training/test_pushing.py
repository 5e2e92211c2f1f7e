"""What becomes of pushes, and of those who sit where they were."""

from __future__ import annotations

import select
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.core.roster import Agent, Change, Roster
from paramserver.errors import RemoteProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.training.agreement import Agreement
from paramserver.training.formats import JOIN, JOINED, LINE, PUSH, REPLY
from paramserver.training.optimizers import SGD
from paramserver.training.pushes import PushPullRules, Verdict
from paramserver.training.pushing import Pushing
from paramserver.training.tally import Tally
from paramserver.transport.shm import SharedVector

D = 3
BULK, ASYNC = PushPullRules(staleness_bound=0), PushPullRules()


class Master:
    """The I/O thread of a master, as far as pushes go: workers, descriptors, what it sends."""

    def __init__(self) -> None:
        self.roster = Roster(lambda: "")
        self.posted: list[Any] = []
        self.post = self.posted.append
        self._watched: dict[int, Callable[[], None]] = {}
        self.watch = self._watched.__setitem__
        self.unwatch = self._watched.__delitem__

    def ask(self, question: Callable[[Any], Any]) -> Any:
        return question(self)

    def clock(self) -> float:
        return 1.0

    def look(self) -> None:
        """Take in what has come on any line."""
        while ready := select.select(list(self._watched), [], [], 0.0)[0]:
            self._watched[ready[0]]()


class Server:
    """A parameter server of two partitions of two batches, and all it speaks to."""

    def __init__(self, folder: Path, rules: PushPullRules) -> None:
        self.folder, self.master = folder, Master()
        master: Any = self.master
        self.names: dict[int, str] = {}
        self.errors: list[BaseException] = []
        self.tally = Tally()
        plan: Any = SimpleNamespace(
            folder=str(folder), width=None, push_size=1, rows=SimpleNamespace(n_examples=(2, 2))
        )
        self.n_steps = 0
        self.pushing = Pushing(
            master, plan, np.zeros(D), SGD(1.0), rules,
            agreement=Agreement(Counter(), master, self.errors.append, trusted=False),
            names=self.names, tally=self.tally, on_step=self._note_step, fail=self.errors.append,
        )  # fmt: skip
        self.pushing.open()

    def _note_step(self) -> None:
        self.n_steps += 1

    @property
    def w(self) -> list[float]:
        return [float(x) for x in self.pushing.server.w]

    def worker(self, partition: int, *, is_far: bool) -> Worker:
        agent = Agent(f"machine {partition}", "")
        life = self.master.roster.join(0.0, f"w{partition}", agent, b"%d" % partition)
        self.names[life.incarnation] = life.worker_id
        return Worker(self, life, partition, is_far=is_far)


class Worker:
    """One of its workers, at its partition."""

    def __init__(self, server: Server, life: Any, partition: int, *, is_far: bool) -> None:
        self.server, self.life, self.partition, self.is_far = server, life, partition, is_far
        self.seq = 0
        self.line: socket.socket | None = None

    def call(self, method: str, body: Payload) -> CallService:
        return CallService(self.life.incarnation, 1, 1, 1, "training", method, body)

    def join(self) -> int:
        """Join; return the batch to go on with."""
        asked = Payload(PayloadKind.PLAIN, JOIN.pack(0, self.partition, self.is_far))
        joined = self.server.pushing.join(self.call("join", asked), (0, self.partition), 5.0)
        self.ticket, _, cursor, self.seq, self.version, _ = JOINED.unpack(joined.data)
        return int(cursor)

    def push(self, batch: int, g: float, compute_s: float = 0.0) -> Verdict | None:
        """Push, and return what is said to it at once, if anything is."""
        self.seq += 1
        vector = np.full(D, g)
        if self.is_far:
            numbers = (self.seq, batch, self.version, 1, compute_s, vector)
            body = calls.encode_value(numbers, trusted=False)
            self.server.pushing.call(self.call("push_pull", body), (0, self.partition))
        else:
            path = self.server.folder / f"gradient{self.life.incarnation}"
            SharedVector.open(path, D, np.float64, writable=True).array[:] = vector
            if self.line is None:
                self.line = socket.socket(socket.AF_UNIX)
                self.line.connect(str(self.server.folder / LINE))
            numbers = (self.ticket, self.seq, batch, self.version, 1, compute_s, 0, 0, 0)
            with suppress(BrokenPipeError):  # hung up: that is heard
                self.line.send(PUSH.pack(*numbers))
            self.server.master.look()
        return self.hear()

    def hear(self) -> Verdict | None:
        """Return what was said to it, if anything was.

        Raises
        ------
        EOFError
            If its line was hung up.
        """
        if self.is_far:
            posted = self.server.master.posted
            mine = [each for each in posted if each.incarnation == self.life.incarnation]
            if not mine:
                return None
            posted.remove(mine[0])
            assert type(mine[0]) is ServiceReplied
            said = mine[0].body.data
        else:
            assert self.line is not None
            if not select.select([self.line], [], [], 0.0)[0]:
                return None
            said = self.line.recv(REPLY.size)
            if not said:
                raise EOFError
        verdict, self.version, _ = REPLY.unpack(said)
        return Verdict(verdict)

    def fall_silent(self) -> None:
        """Be suspect, and be given up."""
        self.life.step(Change.MISS)
        self.server.pushing.give_up(self.partition, self.life.worker_id)

    def hang_up(self) -> None:
        if self.line is not None:
            self.line.close()


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(tmp_path, getattr(request, "param", BULK))
    yield made
    made.pushing.answers.close()
    made.pushing.desk.close()
    del made.pushing  # and what it has mapped


@pytest.fixture(params=[False, True], ids=["near", "far"])
def pair(server: Server, request: pytest.FixtureRequest) -> Iterator[list[Worker]]:
    workers = [server.worker(k, is_far=request.param) for k in (0, 1)]
    assert [worker.join() for worker in workers] == [0, 0]
    yield workers
    for worker in workers:
        worker.hang_up()


def test_who_waits_for_a_silent_worker_goes_on_without_it(
    server: Server, pair: list[Worker]
) -> None:
    first, silent = pair
    assert first.push(0, -1.0) is None, "the step is taken by both"
    silent.fall_silent()
    assert first.hear() is Verdict.APPLIED
    assert server.w == [1.0] * D
    assert first.push(1, -1.0) is Verdict.APPLIED
    assert server.pushing.server.cursors == [2, 0]


def test_a_silent_worker_that_waited_itself_is_told_and_its_gradient_does_not_count(
    server: Server, pair: list[Worker]
) -> None:
    silent, other = pair
    assert silent.push(0, -64.0) is None
    silent.fall_silent()
    assert server.n_steps == 0
    if silent.is_far:
        assert silent.hear() is Verdict.STALE
    else:
        with pytest.raises(EOFError):
            silent.hear()
    assert other.push(0, -1.0) is Verdict.APPLIED
    assert server.w == [1.0] * D


def test_another_worker_goes_on_at_the_cursor_and_the_former_one_is_fenced(
    server: Server, pair: list[Worker]
) -> None:
    first, other = pair
    assert (first.push(0, -1.0), other.push(0, -1.0)) == (None, Verdict.APPLIED)
    assert first.hear() is Verdict.APPLIED
    first.fall_silent()
    assert other.push(1, -1.0) is Verdict.APPLIED
    other.partition = 0
    assert other.join() == 1
    if first.is_far:  # the job core passes on what the current attempt of a job says, alone
        assert first.push(1, -64.0) is Verdict.STALE
    else:
        with pytest.raises(EOFError):
            first.push(1, -64.0)
    assert other.push(1, -1.0) is Verdict.APPLIED
    assert server.w == [3.0] * D
    assert server.pushing.server.is_epoch_complete
    assert server.errors == []


def test_who_has_left_its_seat_to_another_is_not_missed(server: Server, pair: list[Worker]) -> None:
    first, other = pair
    other.partition = 0
    other.join()
    first.fall_silent()
    assert server.pushing.server.seats[0].incarnation == other.life.incarnation


@pytest.mark.parametrize("server", [ASYNC], indirect=True)
def test_workers_tell_with_each_push_how_long_they_have_computed(
    server: Server, pair: list[Worker]
) -> None:
    first, _ = pair
    assert first.push(0, -1.0, compute_s=1e9) is Verdict.APPLIED
    told, untold = (server.tally.now()[name] for name in ("w0", "w1"))
    assert 0 < told.compute_s == told.total_s - told.wait_s
    assert (untold.compute_s, untold.wait_s) == (0.0, 5.0)


@pytest.mark.parametrize("body", [b"", JOIN.pack(0, 1, True), JOIN.pack(1, 0, True)])
def test_who_joins_for_something_else_is_refused(server: Server, body: bytes) -> None:
    worker = server.worker(0, is_far=True)
    call = worker.call("join", Payload(PayloadKind.PLAIN, body))
    with pytest.raises(RemoteProtocolError):
        server.pushing.join(call, (0, 0), 0.0)
    assert not server.pushing.server.seats
