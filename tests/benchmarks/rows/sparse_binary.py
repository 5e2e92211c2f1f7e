"""Row 13: two classes of 900,000 sparse rows (synthetic), until 0.927 of the test are right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from tests.benchmarks.row import Measured, Row
from tests.benchmarks.setting import one_thread, our_clusters, some_rows
from tests.benchmarks.to_target import Pass, Task
from tests.benchmarks.trainers import Spent, ours, partial_fits, whole_fits

BATCH = 1
SGD = "SGDClassifier"
SNAPML = "snapml LogisticRegression(n_jobs=2)"
NUMBA = "bare numba loop, one thread"
TASK = Task(target=0.927, rates=(2.0, 0.5, 0.1, 0.02), max_passes=6)


def measure(contender: str, quick: bool) -> Measured:
    """Train with the contender's best learning rate of `TASK.rates`."""
    from paramserver.data.datasets import load

    data: Any = load("synthetic-sparse")
    if quick:
        data = some_rows(data)
    if contender == SGD:
        return TASK.measure(partial_fits(_make_sgd, data), quick=quick)
    if contender == SNAPML:
        lengths = (1, 2) if quick else (1, 2, 4, 8, 16)
        trainer = whole_fits(_make_snapml, _as_matrices(data), lengths)
        return TASK.measure(trainer, quick=quick, has_rates=False)
    if contender == NUMBA:
        return TASK.measure(partial(_numba_loop, data), quick=quick)
    from paramserver.models.linear import Linear

    learner = Linear(data.n_features, 1, "log_loss")
    with one_thread(), our_clusters()[contender]() as cluster:
        mode = partial(_mode, cluster.n_workers)
        return TASK.measure(ours(cluster, learner, data, mode, BATCH), quick=quick)


def _mode(p: int, n_passes: int) -> Any:
    import paramserver as ps

    return ps.Averaging(rounds=n_passes, n_partitions=p)


def _make_sgd(rate: float, seed: int) -> Any:
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(
        loss="log_loss", penalty=None, learning_rate="constant", eta0=rate, random_state=seed
    )


def _make_snapml(n_iterations: int, seed: int) -> Any:
    from snapml import LogisticRegression

    return LogisticRegression(
        max_iter=n_iterations, n_jobs=2, tol=0.0, fit_intercept=True, random_state=seed
    )


def _as_matrices(data: Any) -> Any:
    """Wrap the rows in the class that snapml knows; nothing is copied."""
    from scipy.sparse import csr_matrix

    X_train, X_test = csr_matrix(data.X_train), csr_matrix(data.X_test)
    return replace(data, X_train=X_train, X_test=X_test)


def _numba_loop(data: Any, rate: float, seed: int) -> Iterator[Pass]:
    """Logistic SGD row by row, as short as it can be written: the limit of one core."""
    import numba
    import numpy as np

    @numba.njit(fastmath=True)
    def one_pass(indptr, indices, values, signs, order, w, lr):  # type: ignore[no-untyped-def]
        for i in order:
            z = w[-1]
            for j in range(indptr[i], indptr[i + 1]):
                z += values[j] * w[indices[j]]
            step = lr * signs[i] / (1 + np.exp(signs[i] * z))
            for j in range(indptr[i], indptr[i + 1]):
                w[indices[j]] += step * values[j]
            w[-1] += step

    X, y = data.X_train, data.y_train
    signs = np.where(y == 1, np.float32(1), np.float32(-1))
    w = np.zeros(X.shape[1] + 1, np.float32)
    rng = np.random.default_rng(seed)
    one_pass(X.indptr, X.indices, X.data, signs, rng.permutation(1), w, np.float32(rate))
    w[:] = 0  # compiled; now from the start
    spent = Spent()
    while True:
        with spent:
            order = rng.permutation(len(y))
            one_pass(X.indptr, X.indices, X.data, signs, order, w, np.float32(rate))
        found = data.X_test @ w[:-1] + w[-1] > 0
        yield spent.after(float(np.mean(found == (data.y_test == 1))))


ROW = Row(
    key="13",
    title="two classes, 900,000 x 262,144 sparse (synthetic), test accuracy 0.927",
    contenders=("paramserver", "paramserver, one worker", NUMBA, SGD, SNAPML),
    metrics=TASK.metrics(goal=0.4),
    measure=measure,
    limit_s=240.0,
    n_repeats=1,
    note=f"As row 10, learning rates {', '.join(f'{rate:g}' for rate in sorted(TASK.rates))}; "
    "the passes of snapml are fits with more and more iterations. Labels are drawn with noise, so "
    "no score near 1 can be reached.",
)
