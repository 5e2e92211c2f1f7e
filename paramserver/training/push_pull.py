"""The parameter server, decided and computed without I/O: which gradients count, what they do.

Rule 1: a single writer: `push` is called for one gradient at a time, and is all that changes `w`.
Rule 2: a batch (epoch, partition, batch) is applied at most once: the ledger keeps the next batch
        of each partition, and nothing else is taken from it. A replacement worker asks for that
        cursor.
Rule 3: what is not finite or not as agreed is refused before it touches anything, and counted.
Rule 4: new weights are written beside the old ones (`spare`), never over them: whoever reads the
        old ones reads one whole vector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from paramserver.errors import ShapeMismatch
from paramserver.training.optimizers import Optimizer
from paramserver.training.vector import FloatVector, Workspace, require


class Push(NamedTuple):
    """One gradient, but for its numbers."""

    incarnation: int
    """The life of the worker that sends it."""
    seq: int
    """Position among the pushes of that life, from 1."""
    epoch: int
    partition: int
    batch: int
    seen: int
    """Version of the weights the gradient was computed from."""


class Verdict(IntEnum):
    """What became of a push."""

    APPLIED = 0
    STOP = 1
    """Training is over; the push was not applied, and no further one will be."""
    DUPLICATE = 2
    """That batch was applied before."""
    GAP = 3
    """A batch, or a push of this worker, before this one is missing."""
    STALE = 4
    """It is of another epoch than the current one."""
    NONFINITE = 5
    MISMATCHED = 6
    DIVERGED = 7
    """The gradient is finite, and the weights would not be."""


class ParameterServer:
    """The shared weights of one training.

    Parameters
    ----------
    w : ndarray of shape (d,)
        The weights to start from. Never written to.
    optimizer : Optimizer
        Started here.
    n_batches : sequence of int
        How many batches an epoch has in each partition.

    Attributes
    ----------
    w : ndarray
        The current weights: `w` or one of the spares given to `push`. Read only.
    version : int
        How many updates have been applied.
    cursors : list of int
        The next batch of each partition in the current epoch: the ledger.
    staleness : Counter
        How many applied pushes had which staleness (``version at apply - version seen``).
    counters : Counter
        What was not applied, by reason in lower case.
    """

    def __init__(
        self, w: FloatVector, optimizer: Optimizer, n_batches: Sequence[int], *, epoch: int = 0
    ) -> None:
        self.w = w
        self.version = 0
        self.epoch = epoch
        self.n_batches = tuple(n_batches)
        self.cursors = [0] * len(self.n_batches)
        self.staleness: Counter[int] = Counter()
        self.counters: Counter[str] = Counter()
        self.stopped = False
        self._optimizer = optimizer
        self._optimizer.start(w.size, w.dtype)
        self._workspace = Workspace(w.size, w.dtype)
        self._last_seq: dict[int, int] = {}

    # --- the life of an epoch --------------------------------------------------------------------

    def open_epoch(self, epoch: int) -> None:
        """Begin a pass over all partitions."""
        self.epoch = epoch
        self.cursors = [0] * len(self.n_batches)

    @property
    def is_epoch_complete(self) -> bool:
        """Whether every batch of the epoch has been applied."""
        return all(c == n for c, n in zip(self.cursors, self.n_batches, strict=True))

    def stop(self) -> None:
        """Apply nothing any more."""
        self.stopped = True

    # --- workers ---------------------------------------------------------------------------------

    def cursor(self, epoch: int, partition: int) -> int:
        """Return the batch to go on with; the number of batches if there is nothing to do."""
        if self.stopped or epoch != self.epoch:
            return self.n_batches[partition]
        return self.cursors[partition]

    def last_seq(self, incarnation: int) -> int:
        """Return the number of the last push of a worker's life that was applied; 0 for none."""
        return self._last_seq.get(incarnation, 0)

    def forget(self, incarnation: int) -> None:
        """Drop what is known of a worker whose life is over."""
        self._last_seq.pop(incarnation, None)

    def push(self, push: Push, g: FloatVector, spare: FloatVector) -> Verdict:
        """Apply a gradient if it counts.

        Parameters
        ----------
        push : Push
        g : ndarray of shape (d,)
            Left alone.
        spare : ndarray of shape (d,)
            Where new weights may be written: nobody reads it now. It becomes `w` when the verdict
            is APPLIED; otherwise its contents are undefined, and `w` is what it was.
        """
        verdict = self._judge(push, g)
        if verdict is Verdict.APPLIED:
            verdict = self._apply(g, spare)
        if verdict is not Verdict.APPLIED:
            self.counters[verdict.name.lower()] += 1
            return verdict
        self._last_seq[push.incarnation] = push.seq
        self.cursors[push.partition] += 1
        self.staleness[self.version - push.seen] += 1
        self.version += 1
        self.w = spare
        return verdict

    def _judge(self, push: Push, g: FloatVector) -> Verdict:
        if self.stopped:
            return Verdict.STOP
        if push.epoch != self.epoch:
            return Verdict.STALE
        if not 0 <= push.partition < len(self.cursors) or not 0 <= push.seen <= self.version:
            return Verdict.MISMATCHED
        last = self._last_seq.get(push.incarnation, 0)
        cursor = self.cursors[push.partition]
        if push.seq <= last or push.batch < cursor:
            return Verdict.DUPLICATE
        if push.seq > last + 1 or push.batch > cursor or cursor >= self.n_batches[push.partition]:
            return Verdict.GAP
        try:
            require(g, self.w.size, self.w.dtype, "a gradient")
        except ShapeMismatch:
            return Verdict.MISMATCHED
        return Verdict.APPLIED

    def _apply(self, g: FloatVector, spare: FloatVector) -> Verdict:
        optimizer, workspace = self._optimizer, self._workspace
        if not optimizer.is_stateless and not workspace.all_finite(g):
            return Verdict.NONFINITE
        if optimizer.step(self.w, g, spare):
            return Verdict.APPLIED
        return Verdict.DIVERGED if workspace.all_finite(g) else Verdict.NONFINITE
