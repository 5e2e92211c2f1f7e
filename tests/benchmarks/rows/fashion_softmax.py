"""Row 10: softmax regression on Fashion-MNIST, until 0.836 of the test images are right."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.benchmarks.row import Measured, Row
from tests.benchmarks.setting import fashion, one_thread, our_clusters
from tests.benchmarks.to_target import Task
from tests.benchmarks.trainers import numpy_minibatches, ours, partial_fits, whole_fits

BATCH = 64
ROUNDS_A_PASS = 8
NUMPY = "numpy mini-batches, one thread"
SGD = "SGDClassifier(n_jobs=2)"
LBFGS = "LogisticRegression(lbfgs)"
TASK = Task(target=0.836, rates=(0.1, 0.05, 0.2, 0.4, 0.005), max_passes=10)


def measure(contender: str, quick: bool) -> Measured:
    """Train with the contender's best learning rate of `TASK.rates`."""
    data = fashion(quick)
    if contender in (SGD, LBFGS):
        return _measure_sklearn(contender, data, quick)
    from paramserver.models.softmax import Softmax

    learner = Softmax(data.n_features, data.n_classes)
    with one_thread():
        if contender == NUMPY:
            return TASK.measure(numpy_minibatches(learner, data, BATCH), quick=quick)
        with our_clusters()[contender]() as cluster:
            mode = partial(_mode, cluster.n_workers, len(data.y_train))
            return TASK.measure(ours(cluster, learner, data, mode, BATCH), quick=quick)


def _mode(p: int, n: int, n_passes: int) -> Any:
    import paramserver as ps

    steps = max(1, n // p // BATCH // ROUNDS_A_PASS)
    return ps.Averaging(
        rounds=n_passes * ROUNDS_A_PASS, local_steps=steps, n_partitions=p, tail=0.5
    )


def _measure_sklearn(contender: str, data: Any, quick: bool) -> Measured:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, SGDClassifier

    if contender == SGD:

        def make(rate: float, seed: int) -> Any:
            return SGDClassifier(
                loss="log_loss",
                learning_rate="constant",
                eta0=rate,
                average=True,
                random_state=seed,
                n_jobs=2,
            )

        return TASK.measure(partial_fits(make, data), quick=quick)
    warnings.simplefilter("ignore", ConvergenceWarning)
    lengths = (2, 3) if quick else (15, 30, 60, 120)
    trainer = whole_fits(lambda n, _: LogisticRegression(max_iter=n), data, lengths)
    task = TASK if quick else Task(TASK.target, TASK.rates, len(lengths), n_seeds=1)
    return task.measure(trainer, quick=quick, has_rates=False)


ROW = Row(
    key="10",
    title="Fashion-MNIST, softmax regression, test accuracy 0.836",
    contenders=("paramserver", "paramserver, one worker", NUMPY, SGD, LBFGS),
    metrics=TASK.metrics(goal=0.6),
    measure=measure,
    limit_s=240.0,
    n_repeats=1,
    note="Time is that of the second pass in a row at the target, evaluation apart, with the best "
    f"of the learning rates {', '.join(map(str, sorted(TASK.rates)))}; ours includes handing the "
    "rows over to the workers. SGDClassifier averages its weights, as ours does those of the last "
    "rounds; the passes of lbfgs are fits with more and more iterations. CPU is of all processes, "
    "memory the master's peak, data included.",
)
