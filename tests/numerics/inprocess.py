"""Both training modes in one process, with the package's own machines and a schedule of choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from paramserver.training.averaging import Averaging, Fold, StartRound
from paramserver.training.learner import Batch, Learner
from paramserver.training.local import take_steps
from paramserver.training.optimizers import SGD, Optimizer
from paramserver.training.partitions import Epoch
from paramserver.training.push_pull import ParameterServer, Push, PushPullRules, Verdict
from paramserver.training.vector import FloatVector, Workspace, combine


def average(
    learner: Learner,
    parts: Sequence[Batch],
    w: FloatVector,
    *,
    rounds: int,
    steps: int,
    lr: float,
    batch_size: int = 1 << 30,
    seed: int = 0,
    wait_for: int | None = None,
    arrival: Callable[[int], Sequence[int]] | None = None,
) -> FloatVector:
    """Average as `AveragingRun` does; `arrival` gives the order in which a round's results come."""
    machine = Averaging([part.n for part in parts], rounds, wait_for=wait_for)
    optimizer = SGD(lr)
    optimizer.start(w.size, w.dtype)
    w, g, workspace = w.copy(), np.empty_like(w), Workspace(w.size, w.dtype)
    commands = machine.start()
    while commands:
        command = commands.pop(0)
        if isinstance(command, StartRound):
            results = {}
            order = range(len(parts)) if arrival is None else arrival(command.round)
            for k in order:
                results[k] = w.copy()
                number = command.round
                take_steps(
                    learner,
                    results[k],
                    g,
                    optimizer,
                    lambda epoch, k=k: Epoch(parts[k], batch_size, seed, epoch, k),
                    range(number * steps, (number + 1) * steps),
                    lambda: True,
                )
                commands += machine.done(number, k)
        elif isinstance(command, Fold):
            new = np.empty_like(w)
            vectors = [results[k] for k in command.partitions]
            assert combine(vectors, command.coefficients, new, workspace)
            w = new
            commands += machine.folded()
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

    def open_epoch(self, number: int) -> None:
        self.server.open_epoch(number)
        for k in range(len(self.parts)):
            self.cursor[k] = self.server.join(k + 1, number, k)
            self.seen[k] = (self.server.w, self.server.version)

    def step(self, k: int) -> Verdict:
        """Let worker k push its gradient; those whose answers are due pull."""
        server, number = self.server, self.server.epoch
        epoch = Epoch(self.parts[k], self.batch_size, self.seed, number, k)
        w, version = self.seen[k]
        g = np.empty_like(w)
        self.learner.gradient(w, epoch.batch(self.cursor[k]), g)
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
