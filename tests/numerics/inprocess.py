"""Both training modes in one process, with the package's own machines and a schedule of choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np

from paramserver.training.aggregation import Aggregation
from paramserver.training.averaging import Averaging, Finish, Fold, StartRound
from paramserver.training.learner import Batch, Learner
from paramserver.training.local import take_steps
from paramserver.training.optimizers import SGD, Optimizer
from paramserver.training.partitions import Epoch, n_batches
from paramserver.training.push_pull import ParameterServer, Push, PushPullRules, Verdict
from paramserver.training.vector import FloatVector


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
    """Average as `AveragingRun` does.

    `steps` is None for whole passes, each partition its own. `arrival` gives the order in which a
    round's results come, and `optimizers` what each learner takes its steps by (plain SGD).
    """
    machine = Averaging([part.n for part in parts], rounds, wait_for=wait_for)
    aggregation = Aggregation(w.size, w.dtype)
    optimizers = optimizers or [SGD(lr) for _ in parts]
    for optimizer in optimizers:
        optimizer.start(w.size, w.dtype)
    w, g = w.copy(), np.empty_like(w)

    @lru_cache(2 * len(parts))
    def epoch(k: int, number: int) -> Epoch:
        return Epoch(parts[k], batch_size, seed, number, k)

    def train(number: int, k: int) -> FloatVector:
        result = w.copy()
        n_steps = n_batches(parts[k].n, batch_size) if steps is None else steps
        numbers = range(number * n_steps, (number + 1) * n_steps)
        take_steps(learner, result, g, optimizers[k], partial(epoch, k), numbers, lambda: True)
        return result

    results: dict[int, FloatVector] = {}
    commands = machine.start()
    while commands:
        match commands.pop(0):
            case StartRound(number, partitions):
                for k in partitions if arrival is None else arrival(number):
                    results[k] = train(number, k)
                    commands += machine.done(number, k)
            case Fold(_, partitions, coefficients):
                new = np.empty_like(w)
                assert aggregation.fold(w, [results[k] for k in partitions], coefficients, new)
                w = new
                commands += machine.folded()
            case Finish():
                assert not commands
    return w


class Pushing:
    """Workers that push to a `ParameterServer`, one step at a time, as the test says who."""

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
        self.learner, self.parts = learner, parts
        self.batch_size, self.seed = batch_size, seed
        sizes = [part.n for part in parts]
        self.server = ParameterServer(w.copy(), optimizer, sizes, batch_size, rules)
        p = len(parts)
        self.seen: list[tuple[FloatVector, int]] = [(w, 0)] * p
        """What each worker computes from: weights and their version."""
        self.seq = [0] * p
        self.waiting: set[int] = set()
        self.cursor = [0] * p
        self.epochs: list[Epoch] = []

    def open_epoch(self, number: int) -> None:
        self.server.open_epoch(number)
        self.epochs = [
            Epoch(part, self.batch_size, self.seed, number, k) for k, part in enumerate(self.parts)
        ]
        for k in range(len(self.parts)):
            self.cursor[k] = self.server.join(k + 1, number, k)
            self.seen[k] = (self.server.w, self.server.version)

    def step(self, k: int) -> Verdict:
        """Let worker k push its gradient; those whose answers are due pull."""
        server, number = self.server, self.server.epoch
        w, version = self.seen[k]
        g = np.empty_like(w)
        self.learner.gradient(w, self.epochs[k].batch(self.cursor[k]), g)
        self.seq[k] += 1
        push = Push(k + 1, self.seq[k], number, k, self.cursor[k], version)
        self.waiting.add(k)
        verdict = server.push(push, g, np.empty_like(w))
        for incarnation in server.take_due():
            j = incarnation - 1
            self.waiting.discard(j)
            self.cursor[j] += 1
            self.seen[j] = (server.w, server.version)
        return verdict

    def can_step(self, k: int) -> bool:
        return k not in self.waiting and self.cursor[k] < self.server.n_batches[k]

    def run(self, epochs: int, choose: Callable[[list[int]], int] = min) -> FloatVector:
        """Train; `choose` picks who goes next among those who can."""
        for number in range(epochs):
            self.open_epoch(number)
            while able := [k for k in range(len(self.parts)) if self.can_step(k)]:
                self.step(choose(able))
            assert self.server.is_epoch_complete
        return self.server.w
