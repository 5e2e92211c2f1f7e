"""The driver of asynchronous SGD: a service that applies what workers push.

Rule 1: an epoch is p jobs, each with one live attempt, that call the service for every batch.
Rule 2: who may push is the attempt that joined last for its partition. A near one shows a ticket on
        its line; a far one calls over its own connection, and the job core knows its attempt.
Rule 3: a refused push has changed nothing, and is counted; its worker is told why.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import Diverged, PoisonJob, RemoteProtocolError
from paramserver.protocol.arrays import unpack_plain
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.internals import Internals
from paramserver.training.answers import Answers
from paramserver.training.checkpoint_file import TrainingState
from paramserver.training.desks import NO_ROWS, Desk, Question, RowDesk, WholeDesk
from paramserver.training.diverged import update_diverged
from paramserver.training.formats import JOIN, JOINED, PUSH, payload_of
from paramserver.training.measures import Measures
from paramserver.training.optimizers import Optimizer
from paramserver.training.plan import TrainingPlan
from paramserver.training.push_pull import ParameterServer
from paramserver.training.pushes import Push, PushPullRules, Verdict
from paramserver.training.run import TrainingRun
from paramserver.training.seats import Seats
from paramserver.training.tally import PartitionState
from paramserver.training.training_jobs import SETUP
from paramserver.training.vector import FloatVector
from paramserver.training.work import train_partition


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
    in_step : bool, default=False
        Begin an epoch only when the weights before it have been looked at.
    """

    def __init__(
        self,
        internals: Internals,
        plan: TrainingPlan,
        w: FloatVector,
        optimizer: Optimizer,
        epochs: int,
        rules: PushPullRules,
        *,
        in_step: bool = False,
    ) -> None:
        super().__init__(internals, plan, pure=False, in_step=in_step)
        self._folder = Path(plan.folder)
        self._desk: Desk = (
            WholeDesk(self._folder, w)
            if plan.width is None
            else RowDesk(self._folder, w, plan.width)
        )
        self.server = ParameterServer(
            self._desk.start,
            optimizer,
            plan.rows.n_examples,
            plan.push_size,
            rules,
            width=plan.width,
        )
        self._optimizer = optimizer
        self._epochs = epochs
        self._n_running = 0
        self._handed_out_at: dict[int, int] = {}
        """Cursor of each partition when its job was handed out."""
        self._seats = Seats()
        self._answers = Answers(self._master, self._desk, self.server)
        self._asked_s = 0.0
        """From questions to their answers, as the workers have seen it."""
        self._is_bulk = rules.staleness_bound == 0
        self._version_at_nudge = -1
        self._staleness_before: dict[str, Counter[int]] = {}
        """Of the workers of the masters that had this training before."""
        self._second_chances: set[tuple[int, int]] = set()
        """Work that was handed out once more, since one worker alone had failed at it."""
        self._first_bad: Push | None = None
        """The first push whose gradient was not finite."""

    def _restore(self, state: TrainingState) -> None:
        arrays = state.arrays
        np.copyto(self._desk.start, arrays["w"])
        n_vectors = sum(name.startswith("optimizer.") for name in arrays)
        vectors = [arrays[f"optimizer.{i}"] for i in range(n_vectors)]
        self._optimizer.restore(state.meta["optimizer_steps"], vectors)
        self.server.restore(state.meta["books"])
        self._staleness_before = {
            name: Counter({int(staleness): n for staleness, n in counts.items()})
            for name, counts in state.meta["staleness_by_worker"].items()
        }

    @property
    def unit(self) -> int:
        """Updates so far."""
        return self.server.version

    def partitions(self) -> list[PartitionState]:
        """Return how far the training is with each partition, and who is at it now."""
        seats = dict(self.server.seats)
        names = self.worker_names
        return [
            state._replace(owner=names.get(seats[state.partition].incarnation, state.owner))
            if state.partition in seats
            else state
            for state in super().partitions()
        ]

    def _epochs_of(self, partition: int) -> float:
        server = self.server
        return server.epoch + server.cursors[partition] / server.n_batches[partition]

    def nudge(self) -> None:
        """Go on without those who have not joined, if nothing has moved since the last nudge."""
        if self._is_bulk:
            self._master.ask(lambda _: self._guard(self._nudge))

    def _measures(self) -> Measures:
        return Measures(
            self.compute_s,
            max(0.0, self._answers.waited_s - self.apply_s),
            max(0.0, self._asked_s - self._answers.waited_s),
            self.apply_s,
            self._desk.pushed_bytes,
            self._desk.pulled_bytes,
            self._rows_desk.n_bytes,
        )

    def refused(self) -> dict[str, int]:
        """Return what was not applied, by reason."""
        return dict(self.server.counters + self.counters)

    @property
    def staleness(self) -> Counter[int]:
        """How many updates had which staleness."""
        return self.server.staleness

    @property
    def staleness_by_worker(self) -> dict[str, Counter[int]]:
        """How many updates of each worker had which staleness."""
        found = {name: Counter(counts) for name, counts in self._staleness_before.items()}
        for incarnation, staleness in self.server.staleness_of.items():
            found.setdefault(self.worker_names.get(incarnation, "?"), Counter()).update(staleness)
        return found

    # --- jobs, on the I/O thread ------------------------------------------------------------------

    def _vectors(self) -> dict[str, FloatVector]:
        state = {f"optimizer.{i}": vector for i, vector in enumerate(self._optimizer.state)}
        return {"w": self.server.w} | state

    def _facts(self) -> dict[str, Any]:
        return {
            "unit": self.server.version,
            "optimizer_steps": self._optimizer.n_steps,
            "books": self.server.books(),
            "staleness_by_worker": self.staleness_by_worker,
        }

    def _begin(self) -> None:
        self._answers.open_lines(self._folder, self._on_ring)
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
        self._hand_out(partitions)

    def _hand_out(self, partitions: Sequence[int]) -> None:
        self._handed_out_at |= {k: self.server.cursors[k] for k in partitions}
        self._submit(train_partition, self.server.epoch, partitions)

    def _job_failed(self, what: tuple[int, int], error: BaseException) -> None:
        """Go on where it may be the worker's fault, or nobody's, and not that of the work."""
        epoch, partition = what
        has_moved = epoch != SETUP and (
            self.server.cursors[partition] > self._handed_out_at[partition]
        )
        if isinstance(error, PoisonJob) and has_moved:  # it is long, not the killer of its workers
            self._hand_out((partition,))
        elif (suspect := self._only_suspect(what)) is not None:
            self._second_chances.add(what)
            self._agreement.expel(suspect, "had only gradients that are not finite for some work")
            self._hand_out((partition,))
        else:
            super()._job_failed(what, error)

    def _only_suspect(self, what: tuple[int, int]) -> int | None:
        """Return who alone has tried some work, each time in vain, if another one could try it."""
        if what in self._second_chances or len(self._agreement.workers()) == 1:
            return None
        return self._agreement.trust.only_doubted(what)

    def _stop(self) -> None:
        for incarnation in self.server.stop():
            self._answers.give(incarnation, Verdict.STOP)

    def _go_on(self) -> None:
        self._open_epoch(self.server.epoch + 1)

    def _give_up(self) -> None:
        self._stop()

    def _job_done(self, what: tuple[int, int], payload: Payload, worker_id: str) -> None:
        match self._agreement.read(payload):
            case (int(), float(compute_s), float(asked_s)) if 0 <= compute_s + asked_s < inf:
                self.compute_s += compute_s
                self._asked_s += asked_s
                self.tally.work(worker_id, compute_s, self._waited_s(worker_id))
            case _:
                self._agreement.strike(worker_id, "given back what is no result")
        _, partition = what
        server = self.server
        if not server.stopped and server.cursors[partition] < server.n_batches[partition]:
            self._agreement.strike(worker_id, f"ended amid partition {partition}")
            self._hand_out((partition,))  # the rest, by whomever
            return
        if (worker := self._agreement.workers().get(worker_id)) is not None:
            for accused in self._agreement.trust.finish(what, worker.incarnation):
                self._agreement.accuse(
                    accused, "had gradients that are not finite where another had not"
                )
        self._n_running -= 1
        if self._n_running == 0:
            if self._lookout.in_step:
                self._offer(server.w, server.version)
            else:
                self._go_on()

    def _waited_s(self, worker_id: str) -> float:
        """Return how long a worker has waited for answers in the job that it has ended."""
        names = self.worker_names
        return self._answers.take_waited_s(n for n, name in names.items() if name == worker_id)

    def _answer(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        what = self._jobs.unsettled.get(command.job)
        if what is None:  # it has ended meanwhile
            self.server.counters["stale"] += 1
            return (self._refuse(command, now),)
        if command.method == "join":
            return (self._reply(command, now, self._join(command)),)
        if command.method not in ("push_pull", "pull"):
            raise RemoteProtocolError(f"push and pull have no method {command.method!r}", peer="")
        self._on_call(command, *what)
        return ()

    def _join(self, command: CallService) -> Payload:
        """Seat the attempt that asks; the job core has made sure that it is the current one."""
        try:
            epoch, partition, is_far = JOIN.unpack(command.body.data)
        except struct.error as error:
            raise RemoteProtocolError("a worker joins with other numbers", peer="") from error
        if self._jobs.unsettled[command.job] != (epoch, partition):
            raise RemoteProtocolError("a worker joins for what is not its job", peer="")
        incarnation = command.incarnation
        number = self._seats.take(incarnation, epoch, partition)
        self._answers.drop(incarnation)
        server = self.server
        cursor, seq = server.join(incarnation, epoch, partition), server.last_seq(incarnation)
        self._agreement.trust.begin(incarnation, (epoch, partition))
        buffer = self._desk.seat(incarnation, is_far=bool(is_far))
        joined = JOINED.pack(number, incarnation, cursor, seq, server.version, buffer)
        if is_far and self.plan.width is None:
            return payload_of(joined, self._desk.send(incarnation, NO_ROWS, server.w))
        return Payload(PayloadKind.PLAIN, joined)

    def _forget(self, incarnation: int) -> None:
        self.server.forget(incarnation)
        self.server.capacity = self._internals.n_workers()
        self._desk.lose(incarnation)
        self._answers.forget(incarnation)
        line = self._seats.clear(incarnation)
        if line is not None:
            self._answers.hang_up(line)
        self._regroup()

    # --- pushes, on the I/O thread ----------------------------------------------------------------

    def _on_ring(self, line: int, question: bytes) -> None:
        """Take in a push of a near worker."""
        try:
            number, seq, batch, seen, examples, *slot = PUSH.unpack(question)
            ticket = self._seats.admit(number, line)
            if ticket is None:  # an attempt that does not count any more
                self.server.counters["fenced"] += 1
                self._answers.hang_up(line)
                return
            incarnation = ticket.incarnation
            asked = self._desk.near_question(incarnation, *slot)
            push = Push(incarnation, seq, ticket.epoch, ticket.partition, batch, seen, examples)
            self._take_push(push, asked, line)
        except Exception as error:  # noqa: BLE001 - it ends the training, not the master
            self.is_sound = False
            self._lookout.fail(error)
            self._answers.hang_up(line)

    def _on_call(self, command: CallService, epoch: int, partition: int) -> None:
        """Take in a push of a far worker."""
        incarnation = command.incarnation
        try:
            asked = unpack_plain(command.body.data, command.body.buffers)
            if command.method == "pull":
                push = Push(incarnation, 0, epoch, partition, 0, 0)
                question = self._desk.far_question(asked)
            else:
                match asked:
                    case (int(seq), int(batch), int(seen), int(examples), *rest):
                        push = Push(incarnation, seq, epoch, partition, batch, seen, examples)
                        question = self._desk.far_question(tuple(rest))
                    case _:
                        raise RemoteProtocolError("a push has other numbers", peer="")
        except RemoteProtocolError:
            nothing = Push(incarnation, 0, epoch, partition, 0, 0)
            self._turn_down(nothing, Verdict.MISMATCHED, command)
            return
        self._take_push(push, question, command)

    def _take_push(self, push: Push, question: Question, to: int | CallService) -> None:
        server, desk = self.server, self._desk
        g, want = question
        began = perf_counter()
        fault = desk.fault_of(want)
        if fault is not None:
            self._turn_down(push, fault, to)
            return
        if push.seq == 0 and server.width is not None:  # it only pulls
            self._answers.send(to, push.incarnation, Verdict.APPLIED, want)
            return
        self._answers.hold(push.incarnation, to, want, began)
        number, spare = desk.take_spare(push.incarnation)
        verdict = server.push(push, g, spare)
        self.apply_s += perf_counter() - began
        self._take_up(number, verdict, push)
        if verdict is Verdict.NONFINITE and self._first_bad is None:
            self._first_bad = push
        if verdict not in (Verdict.APPLIED, Verdict.HELD):
            self._answers.give(push.incarnation, verdict)
            self._distrust(push, verdict)

    def _turn_down(self, push: Push, fault: Verdict, to: int | CallService) -> None:
        """Refuse what is not even a push that could be judged."""
        self.server.counters[fault.name.lower()] += 1
        self._answers.send(to, push.incarnation, fault, NO_ROWS)
        self._distrust(push, fault)

    def _distrust(self, push: Push, verdict: Verdict) -> None:
        if self._agreement.trust.refuse(push, verdict):
            self._agreement.accuse(push.incarnation, f"pushed what is {verdict.name.lower()}")

    def _regroup(self, *, impatient: bool = False) -> None:
        """See whether somebody waited only for one who is gone."""
        number, spare = self._desk.take_spare(0)
        verdict = self.server.regroup(spare, impatient=impatient)
        self._take_up(number, verdict, None)

    def _nudge(self) -> None:
        if self.server.version == self._version_at_nudge:
            self._regroup(impatient=True)
        self._version_at_nudge = self.server.version

    def _take_up(self, spare: int, verdict: Verdict, push: Push | None) -> None:
        """Make new weights current, if there are any, and give the answers that are due."""
        server = self.server
        self._desk.settle(spare, is_taken=verdict is Verdict.APPLIED)
        if verdict is Verdict.APPLIED:
            self.examples = server.examples
            if self._lookout.is_asked and not self._lookout.in_step:
                self._offer(server.w, server.version)
        elif verdict is Verdict.DIVERGED:
            raise self._diverged(push)
        for incarnation in server.take_due():
            self._answers.give(incarnation, Verdict.APPLIED)

    def _diverged(self, push: Push | None) -> Diverged:
        """Say which push would have made the weights infinite, or is not finite itself."""
        worker = "" if push is None else self.worker_names.get(push.incarnation, "")
        is_gradient = push is not None and push is self._first_bad
        server = self.server
        return update_diverged(server.version, push, worker, server.w, is_gradient=is_gradient)

    def _explain(self, what: tuple[int, int], error: BaseException) -> BaseException:
        """Tell a job that failed for its gradient, on every try, from others."""
        bad = self._first_bad
        if bad is None or (bad.epoch, bad.partition) != what:
            return error
        if self.server.cursors[bad.partition] != bad.batch:
            return error  # another worker could compute it
        diverged = self._diverged(bad)
        diverged.__cause__ = error
        return diverged

    def _leave(self) -> None:
        super()._leave()
        self._answers.close()

    def _release(self) -> None:
        super()._release()
        self._desk.close()
