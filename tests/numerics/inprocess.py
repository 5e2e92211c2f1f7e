"""Both training modes as the package runs them in one process, with a schedule of choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from paramserver.training.aggregation import Aggregation, TailMean
from paramserver.training.averaging import Averaging
from paramserver.training.inline_averaging import InlineAveraging
from paramserver.training.inline_pushing import InlinePushing
from paramserver.training.learner import Batch, Learner
from paramserver.training.local import take_steps
from paramserver.training.optimizers import Optimizer
from paramserver.training.plan import TrainingPlan
from paramserver.training.push_pull import PushPullRules
from paramserver.training.vector import FloatVector


class Parts:
    """`Rows` that are cut already."""

    def __init__(self, parts: Sequence[Batch]) -> None:
        self._parts = parts
        self.n_examples = tuple(part.n for part in parts)

    def open(self, partition: int) -> Batch:
        return self._parts[partition]


def plan_for(
    learner: Learner,
    parts: Sequence[Batch],
    *,
    lr: float,
    batch_size: int,
    seed: int,
    steps: int | None = None,
) -> TrainingPlan:
    return TrainingPlan(
        service="",
        folder="",
        learner=learner,
        rows=Parts(parts),
        batch_size=batch_size,
        seed=seed,
        local_lr=lr,
        local_steps=steps,
    )


class AveragingByOptimizers(InlineAveraging):
    """Averaging where each learner takes its steps by an optimizer of its own."""

    optimizers: Sequence[Optimizer] = ()

    def _train_one(self, number: int, partition: int) -> None:
        result, plan = self._results[partition], self.plan
        np.copyto(result, self.w)
        n_steps = plan.steps_a_round(partition)
        take_steps(
            plan.learner,
            result,
            self._attached.gradient,
            self.optimizers[partition],
            lambda epoch: self._attached.epoch(epoch, partition),
            plan.n_batches[partition],
            range(number * n_steps, (number + 1) * n_steps),
            lambda: True,
        )


def average(
    learner: Learner,
    parts: Sequence[Batch],
    w: FloatVector,
    *,
    rounds: int,
    steps: int | None,
    lr: float,
    batch_size: int = 1 << 30,
    seed: int = 0,
    wait_for: int | None = None,
    arrival: Callable[[int], Sequence[int]] | None = None,
    optimizers: Sequence[Optimizer] | None = None,
) -> FloatVector:
    """Average as the package does in one process.

    `steps` is None for whole passes, each partition its own. `arrival` gives the order in which a
    round's results come, and `optimizers` what each learner takes its steps by (plain SGD).
    """
    plan = plan_for(learner, parts, lr=lr, batch_size=batch_size, seed=seed, steps=steps)
    kind = InlineAveraging if optimizers is None else AveragingByOptimizers
    run = kind(
        plan,
        Averaging([part.n for part in parts], rounds, wait_for=wait_for),
        w,
        Aggregation(w.size, w.dtype),
        TailMean(0, w.dtype, rounds),
        arrival=None if arrival is None else lambda number, _: arrival(number),
    )
    if isinstance(run, AveragingByOptimizers):
        run.optimizers = optimizers or ()
        for optimizer in run.optimizers:
            optimizer.start(w.size, w.dtype)
    run.start(tell=print)
    while run.final is None:
        run.wait(1e9, look=False)
    return run.final.w


class Pushing(InlinePushing):
    """Learners that push to a `ParameterServer`, one step at a time, as the test says who."""

    def __init__(
        self,
        learner: Learner,
        parts: Sequence[Batch],
        w: FloatVector,
        optimizer: Optimizer,
        *,
        batch_size: int = 1 << 30,
        seed: int = 0,
        rules: PushPullRules | None = None,
    ) -> None:
        plan = plan_for(learner, parts, lr=optimizer.lr, batch_size=batch_size, seed=seed)
        super().__init__(plan, w, optimizer, 0, rules)

    def run(self, epochs: int, choose: Callable[[list[int]], int] = min) -> FloatVector:
        """Train; `choose` picks who goes next among those who can."""
        for number in range(epochs):
            self.open_epoch(number)
            while able := [k for k in range(self.p) if self.can_step(k)]:
                self.step(choose(able))
            assert self.server.is_epoch_complete
        return self.server.w
