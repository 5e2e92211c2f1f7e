"""`fit`: train a learner on a cluster, and say what happened.

Rule 1: it runs on the user's thread: it hands the data over, waits, evaluates copies of the
        weights, and gives everything back, whatever ends it.
Rule 2: the weights it returns follow from learner, data, mode and seed (averaging to the last bit);
        evaluation and callbacks change nothing but when it ends.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError
from paramserver.runtime.internals import Internals
from paramserver.training.aggregation import Aggregation, TailMean
from paramserver.training.averaging import Averaging as AveragingMachine
from paramserver.training.averaging_run import AveragingRun
from paramserver.training.callbacks import Callbacks
from paramserver.training.checkpoint import Checkpoints
from paramserver.training.folder import make_folder, proof_of
from paramserver.training.intake import (
    as_rows,
    check_labels,
    check_mode,
    choose_lr,
    deal_out,
    mean_loss,
    sample_rows,
)
from paramserver.training.keeper import Keeper
from paramserver.training.learner import Batch, Learner
from paramserver.training.measures import Snapshot
from paramserver.training.modes import Averaging, Mode
from paramserver.training.optimizers import make_optimizer
from paramserver.training.partitions import SharedRows
from paramserver.training.plan import TrainingPlan, row_width
from paramserver.training.push_pull_run import PushPullRun
from paramserver.training.result import History, Progress, TrainingResult
from paramserver.training.run import TrainingRun
from paramserver.training.run_constants import describe_run
from paramserver.training.staleness import summarise
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
"""How long workers may take to leave their step when training is broken off."""


def fit(
    learner: Learner,
    data: Any,
    *,
    mode: Mode,
    cluster: Cluster,
    test: Any = None,
    sample_weight: npt.ArrayLike | None = None,
    class_weight: str | Mapping[Any, float] | None = None,
    partition: str | npt.ArrayLike = "shuffled",
    batch_size: int = 32,
    lr: float | str = "auto",
    seed: int = 0,
    on_progress: Callable[[Progress], object] | None = None,
    callbacks: Callbacks = (),
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
) -> TrainingResult:
    """Train a learner on the workers of a cluster.

    Parameters
    ----------
    learner : Learner
        A model of `paramserver.models`, or your own.
    data : (X, y) or (X, y, sample_weight), or a data set of `paramserver.data`
        The rows to train on: arrays, lists, tables of pandas; X may be a sparse matrix of scipy.
        X is converted to the dtype of the learner. A large file that was read by pieces is trained
        on where it lies.
    mode : Averaging or AsyncSGD
    cluster : Cluster
    test : (X, y) or (X, y, sample_weight), optional
        Rows held out; they are scored on the way and at the end.
    sample_weight : array-like of shape (n,), optional
        By which factor the loss of each row to train on counts, 0 or more. As in scikit-learn the
        factors are taken as they are: the mean loss is ``sum(weight * loss) / n``.
    class_weight : "balanced" or dict, optional
        The same for all rows of a label (1 where the dict has none), multiplied by the weight of
        the row; "balanced" gives each label ``n / (n_classes * rows of it)``, counted over all
        partitions.
    partition : {"shuffled", "contiguous", "stratified"} or array-like of shape (n,)
        How rows are dealt out to the partitions: by chance, as they come, by chance with an equal
        share of each label, or by key: rows with the same key come to the same partition.
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
    callbacks : sequence of callables, default=()
        Called in the same way: `EarlyStopping`, `TargetScore`, `TimeLimit`, or your own.
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
    rows = as_rows(learner, data, "data", sample_weight=sample_weight, class_weight=class_weight)
    held_out = None if test is None else as_rows(learner, test, "test")
    check_labels(learner, rows, held_out)
    check_mode(learner, mode)
    if batch_size < 1:
        raise ConfigError(
            f"batch_size must be 1 or more, not {batch_size}.", field="batch_size", value=batch_size
        )
    with nullcontext() if checkpoints is None else checkpoints:
        keeper = Keeper(checkpoints, resume=resume)
        # What was chosen by itself stays what it was, also where it would be chosen otherwise now.
        if isinstance(lr, str):
            lr = keeper.recorded_constant("lr") or choose_lr(learner, rows, seed)
        step = float(lr)
        make_optimizer("sgd", step)  # refuses what is no learning rate, before anything is started
        p = mode.n_partitions or keeper.recorded_constant("n_partitions")
        parts, stored = deal_out(data, rows, p, cluster.n_workers, partition, seed)
        if checkpoints is not None:
            keeper.settle(
                describe_run(learner, mode, rows, parts, batch_size=batch_size, lr=step, seed=seed)
            )
        run = _open_run(
            cluster.internals(), learner, rows, parts, stored, mode, batch_size, step, seed
        )
        lost_before = cluster.status().counters.get("workers_lost", 0)
        history = keeper.history()
        told = [*callbacks, *([] if on_progress is None else [on_progress])]
        try:
            if keeper.recorded is not None:
                run.restore(keeper.recorded)
            _watch(run, learner, rows, held_out, told, keeper, history)
            final = run.final
            assert final is not None
        except BaseException:
            keeper.rescue(run, history)
            run.break_away(BREAK_AWAY_S)
            raise
        finally:
            run.close()
    lost = cluster.status().counters.get("workers_lost", 0) - lost_before
    result = _result(run, final, history, learner, step, rows.n, lost)
    result.counters = keeper.counters()
    return result


def _open_run(
    internals: Internals,
    learner: Learner,
    rows: Batch,
    parts: Sequence[npt.NDArray[np.intp]],
    stored: SharedRows | None,
    mode: Mode,
    batch_size: int,
    lr: float,
    seed: int,
) -> TrainingRun:
    folder = make_folder(internals)
    try:
        return _make_run(
            internals, folder, learner, rows, parts, stored, mode, batch_size, lr, seed
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # memory, perhaps
        raise


def _make_run(
    internals: Internals,
    folder: Path,
    learner: Learner,
    rows: Batch,
    parts: Sequence[npt.NDArray[np.intp]],
    stored: SharedRows | None,
    mode: Mode,
    batch_size: int,
    lr: float,
    seed: int,
) -> TrainingRun:
    shared = stored or SharedRows.write(folder, rows, parts)
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
        width=row_width(learner, rows, mode),
        here=proof_of(folder),
    )
    w = plan.start_weights()
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
    told: Callbacks,
    keeper: Keeper,
    history: History,
) -> None:
    """Wait for the end; evaluate what comes by (the loss on a sample) and what is left."""
    sample = sample_rows(rows, run.plan.seed)

    def score(w: FloatVector) -> float:
        return -learner.loss(w, sample) if held_out is None else learner.score(w, held_out)

    for callback in told:
        begin = getattr(callback, "begin", None)
        if begin is not None:
            begin(history)
    look_at = heard_at = monotonic()
    run.start()
    while run.final is None:
        wait_s = min(NUDGE_S, keeper.due_in_s)
        snapshot = run.wait(wait_s, look=bool(told), not_before_s=look_at - monotonic())
        if snapshot is not None:
            heard_at, began = monotonic(), perf_counter()
            history.add(_evaluate(run, snapshot, learner, sample, held_out))
            if _tell(told, history[-1]):
                run.stop()
            # The cores are for the learners: no more than a twentieth of the time of one is ours.
            look_at = monotonic() + max(SNAPSHOT_S, LOOK_FACTOR * (perf_counter() - began))
        elif monotonic() - heard_at >= NUDGE_S:
            run.nudge()
            heard_at = monotonic()
        if keeper.due_in_s == 0 and run.final is None:
            keeper.save(run, history, score)
    last = _evaluate(run, run.final, learner, rows, held_out)
    if history and history[-1].unit == last.unit:
        history[-1] = last
    else:
        history.add(last)
        _tell(told, last)
    keeper.save(run, history, score)


def _tell(told: Callbacks, progress: Progress) -> bool:
    """Call all callbacks; return whether one of them has seen enough."""
    answers = [callback(progress) for callback in told]
    return any(answers)


def _evaluate(
    run: TrainingRun, snapshot: Snapshot, learner: Learner, rows: Batch, held_out: Batch | None
) -> Progress:
    return Progress(
        snapshot.unit,
        snapshot.examples / sum(run.plan.rows.n_examples),
        snapshot.at - run.began_at,
        mean_loss(learner, snapshot.w, rows),
        None if held_out is None else learner.score(snapshot.w, held_out),
        _mean_staleness(run) if isinstance(run, PushPullRun) else None,
    )


def _mean_staleness(run: PushPullRun) -> float:
    """Return the mean over all updates so far; the I/O thread may go on counting meanwhile."""
    return float(summarise(dict(run.server.staleness))["mean"])


def _result(
    run: TrainingRun,
    final: Snapshot,
    history: History,
    learner: Learner,
    lr: float,
    n_examples: int,
    workers_lost: int,
) -> TrainingResult:
    server = run.server if isinstance(run, PushPullRun) else None
    counters = run.machine.counters if isinstance(run, AveragingRun) else Counter[str]()
    measures = run.measures()
    return TrainingResult(
        weights=final.w,
        learner=learner,
        mode="avg" if server is None else "async",
        history=history,
        units=final.unit,
        examples=final.examples,
        wall_s=run.ended_at - run.began_at,
        compute_s=measures.compute_s,
        apply_s=measures.apply_s,
        lr=lr,
        n_partitions=len(run.plan.n_batches),
        n_examples=n_examples,
        staleness=Counter() if server is None else server.staleness,
        rejected=dict((counters if server is None else server.counters) + run.counters),
        workers_lost=workers_lost,
        wait_s=measures.wait_s,
        wire_s=measures.wire_s,
        pushed_bytes=measures.pushed_bytes,
        pulled_bytes=measures.pulled_bytes,
        staleness_by_worker=run.staleness_by_worker,
        setup_s=run.setup_s,
    )
