"""The parameter server, decided and computed without I/O: which gradients count, what they do.

Rule 1: a single writer: `push` is called for one gradient at a time, and is all that changes `w`
        (with `regroup`, when somebody whom others wait for is gone).
Rule 2: a batch (epoch, partition, batch) is applied at most once: the ledger keeps the next batch
        of each partition, and nothing else is taken from it. A replacement goes on at that cursor.
Rule 3: what is not finite or not as agreed is refused before it touches anything, and counted.
Rule 4: new weights are written beside the old ones (`spare`), never over them: whoever reads the
        old ones reads one whole vector. Where gradients are of some rows (`width`), these rows are
        written in place: nobody reads the vector itself, and what is answered is a copy of rows.

One dial for consistency, `staleness_bound`: None applies a gradient when it comes and answers at
once; s > 0 holds the answer back while its partition is more than s steps ahead of the slowest one
that is being worked on (stale-synchronous); 0 collects a gradient of each and takes one step by
their mean (bulk-synchronous).

References
----------
.. [1] Ho et al. (2013), "More effective distributed ML via a stale synchronous parallel parameter
   server".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from paramserver.training.applying import Applier, fault_of
from paramserver.training.batching import n_batches
from paramserver.training.optimizers import Optimizer
from paramserver.training.pushes import Gradient, Push, PushPullRules, Seat, Verdict
from paramserver.training.vector import FloatVector

__all__ = ["ParameterServer", "Push", "PushPullRules", "Verdict"]


class ParameterServer:
    """The shared weights of one training.

    Parameters
    ----------
    w : ndarray of shape (d,)
        The weights to start from. Written to only where gradients are of some rows.
    optimizer : Optimizer
        Started here.
    n_examples : sequence of int
        How many examples each partition holds.
    batch_size : int
    rules : PushPullRules
    width : int, optional
        Gradients are of some rows of ``w.reshape(-1, width)``; by default they are of all weights.

    Attributes
    ----------
    w : ndarray
        The current weights: `w` or one of the spares given to `push`. Read only.
    version : int
        How many updates have been applied.
    cursors : list of int
        The next batch of each partition in the current epoch: the ledger.
    capacity : int
        How many partitions can be worked on at a time (bound 0 waits for so many).
    staleness : Counter
        How many applied pushes had which staleness (``version at apply - version seen``).
    staleness_of : dict of int to Counter
        The same for each worker's life.
    counters : Counter
        What was not applied, by reason in lower case.
    """

    def __init__(
        self,
        w: FloatVector,
        optimizer: Optimizer,
        n_examples: Sequence[int],
        batch_size: int,
        rules: PushPullRules | None = None,
        *,
        width: int | None = None,
    ) -> None:
        self.w = w
        self.width = width
        self.version = 0
        self.epoch = 0
        self.n_batches = tuple(n_batches(n, batch_size) for n in n_examples)
        self.cursors = [0] * len(self.n_batches)
        self.capacity = len(self.n_batches)
        self.examples = 0
        self.staleness: Counter[int] = Counter()
        self.staleness_of: dict[int, Counter[int]] = {}
        self.counters: Counter[str] = Counter()
        self.stopped = False
        self.seats: dict[int, Seat] = {}
        """By partition."""
        self._rules = rules or PushPullRules()
        self._applier = Applier(optimizer, w, self._rules, width)
        self._n_examples = tuple(n_examples)
        self._batch_size = batch_size
        self._last_seq: dict[int, int] = {}
        self._due: list[int] = []

    # --- the life of an epoch --------------------------------------------------------------------

    def open_epoch(self, epoch: int) -> None:
        """Begin a pass over all partitions."""
        self.epoch = epoch
        self.cursors = [0] * len(self.n_batches)
        self.seats.clear()

    @property
    def is_epoch_complete(self) -> bool:
        """Whether every batch of the epoch has been applied."""
        return all(c == n for c, n in zip(self.cursors, self.n_batches, strict=True))

    def stop(self) -> list[int]:
        """Apply nothing any more; return the workers whose answers (STOP) are due."""
        self.stopped = True
        waiting = [s.incarnation for s in self.seats.values() if s.pending or s.waits]
        self.seats.clear()
        return waiting

    def books(self) -> dict[str, Any]:
        """Return what has been applied so far, as JSON values; for checkpoints.

        Together with `w` and the state of the optimizer at the same moment they are the whole
        state. Who pushed is no part of it: no life of a worker outlasts its master, and what an
        earlier life has sent counts for nothing (STALE). A gradient that is HELD is not applied
        yet: it is computed again.
        """
        return {
            "version": self.version,
            "epoch": self.epoch,
            "cursors": list(self.cursors),
            "examples": self.examples,
            "staleness": {str(staleness): n for staleness, n in sorted(self.staleness.items())},
            "counters": dict(self.counters),
        }

    def restore(self, books: dict[str, Any]) -> None:
        """Go on from what `books` has returned; nobody has joined yet.

        The ledger goes back together with the weights: what was applied in between is asked for
        again, and nothing that is in the weights is.
        """
        self.version = books["version"]
        self.epoch = books["epoch"]
        self.cursors = list(books["cursors"])
        self.examples = books["examples"]
        self.staleness = Counter({int(key): n for key, n in books["staleness"].items()})
        self.counters = Counter(books["counters"])

    # --- workers ---------------------------------------------------------------------------------

    def join(self, incarnation: int, epoch: int, partition: int) -> int:
        """Seat a worker; return the batch to go on with, or the number of batches for none."""
        end = self.n_batches[partition]
        if self.stopped or epoch != self.epoch or self.cursors[partition] == end:
            return end
        self.leave(incarnation)
        clock = min((seat.clock for seat in self.seats.values()), default=0)
        self.seats[partition] = Seat(incarnation, clock)
        return self.cursors[partition]

    def leave(self, incarnation: int) -> None:
        """Unseat a worker that has ended its job, or is gone; `regroup` should follow."""
        for partition, seat in list(self.seats.items()):
            if seat.incarnation == incarnation:
                del self.seats[partition]

    def forget(self, incarnation: int) -> None:
        """Drop what is known of a worker whose life is over."""
        self.leave(incarnation)
        self._last_seq.pop(incarnation, None)

    def last_seq(self, incarnation: int) -> int:
        """Return the number of the last push of a worker's life that counted; 0 for none."""
        return self._last_seq.get(incarnation, 0)

    # --- pushes ----------------------------------------------------------------------------------

    def push(self, push: Push, g: Gradient, spare: FloatVector) -> Verdict:
        """Apply a gradient if it counts.

        Parameters
        ----------
        push : Push
        g : ndarray of shape (d,), or RowGradient
            Left alone. Must not change until the answer, if it is HELD.
        spare : ndarray of shape (d,)
            Where new weights may be written: nobody reads it now. It becomes `w` when the verdict
            is APPLIED; otherwise its contents are undefined, and `w` is what it was. Not used
            where gradients are of some rows.

        Returns
        -------
        Verdict
            APPLIED and HELD are no answers yet: those that are due are told by `take_due`. Every
            other verdict is.
        """
        verdict = self._judge(push, g)
        if verdict is Verdict.APPLIED:
            if self._rules.staleness_bound == 0:
                verdict = self._collect(push, g, spare)
            else:
                verdict = self._apply_one(push, g, spare)
        if verdict not in (Verdict.APPLIED, Verdict.HELD):
            self.counters[verdict.name.lower()] += 1
        return verdict

    def regroup(self, spare: FloatVector, *, impatient: bool = False) -> Verdict:
        """Take the step that only waited for somebody who is gone; APPLIED if there was one.

        With `impatient` nobody is waited for who has not joined.
        """
        if self._rules.staleness_bound != 0:
            return Verdict.HELD
        return self._step_together(spare, impatient=impatient)

    def take_due(self) -> list[int]:
        """Return the workers whose answers (APPLIED) are due now; each is returned once."""
        due, self._due = self._due, []
        bound = self._rules.staleness_bound
        limit = min((s.clock for s in self.seats.values()), default=0) + bound if bound else None
        for seat in self.seats.values():
            if seat.waits and (limit is None or seat.clock <= limit):
                seat.waits = False
                due.append(seat.incarnation)
        return due

    # --- inside ----------------------------------------------------------------------------------

    def _judge(self, push: Push, g: Gradient) -> Verdict:
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
        seat = self.seats.get(push.partition)
        if seat is None or seat.incarnation != push.incarnation:
            return Verdict.STALE
        if seat.pending is not None or seat.waits:
            return Verdict.DUPLICATE
        fault = fault_of(g, self.w, self.width)
        if fault is None and push.examples not in (None, self._examples_of(push)):
            fault = Verdict.MISCOUNTED
        return fault or Verdict.APPLIED

    def _apply_one(self, push: Push, g: Gradient, spare: FloatVector) -> Verdict:
        staleness = self.version - push.seen
        verdict = self._step(g, spare, staleness)
        if verdict is Verdict.APPLIED:
            self._note(push)
            self.version += 1
        return verdict

    def _collect(self, push: Push, g: Gradient, spare: FloatVector) -> Verdict:
        if not self._applier.is_finite(g):
            return Verdict.NONFINITE
        self.seats[push.partition].pending = (push, g)
        return self._step_together(spare)

    def _step_together(self, spare: FloatVector, *, impatient: bool = False) -> Verdict:
        """Take one step by the mean gradient when everyone who can have pushed has."""
        there = sorted(k for k, seat in self.seats.items() if seat.pending is not None)
        unfinished = sum(c < n for c, n in zip(self.cursors, self.n_batches, strict=True))
        wanted = len(self.seats)
        if not impatient:
            wanted = max(wanted, min(unfinished, self.capacity))
        if not there or len(there) < wanted or self.stopped:
            return Verdict.HELD
        pending = [seat.pending for k in there if (seat := self.seats[k]).pending is not None]
        weights = [self._examples_of(push) for push, _ in pending]
        total = sum(weights)
        mean = self._applier.mean([g for _, g in pending], [n / total for n in weights])
        verdict = self._step(mean, spare, 0)
        if verdict is Verdict.APPLIED:
            for push, _ in pending:
                self.seats[push.partition].pending = None
                self._note(push)
            self.version += 1
        return verdict

    def _step(self, g: Gradient, spare: FloatVector, staleness: int) -> Verdict:
        verdict = self._applier.step(self.w, g, spare, staleness)
        if verdict is Verdict.APPLIED and self.width is None:
            self.w = spare
        return verdict

    def _note(self, push: Push) -> None:
        """Enter an applied push in the books."""
        self._last_seq[push.incarnation] = push.seq
        self.examples += self._examples_of(push)
        self.cursors[push.partition] += 1
        staleness = self.version - push.seen
        self.staleness[staleness] += 1
        self.staleness_of.setdefault(push.incarnation, Counter())[staleness] += 1
        seat = self.seats[push.partition]
        seat.clock += 1
        seat.waits = True
        if self.cursors[push.partition] == self.n_batches[push.partition]:
            del self.seats[push.partition]  # it has nothing left to do: nobody waits for it
            self._due.append(push.incarnation)

    def _examples_of(self, push: Push) -> int:
        n = self._n_examples[push.partition]
        return min(self._batch_size, n - push.batch * self._batch_size)
