"""The driver of asynchronous SGD: a service that applies what workers push.

Rule 1: an epoch is p jobs, each with one live attempt, that call the service for every batch.
Rule 2: a worker's gradient lies in a vector that belongs to its incarnation; what rings says only
        which batch it is of.
Rule 3: the weights rotate through a few buffers: new ones are written to a buffer nobody reads. So
        nobody sees half a step, and nothing is copied.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import Diverged, LocalProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.internals import Internals
from paramserver.training.buffers import Rotation
from paramserver.training.checkpoint_file import TrainingState
from paramserver.training.optimizers import Optimizer
from paramserver.training.plan import TrainingPlan
from paramserver.training.push_pull import ParameterServer, Push, PushPullRules, Verdict
from paramserver.training.run import TrainingRun
from paramserver.training.vector import FloatVector
from paramserver.training.work import JOIN, JOINED, LINE, PUSH, REPLY, train_partition
from paramserver.transport.lines import Exchange
from paramserver.transport.shm import SharedVector


class Ticket(NamedTuple):
    """Who may push for a partition: the attempt that joined last."""

    incarnation: int
    epoch: int
    partition: int


class PushPullRun(TrainingRun):
    """One training by pushes to a parameter server.

    Parameters
    ----------
    internals : Internals
    plan : TrainingPlan
    w : ndarray
        The weights to start from.
    optimizer : Optimizer
    epochs : int
    rules : PushPullRules
    """

    def __init__(
        self,
        internals: Internals,
        plan: TrainingPlan,
        w: FloatVector,
        optimizer: Optimizer,
        epochs: int,
        rules: PushPullRules,
    ) -> None:
        super().__init__(internals, plan, pure=False)
        self._folder = Path(plan.folder)
        self._buffers = Rotation(self._folder, w)
        start = self._buffers.array(self._buffers.current)
        n_examples = plan.rows.n_examples
        self.server = ParameterServer(start, optimizer, n_examples, plan.push_size, rules)
        self._optimizer = optimizer
        self._epochs = epochs
        self._n_running = 0
        self._gradients: dict[int, SharedVector] = {}
        self._tickets: dict[int, Ticket] = {}
        self._lines: dict[int, int] = {}
        """Number of the line of each incarnation."""
        self._exchange: Exchange | None = None
        self._is_bulk = rules.staleness_bound == 0
        self._version_at_nudge = -1

    def _restore(self, state: TrainingState) -> None:
        arrays = state.arrays
        np.copyto(self._buffers.array(self._buffers.current), arrays["w"])
        n_vectors = sum(name.startswith("optimizer.") for name in arrays)
        vectors = [arrays[f"optimizer.{i}"] for i in range(n_vectors)]
        self._optimizer.restore(state.meta["optimizer_steps"], vectors)
        self.server.restore(state.meta["books"])

    def nudge(self) -> None:
        """Go on without those who have not joined, if nothing has moved since the last nudge."""
        if self._is_bulk:
            self._master.ask(lambda _: self._guard(self._nudge))

    # --- jobs, on the I/O thread ------------------------------------------------------------------

    def _state(self) -> TrainingState:
        server, optimizer = self.server, self._optimizer
        arrays = {"w": server.w.copy()}
        arrays |= {f"optimizer.{i}": vector.copy() for i, vector in enumerate(optimizer.state)}
        meta = {
            "unit": server.version,
            "optimizer_steps": optimizer.n_steps,
            "books": server.books(),
        }
        return TrainingState(meta, arrays)

    def _begin(self) -> None:
        master = self._master
        self._exchange = Exchange(
            self._folder / LINE, PUSH.size, self._on_question, master.watch, master.unwatch
        )
        self._hand_in()

    def _open_epoch(self, number: int) -> None:
        server = self.server
        if number >= self._epochs or server.stopped:
            self._offer(server.w, server.version, is_last=True)
            return
        server.open_epoch(number)
        self._hand_in()

    def _hand_in(self) -> None:
        """Have the rest of an epoch worked on: all of it, or what a checkpoint has left of it."""
        server = self.server
        ends = zip(server.cursors, server.n_batches, strict=True)
        partitions = [k for k, (cursor, end) in enumerate(ends) if cursor < end]
        if server.epoch >= self._epochs or not partitions:
            self._open_epoch(server.epoch + 1)
            return
        server.capacity = self._internals.n_workers()
        self._n_running = len(partitions)
        self._submit(train_partition, server.epoch, partitions)

    def _stop(self) -> None:
        for incarnation in self.server.stop():
            self._answer_to(incarnation, Verdict.STOP)

    def _give_up(self) -> None:
        self._stop()

    def _job_done(self, what: tuple[int, int], payload: Payload) -> None:
        _, compute_s = calls.decode_value(payload, trusted=self._internals.trusted)
        self.compute_s += compute_s
        self._n_running -= 1
        if self._n_running == 0:
            self._open_epoch(what[0] + 1)

    def _answer(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        if command.method != "join":
            raise LocalProtocolError(f"Push and pull have no method '{command.method}'.")
        body = self._join(command.incarnation, command.body)
        return (self._reply(command, now, Payload(PayloadKind.PLAIN, body)),)

    def _join(self, incarnation: int, body: Payload) -> bytes:
        """Seat the attempt that asks; the job core has made sure that it is the current one."""
        epoch, partition = JOIN.unpack(body.data)
        number = secrets.randbits(64)
        for old, ticket in list(self._tickets.items()):
            if ticket.partition == partition or ticket.incarnation == incarnation:
                del self._tickets[old]
        self._tickets[number] = Ticket(incarnation, epoch, partition)
        if incarnation not in self._gradients:
            learner = self.plan.learner
            path = self._folder / f"gradient{incarnation}"
            self._gradients[incarnation] = SharedVector.create(path, learner.size, learner.dtype)
        server = self.server
        cursor, seq = server.join(incarnation, epoch, partition), server.last_seq(incarnation)
        buffer = self._buffers.look(incarnation)
        return JOINED.pack(number, incarnation, cursor, seq, server.version, buffer)

    def _forget(self, incarnation: int) -> None:
        self.server.forget(incarnation)
        self.server.capacity = self._internals.n_workers()
        self._buffers.lose(incarnation)
        for number, ticket in list(self._tickets.items()):
            if ticket.incarnation == incarnation:
                del self._tickets[number]
        line = self._lines.pop(incarnation, None)
        if line is not None and self._exchange is not None:
            self._exchange.hang_up(line)
        gradient = self._gradients.pop(incarnation, None)
        if gradient is not None:
            gradient.unlink()
        self._regroup()

    # --- pushes, on the I/O thread ----------------------------------------------------------------

    def _on_question(self, line: int, question: bytes) -> None:
        assert self._exchange is not None
        try:
            number, seq, batch, seen = PUSH.unpack(question)
            ticket = self._tickets.get(number)
            if ticket is None:  # an attempt that does not count any more
                self.server.counters["fenced"] += 1
                self._exchange.hang_up(line)
                return
            self._lines[ticket.incarnation] = line
            self._push_pull(Push(ticket.incarnation, seq, *ticket[1:], batch, seen))
        except Exception as error:  # noqa: BLE001 - it ends the training, not the master
            self._fail(error)
            self._exchange.hang_up(line)

    def _push_pull(self, push: Push) -> None:
        server, buffers = self.server, self._buffers
        buffers.look_away(push.incarnation)
        spare = buffers.take()
        began = perf_counter()
        verdict = server.push(push, self._gradients[push.incarnation].array, buffers.array(spare))
        self.apply_s += perf_counter() - began
        self._take_up(spare, verdict, push)
        if verdict not in (Verdict.APPLIED, Verdict.HELD):
            self._answer_to(push.incarnation, verdict)

    def _regroup(self, *, impatient: bool = False) -> None:
        """See whether somebody waited only for one who is gone."""
        spare = self._buffers.take()
        verdict = self.server.regroup(self._buffers.array(spare), impatient=impatient)
        self._take_up(spare, verdict, None)

    def _nudge(self) -> None:
        if self.server.version == self._version_at_nudge:
            self._regroup(impatient=True)
        self._version_at_nudge = self.server.version

    def _take_up(self, spare: int, verdict: Verdict, push: Push | None) -> None:
        """Make new weights current, if there are any, and give the answers that are due."""
        server = self.server
        if verdict is Verdict.APPLIED:
            self._buffers.make_current(spare)
            self.examples = server.examples
            if self._wants_snapshot:
                self._offer(server.w, server.version)
        else:
            self._buffers.put_back(spare)
            if verdict is Verdict.DIVERGED:
                raise self._diverged(push)
        for incarnation in server.take_due():
            self._answer_to(incarnation, Verdict.APPLIED)

    def _answer_to(self, incarnation: int, verdict: Verdict) -> None:
        line = self._lines.get(incarnation)
        if line is not None and self._exchange is not None:
            buffer = self._buffers.look(incarnation)
            self._exchange.answer(line, REPLY.pack(verdict, self.server.version, buffer))

    def _diverged(self, push: Push | None) -> Diverged:
        where = "" if push is None else f" (epoch {push.epoch}, partition {push.partition})"
        return Diverged(
            f"Update {self.server.version}{where} would make the weights overflow; it was not "
            "applied. The learning rate is too large; try a tenth of it.",
            round=self.server.version,
            partitions=() if push is None else (push.partition,),
        )

    def _leave(self) -> None:
        if self._exchange is not None:
            self._exchange.close()

    def _release(self) -> None:
        self._gradients.clear()
        self._buffers.clear()
