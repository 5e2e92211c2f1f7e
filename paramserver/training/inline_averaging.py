"""Averaging in this very process, one partition after the other.

Rule 1: it gives, to the last bit, what a cluster gives for the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

import numpy as np

from paramserver.training.aggregation import Aggregation, TailMean, divergence
from paramserver.training.averaging import Averaging, Command, Finish, Fold, StartRound
from paramserver.training.diverged import round_diverged
from paramserver.training.inline import InlineRun
from paramserver.training.plan import TrainingPlan
from paramserver.training.vector import FloatVector
from paramserver.training.work import train_passes


class InlineAveraging(InlineRun):
    """Averaging, one partition after the other.

    Parameters
    ----------
    plan : TrainingPlan
    machine : Averaging
    w : ndarray of shape (d,)
        The weights to start from; left alone.
    aggregation : Aggregation
    tail : TailMean
    in_step : bool, default=False
    arrival : callable, optional
        ``arrival(round, partitions)`` returns these partitions in the order in which they are done;
        by default in their own.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        machine: Averaging,
        w: FloatVector,
        aggregation: Aggregation,
        tail: TailMean,
        *,
        in_step: bool = False,
        arrival: Callable[[int, Sequence[int]], Sequence[int]] | None = None,
    ) -> None:
        super().__init__(plan, in_step=in_step)
        self.machine = machine
        self.w = w.copy()
        self._new = np.empty_like(w)
        self._aggregation = aggregation
        self._tail = tail
        self._arrival = arrival or (lambda _, partitions: partitions)
        self._results = [np.empty_like(w) for _ in plan.rows.n_examples]
        self._folded: Fold | None = None

    def refused(self) -> dict[str, int]:
        """Return what was not averaged, by reason."""
        return dict(self.machine.counters)

    def _train(self) -> Iterator[tuple[FloatVector, int]]:
        machine = self.machine
        commands: list[Command] = machine.start()
        while commands:
            match commands.pop(0):
                case StartRound(number, partitions):
                    for k in self._arrival(number, partitions):
                        self._train_one(number, k)
                        commands += machine.done(number, k)
                case Fold() as fold:
                    self._fold(fold)
                    commands += machine.folded()
                    yield self.w, machine.round
                    if self._stops:
                        commands = [Finish(machine.round)]
                case Finish(rounds):
                    self._finish(self._tail.mean(self.w), rounds)

    def _divergence(self) -> float | None:
        if self._folded is None:
            return None
        results = [self._results[k] for k in self._folded.partitions]
        return divergence(results, self._folded.coefficients)

    def _train_one(self, number: int, partition: int) -> None:
        began = perf_counter()
        result = self._results[partition]
        np.copyto(result, self.w)
        train_passes(self._attached, result, number, partition, lambda: True)
        self.compute_s += perf_counter() - began

    def _fold(self, fold: Fold) -> None:
        began = perf_counter()
        results = [self._results[k] for k in fold.partitions]
        if not self._aggregation.fold(self.w, results, fold.coefficients, self._new):
            bad = [k for k in fold.partitions if not self._aggregation.is_finite(self._results[k])]
            raise round_diverged(fold.round, bad, (), self.w)
        self._folded = fold
        self.w, self._new = self._new, self.w
        self._tail.add(fold.round, self.w)
        self.examples += sum(self.plan.examples_a_round(k) for k in fold.partitions)
        self.apply_s += perf_counter() - began
