"""Both training modes with real processes, some of which are killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partialmethod
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramserver as ps
from paramserver.cluster import Cluster
from paramserver.errors import Diverged, ShapeMismatch
from paramserver.training import training_jobs
from paramserver.training.learner import Batch
from paramserver.training.result import Progress
from paramserver.training.run import TrainingRun
from paramserver.training.tally import WorkerTime
from paramserver.training.warm_up import COMPILING
from paramserver.transport import unix_master
from tests.integration.scripts import until
from tests.numerics.learners import Crooked, Lame, LeastSquares, Ledger, Poisoned


@pytest.fixture
def cluster() -> Iterator[ps.LocalCluster]:
    with ps.LocalCluster(2) as cluster:
        yield cluster


class KillAWorker:
    """Kills a worker at some of the reports of progress."""

    def __init__(self, cluster: ps.LocalCluster, at: tuple[int, ...]) -> None:
        self.cluster = cluster
        self.at = list(at)
        self.n_killed = 0

    def __call__(self, progress: Progress) -> None:
        if self.at and progress.unit >= self.at[0]:
            self.at.pop(0)
            workers = self.cluster.status().workers
            os.kill(workers[self.n_killed % len(workers)].pid, signal.SIGKILL)
            self.n_killed += 1


def least_squares_data(n: int = 203, d: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((n, d))
    return X, X @ rng.standard_normal(d) + 0.1 * rng.standard_normal(n)


def test_averaging_ends_with_the_same_bits_when_workers_are_killed(
    cluster: ps.LocalCluster,
) -> None:
    data = least_squares_data()
    learner = LeastSquares(7, pause_s=0.002)
    mode = ps.Averaging(rounds=40, n_partitions=3)
    calm = ps.fit(LeastSquares(7), data, mode=mode, cluster=cluster, seed=1)
    killer = KillAWorker(cluster, at=(3, 15))
    result = ps.fit(learner, data, mode=mode, cluster=cluster, seed=1, on_progress=killer)
    assert killer.n_killed == 2
    assert result.workers_lost == 2
    assert result.sha256 == calm.sha256
    assert result.examples == calm.examples == 40 * 203
    done = [(span.number, span.partition) for span in result.timeline if span.end == "done"]
    assert sorted(done) == [(number, partition) for number in range(40) for partition in range(3)]
    assert {span.end for span in result.timeline} <= {"done", "lost", "unneeded"}
    for worker in {span.worker_id for span in result.timeline}:
        mine = [span for span in result.timeline if span.worker_id == worker]
        assert all(a.ended_s <= b.begun_s for a, b in pairwise(mine))
        assert all(0 <= span.begun_s <= span.ended_s <= result.wall_s for span in mine)


def test_averaging_does_not_depend_on_the_number_of_workers(cluster: ps.LocalCluster) -> None:
    data = least_squares_data()
    mode = ps.Averaging(rounds=5, n_partitions=3, local_steps=4)
    two = ps.fit(LeastSquares(7), data, mode=mode, cluster=cluster, seed=3)
    with ps.LocalCluster(1) as lonely:
        one = ps.fit(LeastSquares(7), data, mode=mode, cluster=lonely, seed=3)
    assert one.sha256 == two.sha256


def test_async_applies_every_batch_once_when_workers_are_killed(cluster: ps.LocalCluster) -> None:
    n = 300
    numbers = np.arange(n)
    data = (numbers[:, None].astype(np.float64), numbers)
    killer = KillAWorker(cluster, at=(20, 60))
    result = ps.fit(
        Ledger(n, pause_s=0.005),
        data,
        mode=ps.AsyncSGD(epochs=1, n_partitions=3),
        cluster=cluster,
        batch_size=2,
        lr=1.0,
        on_progress=killer,
    )
    assert killer.n_killed == 2
    assert result.workers_lost == 2
    assert np.array_equal(result.weights, np.ones(n))
    assert result.units == 150
    assert sum(result.staleness.values()) == 150


@pytest.mark.parametrize("bound", [None, 0, 2])
def test_a_partition_leaves_a_stopped_worker_before_that_is_taken_for_lost(
    monkeypatch: pytest.MonkeyPatch, bound: int | None
) -> None:
    monkeypatch.setattr(unix_master, "STOPPED_S", 0.0)
    monkeypatch.setattr(unix_master, "_LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(training_jobs, "GRACE_S", 0.05)
    monkeypatch.setattr(Cluster, "_open", partialmethod(Cluster._open, grace_s=600.0))
    n = 200
    numbers = np.arange(n)
    data = (numbers[:, None].astype(np.float64), numbers)
    mode = ps.AsyncSGD(epochs=1, n_partitions=2, staleness_bound=bound)
    with ps.LocalCluster(2) as cluster:
        pid = cluster.status().workers[0].pid

        def stop_it(progress: Progress) -> None:
            if progress.unit < n // 2:
                os.kill(pid, signal.SIGSTOP)

        def is_whole(result: ps.TrainingResult) -> bool:
            """Say whether each row was applied once: n in all, and none of them never."""
            return result.examples == n and bool((result.weights > 0).all())

        def train(**more: Any) -> ps.TrainingResult:
            learner = Ledger(n, pause_s=0.005)
            return ps.fit(learner, data, mode=mode, cluster=cluster, batch_size=1, lr=1.0, **more)

        try:
            result = train(on_progress=stop_it)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert is_whole(result)
        assert Counter(span.end for span in result.timeline)["lost"] == 1
        assert {name: n for name, n in result.rejected.items() if name != "fenced"} == {}
        until(
            lambda: [(w.state, w.n_held) for w in cluster.status().workers] == [("ready", 0)] * 2,
            "it is back, and has let go of what it was at",
        )
        again = train()
        assert is_whole(again)
        assert len({span.worker_id for span in again.timeline}) == 2
        assert "workers_lost" not in cluster.status().counters


def test_an_epoch_that_loses_worker_after_worker_and_moves_on_is_not_their_killer() -> None:
    n = 300
    with ps.LocalCluster(1) as cluster:
        killer = KillAWorker(cluster, at=(10, 40, 70, 100))
        result = ps.fit(
            Ledger(n, pause_s=0.01),
            (np.arange(n)[:, None].astype(np.float64), np.arange(n)),
            mode=ps.AsyncSGD(epochs=1, n_partitions=1),
            cluster=cluster,
            batch_size=2,
            lr=1.0,
            on_progress=killer,
        )
    assert (killer.n_killed, result.workers_lost) == (4, 4)
    assert np.array_equal(result.weights, np.ones(n))


@pytest.mark.parametrize("bound", [None, 0])
def test_a_worker_that_alone_computes_nonsense_is_replaced_and_its_work_done_by_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bound: int | None
) -> None:
    n = 60
    mode = ps.AsyncSGD(epochs=2, n_partitions=4, staleness_bound=bound)
    learner = Crooked(n, pause_s=0.005, folder=str(tmp_path))
    with ps.LocalCluster(2) as cluster:
        result = ps.fit(learner, numbered_data(n), mode=mode, cluster=cluster, batch_size=1, lr=1.0)
        counters = cluster.status().counters
    assert (result.workers_lost, counters["workers_expelled"]) == (1, 1)
    assert result.rejected.keys() == {"nonfinite"}
    assert "gradients that are not finite" in caplog.text
    if bound is None:
        assert np.array_equal(result.weights, np.full(n, 2.0))
    assert sum(result.staleness.values()) == 2 * n


def test_a_learner_that_fails_ends_the_training_with_its_own_error(
    cluster: ps.LocalCluster,
) -> None:
    data = (np.zeros((4, 2)), np.arange(4))
    with pytest.raises(IndexError):
        ps.fit(Ledger(2), data, mode=ps.AsyncSGD(epochs=1), cluster=cluster, lr=1.0)
    with pytest.raises(IndexError):
        ps.fit(Ledger(2), data, mode=ps.Averaging(rounds=1), cluster=cluster, lr=1.0)


def test_the_shared_memory_of_a_training_is_gone_when_it_ends(cluster: ps.LocalCluster) -> None:
    folder = cluster.internals().fast_folder
    before = sorted(folder.iterdir())
    ps.fit(LeastSquares(7), least_squares_data(), mode=ps.AsyncSGD(epochs=1), cluster=cluster)
    assert sorted(folder.iterdir()) == before


def numbered_data(n: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.arange(n)
    return numbers[:, None].astype(np.float64), numbers


@pytest.mark.parametrize("mode", [ps.Averaging(rounds=3), ps.AsyncSGD(epochs=1)])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e308])
def test_what_is_not_finite_ends_the_training_in_words(
    cluster: ps.LocalCluster, mode: ps.Averaging | ps.AsyncSGD, value: float
) -> None:
    learner = Poisoned(20, bad_row=7, bad_value=value)
    with pytest.raises(Diverged, match=r"not finite|overflow") as caught:
        ps.fit(learner, numbered_data(20), mode=mode, cluster=cluster, lr=100.0, batch_size=3)
    error = caught.value
    (partition,) = error.partitions
    (worker,) = error.workers
    assert f"partition {partition}" in str(error)
    assert worker in str(error)
    assert worker.startswith("local")
    assert error.weights.shape == (20,)
    assert np.isfinite(error.weights).all()
    most = 0 if isinstance(mode, ps.Averaging) else 300 * error.round  # 3 rows, 100 for each
    assert 0 <= error.weights.sum() <= most


def test_a_quorum_does_not_wait_for_a_lame_learner(cluster: ps.LocalCluster) -> None:
    learner = Lame(40, slow_row=3, slow_s=1.0)
    mode = ps.Averaging(rounds=20, n_partitions=2, wait_for=1)
    result = ps.fit(learner, numbered_data(40), mode=mode, cluster=cluster, lr=1.0, batch_size=4)
    assert result.units == 20
    assert result.wall_s < 10  # twenty rounds that wait take twenty seconds
    assert result.rejected["cancelled"] >= 20  # the lame one, and who sits out, in each round


@pytest.mark.parametrize("bound", [0, 1, 4])
def test_a_staleness_bound_is_kept_by_real_workers(cluster: ps.LocalCluster, bound: int) -> None:
    mode = ps.AsyncSGD(epochs=3, staleness_bound=bound, n_partitions=2)
    result = ps.fit(Ledger(80), numbered_data(80), mode=mode, cluster=cluster, lr=1.0, batch_size=4)
    assert sum(result.staleness.values()) == 60
    assert max(result.staleness) <= 2 * bound + 1
    if bound == 0:
        assert result.staleness == {0: 60}
        assert result.units == 30
        assert np.allclose(result.weights, 1.5)
    else:
        assert np.array_equal(result.weights, np.full(80, 3.0))


def test_more_partitions_than_workers_are_no_deadlock_for_synchronous_steps(
    cluster: ps.LocalCluster,
) -> None:
    mode = ps.AsyncSGD(epochs=1, staleness_bound=0, n_partitions=5)
    result = ps.fit(Ledger(50), numbered_data(50), mode=mode, cluster=cluster, lr=1.0, batch_size=5)
    assert sum(result.staleness.values()) == 10
    assert (result.weights > 0).all()


@pytest.mark.parametrize("mode", [ps.Averaging(rounds=10**6), ps.AsyncSGD(epochs=10**6)])
def test_training_ends_when_progress_says_so(
    cluster: ps.LocalCluster, mode: ps.Averaging | ps.AsyncSGD
) -> None:
    seen = []

    def enough(progress: Progress) -> bool:
        seen.append(progress)
        return len(seen) >= 3

    data = least_squares_data()
    result = ps.fit(
        LeastSquares(7), data, mode=mode, cluster=cluster, test=data, on_progress=enough
    )
    assert [progress.unit for progress in result.history] == [progress.unit for progress in seen]
    assert 3 <= len(seen) <= 5
    assert result.units == seen[-1].unit
    units = [progress.unit for progress in seen]
    assert units == sorted(units)
    # The workers were told, not killed.
    assert result.workers_lost == 0
    assert cluster.submit(pow, 2, 5).result() == 32


def test_two_trainings_share_a_cluster(cluster: ps.LocalCluster) -> None:
    data = least_squares_data()
    alone = ps.fit(LeastSquares(7), data, mode=ps.Averaging(rounds=30), cluster=cluster)
    results: list[ps.TrainingResult] = []

    def train() -> None:
        mode = ps.Averaging(rounds=30)
        results.append(ps.fit(LeastSquares(7), data, mode=mode, cluster=cluster))

    threads = [threading.Thread(target=train) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.sha256 for result in results] == [alone.sha256] * 2


@pytest.mark.parametrize("local_steps", [1, 3, 100])
def test_pushes_of_several_local_steps_apply_every_batch_once(
    cluster: ps.LocalCluster, local_steps: int
) -> None:
    mode = ps.AsyncSGD(epochs=2, local_steps=local_steps, n_partitions=2)
    result = ps.fit(Ledger(80), numbered_data(80), mode=mode, cluster=cluster, lr=0.5, batch_size=4)
    assert np.array_equal(result.weights, np.full(80, 1.0))
    assert result.units == 2 * 2 * -(-10 // local_steps)
    assert result.examples == 160


@pytest.mark.parametrize("local_steps", [1, 4, 1000])
def test_one_worker_with_any_local_steps_is_sequential_sgd(
    cluster: ps.LocalCluster, local_steps: int
) -> None:
    data = least_squares_data()
    settings = {"data": data, "cluster": cluster, "lr": 0.1, "batch_size": 8, "seed": 2}
    pushed = ps.fit(
        LeastSquares(7),
        mode=ps.AsyncSGD(epochs=3, local_steps=local_steps, n_partitions=1),
        **settings,
    )
    averaged = ps.fit(LeastSquares(7), mode=ps.Averaging(rounds=3, n_partitions=1), **settings)
    if local_steps == 1:
        assert pushed.sha256 == averaged.sha256
    np.testing.assert_allclose(pushed.weights, averaged.weights, rtol=1e-12)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        (np.ones((3, 7)), np.ones(4), "as many rows"),
        (np.ones((0, 7)), np.ones(0), "at least one"),
        (np.array([["a"]]), np.ones(1), "must hold numbers"),
        (np.array([["1"]], object), np.ones(1), "must hold numbers"),
    ],
)
def test_rows_that_cannot_be_trained_on_are_refused(
    cluster: ps.LocalCluster, X: np.ndarray, y: np.ndarray, words: str
) -> None:
    with pytest.raises(ShapeMismatch, match=words):
        ps.fit(LeastSquares(7), (X, y), mode=ps.Averaging(), cluster=cluster)


def test_rows_are_converted_to_the_dtype_of_the_learner(cluster: ps.LocalCluster) -> None:
    X, y = least_squares_data()
    mode = ps.Averaging(rounds=2)
    single = X.astype(np.float32)
    one = ps.fit(LeastSquares(7), (single, y), mode=mode, cluster=cluster)
    two = ps.fit(LeastSquares(7), (single.astype(np.float64), y), mode=mode, cluster=cluster)
    assert one.sha256 == two.sha256


def test_a_learner_that_the_last_round_has_not_waited_for_keeps_its_worker(
    cluster: ps.LocalCluster,
) -> None:
    before = {worker.pid for worker in cluster.status().workers}
    mode = ps.Averaging(rounds=3, n_partitions=2, wait_for=1)
    learner = LeastSquares(7, pause_s=0.02)
    result = ps.fit(learner, least_squares_data(), mode=mode, cluster=cluster, batch_size=8)
    assert result.units == 3
    assert result.workers_lost == 0
    assert {worker.pid for worker in cluster.status().workers} == before


class Unready(LeastSquares):
    """Takes its time before it can train, and loses its first worker by it."""

    def __init__(self, d: int, folder: str) -> None:
        super().__init__(d)
        self.folder = folder

    def warm_up(self, rows: Batch, batch_size: int) -> None:
        time.sleep(0.4)
        try:
            os.mkdir(f"{self.folder}/been-there")
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("mode", [ps.Averaging(rounds=5), ps.AsyncSGD(epochs=1)])
def test_the_clock_runs_when_the_workers_are_ready_also_where_one_was_lost_before(
    cluster: ps.LocalCluster, mode: ps.Averaging | ps.AsyncSGD, tmp_path: Path
) -> None:
    began = time.perf_counter()
    learner = Unready(7, str(tmp_path))
    result = ps.fit(learner, least_squares_data(), mode=mode, cluster=cluster)
    assert result.workers_lost == 1
    assert result.setup_s > 0.4
    assert result.setup_s + result.wall_s < time.perf_counter() - began
    assert result.epochs == (5 if result.mode == "avg" else 1)


class Compiling(LeastSquares):
    """Has something compiled by numba before it can train."""

    def kernel_for(self, rows: Batch, batch_size: int) -> str:
        return "numba"

    def warm_up(self, rows: Batch, batch_size: int) -> None:
        import numba

        numba.njit(lambda x: x + 1).compile((numba.int64,))


class Listener:
    """A callback that takes down what it is told, on its own thread."""

    def __init__(self) -> None:
        self.told: list[str | int] = []
        self.thread = threading.current_thread()

    def hear(self, words: str) -> None:
        assert threading.current_thread() is self.thread
        self.told.append(words)

    def __call__(self, progress: Progress) -> None:
        self.told.append(progress.unit)


@pytest.mark.parametrize("is_inline", [False, True])
def test_that_kernels_are_compiled_is_told_once_before_the_first_step(
    cluster: ps.LocalCluster, is_inline: bool
) -> None:
    listener = Listener()
    mode, where = ps.Averaging(rounds=2, n_partitions=2), None if is_inline else cluster
    ps.fit(
        Compiling(7), least_squares_data(), mode=mode, cluster=where, callbacks=[listener],
        in_step=True,
    )  # fmt: skip
    assert listener.told == [COMPILING, 1, 2]


class Onlooker:
    """Notes what workers have told of their time while the first epoch goes on."""

    def __init__(self) -> None:
        self.seen: list[dict[str, WorkerTime]] = []

    def attach(self, run: TrainingRun) -> None:
        self._run = run

    def __call__(self, progress: Progress) -> None:
        if progress.epochs < 1:
            self.seen.append(self._run.tally.now())


def test_workers_tell_amid_their_first_epoch_where_their_time_goes(
    cluster: ps.LocalCluster,
) -> None:
    n, onlooker = 200, Onlooker()
    numbers = np.arange(n)
    data = (numbers[:, None].astype(np.float64), numbers)
    mode = ps.AsyncSGD(epochs=1, n_partitions=2)
    ps.fit(
        *(Ledger(n, pause_s=0.005), data), mode=mode, cluster=cluster, batch_size=1, lr=1.0,
        callbacks=[onlooker],
    )  # fmt: skip
    amid = {
        name
        for seen in onlooker.seen
        for name, spent in seen.items()
        if spent.n_jobs == 0 and spent.compute_s > 0
    }
    assert amid == {worker.worker_id for worker in cluster.status().workers}


def test_where_the_time_went_and_what_went_round_is_measured(
    cluster: ps.LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = least_squares_data()
    n_bytes = 8 * 7
    mode = ps.Averaging(rounds=3, n_partitions=2)
    averaged = ps.fit(LeastSquares(7, pause_s=0.002), data, mode=mode, cluster=cluster)
    assert averaged.pushed_bytes == averaged.pulled_bytes == 3 * 2 * n_bytes
    assert averaged.compute_s > 3 * 7 * 0.002
    # What the master saw of the jobs is computing and wire, and no part of it is told twice; where
    # it was told late that a job had begun, workers have computed for longer than it saw.
    seen_s = sum(span.ended_s - span.begun_s for span in averaged.timeline if span.end == "done")
    assert seen_s - averaged.compute_s <= averaged.wire_s + 1e-9
    assert averaged.wire_s <= seen_s + 1e-9
    assert averaged.wait_s > 0
    assert averaged.staleness_by_worker == {}
    # By a clock that stands still nothing waits on the master: from question to answer all is wire.
    for module in ("answers", "pushing"):
        monkeypatch.setattr(f"paramserver.training.{module}.perf_counter", lambda: 0.0)
    asynchronous = ps.AsyncSGD(epochs=2, n_partitions=2)
    pushed = ps.fit(LeastSquares(7, pause_s=0.002), data, mode=asynchronous, cluster=cluster)
    assert pushed.pushed_bytes == pushed.units * n_bytes
    assert pushed.pulled_bytes == (pushed.units + 4) * n_bytes  # and when a job joins
    assert pushed.compute_s > 2 * 7 * 0.002
    assert pushed.wire_s > 0
    assert pushed.wait_s == pushed.apply_s == 0
    by_worker = pushed.staleness_by_worker
    assert set(by_worker) <= {worker.worker_id for worker in cluster.status().workers}
    assert sum(by_worker.values(), Counter()) == pushed.staleness
