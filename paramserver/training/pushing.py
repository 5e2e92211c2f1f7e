"""What workers push, from the question to the answer: judged, applied, told what became of it.

Rule 1: who may push is the attempt that joined last for its partition. A near one shows a ticket on
        its line; a far one calls over its own connection, and the job core knows its attempt.
Rule 2: a refused push has changed nothing, and is counted; its worker is told why.
Rule 3: it knows nothing of jobs and epochs. Everything happens on the master's I/O thread.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter

from paramserver.core.commands import CallService
from paramserver.core.roster import WorkerState
from paramserver.errors import Diverged, RemoteProtocolError
from paramserver.protocol.arrays import unpack_plain
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.master import Master
from paramserver.training.agreement import Agreement
from paramserver.training.answers import Answers
from paramserver.training.desks import NO_ROWS, Desk, Question, RowDesk, WholeDesk
from paramserver.training.diverged import update_diverged
from paramserver.training.formats import JOIN, JOINED, PUSH, payload_of
from paramserver.training.optimizers import Optimizer
from paramserver.training.plan import TrainingPlan
from paramserver.training.push_pull import ParameterServer
from paramserver.training.pushes import Push, PushPullRules, Verdict
from paramserver.training.seats import Seats
from paramserver.training.tally import Tally
from paramserver.training.vector import FloatVector

Work = tuple[int, int]
"""An epoch and a partition."""


class Pushing:
    """The parameter server of one training, and all that comes to it.

    Parameters
    ----------
    master : Master
    plan : TrainingPlan
    w : ndarray
        The weights to start from.
    optimizer : Optimizer
    rules : PushPullRules
    agreement : Agreement
        Learns of who pushes what it should not.
    names : mapping of int to str
        Of the workers, by incarnation.
    tally : Tally
        Is told what workers say of their time.
    on_step : callable
        Called when there are new weights.
    fail : callable
        Ends the training with an error amid a step.

    Attributes
    ----------
    server : ParameterServer
    desk : Desk
    answers : Answers
    apply_s : float
        Seconds spent in judging and applying.
    """

    def __init__(
        self,
        master: Master,
        plan: TrainingPlan,
        w: FloatVector,
        optimizer: Optimizer,
        rules: PushPullRules,
        *,
        agreement: Agreement,
        names: Mapping[int, str],
        tally: Tally,
        on_step: Callable[[], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._folder = Path(plan.folder)
        self._is_whole = plan.width is None
        self.desk: Desk = (
            WholeDesk(self._folder, w)
            if plan.width is None
            else RowDesk(self._folder, w, plan.width)
        )
        sizes = plan.rows.n_examples
        self.server = ParameterServer(
            self.desk.start, optimizer, sizes, plan.push_size, rules, width=plan.width
        )
        self.answers = Answers(master, self.desk, self.server)
        self.apply_s = 0.0
        self._agreement = agreement
        self._names = names
        self._tally = tally
        self._on_step = on_step
        self._fail = fail
        self._seats = Seats()
        self._version_at_nudge = -1
        self._first_bad: Push | None = None
        """The first push whose gradient was not finite."""

    def open(self) -> None:
        """Let near workers ring."""
        self.answers.open_lines(self._folder, self._on_ring)

    # --- who sits where ---------------------------------------------------------------------------

    def join(self, command: CallService, work: Work, now_s: float) -> Payload:
        """Seat the attempt that asks; the job core has made sure that it is the current one.

        Parameters
        ----------
        command : CallService
        work : (int, int)
            Epoch and partition of its job.
        now_s : float
            The time of the training.

        Raises
        ------
        RemoteProtocolError
            If it asks for something else.
        """
        try:
            *asked, is_far = JOIN.unpack(command.body.data)
        except struct.error as error:
            raise RemoteProtocolError("a worker joins with other numbers", peer="") from error
        if tuple(asked) != work:
            raise RemoteProtocolError("a worker joins for what is not its job", peer="")
        incarnation, server = command.incarnation, self.server
        number = self._seats.take(incarnation, *work)
        self.answers.drop(incarnation)
        cursor, seq = server.join(incarnation, *work), server.last_seq(incarnation)
        self._agreement.trust.begin(incarnation, work)
        self._tally.begin_work(incarnation, self._names[incarnation], now_s, perf_counter())
        buffer = self.desk.seat(incarnation, is_far=bool(is_far))
        joined = JOINED.pack(number, incarnation, cursor, seq, server.version, buffer)
        if is_far and self._is_whole:
            return payload_of(joined, self.desk.send(incarnation, NO_ROWS, server.w))
        return Payload(PayloadKind.PLAIN, joined)

    def give_up(self, partition: int, worker_id: str) -> None:
        """Go on without a worker that is lost, or gives no sign, if it sits there still."""
        seat = self.server.seats.get(partition)
        if seat is not None and self._names.get(seat.incarnation) == worker_id:
            self._unseat(seat.incarnation)

    def take_waited_s(self, worker_id: str) -> float:
        """Return how long a worker has waited for answers in the job that it has ended."""
        names = self._names
        return self.answers.take_waited_s(n for n, name in names.items() if name == worker_id)

    def forget(self, incarnation: int) -> None:
        """Drop what is known of a worker whose life is over."""
        self.server.forget(incarnation)
        self.desk.lose(incarnation)
        self.answers.forget(incarnation)
        self._unseat(incarnation)

    def count_hands(self) -> None:
        """Note how many workers can be at work: for so many do synchronous steps wait."""
        states = [worker.state for worker in self._agreement.workers().values()]
        self.server.capacity = max(1, states.count(WorkerState.READY))

    def stop(self) -> None:
        """Apply nothing any more, and tell those who wait."""
        for incarnation in self.server.stop():
            self.answers.give(incarnation, Verdict.STOP)

    def nudge(self) -> None:
        """Go on without those who have not joined, if nothing has moved since the last nudge."""
        if self.server.version == self._version_at_nudge:
            self._regroup(impatient=True)
        self._version_at_nudge = self.server.version

    def _unseat(self, incarnation: int) -> None:
        """Let nobody wait for a worker; what it does in its seat does not count any more."""
        self.server.leave(incarnation)
        line = self._seats.clear(incarnation)
        if line is not None:
            self.answers.drop(incarnation)
            self.answers.hang_up(line)
        self.answers.give(incarnation, Verdict.STALE)  # from afar it may wait for its turn
        self.count_hands()
        self._regroup()

    # --- pushes -----------------------------------------------------------------------------------

    def _on_ring(self, line: int, question: bytes) -> None:
        """Take in a push of a near worker."""
        try:
            number, seq, batch, seen, examples, compute_s, *slot = PUSH.unpack(question)
            ticket = self._seats.admit(number, line)
            if ticket is None:  # an attempt that does not count any more
                self.server.counters["fenced"] += 1
                self.answers.hang_up(line)
                return
            incarnation = ticket.incarnation
            asked = self.desk.near_question(incarnation, *slot)
            push = Push(incarnation, seq, ticket.epoch, ticket.partition, batch, seen, examples)
            self._take(push, asked, line, compute_s)
        except Exception as error:  # noqa: BLE001 - it ends the training, not the master
            self._fail(error)
            self.answers.hang_up(line)

    def call(self, command: CallService, work: Work) -> None:
        """Take in a push of a far worker, or its wish to pull."""
        try:
            push, question, compute_s = self._read(command, work)
        except RemoteProtocolError:
            nothing = Push(command.incarnation, 0, *work, 0, 0)
            self._turn_down(nothing, Verdict.MISMATCHED, command)
            return
        self._take(push, question, command, compute_s)

    def _read(self, command: CallService, work: Work) -> tuple[Push, Question, float]:
        asked = unpack_plain(command.body.data, command.body.buffers)
        if command.method == "pull":
            return Push(command.incarnation, 0, *work, 0, 0), self.desk.far_question(asked), 0.0
        match asked:
            case (int(seq), int(batch), int(seen), int(examples), float(compute_s), *rest):
                push = Push(command.incarnation, seq, *work, batch, seen, examples)
                return push, self.desk.far_question(tuple(rest)), compute_s
        raise RemoteProtocolError("a push has other numbers", peer="")

    def _take(
        self, push: Push, question: Question, to: int | CallService, compute_s: float
    ) -> None:
        server, desk = self.server, self.desk
        g, want = question
        began = perf_counter()
        fault = desk.fault_of(want)
        if fault is not None:
            self._turn_down(push, fault, to)
            return
        if push.seq == 0 and server.width is not None:  # it only pulls
            self.answers.send(to, push.incarnation, Verdict.APPLIED, want)
            return
        if (at_work := self._tally.at_work.get(push.incarnation)) is not None:
            at_work.tell(compute_s, self.answers.waited_s_of(push.incarnation), began)
        self.answers.hold(push.incarnation, to, want, began)
        number, spare = desk.take_spare(push.incarnation)
        verdict = server.push(push, g, spare)
        self.apply_s += perf_counter() - began
        self._take_up(number, verdict, push)
        if verdict is Verdict.NONFINITE and self._first_bad is None:
            self._first_bad = push
        if verdict not in (Verdict.APPLIED, Verdict.HELD):
            self.answers.give(push.incarnation, verdict)
            self._distrust(push, verdict)

    def _turn_down(self, push: Push, fault: Verdict, to: int | CallService) -> None:
        """Refuse what is not even a push that could be judged."""
        self.server.counters[fault.name.lower()] += 1
        self.answers.send(to, push.incarnation, fault, NO_ROWS)
        self._distrust(push, fault)

    def _distrust(self, push: Push, verdict: Verdict) -> None:
        if self._agreement.trust.refuse(push, verdict):
            self._agreement.accuse(push.incarnation, f"pushed what is {verdict.name.lower()}")

    def _regroup(self, *, impatient: bool = False) -> None:
        """See whether somebody waited only for one who is gone."""
        number, spare = self.desk.take_spare(0)
        verdict = self.server.regroup(spare, impatient=impatient)
        self._take_up(number, verdict, None)

    def _take_up(self, spare: int, verdict: Verdict, push: Push | None) -> None:
        """Make new weights current, if there are any, and give the answers that are due."""
        self.desk.settle(spare, is_taken=verdict is Verdict.APPLIED)
        if verdict is Verdict.APPLIED:
            self._on_step()
        elif verdict is Verdict.DIVERGED:
            raise self._diverged(push)
        for incarnation in self.server.take_due():
            self.answers.give(incarnation, Verdict.APPLIED)

    # --- what is not finite -----------------------------------------------------------------------

    def explain(self, work: Work, error: BaseException) -> BaseException:
        """Tell a job that failed for its gradient, on every try, from others."""
        bad = self._first_bad
        if bad is None or (bad.epoch, bad.partition) != work:
            return error
        if self.server.cursors[bad.partition] != bad.batch:
            return error  # another worker could compute it
        diverged = self._diverged(bad)
        diverged.__cause__ = error
        return diverged

    def _diverged(self, push: Push | None) -> Diverged:
        """Say which push would have made the weights infinite, or is not finite itself."""
        worker = "" if push is None else self._names.get(push.incarnation, "")
        is_gradient = push is not None and push is self._first_bad
        server = self.server
        return update_diverged(server.version, push, worker, server.w, is_gradient=is_gradient)
