"""`fit`: train a learner on a cluster or in this process, and say what happened.

Rule 1: it runs on the user's thread: it hands the data over, waits, evaluates copies of the
        weights, and gives everything back, whatever ends it.
Rule 2: the weights it returns follow from learner, data, mode and seed (averaging to the last bit);
        evaluation and callbacks change nothing but when it ends.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from paramserver.errors import ClusterClosed, ConfigError
from paramserver.runtime.internals import Internals
from paramserver.training.callbacks import Callbacks
from paramserver.training.checkpoint import Checkpoints
from paramserver.training.inline import refuse_checkpoints
from paramserver.training.intake import (
    as_rows,
    check_mode,
    check_rows,
    choose_lr,
    deal_out,
    mean_loss,
    sample_rows,
    take_in,
)
from paramserver.training.keeper import Keeper
from paramserver.training.learner import Batch, Learner
from paramserver.training.measures import Snapshot
from paramserver.training.modes import Averaging, Mode
from paramserver.training.optimizers import make_optimizer
from paramserver.training.plan import kernel_of
from paramserver.training.result import History, Progress, TrainingResult
from paramserver.training.run_constants import MachineWarning, describe_run
from paramserver.training.runs import Run
from paramserver.training.staleness import summarise
from paramserver.training.task import Task
from paramserver.training.vector import FloatVector

if TYPE_CHECKING:
    from paramserver.cluster import Cluster

SNAPSHOT_S = 0.05
"""Least time between two looks at the weights while training goes on."""
LOOK_FACTOR = 20
"""... and how many times as long as a look itself takes."""
NUDGE_S = 2.5
"""A synchronous step that has waited for absent learners for two of these goes on without them."""
BREAK_AWAY_S = 1.0
"""How long workers may take to leave the step they are in when training is over or broken off."""


def fit(
    learner: Learner,
    data: Any,
    *,
    mode: Mode,
    cluster: Cluster | None,
    test: Any = None,
    sample_weight: npt.ArrayLike | None = None,
    class_weight: str | Mapping[Any, float] | None = None,
    partition: str | npt.ArrayLike = "shuffled",
    batch_size: int = 32,
    lr: float | str = "auto",
    seed: int = 0,
    start: npt.ArrayLike | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    callbacks: Callbacks = (),
    in_step: bool = False,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
) -> TrainingResult:
    """Train a learner on the workers of a cluster, or in this process.

    Parameters
    ----------
    learner : Learner
        A model of `paramserver.models`, or your own.
    data : (X, y) or (X, y, sample_weight), or a data set of `paramserver.data`
        The rows to train on: arrays, lists, tables of pandas; X may be a sparse matrix of scipy.
        X is converted to the dtype of the learner. A large file that was read by pieces is trained
        on where it lies.
    mode : Averaging or AsyncSGD
    cluster : Cluster or None
        None trains in this process, one partition after the other and with one thread, as a worker
        does: averaging with the same bits as a cluster for the same `n_partitions` (1, unless the
        mode says otherwise), asynchronous SGD by partitions that take turns in an order that
        follows from the seed.
    test : (X, y) or (X, y, sample_weight), optional
        Rows held out; they are scored on the way and at the end.
    sample_weight : array-like of shape (n,), optional
        By which factor the loss of each row to train on counts, 0 or more. As in scikit-learn the
        factors are taken as they are: the mean loss is ``sum(weight * loss) / n``.
    class_weight : "balanced" or dict, optional
        The same for all rows of a label (1 where the dict has none), multiplied by the weight of
        the row; "balanced" gives each label ``n / (n_classes * rows of it)``, counted over all
        partitions.
    partition : {"shuffled", "contiguous", "stratified", "by-key"} or array-like of shape (n,)
        How rows are dealt out to the partitions: by chance, as they come, by chance with an equal
        share of each label, or by key (an array, or the keys of the data set): rows with the same
        key come to the same partition.
    batch_size : int, default=32
    lr : float or "auto"
        Learning rate. "auto" takes ``1 / L``, where L bounds the curvature of the loss on a seeded
        sample of the rows, where the learner can tell it (`curvature`), and the learner's
        `default_lr` where it cannot; Adagrad and Adam take what is usual for them.
    seed : int
        Of everything that is left to chance.
    start : array-like of shape (d,), optional
        The weights to start from, instead of those that the learner starts from.
    on_progress : callable, optional
        Called with a `Progress` on this thread, whenever a copy of the weights was evaluated. When
        it returns True, training ends.
    callbacks : sequence of callables, default=()
        Called in the same way: `EarlyStopping`, `TargetScore`, `TimeLimit`, or your own.
    in_step : bool, default=False
        Evaluate after each round (averaging) or epoch (async), and begin the next one only when the
        callbacks have answered: then the round in which they end a training follows from the seed,
        too. By default evaluation runs beside the training, and costs it no time.
    checkpoints : Checkpoints, optional
        Where the state of the training is written now and then, at its end, and when it is broken
        off (Ctrl-C, or an error that leaves the state whole).
    resume : bool, default=False
        Go on from the newest whole checkpoint: averaging ends with the same bits as if it had never
        been interrupted, and no push is applied twice. Settings and data must be the same, but for
        the number of rounds or epochs. Where there is no checkpoint yet, training begins.

    Returns
    -------
    TrainingResult

    Raises
    ------
    ConfigError
        If a setting is not allowed, or is another one than that of the training to be resumed.
    DataError, ShapeMismatch
        If the data are not what they should be: values that are not finite, labels that the
        learner does not know, weights below 0, parts that do not belong together.
    ClusterClosed, NoWorkers
        If the cluster has been shut down, or should say how many partitions there are before it has
        workers.
    Diverged
        If the weights stop being finite; it holds the last finite ones, and the checkpoints stay.

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
    if cluster is None and checkpoints is not None:
        refuse_checkpoints(str(checkpoints.folder))
    check_mode(learner, mode)
    internals = None if cluster is None else _internals(cluster)
    rows, stored = take_in(learner, data, sample_weight, class_weight)
    held_out = None if test is None else as_rows(learner, test, "test")
    check_rows(learner, rows, held_out)
    _check_numbers(seed, batch_size)
    with nullcontext() if checkpoints is None else checkpoints:
        keeper = Keeper(checkpoints, resume=resume)
        step = _choose_step(learner, rows, mode, lr, seed, keeper)
        p = mode.n_partitions or keeper.recorded_constant("n_partitions")
        n_workers = 1 if cluster is None else cluster.n_wanted
        parts = deal_out(data, rows, stored, p, n_workers, partition, seed)
        if checkpoints is not None:
            keeper.settle(
                describe_run(learner, mode, rows, parts, batch_size=batch_size, lr=step, seed=seed)
            )
        task = Task(learner, rows, parts, stored, mode, batch_size, step, seed, start, in_step)
        told = [*callbacks, *([] if on_progress is None else [on_progress])]
        lost_before = _workers_lost(cluster)
        result = _train(task, internals, held_out, told, keeper)
    result.workers_lost = _workers_lost(cluster) - lost_before
    return result


def _train(
    task: Task, internals: Internals | None, held_out: Batch | None, told: Callbacks, keeper: Keeper
) -> TrainingResult:
    """Run a task to its end; whatever that is, everything is given back."""
    history = keeper.history()
    run = task.open_run(internals)
    try:
        if keeper.recorded is not None:
            run.restore(keeper.recorded)
        _watch(run, task, held_out, told, keeper, history)
    except BaseException:
        keeper.rescue(run, history)
        raise
    finally:
        try:
            run.break_away(BREAK_AWAY_S)
        finally:
            run.close()
    result = _result(run, history, task)
    result.counters = keeper.counters()
    return result


def _check_numbers(seed: int, batch_size: int) -> None:
    if seed < 0:
        raise ConfigError(f"seed must be 0 or more, not {seed}.", field="seed", value=seed)
    if batch_size < 1:
        raise ConfigError(
            f"batch_size must be 1 or more, not {batch_size}.", field="batch_size", value=batch_size
        )


def _choose_step(
    learner: Learner, rows: Batch, mode: Mode, lr: float | str, seed: int, keeper: Keeper
) -> float:
    """Return the learning rate; one that was chosen by itself stays what it was when resumed."""
    if isinstance(lr, str):
        if lr != "auto":
            raise ConfigError(f"lr is a number or 'auto', not {lr!r}.", field="lr", value=lr)
        optimizer = "sgd" if isinstance(mode, Averaging) else mode.optimizer
        lr = keeper.recorded_constant("lr") or choose_lr(learner, rows, seed, optimizer)
    step = float(lr)
    make_optimizer("sgd", step)  # refuses what is no learning rate, before anything is started
    return step


def _internals(cluster: Cluster) -> Internals:
    internals = cluster.internals()
    if internals.master.has_ended:
        raise ClusterClosed("The cluster has been shut down: it trains nothing any more.")
    return internals


def _workers_lost(cluster: Cluster | None) -> int:
    """Return how many workers the cluster has lost so far."""
    return 0 if cluster is None else cluster.status().counters.get("workers_lost", 0)


def _watch(
    run: Run,
    task: Task,
    held_out: Batch | None,
    told: Callbacks,
    keeper: Keeper,
    history: History,
) -> None:
    """Wait for the end; evaluate what comes by (the loss on a sample) and what is left."""
    learner, in_step = task.learner, task.in_step

    @cache
    def sample() -> Batch:
        return sample_rows(task.rows, task.seed)

    def score(w: FloatVector) -> float:
        return -learner.loss(w, sample()) if held_out is None else learner.score(w, held_out)

    _introduce(told, run, history)
    look_at = heard_at = monotonic()
    run.start(lambda words: _say(told, words))
    if told or in_step:
        sample()  # while the workers make themselves ready; where nobody looks there is none
    while run.final is None:
        wait_s = min(NUDGE_S, keeper.due_in_s)
        snapshot = run.wait(wait_s, look=bool(told) or in_step, not_before_s=look_at - monotonic())
        _warn_of_differences(run)
        if snapshot is not None:
            heard_at, began = monotonic(), perf_counter()
            history.add(_evaluate(run, snapshot, learner, sample(), held_out))
            if _tell(told, history[-1], snapshot.w):
                run.stop()
            # The cores are for the learners: no more than a twentieth of the time of one is ours.
            look_at = monotonic() + max(SNAPSHOT_S, LOOK_FACTOR * (perf_counter() - began))
            if in_step:
                run.go_on()
        elif monotonic() - heard_at >= NUDGE_S:
            run.nudge()
            heard_at = monotonic()
        if keeper.due_in_s == 0 and run.final is None:
            keeper.save(run, history, score)
    last = _evaluate(run, run.final, learner, task.rows, held_out)
    if history and history[-1].unit == last.unit:
        history[-1] = last
    else:
        history.add(last)
        _tell(told, last, run.final.w)
    keeper.save(run, history, score)


def _warn_of_differences(run: Run) -> None:
    """Say whose sums are rounded otherwise, where bits would not depend on who computes them."""
    if run.staleness is not None:
        return
    for what, worker in run.take_differences().items():
        warnings.warn(
            f"Worker {worker} computes otherwise than the first one of this training: {what}. The "
            "result is as good, but its last bits depend on who has computed what.",
            MachineWarning,
            stacklevel=5,
        )


def _introduce(told: Callbacks, run: Run, history: History) -> None:
    """Show the run, and what was told of it before, to those who want to know."""
    for callback in told:
        attach = getattr(callback, "attach", None)
        if attach is not None:
            attach(run)
        begin = getattr(callback, "begin", None)
        if begin is not None:
            begin(history)


def _say(told: Callbacks, words: str) -> None:
    """Tell those who listen what the training waits for."""
    for callback in told:
        hear = getattr(callback, "hear", None)
        if hear is not None:
            hear(words)


def _tell(told: Callbacks, progress: Progress, w: FloatVector) -> bool:
    """Call all callbacks; return whether one of them has seen enough."""
    for callback in told:
        look = getattr(callback, "look", None)
        if look is not None:
            look(w)
    answers = [callback(progress) for callback in told]
    return any(answers)


def _evaluate(
    run: Run, snapshot: Snapshot, learner: Learner, rows: Batch, held_out: Batch | None
) -> Progress:
    with np.errstate(over="ignore", invalid="ignore"):  # a loss that overflows is told as it is
        loss = mean_loss(learner, snapshot.w, rows)
        score = None if held_out is None else learner.score(snapshot.w, held_out)
    return Progress(
        snapshot.unit,
        snapshot.examples / sum(run.plan.rows.n_examples),
        snapshot.at - run.began_at,
        loss,
        score,
        _mean_staleness(run),
        snapshot.divergence,
    )


def _mean_staleness(run: Run) -> float | None:
    """Return the mean over all updates so far; the I/O thread may go on counting meanwhile."""
    return None if run.staleness is None else float(summarise(dict(run.staleness))["mean"])


def _result(run: Run, history: History, task: Task) -> TrainingResult:
    final, measures = run.final, run.measures()
    assert final is not None
    return TrainingResult(
        weights=final.w,
        learner=task.learner,
        mode="avg" if isinstance(task.mode, Averaging) else "async",
        history=history,
        units=final.unit,
        examples=final.examples,
        wall_s=run.ended_at - run.began_at,
        compute_s=measures.compute_s,
        apply_s=measures.apply_s,
        lr=task.lr,
        n_partitions=len(task.parts),
        n_examples=task.rows.n,
        staleness=Counter() if run.staleness is None else run.staleness,
        rejected=run.refused(),
        wait_s=measures.wait_s,
        wire_s=measures.wire_s,
        pushed_bytes=measures.pushed_bytes,
        pulled_bytes=measures.pulled_bytes,
        staleness_by_worker=run.staleness_by_worker,
        timeline=list(run.timeline.spans),
        setup_s=run.setup_s,
        kernel=kernel_of(
            task.learner, task.rows.between(0, len(task.parts[0])), task.mode, task.batch_size
        ),
    )
