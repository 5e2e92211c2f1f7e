"""Row 12: which of 58 sections a Debian package belongs to, by the words of its description."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.benchmarks.row import Measured, Row
from tests.benchmarks.setting import one_thread, our_clusters, some_rows
from tests.benchmarks.to_target import Task
from tests.benchmarks.trainers import ours, partial_fits

BATCH = 1
SGD = {"SGDClassifier(n_jobs=1)": 1, "SGDClassifier(n_jobs=2)": 2}
TASK = Task(target=0.865, rates=(8.0, 32.0, 2.0, 0.5), max_passes=8)


def measure(contender: str, quick: bool) -> Measured:
    """Train with the contender's best learning rate of `TASK.rates`."""
    from paramserver.data.datasets import load

    data: Any = load("debian-sections")
    if quick:
        data = some_rows(data)
    if contender in SGD:
        return TASK.measure(partial_fits(partial(_make, SGD[contender]), data), quick=quick)
    from paramserver.models.softmax import Softmax

    learner = Softmax(data.n_features, data.n_classes)
    with one_thread(), our_clusters()[contender]() as cluster:
        mode = partial(_mode, cluster.n_workers)
        return TASK.measure(ours(cluster, learner, data, mode, BATCH), quick=quick)


def _mode(p: int, n_passes: int) -> Any:
    import paramserver as ps

    return ps.Averaging(rounds=n_passes, n_partitions=p)


def _make(n_jobs: int, rate: float, seed: int) -> Any:
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(
        loss="log_loss",
        penalty=None,
        learning_rate="constant",
        eta0=rate,
        random_state=seed,
        n_jobs=n_jobs,
    )


ROW = Row(
    key="12",
    title="Debian sections, sparse texts, 58 classes, test accuracy 0.865",
    contenders=("paramserver", "paramserver, one worker", *SGD),
    metrics=TASK.metrics(goal=1.0),
    measure=measure,
    limit_s=240.0,
    n_repeats=1,
    note=f"As row 10, learning rates {', '.join(f'{rate:g}' for rate in sorted(TASK.rates))}.",
)
