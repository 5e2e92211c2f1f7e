"""Both training modes under thousands of schedules of deaths, repeats and losses.

The machines are the real ones; workers, masters, their deaths and the messages between are made up
here, by seeds. A failure names its seed.
"""

from __future__ import annotations

import json
import random
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import pytest

from paramserver.training.aggregation import Aggregation, TailMean
from paramserver.training.averaging import Averaging, Fold, StartRound
from paramserver.training.batching import n_batches
from paramserver.training.learner import Batch
from paramserver.training.local import take_steps
from paramserver.training.optimizers import SGD, Adagrad, Adam, Momentum, Optimizer
from paramserver.training.partitions import Epoch
from paramserver.training.push_pull import ParameterServer
from paramserver.training.pushes import Gradient, Push, PushPullRules, RowGradient, Verdict
from paramserver.training.vector import FloatVector, Workspace, combine, fingerprint
from tests.numerics.inprocess import average
from tests.numerics.learners import LeastSquares, Ledger, numbered_rows


class Cell:
    """A worker's life: it may die, be repeated, or come back as another one."""

    def __init__(self, incarnation: int, epoch: int, partition: int) -> None:
        self.incarnation = incarnation
        self.epoch = epoch
        self.partition = partition
        self.cursor = 0
        self.seq = 0
        self.seen = 0
        self.waits = False


def push_of(cell: Cell) -> Push:
    return Push(cell.incarnation, cell.seq + 1, cell.epoch, cell.partition, cell.cursor, cell.seen)


Log: TypeAlias = list[tuple[FloatVector, dict[str, float]]]


def logged(kind: type[Optimizer], log: Log) -> Optimizer:
    """Return an optimizer that notes by which gradients, made whole, it steps."""

    class Logged(kind):  # type: ignore[valid-type, misc]
        def step(self, w: FloatVector, g: FloatVector, out: FloatVector, **scales: float) -> bool:
            log.append((g.copy(), scales))
            return bool(super().step(w, g, out, **scales))

        def sparse_step(self, w: Any, rows: Any, values: Any, **scales: float) -> bool:
            g = np.zeros(w.shape)
            g[rows] = values
            log.append((g.reshape(-1), scales))
            return bool(super().sparse_step(w, rows, values, **scales))

    return Logged(1.0)


class Saved(NamedTuple):
    """A checkpoint, and how long the log was."""

    books: dict[str, Any]
    w: FloatVector
    n_steps: int
    vectors: list[FloatVector]
    n_logged: int


class Chaos:
    """Some epochs of async training in which anything can happen: to workers, messages, masters."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.p = self.chance.randint(1, 5)
        self.n = self.p * self.chance.randint(1, 8)
        self.n_epochs = self.chance.randint(1, 2)
        self.batch_size = self.chance.randint(1, 4)
        self.bound = self.chance.choice([None, None, 0, 1, 3])
        self.rows = numbered_rows(self.n, self.p)
        self.width = self.chance.choice([None, 1])
        """Whether gradients are whole, or of some rows."""
        kinds = [SGD, SGD, Adagrad] if self.width else [SGD, SGD, Momentum, Adagrad, Adam]
        self.kind: type[Optimizer] = self.chance.choice(kinds)
        self.log: Log = []
        self.learner = Ledger(self.n)
        self.seed = seed
        self.old: list[tuple[Push, Gradient]] = []
        """Messages that may come again, also to a master that has not sent for them."""
        self.next_incarnation = 1
        self.n_restarts = 0
        self.disk: Saved | None = None
        self.start()

    def start(self) -> None:
        """Start a master: from the newest checkpoint, if there is one."""
        self.cells: dict[int, Cell] = {}
        """By partition."""
        saved = self.disk
        w = np.zeros(self.n) if saved is None else saved.w.copy()
        self.optimizer = logged(self.kind, self.log)
        sizes = [part.n for part in self.rows]
        rules = PushPullRules(staleness_bound=self.bound)
        self.server = ParameterServer(
            w, self.optimizer, sizes, self.batch_size, rules, width=self.width
        )
        if saved is None:
            self.log.clear()
            self.server.open_epoch(0)
        else:
            del self.log[saved.n_logged :]
            self.optimizer.restore(saved.n_steps, saved.vectors)
            self.server.restore(json.loads(json.dumps(saved.books)))

    def checkpoint(self) -> None:
        """Save the state, between any two events."""
        optimizer = self.optimizer
        vectors = [vector.copy() for vector in optimizer.state]
        w = self.server.w.copy()
        self.disk = Saved(self.server.books(), w, optimizer.n_steps, vectors, len(self.log))

    def restart(self) -> None:
        """The master is killed, and its workers with it; another one goes on."""
        if self.n_restarts < 6:
            self.n_restarts += 1
            self.start()

    def run(self) -> None:
        events = [self.join, self.push, self.push, self.push, self.die, self.repeat]
        for _ in range(50_000):
            if self.server.is_epoch_complete:
                if self.server.epoch + 1 == self.n_epochs:
                    return
                self.server.open_epoch(self.server.epoch + 1)
                self.cells.clear()
            self.chance.choice(events)()
            if self.chance.random() < 0.1:  # before the answers
                self.checkpoint()
            if self.chance.random() < 0.03:
                self.restart()
            self.answer()
            if self.chance.random() < 0.03:
                self.restart()
        raise AssertionError("it does not end")

    def epoch_of(self, cell: Cell) -> Epoch:
        rows = self.rows[cell.partition]
        return Epoch(rows, self.batch_size, self.seed, cell.epoch, cell.partition)

    def join(self) -> None:
        k = self.chance.randrange(self.p)
        if k not in self.cells:
            cell = self.cells[k] = Cell(self.next_incarnation, self.server.epoch, k)
            self.next_incarnation += 1
            cell.cursor = self.server.join(cell.incarnation, cell.epoch, k)
            cell.seen = self.server.version

    def push(self) -> None:
        able = [cell for cell in self.cells.values() if not cell.waits]
        able = [c for c in able if c.cursor < self.server.n_batches[c.partition]]
        if not able:
            return
        cell = self.chance.choice(able)
        g = np.empty(self.n)
        w = self.server.w
        self.learner.gradient(w, self.epoch_of(cell).batch(cell.cursor), g)
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
            refused = [Verdict.DUPLICATE, Verdict.STALE, Verdict.GAP]
            if push.seen > self.server.version:  # of a time that the checkpoint does not know
                refused = [Verdict.MISMATCHED, Verdict.STALE]
            assert verdict in refused, verdict
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

    def replayed(self) -> FloatVector:
        """Return what the gradients that count make of the start, without any interruption."""
        optimizer = self.kind(1.0)
        optimizer.start(self.n, np.float64)
        w = np.zeros(self.n)
        for g, scales in self.log:
            assert optimizer.step(w, g, w, **scales)
        return w


@pytest.mark.parametrize("hundred", range(20))
def test_every_batch_is_applied_once_under_any_schedule(hundred: int) -> None:
    """Masters die too: before an answer and after it, with and without a checkpoint."""
    n_restarts = 0
    for seed in range(100 * hundred, 100 * hundred + 100):
        chaos = Chaos(seed)
        chaos.run()
        n_restarts += chaos.n_restarts
        server, times = chaos.server, chaos.n_epochs
        applied = -sum(g for g, _ in chaos.log)
        if chaos.bound == 0:  # a batch adds its share of the examples of its step
            assert ((applied > 0) & (applied <= times)).all(), f"seed {seed}"
        else:
            assert np.array_equal(applied, np.full(chaos.n, times)), f"seed {seed}"
            if chaos.kind is SGD:
                assert np.array_equal(server.w, applied), f"seed {seed}"
        assert fingerprint(server.w) == fingerprint(chaos.replayed()), f"seed {seed}"
        assert sum(server.staleness.values()) == times * sum(server.n_batches), f"seed {seed}"
        assert server.examples == times * chaos.n, f"seed {seed}"
        assert server.version == len(chaos.log) == chaos.optimizer.n_steps, f"seed {seed}"
    assert n_restarts > 100


class Rounds:
    """Averaging whose master may be killed at any event, and goes on from its last checkpoint."""

    PARTS: ClassVar = (7, 12, 3)
    N_ROUNDS = 6

    def __init__(self, seed: int, chance: random.Random | None) -> None:
        rng = np.random.default_rng(seed)
        self.chance = chance
        self.parts = [
            Batch(rng.standard_normal((n, 4)), rng.standard_normal(n)) for n in self.PARTS
        ]
        self.w0 = rng.standard_normal(4)
        self.outer = (None, Momentum(0.7, nesterov=True), Adam(0.1))[seed % 3]
        self.disk: Any = None
        self.n_restarts = 0

    def start(self) -> None:
        self.machine = Averaging(self.PARTS, self.N_ROUNDS)
        self.aggregation = Aggregation(4, np.float64, outer=self.outer)
        self.tail = TailMean(4, np.float64, first=3)
        self.w = self.w0
        if self.disk is not None:
            number, self.w, outer, tail = self.disk
            self.machine = Averaging(self.PARTS, self.N_ROUNDS, first_round=number)
            self.aggregation.restore(*outer)
            self.tail.restore(*tail)

    def checkpoint(self) -> None:
        n_steps, vectors = self.aggregation.state()
        n, mean = self.tail.state()
        outer = n_steps, [vector.copy() for vector in vectors]
        self.disk = self.machine.round, self.w.copy(), outer, (n, mean.copy())

    def happens(self, probability: float) -> bool:
        return self.chance is not None and self.chance.random() < probability

    def run(self) -> FloatVector:
        while not self.life():
            self.n_restarts += 1
        return self.tail.mean(self.w)

    def life(self) -> bool:
        """Go on until the end; return False where the master is killed."""
        self.start()
        commands = self.machine.start()
        results: dict[int, FloatVector] = {}
        while commands:
            command = commands.pop(0)
            if self.n_restarts < 5 and self.happens(0.1):
                return False
            if isinstance(command, StartRound):
                for k in self.shuffled(command.partitions):
                    if self.n_restarts < 5 and self.happens(0.05):
                        return False
                    results[k] = self.trained(command.round, k)
                    commands += self.machine.done(command.round, k)
            elif isinstance(command, Fold):
                new = np.empty(4)
                vectors = [results[k] for k in command.partitions]
                assert self.aggregation.fold(self.w, vectors, command.coefficients, new)
                self.tail.add(command.round, new)
                self.w = new
                commands += self.machine.folded()
                if self.happens(0.4):
                    self.checkpoint()
        return True

    def shuffled(self, partitions: tuple[int, ...]) -> list[int]:
        order = list(partitions)
        if self.chance is not None:
            self.chance.shuffle(order)
        return order

    def trained(self, number: int, k: int) -> FloatVector:
        w, optimizer = self.w.copy(), SGD(0.05)
        optimizer.start(4, np.float64)
        steps = range(3 * number, 3 * number + 3)
        take_steps(
            LeastSquares(4),
            w,
            np.empty(4),
            optimizer,
            lambda epoch: Epoch(self.parts[k], 4, 0, epoch, k),
            n_batches(self.parts[k].n, 4),
            steps,
            lambda: True,
        )
        return w


@pytest.mark.parametrize("hundred", range(3))
def test_averaging_ends_with_the_same_bits_whenever_its_master_is_killed(hundred: int) -> None:
    n_restarts = 0
    for seed in range(100 * hundred, 100 * hundred + 100):
        chaotic = Rounds(seed, random.Random(seed))
        assert fingerprint(chaotic.run()) == fingerprint(Rounds(seed, None).run()), f"seed {seed}"
        n_restarts += chaotic.n_restarts
    assert n_restarts > 100


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
                        n_batches(parts[k].n, 4),
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
