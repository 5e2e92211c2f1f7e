"""The worker's side of a training: the functions that are run as jobs.

Rule 1: what a job does follows from its arguments, the plan and the weights; nothing is remembered
        from job to job but what can be read or computed again (open files, the current epoch's
        order).
Rule 2: weights are mapped read-only; results and gradients go to vectors that belong to this
        process.
"""

from __future__ import annotations

import struct
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from paramserver.errors import PeerLost, TrainingError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.context import JobContext, current
from paramserver.training.learner import FastLearner
from paramserver.training.local import take_steps
from paramserver.training.optimizers import SGD
from paramserver.training.partitions import Epoch, n_batches
from paramserver.training.plan import TrainingPlan
from paramserver.training.push_pull import Verdict
from paramserver.training.vector import FloatVector
from paramserver.transport.lines import Line
from paramserver.transport.shm import SharedVector

JOIN: Final = struct.Struct("<II")
"""epoch, partition"""
JOINED: Final = struct.Struct("<QQIQQI")
"""ticket, incarnation, cursor, last seq of this life, version, buffer that holds the weights"""
PUSH: Final = struct.Struct("<QQIQ")
"""ticket, seq, batch, version seen"""
REPLY: Final = struct.Struct("<BQI")
"""verdict, version, buffer that holds the weights"""
LINE: Final = "line"
"""Name of the socket on which the master listens for pushes."""
MAX_ATTACHMENTS: Final = 4
"""Trainings whose files one worker keeps open."""
MAX_ORDERS: Final = 8
"""Partitions whose current order one worker remembers."""


class Attachment:
    """What this process has opened for one training."""

    def __init__(self, plan: TrainingPlan, owner: str) -> None:
        self.plan = plan
        self._owner = owner
        self._folder = Path(plan.folder)
        self._vectors: dict[str, SharedVector] = {}
        self._rows: dict[int, Any] = {}
        self._epochs: dict[int, tuple[int, Epoch]] = {}
        self._line: Line | None = None
        learner = plan.learner
        self.gradient: FloatVector = np.zeros(learner.size, learner.dtype)
        is_fast = plan.local_steps is None and isinstance(learner, FastLearner)
        self.local_epoch = learner.local_epoch if is_fast else None  # type: ignore[attr-defined]
        """The learner's own way through a pass, if it has one and rounds are whole passes."""
        self.optimizer = SGD(plan.local_lr)
        self.optimizer.start(learner.size, learner.dtype)

    def weights(self, name: str) -> FloatVector:
        """Map a vector of the master's, to read."""
        return self._open(name, writable=False)

    def slot(self, name: str) -> FloatVector:
        """Map a vector that the master has made for this worker, to write."""
        return self._open(name, writable=True)

    def own(self, purpose: str) -> tuple[str, FloatVector]:
        """Return a vector that this process has made itself, and its name."""
        name = f"{purpose}.{self._owner}"
        vector = self._vectors.get(name)
        if vector is None or not vector.path.exists():  # the master gave this process up, once
            learner = self.plan.learner
            vector = SharedVector.create(self._folder / name, learner.size, learner.dtype)
            self._vectors[name] = vector
        return name, vector.array

    def line(self) -> Line:
        """Return the line to the master's parameter server."""
        if self._line is None:
            self._line = Line(self._folder / LINE, REPLY.size)
        return self._line

    @cached_property
    def local(self) -> FloatVector:
        """Room for weights of this process alone."""
        return np.empty(self.plan.learner.size, self.plan.learner.dtype)

    def hang_up(self) -> None:
        """Close the line: the next job dials anew."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def epoch(self, number: int, partition: int) -> Epoch:
        """Return a pass over a partition; the same order wherever it is made."""
        known = self._epochs.get(partition)
        if known is None or known[0] != number:
            plan = self.plan
            if partition not in self._rows:
                self._rows[partition] = plan.rows.open(partition)
            rows = self._rows[partition]
            known = (number, Epoch(rows, plan.batch_size, plan.seed, number, partition))
            self._epochs.pop(partition, None)
            while len(self._epochs) >= MAX_ORDERS:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[partition] = known
        return known[1]

    def open_round(self) -> FloatVector:
        """Map the word that says which averaging round is open."""
        vector = self._vectors.get("round")
        if vector is None:
            vector = self._vectors["round"] = SharedVector.open(self._folder / "round", 1, np.int64)
        return vector.array

    def _open(self, name: str, *, writable: bool) -> FloatVector:
        vector = self._vectors.get(name)
        if vector is None:
            learner = self.plan.learner
            vector = SharedVector.open(
                self._folder / name, learner.size, learner.dtype, writable=writable
            )
            self._vectors[name] = vector
        return vector.array


_attachments: dict[str, Attachment] = {}
"""By the folder of the training, which is unique: one process can serve several at a time."""


def attach(service: str, folder: str, context: JobContext) -> Attachment:
    """Return what this process has open for a training; ask the master for the plan at first."""
    found = _attachments.get(folder)
    if found is None:
        while len(_attachments) >= MAX_ATTACHMENTS:
            del _attachments[next(iter(_attachments))]
        reply = context.call(service, "plan", Payload(PayloadKind.PLAIN, b""))
        plan = calls.decode_value(reply, trusted=context.trusted)
        warm_up = getattr(plan.learner, "warm_up", None)
        if warm_up is not None:  # before anybody measures, or waits for, a round
            warm_up(plan.rows.open(0), plan.batch_size)
        found = _attachments[folder] = Attachment(plan, context.worker_id)
    return found


def train_round(
    service: str, folder: str, round_number: int, partition: int, weights: str
) -> tuple[str, float]:
    """Train on one partition for one averaging round.

    Returns
    -------
    name : str
        Of the vector with the result; '' if the round was over before it was done.
    compute_s : float
    """
    attached = attach(service, folder, current())
    name, w = attached.own(f"result{partition}")
    np.copyto(w, attached.weights(weights))
    began = perf_counter()
    if attached.local_epoch is not None:
        done = _pass_epochs(attached, w, round_number, partition)
    else:
        done = _take_steps(attached, w, round_number, partition)
    return name if done else "", perf_counter() - began


def _take_steps(attached: Attachment, w: FloatVector, round_number: int, partition: int) -> bool:
    """Take the steps of one round; return False if the round is over before they are done."""
    plan = attached.plan
    open_round, n_steps = attached.open_round(), plan.steps_a_round(partition)
    return take_steps(
        plan.learner,
        w,
        attached.gradient,
        attached.optimizer,
        lambda number: attached.epoch(number, partition),
        range(round_number * n_steps, (round_number + 1) * n_steps),
        lambda: bool(open_round[0] == round_number),  # else the others were enough
    )


def _pass_epochs(attached: Attachment, w: FloatVector, round_number: int, partition: int) -> bool:
    """The same for a learner that has its own way through an epoch."""
    plan, local_epoch = attached.plan, attached.local_epoch
    assert local_epoch is not None
    open_round = attached.open_round()
    n_epochs = plan.local_epochs
    for number in range(round_number * n_epochs, (round_number + 1) * n_epochs):
        if open_round[0] != round_number:
            return False
        epoch = attached.epoch(number, partition)
        local_epoch(w, epoch, plan.local_lr)
    return True


def train_partition(
    service: str, folder: str, epoch_number: int, partition: int
) -> tuple[int, float]:
    """Push the gradients of one partition for one epoch, from the ledger's cursor on.

    Returns
    -------
    n_pushed : int
    compute_s : float

    Raises
    ------
    TrainingError
        If the master refuses a gradient.
    """
    context = current()
    attached = attach(service, folder, context)
    asked = Payload(PayloadKind.PLAIN, JOIN.pack(epoch_number, partition))
    joined = context.call(service, "join", asked)
    ticket, incarnation, cursor, seq, version, buffer = JOINED.unpack(joined.data)
    epoch = attached.epoch(epoch_number, partition)
    n_pushes = n_batches(epoch.rows.n, attached.plan.push_size)
    g = attached.slot(f"gradient{incarnation}")
    compute_s = 0.0
    ask = attached.line().ask
    for number in range(cursor, n_pushes):
        began = perf_counter()
        _compute_push(attached, attached.weights(f"w{buffer}"), epoch, number, g)
        compute_s += perf_counter() - began
        seq += 1
        try:
            reply = ask(PUSH.pack(ticket, seq, number, version))
        except PeerLost:
            attached.hang_up()
            raise
        verdict, version, buffer = REPLY.unpack(reply)
        if verdict == Verdict.STOP:
            return number - cursor, compute_s
        if verdict != Verdict.APPLIED:
            raise TrainingError(
                f"The gradient of batch {number} of partition {partition}, epoch {epoch_number}, "
                f"was refused by the parameter server: {Verdict(verdict).name.lower()}."
            )
    return n_pushes - cursor, compute_s


def _compute_push(
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
        range(number * h, min(number * h + h, len(epoch))),
        lambda: True,
    )
    np.subtract(w, local, out=g)
    g *= 1.0 / plan.local_lr
