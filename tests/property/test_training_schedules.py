"""Both training modes under thousands of schedules of deaths, repeats and losses.

The machines are the real ones; workers, their deaths and the messages between are made up here, by
seeds. A failure names its seed.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from paramserver.training.averaging import Averaging, Fold, StartRound
from paramserver.training.learner import Batch
from paramserver.training.local import take_steps
from paramserver.training.optimizers import SGD
from paramserver.training.partitions import Epoch
from paramserver.training.push_pull import ParameterServer
from paramserver.training.pushes import Gradient, Push, PushPullRules, RowGradient, Verdict
from paramserver.training.vector import Workspace, combine, fingerprint
from tests.numerics.inprocess import average
from tests.numerics.learners import LeastSquares, Ledger, numbered_rows


class Cell:
    """A worker's life: it may die, be repeated, or come back as another one."""

    def __init__(self, incarnation: int, partition: int) -> None:
        self.incarnation = incarnation
        self.partition = partition
        self.cursor = 0
        self.seq = 0
        self.seen = 0
        self.waits = False


def push_of(cell: Cell) -> Push:
    return Push(cell.incarnation, cell.seq + 1, 0, cell.partition, cell.cursor, cell.seen)


class Chaos:
    """One epoch of async training in which anything can happen to workers and messages."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.p = self.chance.randint(1, 5)
        self.n = self.p * self.chance.randint(1, 12)
        batch_size = self.chance.randint(1, 4)
        self.bound = self.chance.choice([None, None, 0, 1, 3])
        self.rows = numbered_rows(self.n, self.p)
        sizes = [part.n for part in self.rows]
        rules = PushPullRules(staleness_bound=self.bound)
        self.width = self.chance.choice([None, 1])
        """Whether gradients are whole, or of some rows."""
        w = np.zeros(self.n)
        self.server = ParameterServer(w, SGD(1.0), sizes, batch_size, rules, width=self.width)
        self.server.open_epoch(0)
        self.epochs = [Epoch(part, batch_size, seed, 0, k) for k, part in enumerate(self.rows)]
        self.learner = Ledger(self.n)
        self.cells: dict[int, Cell] = {}
        """By partition."""
        self.old: list[tuple[Push, Gradient]] = []
        """Messages that may come again."""
        self.next_incarnation = 1

    def run(self) -> None:
        for _ in range(5000):
            if self.server.is_epoch_complete:
                return
            self.chance.choice(
                [self.join, self.push, self.push, self.push, self.die, self.repeat]
            )()
            self.answer()
        raise AssertionError("it does not end")

    def join(self) -> None:
        k = self.chance.randrange(self.p)
        if k not in self.cells:
            cell = self.cells[k] = Cell(self.next_incarnation, k)
            self.next_incarnation += 1
            cell.cursor = self.server.join(cell.incarnation, 0, k)
            cell.seen = self.server.version

    def push(self) -> None:
        able = [cell for cell in self.cells.values() if not cell.waits]
        able = [c for c in able if c.cursor < len(self.epochs[c.partition])]
        if not able:
            return
        cell = self.chance.choice(able)
        g = np.empty(self.n)
        w = self.server.w
        self.learner.gradient(w, self.epochs[cell.partition].batch(cell.cursor), g)
        gradient: Gradient = g
        if self.width is not None:
            rows = np.flatnonzero(g)
            gradient = RowGradient(rows, g[rows].reshape(-1, self.width))
        push = push_of(cell)
        cell.waits = True
        if self.chance.random() < 0.1:
            return  # the message is lost; it is sent again by `die` and its replacement
        verdict = self.server.push(push, gradient, np.empty(self.n))
        assert verdict in (Verdict.APPLIED, Verdict.HELD), verdict
        self.old.append((push, gradient))

    def die(self) -> None:
        if self.cells and self.chance.random() < 0.5:
            cell = self.cells.pop(self.chance.choice(list(self.cells)))
            self.server.forget(cell.incarnation)
            self.server.regroup(np.empty(self.n))

    def repeat(self) -> None:
        """An old message comes again, perhaps of a worker that is long dead: it never counts."""
        if self.old:
            push, g = self.chance.choice(self.old)
            before = fingerprint(self.server.w), self.server.version, list(self.server.cursors)
            verdict = self.server.push(push, g, np.empty(self.n))
            assert verdict in (Verdict.DUPLICATE, Verdict.STALE, Verdict.GAP), verdict
            after = fingerprint(self.server.w), self.server.version, list(self.server.cursors)
            assert after == before

    def answer(self) -> None:
        for incarnation in self.server.take_due():
            for cell in self.cells.values():
                if cell.incarnation == incarnation:
                    if self.chance.random() < 0.05:
                        continue  # the answer is lost: the worker waits until it is given up
                    cell.waits = False
                    cell.seq += 1
                    cell.cursor += 1
                    cell.seen = self.server.version


@pytest.mark.parametrize("hundred", range(20))
def test_every_batch_is_applied_once_under_any_schedule(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        chaos = Chaos(seed)
        chaos.run()
        w = chaos.server.w
        if chaos.bound == 0:  # a batch adds its share of the examples of its step
            assert ((w > 0) & (w <= 1)).all(), f"seed {seed}"
        else:
            assert np.array_equal(w, np.ones(chaos.n)), f"seed {seed}"
        assert sum(chaos.server.staleness.values()) == sum(map(len, chaos.epochs)), f"seed {seed}"
        assert chaos.server.examples == chaos.n, f"seed {seed}"


@pytest.mark.parametrize("seed", range(200))
def test_averaging_ends_with_the_same_bits_under_any_schedule(seed: int) -> None:
    chance = random.Random(seed)
    rng = np.random.default_rng(3)
    parts = [Batch(rng.standard_normal((n, 4)), rng.standard_normal(n)) for n in (7, 12, 3)]
    w0, learner = rng.standard_normal(4), LeastSquares(4)
    calm = average(learner, parts, w0, rounds=4, steps=3, lr=0.05, batch_size=4)

    machine, optimizer = Averaging([7, 12, 3], 4), SGD(0.05)
    optimizer.start(4, np.float64)
    w, g, workspace = w0, np.empty(4), Workspace(4, np.float64)
    commands = machine.start()
    old: list[tuple[int, int]] = []
    while commands:
        command = commands.pop(0)
        if isinstance(command, StartRound):
            results: dict[int, np.ndarray] = {}
            todo = list(command.partitions)
            while todo:
                k = todo.pop(chance.randrange(len(todo)))
                result, number = w.copy(), command.round
                for _ in range(chance.choice([1, 1, 2])):  # two: a backup copy of the job
                    result = w.copy()
                    steps = range(3 * number, 3 * number + 3)
                    dies = chance.random() < 0.3
                    budget = chance.randrange(3) if dies else 99
                    left = iter(range(budget))
                    done = take_steps(
                        learner,
                        result,
                        g,
                        optimizer,
                        lambda epoch, k=k: Epoch(parts[k], 4, 0, epoch, k),
                        steps,
                        lambda left=left: next(left, None) is not None,
                    )
                if not done:
                    todo.append(k)  # its worker died amid the steps: another one begins anew
                    continue
                results[k] = result
                old.append((number, k))
                commands += machine.done(number, k)
                if chance.random() < 0.3:
                    assert machine.done(*chance.choice(old)) == []  # something comes twice
        elif isinstance(command, Fold):
            new = np.empty(4)
            vectors = [results[k] for k in command.partitions]
            assert combine(vectors, command.coefficients, new, workspace)
            w = new
            commands += machine.folded()
    assert fingerprint(w) == fingerprint(calm)
