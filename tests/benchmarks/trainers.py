"""Ways to train a model: ours and the sequential ones, each a `to_target.Trainer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np

from paramserver.training.learner import Batch, Learner
from paramserver.training.modes import Mode
from paramserver.training.partitions import Epoch
from tests.benchmarks.resources import Meter
from tests.benchmarks.to_target import Pass, Trainer


def ours(
    cluster: Any, learner: Learner, data: Any, mode: Callable[[int], Mode], batch_size: int
) -> Trainer:
    """Train anew for each number of passes, so that no evaluation takes the cores from a learner.

    The rows are handed over in each training, and that is on the clock. What `fit` evaluates at its
    end is not: it is measured by doing it again.
    """
    import paramserver as ps

    rows, test = Batch(data.X_train, data.y_train), Batch(data.X_test, data.y_test)

    def train(rate: float, seed: int) -> Iterator[Pass]:
        for n_passes in count(1):
            with Meter() as meter:
                try:
                    result = ps.fit(
                        learner,
                        (rows.X, rows.y),
                        mode=mode(n_passes),
                        cluster=cluster,
                        test=(test.X, test.y),
                        batch_size=batch_size,
                        lr=rate,
                        seed=seed,
                    )
                except ps.errors.Diverged:
                    yield Pass(float("inf"), float("inf"), 0.0)
                    return
            with Meter() as evaluation:
                learner.loss(result.weights, rows)
                score = learner.score(result.weights, test)
            assert result.test_score == score
            wall_s = max(result.wall_s, meter.wall_s - evaluation.wall_s)
            yield Pass(wall_s, meter.cpu_s - evaluation.cpu_s, score)

    return train


def numpy_minibatches(learner: Learner, data: Any, batch_size: int) -> Trainer:
    """Plain mini-batch SGD by the arithmetic of our own learner: one thread, no worker."""
    rows, test = Batch(data.X_train, data.y_train), Batch(data.X_test, data.y_test)

    def train(rate: float, seed: int) -> Iterator[Pass]:
        w, g = learner.start(np.random.default_rng(seed)), np.empty(learner.size, learner.dtype)
        spent = Spent()
        for number in count():
            with spent, np.errstate(all="ignore"):
                for batch in Epoch(rows, batch_size, seed, number, 0).batches():
                    learner.gradient(w, batch, g)
                    g *= rate
                    w -= g
            yield spent.after(learner.score(w, test))

    return train


def partial_fits(make: Callable[[float, int], Any], data: Any) -> Trainer:
    """Train an estimator of scikit-learn by `partial_fit`, one pass a call."""

    def train(rate: float, seed: int) -> Iterator[Pass]:
        model, classes, spent = make(rate, seed), np.unique(data.y_train), Spent()
        while True:
            with spent:
                model.partial_fit(data.X_train, data.y_train, classes=classes)
            yield spent.after(float(model.score(data.X_test, data.y_test)))

    return train


def whole_fits(make: Callable[[int, int], Any], data: Any, lengths: tuple[int, ...]) -> Trainer:
    """Train an estimator that only knows `fit`, anew with each number of iterations."""

    def train(_rate: float, seed: int) -> Iterator[Pass]:
        for n_iterations in lengths:
            model, spent = make(n_iterations, seed), Spent()
            with spent:
                model.fit(data.X_train, data.y_train)
            yield spent.after(float(np.mean(model.predict(data.X_test) == data.y_test)))

    return train


class Spent:
    """Adds up what stretches of work have cost."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def __enter__(self) -> None:
        self._meter = Meter()
        self._meter.__enter__()

    def __exit__(self, *what: object) -> None:
        self._meter.__exit__(*what)
        self.wall_s += self._meter.wall_s
        self.cpu_s += self._meter.cpu_s

    def after(self, score: float) -> Pass:
        return Pass(self.wall_s, self.cpu_s, score)
