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

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import Diverged, LocalProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.internals import Internals
from paramserver.training.buffers import Rotation
from paramserver.training.optimizers import Optimizer
from paramserver.training.plan import TrainingPlan
from paramserver.training.push_pull import ParameterServer, Push, Verdict
from paramserver.training.run import TrainingRun
from paramserver.training.vector import FloatVector
from paramserver.training.work import JOIN, JOINED, LINE, PUSH, REPLY, train_partition
from paramserver.transport.lines import Exchange
from paramserver.transport.shm import SharedVector


class Seat(NamedTuple):
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
    """

    def __init__(
        self,
        internals: Internals,
        plan: TrainingPlan,
        w: FloatVector,
        optimizer: Optimizer,
        epochs: int,
    ) -> None:
        super().__init__(internals, plan, pure=False)
        self._folder = Path(plan.folder)
        self._buffers = Rotation(self._folder, w)
        self.server = ParameterServer(
            self._buffers.array(self._buffers.current), optimizer, plan.n_batches
        )
        self._epochs = epochs
        self._n_running = 0
        self._gradients: dict[int, SharedVector] = {}
        self._seats: dict[int, Seat] = {}
        """By their tickets."""
        self._lines: dict[int, int] = {}
        """Descriptor of the line of each incarnation."""
        self._exchange: Exchange | None = None

    # --- on the I/O thread ------------------------------------------------------------------------

    def _begin(self) -> None:
        master = self._master
        self._exchange = Exchange(
            self._folder / LINE, PUSH.size, self._on_question, master.watch, master.unwatch
        )
        self._open_epoch(0)

    def _open_epoch(self, number: int) -> None:
        if number >= self._epochs or self.server.stopped:
            self._offer(self.server.w, self.server.version, is_last=True)
            return
        self.server.open_epoch(number)
        partitions = range(len(self.plan.n_batches))
        self._n_running = len(partitions)
        self._submit(train_partition, number, partitions)

    def _stop(self) -> None:
        self.server.stop()

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
        ticket = secrets.randbits(64)
        for old, seat in list(self._seats.items()):
            if seat.partition == partition or seat.incarnation == incarnation:
                del self._seats[old]
        self._seats[ticket] = Seat(incarnation, epoch, partition)
        if incarnation not in self._gradients:
            learner = self.plan.learner
            path = self._folder / f"gradient{incarnation}"
            self._gradients[incarnation] = SharedVector.create(path, learner.size, learner.dtype)
        server = self.server
        cursor, seq = server.cursor(epoch, partition), server.last_seq(incarnation)
        buffer = self._buffers.look(incarnation)
        return JOINED.pack(ticket, incarnation, cursor, seq, server.version, buffer)

    def _on_question(self, line: int, question: bytes) -> None:
        assert self._exchange is not None
        try:
            ticket, seq, batch, seen = PUSH.unpack(question)
            seat = self._seats.get(ticket)
            if seat is None:  # an attempt that does not count any more
                self.server.counters["fenced"] += 1
                self._exchange.hang_up(line)
                return
            self._lines[seat.incarnation] = line
            self._exchange.answer(line, self._push_pull(seat, seq, batch, seen))
        except Exception as error:  # noqa: BLE001 - it ends the training, not the master
            self._fail(error)
            self._exchange.hang_up(line)

    def _push_pull(self, seat: Seat, seq: int, batch: int, seen: int) -> bytes:
        incarnation, epoch, partition = seat
        server, buffers = self.server, self._buffers
        buffers.look_away(incarnation)
        spare = buffers.take()
        began = perf_counter()
        push = Push(incarnation, seq, epoch, partition, batch, seen)
        verdict = server.push(push, self._gradients[incarnation].array, buffers.array(spare))
        self.apply_s += perf_counter() - began
        if verdict is Verdict.APPLIED:
            buffers.make_current(spare)
            self.examples += self._batch_examples(partition, batch)
            if self._wants_snapshot:
                self._offer(server.w, server.version)
        else:
            buffers.put_back(spare)
            if verdict is Verdict.DIVERGED:
                raise Diverged(
                    f"Update {server.version} (epoch {epoch}, partition {partition}, batch "
                    f"{batch}) would make the weights overflow; it was not applied. The learning "
                    "rate is too large; try a tenth of it.",
                    round=server.version,
                    partitions=(partition,),
                )
        return REPLY.pack(verdict, server.version, buffers.look(incarnation))

    def _batch_examples(self, partition: int, batch: int) -> int:
        size, n = self.plan.batch_size, self.plan.rows.n_examples[partition]
        return min(size, n - batch * size)

    def _forget(self, incarnation: int) -> None:
        self.server.forget(incarnation)
        self._buffers.lose(incarnation)
        for ticket, seat in list(self._seats.items()):
            if seat.incarnation == incarnation:
                del self._seats[ticket]
        line = self._lines.pop(incarnation, None)
        if line is not None and self._exchange is not None:
            self._exchange.hang_up(line)
        gradient = self._gradients.pop(incarnation, None)
        if gradient is not None:
            gradient.unlink()

    def _leave(self) -> None:
        if self._exchange is not None:
            self._exchange.close()

    def _release(self) -> None:
        self._gradients.clear()
        self._buffers.clear()
