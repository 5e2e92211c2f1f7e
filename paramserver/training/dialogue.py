"""A worker's side of push and pull: one attempt at a partition, in talk with the parameter server.

There are four ways, since a worker is near or far, and a learner needs all weights or some rows::

              all weights                          some rows
    near      mapped; a line rings                 in a slot that both map; a line rings
    far       in the answer to a call of the job's own connection

Rule 1: one round trip a push, whatever the way; the answer brings the next weights.
Rule 2: what was handed over is not touched before the answer.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.errors import PeerLost, RemoteProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload
from paramserver.runtime.context import JobContext
from paramserver.training.attachment import Attachment
from paramserver.training.formats import JOIN, JOINED, PUSH, REPLY, payload_of, vector_of
from paramserver.training.pushes import Verdict
from paramserver.training.rowslot import RowSlot
from paramserver.training.vector import FloatVector

Rows = npt.NDArray[np.int64]
MIN_ROWS = 64
"""A slot for rows has room for so many at first, and for twice as many whenever that is too few."""


class Dialogue:
    """What all ways have in common: joining, and the numbers of a push.

    Parameters
    ----------
    attached : Attachment
    context : JobContext
    epoch, partition : int

    Attributes
    ----------
    cursor : int
        The batch to go on with.
    asked_s : float
        Spent between questions and answers.
    """

    def __init__(
        self, attached: Attachment, context: JobContext, epoch: int, partition: int
    ) -> None:
        self._attached = attached
        self._context = context
        self._service = attached.plan.service
        learner = attached.plan.learner
        self._d, self._dtype = learner.size, learner.dtype
        asked = payload_of(JOIN.pack(epoch, partition, not attached.is_near))
        joined = context.call(self._service, "join", asked)
        self._ticket, self._incarnation, self.cursor, self._seq, self._version, self._buffer = (
            JOINED.unpack(joined.data)
        )
        self.asked_s = 0.0
        self._take_in(joined)

    def _take_in(self, answer: Payload) -> None:
        """Keep the weights that came with an answer, if they come so."""

    def _ask_near(self, question: bytes) -> Verdict:
        began = perf_counter()
        try:
            reply = self._attached.line().ask(question)
        except PeerLost:
            self._attached.hang_up()
            raise
        self.asked_s += perf_counter() - began
        verdict, self._version, self._buffer = REPLY.unpack(reply)
        return Verdict(verdict)

    def _ask_far(self, method: str, *asked: Any) -> Verdict:
        began = perf_counter()
        body = calls.encode_value(asked, trusted=False)
        answer = self._context.call(self._service, method, body)
        self.asked_s += perf_counter() - began
        verdict, self._version, _ = REPLY.unpack(answer.data)
        self._take_in(answer)
        return Verdict(verdict)

    def _vector_in(self, answer: Payload, n: int) -> FloatVector:
        """Return the vector that an answer holds."""
        if not n:
            return np.empty(0, self._dtype)
        buffers = answer.buffers
        if len(buffers) != 1 or memoryview(buffers[0]).nbytes != n * self._dtype.itemsize:
            raise RemoteProtocolError(f"an answer does not hold {n} weights", peer="master")
        return vector_of(buffers[0], self._dtype)


class NearWhole(Dialogue):
    """All weights, in memory that this worker and the master share."""

    @property
    def w(self) -> FloatVector:
        """The weights to compute from; they do not change before the next push."""
        return self._attached.weights(f"w{self._buffer}")

    @property
    def g(self) -> FloatVector:
        """Where the gradient goes; the same through the whole dialogue."""
        return self._attached.slot(f"gradient{self._incarnation}")

    def push(self, batch: int, examples: int, compute_s: float) -> Verdict:
        """Push the gradient, and pull."""
        self._seq += 1
        numbers = (self._ticket, self._seq, batch, self._version, examples, compute_s, 0, 0, 0)
        return self._ask_near(PUSH.pack(*numbers))


class FarWhole(Dialogue):
    """All weights, there and back by the connection."""

    @property
    def g(self) -> FloatVector:
        """Where the gradient goes; the same through the whole dialogue."""
        return self._attached.gradient

    def push(self, batch: int, examples: int, compute_s: float) -> Verdict:
        """Push the gradient, and pull."""
        self._seq += 1
        numbers = (self._seq, batch, self._version, examples, compute_s)
        return self._ask_far("push_pull", *numbers, self.g)

    def _take_in(self, answer: Payload) -> None:
        self.w = self._vector_in(answer, self._d)


class NearRows(Dialogue):
    """Some rows, in a slot that this worker and the master share."""

    def pull(self, want: Rows) -> npt.NDArray[Any]:
        """Return these rows of the weights; they do not change before the next push or pull."""
        return self._talk(0, 0, 0, 0.0, None, want)[1]

    def room(self, n_rows: int) -> npt.NDArray[Any]:
        """Return where the gradient of so many rows goes."""
        return self._slot(n_rows).values(n_rows)

    def push_pull(
        self, batch: int, examples: int, compute_s: float, rows: Rows, want: Rows
    ) -> tuple[Verdict, npt.NDArray[Any]]:
        """Push the gradient of these rows, which is in `room`, and pull others."""
        self._seq += 1
        return self._talk(self._seq, batch, examples, compute_s, rows, want)

    def _talk(
        self,
        seq: int,
        batch: int,
        examples: int,
        compute_s: float,
        rows: Rows | None,
        want: Rows,
    ) -> tuple[Verdict, npt.NDArray[Any]]:
        n = 0 if rows is None else rows.size
        slot = self._slot(max(n, want.size))
        if rows is not None:
            slot.rows(n)[:] = rows
        slot.want(want.size)[:] = want
        sizes = (n, want.size, slot.capacity)
        numbers = (self._ticket, seq, batch, self._version, examples, compute_s, *sizes)
        return self._ask_near(PUSH.pack(*numbers)), slot.reply(want.size)

    def _slot(self, n_rows: int) -> RowSlot:
        """Return the slot of this life; one that has become too small is left for a larger one."""
        width = self._attached.plan.width or 1
        found = self._attached.row_slot
        if found is None or found.owner != self._incarnation or found.capacity < n_rows:
            capacity = max(MIN_ROWS, found.capacity if found else 0)
            while capacity < n_rows:
                capacity *= 2
            n_bytes = RowSlot.n_bytes(capacity, width, self._dtype)
            memory = self._attached.make_room(RowSlot.name(self._incarnation, capacity), n_bytes)
            new = RowSlot(memory, self._incarnation, capacity, width, self._dtype)
            if found is not None and found.owner == self._incarnation:
                new.values(found.capacity)[:] = found.values(found.capacity)
            found = self._attached.row_slot = new
        return found


class FarRows(Dialogue):
    """Some rows, there and back by the connection."""

    _want: Rows = np.empty(0, np.int64)

    def pull(self, want: Rows) -> npt.NDArray[Any]:
        """Return these rows of the weights."""
        self._want = want
        self._ask_far("pull", want)
        return self._w

    def room(self, n_rows: int) -> npt.NDArray[Any]:
        """Return where the gradient of so many rows goes."""
        self._values = np.empty((n_rows, self._attached.plan.width or 1), self._dtype)
        return self._values

    def push_pull(
        self, batch: int, examples: int, compute_s: float, rows: Rows, want: Rows
    ) -> tuple[Verdict, npt.NDArray[Any]]:
        """Push the gradient of these rows, which is in `room`, and pull others."""
        self._seq += 1
        self._want = want
        numbers = (self._seq, batch, self._version, examples, compute_s)
        verdict = self._ask_far("push_pull", *numbers, rows, self._values, want)
        return verdict, self._w

    def _take_in(self, answer: Payload) -> None:
        width = self._attached.plan.width or 1
        self._w = self._vector_in(answer, self._want.size * width).reshape(-1, width)
