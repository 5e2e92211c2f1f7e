"""`fit`: train a learner on a cluster, and say what happened.

Rule 1: it runs on the user's thread: it hands the data over, waits, evaluates copies of the
        weights, and gives everything back, whatever ends it.
Rule 2: the weights it returns follow from learner, data, mode and seed (averaging to the last bit);
        evaluation and callbacks change nothing but when it ends.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError, ShapeMismatch
from paramserver.runtime.internals import Internals
from paramserver.training.aggregation import Aggregation, TailMean
from paramserver.training.averaging import Averaging as AveragingMachine
from paramserver.training.averaging_run import AveragingRun
from paramserver.training.learner import Batch, Learner
from paramserver.training.optimizers import Optimizer, make_optimizer
from paramserver.training.partitions import SharedRows
from paramserver.training.plan import TrainingPlan
from paramserver.training.push_pull import PushPullRules
from paramserver.training.push_pull_run import PushPullRun
from paramserver.training.run import Snapshot, TrainingRun, make_folder, start_weights
from paramserver.training.vector import FloatVector, fingerprint

if TYPE_CHECKING:
    from paramserver.cluster import Cluster

SAMPLE_ROWS = 2_000
"""Rows from which the learning rate is chosen, and by which the loss is watched on the way."""
SNAPSHOT_S = 0.05
"""Least time between two looks at the weights while training goes on."""
LOOK_FACTOR = 20
"""... and how many times as long as a look itself takes."""
NUDGE_S = 2.5
"""A synchronous step that has waited for absent learners for two of these goes on without them."""


@dataclass(frozen=True)
class Averaging:
    """Train by rounds: each partition trains from the same weights, and the results are averaged.

    Parameters
    ----------
    rounds : int, default=20
    local_epochs : int, default=1
        Passes of each learner over its partition in a round.
    local_steps : int, optional
        Mini-batch steps in a round, instead of whole passes.
    n_partitions : int, optional
        Learners; by default one for each worker. It is part of the result: other numbers of
        partitions give other weights, other numbers of workers do not.
    wait_for : int, optional
        Average as soon as so many learners are done; the late ones are told to stop.
    outer : Optimizer, optional
        Applied on the master to the averaged change of a round, as if it were a gradient:
        ``Momentum(0.7, nesterov=True)`` is DiLoCo's. By default the average itself is taken.
    tail : float, default=0
        Return the mean of the weights of this last part of the rounds (0.5: the second half)
        instead of the last weights (Polyak averaging).
    """

    rounds: int = 20
    local_epochs: int = 1
    local_steps: int | None = None
    n_partitions: int | None = None
    wait_for: int | None = None
    outer: Optimizer | None = None
    tail: float = 0.0

    def __post_init__(self) -> None:
        _require_positive(self, "rounds", "local_epochs", "local_steps", "n_partitions")
        if not 0 <= self.tail <= 1:
            raise ConfigError(
                f"tail is a part of the rounds, from 0 to 1, not {self.tail}.",
                field="tail",
                value=self.tail,
            )


@dataclass(frozen=True)
class AsyncSGD:
    """Train by pushes: workers send gradients to a parameter server when they have them.

    Parameters
    ----------
    epochs : int, default=10
        Passes over all partitions.
    optimizer : {"sgd", "momentum", "nesterov", "adagrad", "adam"}
        How the parameter server applies a gradient.
    staleness_bound : int, optional
        None (the default) applies each gradient when it comes. 0 waits for one of each partition
        and takes one step by their mean (synchronous); s > 0 lets a partition be at most s steps
        ahead of the slowest one that is being worked on.
    staleness_aware : bool, default=False
        Divide the learning rate of a gradient by its staleness.
    clip_norm : float, optional
        Shrink gradients whose norm is larger.
    local_steps : int, default=1
        Steps a worker takes by itself before it pushes: what they have changed together, divided
        by the learning rate, is pushed as one gradient.
    n_partitions : int, optional
        By default one for each worker.
    """

    epochs: int = 10
    optimizer: str = "sgd"
    staleness_bound: int | None = None
    staleness_aware: bool = False
    clip_norm: float | None = None
    local_steps: int = 1
    n_partitions: int | None = None

    def __post_init__(self) -> None:
        _require_positive(self, "epochs", "local_steps", "n_partitions")
        make_optimizer(self.optimizer, 1.0)
        self.rules()

    def rules(self) -> PushPullRules:
        """Return how the parameter server treats pushes."""
        return PushPullRules(self.staleness_bound, self.staleness_aware, self.clip_norm)


@dataclass(frozen=True)
class Progress:
    """How far a training was at one moment.

    Attributes
    ----------
    unit : int
        Rounds (averaging) or updates (async).
    epochs : float
        Passes over all examples.
    wall_s : float
        Since the training began; evaluation runs beside it.
    train_loss : float
        On a sample of the rows; at the end, on all of them.
    test_score : float or None
    """

    unit: int
    epochs: float
    wall_s: float
    train_loss: float
    test_score: float | None


@dataclass
class TrainingResult:
    """What `fit` returns.

    Attributes
    ----------
    weights : ndarray of shape (d,)
    learner : Learner
    mode : str
        "avg" or "async".
    history : list of Progress
    units : int
        Rounds (averaging) or updates (async).
    examples : int
        How many examples' gradients went into the weights.
    wall_s : float
        From the first job to the last result.
    compute_s : float
        In learners, all workers together.
    apply_s : float
        On the master: averaging, or applying gradients.
    lr : float
    n_partitions : int
    n_examples : int
    staleness : Counter
        How many updates had which staleness (async).
    rejected : dict of str to int
        What was not applied, by reason.
    workers_lost : int
        While it ran.
    """

    weights: FloatVector
    learner: Learner
    mode: str
    history: list[Progress]
    units: int
    examples: int
    wall_s: float
    compute_s: float
    apply_s: float
    lr: float
    n_partitions: int
    n_examples: int
    staleness: Counter[int] = field(default_factory=Counter)
    rejected: dict[str, int] = field(default_factory=dict)
    workers_lost: int = 0

    @property
    def sha256(self) -> str:
        """Fingerprint of the bytes of the weights."""
        return fingerprint(self.weights)

    @property
    def epochs(self) -> float:
        """Passes over all examples."""
        return self.examples / self.n_examples

    @property
    def test_score(self) -> float | None:
        """Score of the weights on the held-out rows."""
        return self.history[-1].test_score if self.history else None


def fit(
    learner: Learner,
    data: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    mode: Averaging | AsyncSGD,
    cluster: Cluster,
    test: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    batch_size: int = 32,
    lr: float | str = "auto",
    seed: int = 0,
    on_progress: Callable[[Progress], object] | None = None,
) -> TrainingResult:
    """Train a learner on the workers of a cluster.

    Parameters
    ----------
    learner : Learner
        A model of `paramserver.models`, or your own.
    data : (X, y)
        The rows to train on; X is converted to the dtype of the learner.
    mode : Averaging or AsyncSGD
    cluster : Cluster
    test : (X, y), optional
        Rows held out; they are scored on the way and at the end.
    batch_size : int, default=32
    lr : float or "auto"
        Learning rate. "auto" takes ``1 / L``, where L bounds the curvature of the loss on a seeded
        sample of the rows, where the learner can tell it (`curvature`), and the learner's
        `default_lr` where it cannot.
    seed : int
        Of everything that is left to chance.
    on_progress : callable, optional
        Called with a `Progress` on this thread, whenever a copy of the weights was evaluated. When
        it returns True, training ends.

    Returns
    -------
    TrainingResult

    Raises
    ------
    ConfigError
        If a setting is not allowed.
    Diverged
        If the weights stop being finite.

    Examples
    --------
    >>> import numpy as np
    >>> import paramserver as ps
    >>> from paramserver.models.linear import Linear
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((500, 3)).astype("float32")
    >>> y = X @ np.array([1, -2, 3], "float32") + 4
    >>> with ps.LocalCluster(2) as cluster:
    ...     result = ps.fit(Linear(3), (X, y), mode=ps.Averaging(rounds=30), cluster=cluster)
    >>> result.weights.round(3)
    array([ 1., -2.,  3.,  4.], dtype=float32)
    """
    rows = _as_rows(learner, data, "data")
    held_out = None if test is None else _as_rows(learner, test, "test")
    if batch_size < 1:
        raise ConfigError(
            f"batch_size must be 1 or more, not {batch_size}.", field="batch_size", value=batch_size
        )
    step = choose_lr(learner, rows, seed) if isinstance(lr, str) else float(lr)
    make_optimizer("sgd", step)  # refuses what is no learning rate, before anything is started
    p = mode.n_partitions or min(cluster.n_workers, rows.n)
    parts = split_rows(rows.n, p, seed)
    run = _open_run(cluster.internals(), learner, rows, parts, mode, batch_size, step, seed)
    lost_before = cluster.status().counters.get("workers_lost", 0)
    try:
        history = _watch(run, learner, rows, held_out, on_progress)
        final = run.final
        assert final is not None
    finally:
        run.close()
    lost = cluster.status().counters.get("workers_lost", 0) - lost_before
    return _result(run, final, history, learner, step, rows.n, lost)


def _as_rows(learner: Learner, data: tuple[npt.ArrayLike, npt.ArrayLike], name: str) -> Batch:
    """Return rows of the learner's dtype."""
    X, y = np.asarray(data[0]), np.ascontiguousarray(data[1])
    if X.ndim < 1 or y.ndim < 1 or len(X) != len(y) or not len(y):
        raise ShapeMismatch(
            f"{name} must be a pair (X, y) with as many rows in X as in y, and at least one; X has "
            f"the shape {X.shape}, y {y.shape}."
        )
    if X.dtype.kind not in "fiub":
        raise ShapeMismatch(f"X of {name} must hold numbers, not {X.dtype}.")
    return Batch(np.ascontiguousarray(X, learner.dtype), y)


def choose_lr(learner: Learner, rows: Batch, seed: int) -> float:
    """Return ``1 / L`` from a seeded sample of the rows, or the learner's own default.

    Raises
    ------
    ConfigError
        If the learner cannot tell its curvature.
    """
    curvature = getattr(learner, "curvature", None)
    if curvature is None and (default := getattr(learner, "default_lr", None)) is not None:
        return float(default)
    if curvature is None:
        raise ConfigError(
            f"{type(learner).__name__} has neither a method 'curvature' nor a 'default_lr', so no "
            "learning rate can be chosen for it: give one (lr=...).",
            field="lr",
            value="auto",
        )
    return 1.0 / float(curvature(_sample(rows, seed)))


def _sample(rows: Batch, seed: int) -> Batch:
    chosen = np.random.default_rng(seed).permutation(rows.n)[:SAMPLE_ROWS]
    return Batch(rows.X[chosen], rows.y[chosen])


def split_rows(n: int, p: int, seed: int) -> list[npt.NDArray[np.intp]]:
    """Deal n rows out to p partitions, shuffled, of sizes that differ by one at most.

    Raises
    ------
    ConfigError
        If there are fewer rows than partitions.
    """
    if n < p:
        raise ConfigError(
            f"{n} examples cannot be cut into {p} partitions: use fewer partitions or workers.",
            field="n_partitions",
            value=p,
        )
    return list(np.array_split(np.random.default_rng(seed).permutation(n), p))


def _open_run(
    internals: Internals,
    learner: Learner,
    rows: Batch,
    parts: Sequence[npt.NDArray[np.intp]],
    mode: Averaging | AsyncSGD,
    batch_size: int,
    lr: float,
    seed: int,
) -> TrainingRun:
    if not internals.trusted:
        raise ConfigError(
            "Training over a network is not built yet: use a LocalCluster.",
            field="cluster",
            value="tcp",
        )
    folder = make_folder(internals)
    shared = SharedRows.write(folder, rows.X, rows.y, parts)
    plan = TrainingPlan(
        service=folder.name,
        folder=os.fspath(folder),
        learner=learner,
        rows=shared,
        batch_size=batch_size,
        seed=seed,
        local_lr=lr,
        local_steps=mode.local_steps,
        local_epochs=mode.local_epochs if isinstance(mode, Averaging) else 1,
    )
    w = start_weights(plan)
    if isinstance(mode, Averaging):
        machine = AveragingMachine(shared.n_examples, mode.rounds, wait_for=mode.wait_for)
        aggregation = Aggregation(w.size, w.dtype, outer=mode.outer)
        first = mode.rounds - round(mode.tail * mode.rounds)
        tail = TailMean(w.size if mode.tail else 0, w.dtype, first)
        return AveragingRun(internals, plan, machine, w, aggregation, tail)
    optimizer = make_optimizer(mode.optimizer, lr)
    return PushPullRun(internals, plan, w, optimizer, mode.epochs, mode.rules())


def _watch(
    run: TrainingRun,
    learner: Learner,
    rows: Batch,
    held_out: Batch | None,
    on_progress: Callable[[Progress], object] | None,
) -> list[Progress]:
    """Wait for the end; evaluate what comes by (the loss on a sample) and what is left."""
    sample = _sample(rows, run.plan.seed)
    history: list[Progress] = []
    pause_s = 0.0
    run.start()
    while run.final is None:
        snapshot = run.wait(NUDGE_S, look=on_progress is not None, not_before_s=pause_s)
        if snapshot is None:
            run.nudge()
        elif on_progress is not None:
            began = perf_counter()
            history.append(_evaluate(run, snapshot, learner, sample, held_out))
            if on_progress(history[-1]):
                run.stop()
            # The cores are for the learners: no more than a twentieth of the time of one is ours.
            pause_s = max(SNAPSHOT_S, LOOK_FACTOR * (perf_counter() - began))
    last = _evaluate(run, run.final, learner, rows, held_out)
    if history and history[-1].unit == last.unit:
        history[-1] = last
        return history
    history.append(last)
    if on_progress is not None:
        on_progress(last)
    return history


def _evaluate(
    run: TrainingRun, snapshot: Snapshot, learner: Learner, rows: Batch, held_out: Batch | None
) -> Progress:
    return Progress(
        snapshot.unit,
        snapshot.examples / sum(run.plan.rows.n_examples),
        snapshot.at - run.began_at,
        learner.loss(snapshot.w, rows),
        None if held_out is None else learner.score(snapshot.w, held_out),
    )


def _result(
    run: TrainingRun,
    final: Snapshot,
    history: list[Progress],
    learner: Learner,
    lr: float,
    n_examples: int,
    workers_lost: int,
) -> TrainingResult:
    server = run.server if isinstance(run, PushPullRun) else None
    counters = run.machine.counters if isinstance(run, AveragingRun) else Counter[str]()
    return TrainingResult(
        weights=final.w,
        learner=learner,
        mode="avg" if server is None else "async",
        history=history,
        units=final.unit,
        examples=final.examples,
        wall_s=run.ended_at - run.began_at,
        compute_s=run.compute_s,
        apply_s=run.apply_s,
        lr=lr,
        n_partitions=len(run.plan.n_batches),
        n_examples=n_examples,
        staleness=Counter() if server is None else server.staleness,
        rejected=dict(counters if server is None else server.counters),
        workers_lost=workers_lost,
    )


def _require_positive(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be 1 or more, not {value}.", field=name, value=value)
