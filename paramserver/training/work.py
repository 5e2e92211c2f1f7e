"""The worker's side of a training: the functions that are run as jobs.

Rule 1: what a job does follows from its arguments, the plan and the weights; nothing is remembered
        from job to job but what can be read or computed again (see `attachment`).
Rule 2: a job does the same whether its worker is near or far; only the way of the vectors differs.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

import numpy as np

from paramserver.errors import RemoteProtocolError, TrainingError
from paramserver.protocol.messages import Payload
from paramserver.runtime.context import JobContext, current
from paramserver.training.attachment import Attachment, attach
from paramserver.training.batching import n_batches
from paramserver.training.dialogue import FarRows, FarWhole, NearRows, NearWhole
from paramserver.training.formats import ROUND, payload_of, vector_of
from paramserver.training.local import take_steps
from paramserver.training.partitions import Epoch
from paramserver.training.pushes import Verdict
from paramserver.training.row_pass import pass_over
from paramserver.training.vector import FloatVector

__remote_jobs__ = ("make_ready", "train_partition", "train_round")

LOOK_S: Final = 0.2
"""How often a far learner asks whether its round is still open."""

JUDGED_LATER: Final[dict[str, Any]] = {"over": "ignore", "invalid": "ignore"}
"""What is not finite is found, and told with its place, by who takes it: no warning of numpy's."""

# --- before the first step ------------------------------------------------------------------------


def make_ready(service: str, folder: str, _: int, partition: int) -> None:
    """Import, map or fetch what steps on one partition need, and compile what is not yet."""
    attach(service, folder, current()).rows(partition)


# --- averaging ------------------------------------------------------------------------------------


def train_round(
    service: str, folder: str, round_number: int, partition: int
) -> tuple[str | FloatVector, float]:
    """Train on one partition for one averaging round.

    Returns
    -------
    result : str or ndarray
        Name of the vector with the result, or from afar the vector itself; '' if the round was over
        before it was done.
    compute_s : float
    """
    context = current()
    attached = attach(service, folder, context)
    with np.errstate(**JUDGED_LATER):
        if attached.is_near:
            return _train_near(attached, round_number, partition)
        return _train_far(attached, context, round_number, partition)


def _train_near(attached: Attachment, number: int, partition: int) -> tuple[str, float]:
    name, w = attached.own(f"result{partition}")
    np.copyto(w, attached.weights(f"w{number % 2}"))
    open_round = attached.open_round()
    attached.rows(partition)
    began = perf_counter()
    done = train_passes(attached, w, number, partition, lambda: bool(open_round[0] == number))
    return name if done else "", perf_counter() - began


def _train_far(
    attached: Attachment, context: JobContext, number: int, partition: int
) -> tuple[str | FloatVector, float]:
    def ask(method: str) -> Payload:
        return context.call(attached.plan.service, method, payload_of(ROUND.pack(number)))

    next_look = perf_counter() + LOOK_S

    def is_open() -> bool:
        nonlocal next_look
        if perf_counter() < next_look:
            return True
        answer = ask("round").data
        next_look = perf_counter() + LOOK_S
        return bool(ROUND.unpack(answer)[0] == number)

    pulled = ask("pull").buffers
    if not pulled:
        return "", 0.0
    w = attached.local
    if memoryview(pulled[0]).nbytes != w.nbytes:
        raise RemoteProtocolError("an answer does not hold the weights", peer="master")
    np.copyto(w, vector_of(pulled[0], w.dtype))
    attached.rows(partition)  # it may have to fetch them: that is no computing
    began = perf_counter()
    done = train_passes(attached, w, number, partition, is_open)
    return w if done else "", perf_counter() - began


def train_passes(
    attached: Attachment, w: FloatVector, number: int, partition: int, is_open: Callable[[], bool]
) -> bool:
    """Train `w` for one round; return False if the round is over before that is done."""
    plan = attached.plan
    if attached.local_epoch is not None:
        n_epochs = plan.local_epochs
        for epoch_number in range(number * n_epochs, (number + 1) * n_epochs):
            if not is_open():  # the others were enough
                return False
            attached.local_epoch(w, attached.epoch(epoch_number, partition), plan.local_lr)
        return True
    n_steps = plan.steps_a_round(partition)
    return take_steps(
        plan.learner,
        w,
        attached.gradient,
        attached.optimizer,
        lambda epoch_number: attached.epoch(epoch_number, partition),
        plan.n_batches[partition],
        range(number * n_steps, (number + 1) * n_steps),
        is_open,
    )


# --- push and pull --------------------------------------------------------------------------------


def train_partition(
    service: str, folder: str, epoch_number: int, partition: int
) -> tuple[int, float, float]:
    """Push the gradients of one partition for one epoch, from the ledger's cursor on.

    Returns
    -------
    n_pushed : int
    compute_s : float
    asked_s : float
        Between the questions to the parameter server and its answers.

    Raises
    ------
    TrainingError
        If the master refuses a gradient.
    """
    context = current()
    attached = attach(service, folder, context)
    epoch = attached.epoch(epoch_number, partition)
    push = _push_whole if attached.plan.width is None else _push_rows
    with np.errstate(**JUDGED_LATER):
        return push(attached, context, epoch, epoch_number, partition)


def _push_whole(
    attached: Attachment, context: JobContext, epoch: Epoch, epoch_number: int, partition: int
) -> tuple[int, float, float]:
    way = NearWhole if attached.is_near else FarWhole
    talk = way(attached, context, epoch_number, partition)
    size = attached.plan.push_size
    n_pushes = n_batches(epoch.rows.n, size)
    compute_s = 0.0
    g = talk.g
    for number in range(talk.cursor, n_pushes):
        began = perf_counter()
        compute_push(attached, talk.w, epoch, number, g)
        compute_s += perf_counter() - began
        verdict = talk.push(number, min(size, epoch.rows.n - number * size), compute_s)
        if verdict is not Verdict.APPLIED:
            _require_stop(verdict, number, epoch_number, partition)
            return number - talk.cursor, compute_s, talk.asked_s
    return n_pushes - talk.cursor, compute_s, talk.asked_s


def _push_rows(
    attached: Attachment, context: JobContext, epoch: Epoch, epoch_number: int, partition: int
) -> tuple[int, float, float]:
    """The same with gradients of some rows: those of the next batch are wanted with each push."""
    way = NearRows if attached.is_near else FarRows
    talk = way(attached, context, epoch_number, partition)
    learner: Any = attached.plan.learner  # a SparseLearner: the master has looked
    first, end = talk.cursor, len(epoch)
    if first >= end:
        return 0, 0.0, talk.asked_s
    batches = pass_over(learner, epoch)
    rows = batches.touched(first)
    w_rows = talk.pull(rows)
    compute_s = 0.0
    nothing = np.empty(0, np.int64)
    for number in range(first, end):
        began = perf_counter()
        batches.gradient(number, w_rows, rows, talk.room(rows.size))
        pushed, n_examples = rows, epoch.n_in(number)
        rows = batches.touched(number + 1) if number + 1 < end else nothing
        compute_s += perf_counter() - began
        verdict, w_rows = talk.push_pull(number, n_examples, compute_s, pushed, rows)
        if verdict is not Verdict.APPLIED:
            _require_stop(verdict, number, epoch_number, partition)
            return number - first, compute_s, talk.asked_s
    return end - first, compute_s, talk.asked_s


def _require_stop(verdict: Verdict, number: int, epoch_number: int, partition: int) -> None:
    """Complain about a push that was refused, unless it is because training is over."""
    if verdict is not Verdict.STOP:
        raise TrainingError(
            f"The gradient of batch {number} of partition {partition}, epoch {epoch_number}, "
            f"was refused by the parameter server: {verdict.name.lower()}."
        )


def compute_push(
    attached: Attachment, w: FloatVector, epoch: Epoch, number: int, g: FloatVector
) -> None:
    """Write to `g` what is to be pushed: a gradient, or what several local steps have changed."""
    plan = attached.plan
    h = plan.local_steps or 1
    if h == 1:
        plan.learner.gradient(w, epoch.batch(number), g)
        return
    local = attached.local
    np.copyto(local, w)
    take_steps(
        plan.learner,
        local,
        attached.gradient,
        attached.optimizer,
        lambda _: epoch,
        len(epoch),
        range(number * h, min(number * h + h, len(epoch))),
        lambda: True,
    )
    np.subtract(w, local, out=g)
    g *= 1.0 / plan.local_lr
