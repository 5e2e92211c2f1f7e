"""Row 11: a perceptron with 128 hidden units on Fashion-MNIST, until 0.86 of the test are right."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.benchmarks.row import Measured, Row
from tests.benchmarks.setting import fashion, one_thread, our_clusters
from tests.benchmarks.to_target import Task
from tests.benchmarks.trainers import numpy_minibatches, ours, partial_fits

BATCH = 64
HIDDEN = 128
ROUNDS_A_PASS = 8
NUMPY = "numpy mini-batches, one thread"
SKLEARN = "MLPClassifier(solver='sgd')"
TASK = Task(target=0.86, rates=(0.1, 0.2, 0.05), max_passes=8)


def measure(contender: str, quick: bool) -> Measured:
    """Train with the contender's best learning rate of `TASK.rates`."""
    from paramserver.models.mlp import MLP

    data = fashion(quick)
    learner = MLP(data.n_features, data.n_classes, (HIDDEN,))
    if contender == SKLEARN:  # with the threads for BLAS that it takes by itself
        return TASK.measure(partial_fits(_make, data), quick=quick)
    with one_thread():
        if contender == NUMPY:
            return TASK.measure(numpy_minibatches(learner, data, BATCH), quick=quick)
        with our_clusters()[contender]() as cluster:
            mode = partial(_mode, cluster.n_workers, len(data.y_train))
            return TASK.measure(ours(cluster, learner, data, mode, BATCH), quick=quick)


def _mode(p: int, n: int, n_passes: int) -> Any:
    import paramserver as ps

    steps = max(1, n // p // BATCH // ROUNDS_A_PASS)
    return ps.Averaging(rounds=n_passes * ROUNDS_A_PASS, local_steps=steps, n_partitions=p)


def _make(rate: float, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        (HIDDEN,), solver="sgd", batch_size=BATCH, learning_rate_init=rate, random_state=seed
    )


ROW = Row(
    key="11",
    title=f"Fashion-MNIST, MLP with {HIDDEN} hidden units, test accuracy 0.86",
    contenders=("paramserver", "paramserver, one worker", NUMPY, SKLEARN),
    metrics=TASK.metrics(goal=2.0),
    measure=measure,
    limit_s=240.0,
    n_repeats=1,
    note="As row 10. MLPClassifier has the momentum that it has by default, and two threads.",
)
