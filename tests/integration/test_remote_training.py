"""Both training modes over TCP: agents and workers as real processes, some of which are killed.

A far worker sees nothing of the master's folders, as on another machine; a near one does, and maps
its vectors, although it has dialled by TCP.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

import paramserver as ps
from paramserver.cluster import Cluster
from paramserver.errors import ConfigError, JobFailed, TrainingError
from paramserver.models.softmax import Softmax
from paramserver.training.result import Progress
from tests.integration.far_worker import FAR_AGENT
from tests.integration.remote import PATIENCE_S, AgentProcess, Wire
from tests.numerics.learners import Bulky, LeastSquares, Ledger, OneThreaded, Poisoned, RowLedger

pytestmark = pytest.mark.usefixtures("no_lending_thread")

FAR = {"program": ("-c", FAR_AGENT)}


class Site:
    """A cluster that listens on TCP, and the agents that the test has started."""

    def __init__(self, keys: Path, stack: ExitStack, *, ship_code: bool = False) -> None:
        self._keys, self._stack = keys, stack
        self.cluster = stack.enter_context(
            Cluster("tcp://127.0.0.1:0", keys, grace_s=0.5, verbose=False, ship_code=ship_code)
        )

    def start(self, n_workers: int, *options: str, address: str = "", **how: Any) -> AgentProcess:
        """Start an agent, and wait for its workers."""
        n = self.cluster.n_workers
        address = address or self.cluster.address
        agent = AgentProcess(address, self._keys, n_workers, *options, **how)
        self._stack.enter_context(agent)
        self.cluster.wait_for_workers(n + n_workers, PATIENCE_S)
        return agent

    def kill_one(self, number: int = 0) -> None:
        """Kill a worker, with SIGKILL."""
        workers = sorted(self.cluster.status().workers, key=lambda w: w.worker_id)
        os.kill(workers[number % len(workers)].pid, signal.SIGKILL)


@pytest.fixture
def site(keys: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(keys, stack)


def regression(n: int = 203, d: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((n, d))
    return X, X @ rng.standard_normal(d) + 0.1 * rng.standard_normal(n)


def numbered(n: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.arange(n)
    return numbers[:, None].astype(np.float64), numbers


def at_units(*units: int, do: Callable[[int], None]) -> Callable[[Progress], None]:
    """Do something once progress has reached each of these units."""
    left = list(units)

    def on_progress(progress: Progress) -> None:
        if left and progress.unit >= left[0]:
            left.pop(0)
            do(len(left))

    return on_progress


AVERAGING = ps.Averaging(rounds=30, n_partitions=3)


@pytest.fixture(scope="module")
def bits() -> str:
    """Of the weights that `AVERAGING` leads to on one machine, undisturbed."""
    with ps.LocalCluster(2) as cluster:
        result = ps.fit(LeastSquares(7), regression(), mode=AVERAGING, cluster=cluster, seed=1)
    return result.sha256


@pytest.mark.parametrize("how", [{}, FAR], ids=["near", "far"])
def test_averaging_by_tcp_ends_with_the_same_bits_when_workers_are_killed(
    site: Site, bits: str, how: dict[str, Any]
) -> None:
    site.start(2, **how)
    learner = LeastSquares(7, pause_s=0.003)
    killer = at_units(3, 12, do=site.kill_one)
    result = ps.fit(
        learner, regression(), mode=AVERAGING, cluster=site.cluster, seed=1, on_progress=killer
    )
    assert result.sha256 == bits
    assert result.workers_lost == 2


def test_averaging_by_a_near_and_a_far_worker_that_joins_late_has_the_same_bits(
    site: Site, bits: str
) -> None:
    site.start(1)
    joiner = at_units(2, do=lambda _: site.start(1, **FAR))
    learner = LeastSquares(7, pause_s=0.003)
    mode = AVERAGING
    result = ps.fit(
        learner, regression(), mode=mode, cluster=site.cluster, seed=1, on_progress=joiner
    )
    assert result.sha256 == bits
    assert site.cluster.n_workers == 2


@pytest.mark.parametrize("bound", [None, 0, pytest.param(2, marks=pytest.mark.full)])
def test_async_by_tcp_applies_every_batch_once_when_workers_are_killed(
    site: Site, bound: int | None
) -> None:
    n = 240
    site.start(2, **FAR)
    killer = at_units(15, 40, do=site.kill_one)
    result = ps.fit(
        Ledger(n, pause_s=0.004),
        numbered(n),
        mode=ps.AsyncSGD(epochs=1, n_partitions=3, staleness_bound=bound),
        cluster=site.cluster,
        batch_size=2,
        lr=1.0,
        on_progress=killer,
    )
    assert result.workers_lost == 2
    assert sum(result.staleness.values()) == 120
    if bound == 0:
        assert ((result.weights > 0) & (result.weights <= 1)).all()
    else:
        assert np.array_equal(result.weights, np.ones(n))
        assert result.units == 120


def test_async_by_near_and_far_workers_applies_every_batch_once(site: Site) -> None:
    site.start(1)
    site.start(1, **FAR)
    mode = ps.AsyncSGD(epochs=3, n_partitions=4)
    result = ps.fit(
        Ledger(100), numbered(100), mode=mode, cluster=site.cluster, batch_size=3, lr=1.0
    )
    assert np.array_equal(result.weights, np.full(100, 3.0))


def sparse_numbered(n: int) -> tuple[csr_array, np.ndarray]:
    """Row k has one entry, in column k."""
    return csr_array((np.ones(n), np.arange(n), np.arange(n + 1)), shape=(n, n)), np.arange(n)


@pytest.mark.parametrize("bound", [None, 0, pytest.param(2, marks=pytest.mark.full)])
def test_sparse_pushes_from_near_and_far_apply_every_batch_once(
    site: Site, bound: int | None
) -> None:
    n = 150
    site.start(1)
    site.start(1, **FAR)
    killer = at_units(10, do=site.kill_one)
    result = ps.fit(
        RowLedger(n, pause_s=0.004),
        sparse_numbered(n),
        mode=ps.AsyncSGD(epochs=1, n_partitions=2, staleness_bound=bound, sparse=True),
        cluster=site.cluster,
        batch_size=2,
        lr=1.0,
        on_progress=killer,
    )
    assert sum(result.staleness.values()) == 76
    if bound == 0:
        assert ((result.weights > 0) & (result.weights <= 1)).all()
    else:
        assert np.array_equal(result.weights, np.ones(n))


def test_vectors_and_rows_of_many_pieces_arrive_whole(site: Site) -> None:
    """A vector of 34 MB is sent in three frames; the rows of a partition in several questions."""
    n, d = 700, 8_500_000
    site.start(1, **FAR)
    X = np.arange(n * 3_000, dtype=np.float32).reshape(n, 3_000) / 1000  # 8.4 MB
    data = (X, np.arange(n))
    for mode in (ps.Averaging(rounds=2), ps.AsyncSGD(epochs=1)):
        learner = Bulky(d, checksum=float(X.sum(dtype=np.float64)))
        result = ps.fit(learner, data, mode=mode, cluster=site.cluster, batch_size=n, lr=1.0)
        n_steps = 2 if isinstance(mode, ps.Averaging) else 1
        assert (result.weights == n_steps).all()


@pytest.mark.parametrize("mode", [ps.AsyncSGD(epochs=1), ps.Averaging(rounds=3, local_steps=4)])
def test_a_connection_that_is_reset_within_big_vectors_costs_nothing(
    site: Site, mode: ps.AsyncSGD | ps.Averaging
) -> None:
    n = 1_000_000  # 8 MB a push, and as much a pull
    megabytes = np.array([4, 13, 21, 35, 37])
    with Wire(site.cluster.address, reset_at=(megabytes * 1_000_000).tolist()) as wire:
        site.start(1, address=wire.address, **FAR)
        data = np.zeros((12, 1)), np.arange(12)
        result = ps.fit(Ledger(n), data, mode=mode, cluster=site.cluster, batch_size=3, lr=1.0)
        assert not wire.reset_at
    n_times = 1 if isinstance(mode, ps.AsyncSGD) else 3
    assert result.weights[:12].tolist() == [n_times] * 12
    assert not result.weights[12:].any()
    assert result.workers_lost == 0


@pytest.mark.full
@pytest.mark.timeout(300)
def test_a_connection_that_is_reset_within_a_push_of_200_mb_costs_nothing(site: Site) -> None:
    n = 25_000_000
    megabytes = np.array([90, 130, 390, 700])  # in the first pull, pushes, and pulls between
    with Wire(site.cluster.address, reset_at=(megabytes * 1_000_000).tolist()) as wire:
        site.start(1, address=wire.address, **FAR)
        data = np.zeros((12, 1)), np.arange(12)
        mode = ps.AsyncSGD(epochs=1)
        result = ps.fit(Ledger(n), data, mode=mode, cluster=site.cluster, batch_size=6, lr=1.0)
        assert not wire.reset_at
    assert result.weights[:12].tolist() == [1.0] * 12
    assert not result.weights[12:].any()
    assert (result.units, result.workers_lost) == (2, 0)


def test_softmax_is_rebuilt_from_plain_values_on_the_worker(site: Site) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((90, 4)).astype(np.float32), rng.integers(0, 3, 90)
    mode = ps.Averaging(rounds=3, n_partitions=2)
    site.start(1, allow=(), **FAR)
    far = ps.fit(Softmax(4, 3, 0.01), (X, y), mode=mode, cluster=site.cluster, lr=0.1)
    with ps.LocalCluster(1) as cluster:
        near = ps.fit(Softmax(4, 3, 0.01), (X, y), mode=mode, cluster=cluster, lr=0.1)
    assert far.sha256 == near.sha256


def test_a_learner_of_a_package_that_was_not_allowed_is_refused_in_words(site: Site) -> None:
    site.start(1, allow=(), **FAR)
    with pytest.raises(JobFailed, match="--allow tests"):
        ps.fit(LeastSquares(7), regression(), mode=AVERAGING, cluster=site.cluster)


def test_a_learner_of_no_module_trains_where_both_sides_accept_code(keys: Path, bits: str) -> None:
    class OfNoModule(LeastSquares):
        """Found by no name: neither here nor there."""

    data = regression()
    with ExitStack() as stack:
        site = Site(keys, stack)
        with pytest.raises(ConfigError, match="ship_code=True here, --accept-code there"):
            ps.fit(OfNoModule(7), data, mode=AVERAGING, cluster=site.cluster, seed=1)
    with ExitStack() as stack:
        site = Site(keys, stack, ship_code=True)
        strict = site.start(1, **FAR)
        with pytest.raises(JobFailed, match="Start it with --accept-code"):
            ps.fit(OfNoModule(7), data, mode=AVERAGING, cluster=site.cluster, seed=1)
        strict.signal(signal.SIGTERM)
        assert strict.wait() == 0
        site.start(1, "--accept-code", allow=(), **FAR)
        result = ps.fit(OfNoModule(7), data, mode=AVERAGING, cluster=site.cluster, seed=1)
    assert result.sha256 == bits


def test_a_learner_that_is_not_plain_is_refused_before_anything_is_sent(site: Site) -> None:
    before = sorted(site.cluster.internals().fast_folder.iterdir())
    with pytest.raises(ConfigError, match="dataclass"):
        ps.fit(NotPlain(), regression(), mode=AVERAGING, cluster=site.cluster, lr=1)
    assert sorted(site.cluster.internals().fast_folder.iterdir()) == before


@pytest.mark.parametrize("how", [{}, FAR], ids=["near", "far"])
def test_a_worker_with_other_blas_threads_takes_on_those_of_the_others(
    site: Site, bits: str, how: dict[str, Any]
) -> None:
    site.start(1, **FAR)
    joiner = at_units(2, do=lambda _: site.start(1, "--blas-threads", "2", **how))
    result = ps.fit(
        OneThreaded(7, pause_s=0.003),
        regression(),
        mode=AVERAGING,
        cluster=site.cluster,
        seed=1,
        on_progress=joiner,
        in_step=True,  # the other rounds wait for who joins
    )
    assert result.sha256 == bits
    assert len({span.worker_id for span in result.timeline}) == 2


@pytest.mark.parametrize("mode", [ps.Averaging(rounds=3), ps.AsyncSGD(epochs=1)])
def test_what_is_not_finite_ends_a_far_training_in_words(
    site: Site, mode: ps.Averaging | ps.AsyncSGD
) -> None:
    site.start(1, **FAR)
    learner = Poisoned(20, bad_row=7, bad_value=float("nan"))
    with pytest.raises((TrainingError, JobFailed), match=r"not finite|nonfinite"):
        ps.fit(learner, numbered(20), mode=mode, cluster=site.cluster, lr=1.0, batch_size=3)


class NotPlain:
    """A learner that is no dataclass."""

    n_features = size = 7
    dtype = np.dtype(np.float64)
    start = LeastSquares.start
    gradient = LeastSquares.gradient
    loss = LeastSquares.loss
    score = LeastSquares.score
