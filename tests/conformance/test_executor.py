"""A cluster is a `concurrent.futures.Executor`: whoever knows ProcessPoolExecutor knows it.

Written along CPython's own test_concurrent_futures; what a pool does after the loss of a worker is
left out, as a cluster does better (tests/integration/test_failures.py).
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    Future,
    as_completed,
    wait,
)
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zmq.utils import garbage

import paramserver as ps
from paramserver.errors import ClusterClosed, ConfigError, JobFailed, LocalProtocolError
from tests.conformance import executor_jobs as jobs
from tests.integration.scripts import until

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[ps.LocalCluster]:
    with ps.LocalCluster(n_workers=2) as cluster:
        # The first large frame makes pyzmq start a thread that lasts as long as the process.
        assert cluster.submit(len, np.zeros(1_000_000)).result(PATIENCE_S) == 1_000_000
        yield cluster
    garbage.gc.stop()


class Gate:
    """Keeps workers busy until it is opened."""

    def __init__(self, executor: Executor, folder: Path, n: int) -> None:
        self.folder = folder
        self.key = str(folder / "open")
        marks = [folder / f"runs-{i}" for i in range(n)]
        self.futures = [executor.submit(jobs.touch_and_wait, str(m), self.key) for m in marks]
        until(lambda: all(mark.exists() for mark in marks), "the jobs at the gate run")

    def open(self) -> None:
        Path(self.key).touch()


@contextmanager
def held(executor: Executor, folder: Path, n: int = 2) -> Iterator[Gate]:
    gate = Gate(executor, folder, n)
    try:
        yield gate
    finally:
        gate.open()
        wait(gate.futures, PATIENCE_S)


# --- submit ---------------------------------------------------------------------------------------


def test_it_is_an_executor(cluster: ps.LocalCluster) -> None:
    assert isinstance(cluster, Executor)
    assert isinstance(cluster.submit(pow, 2, 8), Future)


def test_submit_passes_all_arguments(cluster: ps.LocalCluster) -> None:
    assert cluster.submit(pow, 2, 8).result(PATIENCE_S) == 256
    future = cluster.submit(jobs.capture, 1, self=2, fn=3)
    assert future.result(PATIENCE_S) == ((1,), {"self": 2, "fn": 3})
    with pytest.raises(TypeError):
        cluster.submit(fn=jobs.capture, arg=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="None cannot be called"):
        cluster.submit(None, 1).result(PATIENCE_S)  # type: ignore[arg-type]


def test_methods_lambdas_closures_and_local_classes_travel(cluster: ps.LocalCluster) -> None:
    class Local:
        def __init__(self, n: int) -> None:
            self.n = n

    n = 20
    assert cluster.submit(jobs.Thing(5).method).result(PATIENCE_S) == 5
    assert cluster.submit(lambda x: x + n, 1).result(PATIENCE_S) == 21
    back = cluster.submit(lambda n: Local(n), 3).result(PATIENCE_S)
    assert type(back) is Local
    assert back.n == 3


def test_functions_of_a_namespace_without_a_module_travel(cluster: ps.LocalCluster) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "cluster": cluster}
    exec(
        "import math\n"
        "def area(r):\n    return math.pi * square(r)\n"
        "def square(x):\n    return x * x\n"
        "class Point:\n    def __init__(self, x):\n        self.x = x\n"
        "class Oops(Exception):\n    pass\n"
        "def oops(x):\n    raise Oops(x)\n"
        "a = cluster.submit(area, 2.0).result(30)\n"
        "p = cluster.submit(Point, 7).result(30)\n"
        "try:\n    cluster.submit(oops, 7).result(30)\n"
        "except Oops as error:\n    caught = error.args\n",
        namespace,
    )
    assert namespace["a"] == pytest.approx(12.566370614)
    assert type(namespace["p"]) is namespace["Point"]
    assert namespace["caught"] == (7,)


def test_threads_may_submit_all_at_once(cluster: ps.LocalCluster) -> None:
    results: dict[int, list[int]] = {}

    def work(k: int) -> None:
        futures = [cluster.submit(abs, -1000 * k - i) for i in range(200)]
        results[k] = [future.result(PATIENCE_S) for future in futures]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert results == {k: [1000 * k + i for i in range(200)] for k in range(8)}


def test_a_running_event_loop_can_use_it(cluster: ps.LocalCluster) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(cluster, pow, 2, k) for k in range(5)]
        return list(await asyncio.gather(*calls))

    assert asyncio.run(main()) == [1, 2, 4, 8, 16]


# --- errors ---------------------------------------------------------------------------------------


def test_an_exception_comes_back_as_it_was_with_the_remote_traceback(
    cluster: ps.LocalCluster,
) -> None:
    error = cluster.submit(jobs.raise_from).exception(PATIENCE_S)
    assert type(error) is RuntimeError
    assert error.args == (123,)
    assert type(error.__cause__).__name__ == "RemoteTraceback"
    shown = "".join(traceback.format_exception(error))
    assert "raise RuntimeError(123) from error  # some comment" in shown
    assert "KeyError: 'inner'" in shown


def test_exceptions_that_cannot_travel_come_back_as_text(cluster: ps.LocalCluster) -> None:
    error = cluster.submit(jobs.raise_two_arguments).exception(PATIENCE_S)
    assert isinstance(error, JobFailed)
    assert error.error_type.endswith("TwoArguments")
    assert "1 and 2" in str(error)
    error = cluster.submit(jobs.raise_with_lock).exception(PATIENCE_S)
    assert isinstance(error, JobFailed)
    assert error.error_type == "ValueError"
    assert "raise_with_lock" in error.traceback


def test_exceptions_of_local_classes_can_be_caught(cluster: ps.LocalCluster) -> None:
    class MyError(Exception):
        pass

    def fail() -> None:
        raise MyError("here")

    with pytest.raises(MyError, match="here"):
        cluster.submit(fail).result(PATIENCE_S)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_job_raises_ends_the_job_alone(
    cluster: ps.LocalCluster, error: BaseException
) -> None:
    pids = {worker.pid for worker in cluster.status().workers}
    back = cluster.submit(jobs.raise_it, error).exception(PATIENCE_S)
    assert type(back) is type(error)
    assert back.args == error.args
    assert cluster.submit(os.getpid).result(PATIENCE_S) in pids


def test_endless_recursion_is_an_error_of_the_job(cluster: ps.LocalCluster) -> None:
    assert isinstance(cluster.submit(jobs.recurse).exception(PATIENCE_S), RecursionError)


def test_a_long_message_is_cut(cluster: ps.LocalCluster) -> None:
    error = cluster.submit(jobs.raise_it, ValueError("x" * 10_000_000)).exception(PATIENCE_S)
    assert isinstance(error, JobFailed)
    assert len(str(error)) < 10_000


def test_what_cannot_be_pickled_is_an_error_at_the_future(cluster: ps.LocalCluster) -> None:
    future = cluster.submit(jobs.identity, threading.Lock())
    assert isinstance(future.exception(PATIENCE_S), LocalProtocolError)
    assert "lock" in str(future.exception())
    future = cluster.submit(jobs.identity, jobs.ErrorAtPickle())
    assert "no pickle of me" in str(future.exception(PATIENCE_S))
    future = cluster.submit(jobs.make_lock)
    assert "lock" in str(future.exception(PATIENCE_S))
    future = cluster.submit(jobs.make, jobs.ErrorAtPickle)
    assert "no pickle of me" in str(future.exception(PATIENCE_S))
    assert isinstance(cluster.submit(jobs.make, jobs.ExitAtPickle).exception(30), SystemExit)
    assert cluster.submit(abs, -1).result(PATIENCE_S) == 1


def test_what_cannot_be_rebuilt_is_an_error_at_the_future(cluster: ps.LocalCluster) -> None:
    pids = {worker.pid for worker in cluster.status().workers}
    for kind, there, here in (
        (jobs.ErrorAtUnpickle, JobFailed, ArithmeticError),
        (jobs.ExitAtUnpickle, JobFailed, SystemExit),
    ):
        assert isinstance(cluster.submit(jobs.identity, kind()).exception(PATIENCE_S), there)
        assert isinstance(cluster.submit(jobs.make, kind).exception(PATIENCE_S), here)
    assert {worker.pid for worker in cluster.status().workers} == pids


# --- map ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [None, 1, 3, 40, 50])
@pytest.mark.parametrize("buffersize", [None, 1, 7, 1000])
def test_map_gives_what_map_gives(
    cluster: ps.LocalCluster, chunksize: int | None, buffersize: int | None
) -> None:
    found = cluster.map(pow, range(40), range(50), chunksize=chunksize, buffersize=buffersize)
    assert list(found) == list(map(pow, range(40), range(50)))


def test_map_of_nothing_is_nothing(cluster: ps.LocalCluster) -> None:
    assert list(cluster.map(abs, [])) == []
    assert list(cluster.map(abs)) == []
    assert list(cluster.map(abs, [], buffersize=3)) == []


def test_map_refuses_sizes_below_one(cluster: ps.LocalCluster) -> None:
    bad: Any
    for bad in (0, -1, 1.5, "2"):
        with pytest.raises(ValueError, match="chunksize"):
            cluster.map(abs, [1], chunksize=bad)
        with pytest.raises(ValueError, match="buffersize"):
            cluster.map(abs, [1], buffersize=bad)


@pytest.mark.parametrize("chunksize", [None, 4])
def test_map_raises_when_the_item_is_reached(
    cluster: ps.LocalCluster, chunksize: int | None
) -> None:
    results = cluster.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5], chunksize=chunksize)
    assert next(results) == (0, 1)
    assert next(results) == (0, 1)
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert type(caught.value.__cause__).__name__ == "RemoteTraceback"
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.parametrize("chunksize", [None, 4])
def test_map_gives_the_results_before_one_that_cannot_be_sent(
    cluster: ps.LocalCluster, chunksize: int | None
) -> None:
    results = cluster.map(jobs.lock_at, [2] * 4, range(4), chunksize=chunksize)
    assert next(results) == 0
    assert next(results) == 1
    with pytest.raises(LocalProtocolError, match="lock"):
        next(results)


def test_map_times_out_relative_to_its_call(cluster: ps.LocalCluster, tmp_path: Path) -> None:
    key = str(tmp_path / "open")
    calls = [(str(tmp_path / str(i)), key) for i in range(2)]
    list(cluster.map(_wait_or_not, [None] * 8, chunksize=1))  # the workers know the function
    begun = time.monotonic()
    results = cluster.map(_wait_or_not, [None, *calls], timeout=1.0, chunksize=1)
    try:
        assert next(results) is None
        with pytest.raises(TimeoutError):
            next(results)
        assert 1.0 <= time.monotonic() - begun < 10
    finally:
        Path(key).touch()


def _wait_or_not(call: tuple[str, str] | None) -> str | None:
    return None if call is None else jobs.touch_and_wait(*call)


def test_map_reads_endless_iterables_only_as_far_as_needed(cluster: ps.LocalCluster) -> None:
    n_read = 0

    def numbers() -> Iterator[int]:
        nonlocal n_read
        for n in itertools.count():
            n_read = n + 1
            yield n

    results = cluster.map(abs, numbers(), buffersize=64)
    assert [next(results) for _ in range(200)] == list(range(200))
    assert n_read <= 200 + 2 * 64
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(results)


def test_an_iterable_that_raises_ends_map_where_it_raised(cluster: ps.LocalCluster) -> None:
    def numbers() -> Iterator[int]:
        yield from range(10)
        raise PlainTrouble

    class PlainTrouble(Exception):
        pass

    with pytest.raises(PlainTrouble):
        cluster.map(abs, numbers())
    results = cluster.map(abs, numbers(), buffersize=4)
    assert [next(results) for _ in range(10)] == list(range(10))
    with pytest.raises(PlainTrouble):
        next(results)


def test_map_that_is_closed_cancels_the_rest(cluster: ps.LocalCluster, tmp_path: Path) -> None:
    mark, second, key = (str(tmp_path / name) for name in ("never", "second", "key"))
    view = cluster.with_options(timeout_s=60)  # such jobs are not granted ahead
    with held(cluster, tmp_path, n=1):
        calls = [None, (second, key), *[(mark, key)] * 50]
        results = view.map(_wait_or_not, calls, chunksize=1)
        assert next(results) is None
        until(Path(second).exists, "the second item runs")
        results.close()  # type: ignore[attr-defined]
        assert next(results, "closed") == "closed"
        Path(key).touch()
        assert cluster.submit(abs, -3).result(PATIENCE_S) == 3  # behind them in the queue
    assert not Path(mark).exists()


def test_map_that_times_out_cancels_the_rest(cluster: ps.LocalCluster, tmp_path: Path) -> None:
    mark = str(tmp_path / "never")
    view = cluster.with_options(timeout_s=60)
    with held(cluster, tmp_path), pytest.raises(TimeoutError):
        next(view.map(jobs.touch, [mark] * 50, chunksize=1, timeout=0.01))
    assert cluster.submit(abs, -3).result(PATIENCE_S) == 3
    assert not Path(mark).exists()


def test_map_whose_results_nobody_reads_runs_all_the_same(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    mark = tmp_path / "marks"
    view = cluster.with_options(priority=0, timeout_s=60)
    view.map(jobs.touch, [str(mark)] * 20, chunksize=1)
    view.shutdown()
    assert mark.stat().st_size == 20


def test_map_that_is_interrupted_cancels_what_it_has_handed_in(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    mark = str(tmp_path / "never")

    def paths() -> Iterator[str]:
        yield mark
        yield mark
        raise KeyboardInterrupt

    view = cluster.with_options(timeout_s=60)  # such jobs are not granted ahead
    with held(cluster, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            view.map(jobs.touch, paths(), buffersize=10, chunksize=1)
        with pytest.raises(KeyboardInterrupt):
            view.map(jobs.touch, paths())
    assert cluster.submit(abs, -3).result(PATIENCE_S) == 3
    assert not Path(mark).exists()


def test_map_iterates_without_holding_results(cluster: ps.LocalCluster) -> None:
    for chunksize in (1, 5):
        for thing in cluster.map(jobs.make_thing, range(10), chunksize=chunksize):
            reference = weakref.ref(thing)
            del thing
            assert reference() is None


# --- futures: waiting, callbacks, cancelling ------------------------------------------------------


def test_wait_and_as_completed_work(cluster: ps.LocalCluster, tmp_path: Path) -> None:
    with held(cluster, tmp_path, n=1) as gate:
        slow = gate.futures[0]
        fine = cluster.submit(abs, -1)
        done, pending = wait([fine, slow, slow], PATIENCE_S, FIRST_COMPLETED)
        assert (done, pending) == ({fine}, {slow})
        bad = cluster.submit(divmod, 2, 0)
        done, pending = wait([bad, slow], PATIENCE_S, FIRST_EXCEPTION)
        assert (done, pending) == ({bad}, {slow})
        done, pending = wait([fine, slow], 0.01)
        assert (done, pending) == ({fine}, {slow})
        with pytest.raises(TimeoutError):
            list(as_completed([fine, slow], timeout=0.01))
        gate.open()
        assert set(as_completed([bad, fine, slow, slow], PATIENCE_S)) == {bad, fine, slow}
        done, pending = wait([bad, fine, slow], PATIENCE_S, ALL_COMPLETED)
        assert not pending


def test_callbacks_may_raise_submit_and_look_around(
    cluster: ps.LocalCluster, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    seen: list[Any] = []
    done = threading.Event()

    def bad(_: Future[Any]) -> None:
        raise RuntimeError("trouble in a callback")

    def good(future: Future[Any]) -> None:
        seen.append(future.result())
        seen.append(len(cluster.status().workers))
        seen.append(cluster.explain(future))
        cluster.submit(abs, -7).add_done_callback(last)

    def last(future: Future[Any]) -> None:
        seen.append(future.result())
        done.set()

    with (
        caplog.at_level(logging.CRITICAL, "concurrent.futures"),
        held(cluster, tmp_path, n=1) as gate,
    ):
        gate.futures[0].add_done_callback(bad)
        gate.futures[0].add_done_callback(good)
        gate.open()
        assert done.wait(PATIENCE_S)
    assert seen[:2] == ["waited", 2]
    assert seen[3:] == [7]


def test_a_callback_that_exits_ends_neither_the_job_nor_the_cluster(
    cluster: ps.LocalCluster, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def leave(_: Future[Any]) -> None:
        raise SystemExit(3)

    with caplog.at_level(logging.CRITICAL, "paramserver"), held(cluster, tmp_path, n=1) as gate:
        gate.futures[0].add_done_callback(leave)
        gate.open()
        assert gate.futures[0].result(PATIENCE_S) == "waited"
        assert cluster.submit(abs, -1).result(PATIENCE_S) == 1
    assert cluster.status().counters["owner_errors"] == 1


def test_waiting_in_a_callback_for_what_only_its_thread_can_do_is_refused(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    told: list[str] = []
    done = threading.Event()
    waits: list[Callable[[], Any]] = [
        lambda: cluster.wait_for_workers(3, timeout_s=60),
        lambda: ps.MapReduce(jobs.identity, sum, unit="item").run([{"a": 1}], cluster),
        lambda: cluster.submit(abs, -1).result(),
        lambda: cluster.submit(abs, -1).exception(60),
        lambda: next(cluster.map(abs, [-1])),
    ]

    def callback(ended: Future[Any]) -> None:
        assert ended.result() == "waited"  # what is there may be looked at
        for wait_for_it in waits:
            try:
                wait_for_it()
            except ps.errors.ClusterError as error:
                told.append(str(error))
        done.set()

    with held(cluster, tmp_path, n=1) as gate:
        gate.futures[0].add_done_callback(callback)
        gate.open()
        assert done.wait(PATIENCE_S)
    assert len(told) == len(waits)
    assert all("thread" in words and "for ever" in words for words in told)
    assert cluster.submit(abs, -1).result(PATIENCE_S) == 1


def test_a_cancelled_future_never_runs_and_who_waits_is_told(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    with held(cluster, tmp_path):
        future = cluster.with_options(timeout_s=60).submit(jobs.touch, str(mark))
        assert not future.running()
        assert future.cancel()
        assert future.cancel()
    done, pending = wait([future], PATIENCE_S)
    assert (done, pending) == ({future}, set())
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result()
    assert cluster.submit(abs, -1).result(PATIENCE_S) == 1  # behind it in the queue
    assert not mark.exists()


def test_cancel_tells_the_truth_also_of_jobs_that_are_granted_ahead(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    (tmp_path / "ran").mkdir()
    for _ in range(20):
        marks = [tmp_path / "ran" / str(k) for k in range(50)]
        futures = [cluster.submit(jobs.touch, str(mark)) for mark in marks]
        said = [future.cancel() for future in futures]
        wait(futures, PATIENCE_S)
        assert [not mark.exists() for mark in marks] == said
        for mark in marks:
            mark.unlink(missing_ok=True)


def test_a_future_that_runs_can_be_cancelled_by_the_cluster_only(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    with ps.LocalCluster(1) as other:
        gate = Gate(other, tmp_path, 1)
        future = gate.futures[0]
        assert future.running()
        assert not future.cancel()
        assert not cluster.cancel(future)  # another cluster's
        assert other.cancel(future)
        with pytest.raises(CancelledError):
            future.result(PATIENCE_S)
        assert not other.cancel(future)
        assert other.submit(abs, -4).result(PATIENCE_S) == 4


def test_a_future_that_the_user_fills_keeps_the_users_value(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    with held(cluster, tmp_path) as gate:
        queued = cluster.with_options(timeout_s=60).submit(abs, -1)  # not granted ahead
        queued.set_running_or_notify_cancel()
        queued.set_result("mine")
        gate.futures[0].set_result("mine, too")
    assert queued.result(PATIENCE_S) == "mine"
    assert gate.futures[0].result() == "mine, too"
    assert cluster.submit(abs, -1).result(PATIENCE_S) == 1


# --- options --------------------------------------------------------------------------------------


def test_views_with_other_options_share_the_workers(cluster: ps.LocalCluster) -> None:
    view = cluster.with_options(max_failures=2, priority=1)
    pids = {worker.pid for worker in cluster.status().workers}
    assert view.submit(os.getpid).result(PATIENCE_S) in pids
    assert list(view.map(abs, range(-10, 0))) == list(range(10, 0, -1))
    error = view.submit(jobs.fail_at, 1, 1).exception(PATIENCE_S)
    assert type(error) is jobs.PlainError
    view.shutdown()
    with pytest.raises(RuntimeError):
        view.submit(abs, 1)
    assert cluster.submit(abs, -1).result(PATIENCE_S) == 1


def test_max_failures_tries_again(cluster: ps.LocalCluster, tmp_path: Path) -> None:
    mark = tmp_path / "tries"

    def fail_twice(path: str) -> int:
        with open(path, "a") as file:
            file.write("x")
        n = os.path.getsize(path)
        if n < 3:
            raise ValueError(n)
        return n

    with pytest.raises(ValueError, match="1"):
        cluster.submit(fail_twice, str(mark)).result(PATIENCE_S)
    mark.unlink()
    view = cluster.with_options(max_failures=3)
    assert view.submit(fail_twice, str(mark)).result(PATIENCE_S) == 3


def test_what_is_asked_for_each_job_is_kept_for_each_item_of_map(cluster: ps.LocalCluster) -> None:
    results = cluster.with_options(max_failures=2).map(jobs.fail_at, [70] * 500, range(500))
    assert [next(results) for _ in range(70)] == list(range(70))
    with pytest.raises(jobs.PlainError, match="70"):
        next(results)
    items = [0.15] * 20  # one chunk of them would pass the deadline
    hasty = cluster.with_options(timeout_s=1.0)
    assert list(hasty.map(time.sleep, items, buffersize=160)) == [None] * 20


def test_a_cluster_stays_where_it_is(cluster: ps.LocalCluster) -> None:
    assert cluster.submit(lambda: cluster is None).result(PATIENCE_S)  # as in pickled estimators
    view = cluster.with_options(priority=1)
    error = cluster.submit(lambda: view.submit(abs, 1)).exception(PATIENCE_S)
    assert "a cluster cannot be sent to its workers" in str(error)


def test_an_item_that_is_a_cluster_or_a_future_is_refused(cluster: ps.LocalCluster) -> None:
    """As an argument of `submit` is: a cluster would be None for the job."""
    done = cluster.submit(abs, -1)
    assert done.result(PATIENCE_S) == 1
    for executor in (cluster, cluster.with_options(max_failures=2)):
        results = executor.map(isinstance, [1, cluster], [int, int], chunksize=1)
        assert next(results) is True
        with pytest.raises(LocalProtocolError, match="was handed a cluster"):
            next(results)
        with pytest.raises(LocalProtocolError, match="was handed a future"):
            list(executor.map(abs, [done]))


def test_higher_priority_goes_first(cluster: ps.LocalCluster, tmp_path: Path) -> None:
    order = tmp_path / "order"

    def note(word: str) -> None:
        with open(order, "a") as file:
            file.write(word + "\n")

    (tmp_path / "other").mkdir()
    # With a deadline no job is granted ahead: what was granted cannot be overtaken any more.
    low, high = cluster.with_options(timeout_s=60), cluster.with_options(priority=5, timeout_s=60)
    with held(cluster, tmp_path / "other", n=1):  # one worker is left
        with held(cluster, tmp_path, n=1):
            normal = [low.submit(note, "normal") for _ in range(2)]
            urgent = [high.submit(note, "urgent") for _ in range(2)]
        wait(normal + urgent, PATIENCE_S)
    assert order.read_text().split() == ["urgent", "urgent", "normal", "normal"]


def test_the_cluster_can_cancel_and_explain_the_futures_of_its_views(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    with held(cluster, tmp_path):
        future = cluster.with_options(priority=-1).submit(abs, -1)
        assert "READY" in cluster.explain(future)
        assert cluster.cancel(future)
        assert future.cancelled()
    assert "none of" in cluster.explain(Future())


def test_the_cluster_tells_how_a_job_ended(cluster: ps.LocalCluster) -> None:
    good, bad = cluster.submit(abs, -1), cluster.submit(int, "x")
    wait([good, bad], PATIENCE_S)
    assert "SUCCEEDED at its first try, on local" in cluster.explain(good)
    assert "ended: ERROR (on local" in cluster.explain(bad)
    with ps.LocalCluster(n_workers=1) as other:
        first = other.submit(abs, -1)
        assert first.result(PATIENCE_S) == 1
        assert "SUCCEEDED" in other.explain(first)
        assert "none of" in cluster.explain(first), "though it had a job of that number, too"


def test_a_thousand_views_leave_nothing_in_the_master(cluster: ps.LocalCluster) -> None:
    def n_phases() -> int:
        return cluster._parts.master.ask(lambda machine: len(machine.backlog.phases))

    cluster.with_options(timeout_s=77.0)
    before = n_phases()
    for _ in range(1000):
        assert cluster.with_options(timeout_s=77.0)
    assert n_phases() == before
    gc.collect()
    assert len(cluster._parts.owners()) < 10


@pytest.mark.parametrize(
    "options",
    [
        {"max_failures": 0},
        {"max_failures": 1.5},
        {"max_lost": 0},
        {"timeout_s": 0},
        {"timeout_s": -1.0},
        {"timeout_s": "3"},
        {"timeout_s": float("nan")},
        {"priority": None},
        {"priority": "high"},
        {"buffersize": 0},
        {"buffersize": 2.5},
    ],
)
def test_options_out_of_range_are_refused(cluster: ps.LocalCluster, options: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        cluster.with_options(**options)
    assert cluster.submit(abs, -1).result(PATIENCE_S) == 1


def test_a_deadline_may_be_as_far_away_as_one_likes(cluster: ps.LocalCluster) -> None:
    for timeout_s in (1e9, 1e300, float("inf")):
        view = cluster.with_options(timeout_s=timeout_s)
        assert view.submit(abs, -1).result(PATIENCE_S) == 1


# --- memory ---------------------------------------------------------------------------------------


def _dies(reference: weakref.ref[Any]) -> bool:
    until(lambda: reference() is None, f"nothing holds {reference}")
    return True


def test_no_stale_references(cluster: ps.LocalCluster) -> None:
    gc.disable()
    try:
        thing = jobs.Thing()
        reference = weakref.ref(thing)
        cluster.submit(thing.method)  # its future is discarded
        del thing
        assert _dies(reference)

        future = cluster.submit(jobs.identity, jobs.Thing())
        reference = weakref.ref(future.result(PATIENCE_S))
        of_future = weakref.ref(future)
        del future
        assert _dies(reference)
        assert _dies(of_future)

        future = cluster.submit(jobs.raise_it, jobs.PlainError("x"))
        of_error = weakref.ref(future.exception(PATIENCE_S))
        of_future = weakref.ref(future)
        del future
        assert _dies(of_error)
        assert _dies(of_future)

        future = cluster.submit(jobs.make, jobs.ErrorAtUnpickle)
        assert type(future.exception(PATIENCE_S)) is ZeroDivisionError
        of_future = weakref.ref(future)
        del future
        assert _dies(of_future)
    finally:
        gc.enable()


def test_arguments_die_in_the_worker_when_the_job_has_ended(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    mark = tmp_path / "died"

    class Mourner:
        def __init__(self, path: str) -> None:
            self.path = path

        def __del__(self) -> None:
            if os.getpid() != parent:
                open(self.path, "w").close()

    parent = os.getpid()
    assert cluster.submit(type, Mourner(str(mark))).result(PATIENCE_S) is Mourner
    until(mark.exists, "the worker let go of the argument")


# --- data -----------------------------------------------------------------------------------------


def test_arrays_are_writable_on_both_sides(cluster: ps.LocalCluster) -> None:
    for n in (10, 1000, 100_000, 5_000_000):
        assert cluster.submit(jobs.is_writable, np.zeros(n)).result(PATIENCE_S)
        back = cluster.submit(np.ones, n).result(PATIENCE_S)
        back += 1
        assert back.sum() == 2 * n


def test_later_changes_do_not_reach_what_was_handed_over(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    with held(cluster, tmp_path):
        array = np.zeros(100_000)
        future = cluster.submit(np.sum, array)
        array[:] = 1
    assert future.result(PATIENCE_S) == 0
    futures = [cluster.submit(jobs.fill_reused, k) for k in range(40)]
    assert [set(future.result(PATIENCE_S)) for future in futures] == [{k} for k in range(40)]


def test_thousands_of_arrays_travel_in_one_call(cluster: ps.LocalCluster) -> None:
    arrays = jobs.many_arrays(10_000)
    assert cluster.submit(len, arrays).result(PATIENCE_S) == 10_000
    back = cluster.submit(jobs.many_arrays, 10_000).result(PATIENCE_S)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, back, strict=True))


def test_many_large_calls_at_once_do_not_make_one_message(cluster: ps.LocalCluster) -> None:
    # Jobs are known to be tiny: they are granted ahead, many in one message.
    wait([cluster.submit(abs, k) for k in range(500)], PATIENCE_S)
    arrays = jobs.many_arrays(900)
    handed_in = threading.Event()
    stall = threading.Thread(
        target=cluster._parts.master.ask, args=[lambda _: handed_in.wait(PATIENCE_S)]
    )
    stall.start()
    futures = [cluster.submit(len, arrays) for _ in range(60)]
    handed_in.set()
    stall.join()
    assert {future.result(PATIENCE_S) for future in futures} == {900}


# --- what jobs do to their process ----------------------------------------------------------------


def test_jobs_may_print_and_read_nothing(cluster: ps.LocalCluster) -> None:
    assert cluster.submit(print, end="").result(PATIENCE_S) is None
    assert cluster.submit(lambda: __import__("sys").stdin.read()).result(PATIENCE_S) == ""


def test_jobs_may_start_threads_and_processes(cluster: ps.LocalCluster) -> None:
    def use_subprocess() -> str:
        import subprocess

        return subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout

    def use_multiprocessing() -> list[int]:
        import multiprocessing

        with multiprocessing.Pool(1) as pool:
            return pool.map(abs, [-1, -2])

    assert cluster.submit(jobs.start_thread).result(PATIENCE_S) == 42
    assert cluster.submit(use_subprocess).result(PATIENCE_S) == "hello\n"
    assert cluster.submit(use_multiprocessing).result(PATIENCE_S) == [1, 2]


def test_a_process_that_a_job_forks_does_not_go_on_as_a_worker(cluster: ps.LocalCluster) -> None:
    pids = {worker.pid for worker in cluster.status().workers}
    for _ in range(3):
        assert cluster.submit(jobs.fork_and_return).result(PATIENCE_S) == 1
        assert cluster.submit(jobs.fork_and_exit).result(PATIENCE_S) == 0
    assert cluster.submit(os.getpid).result(PATIENCE_S) in pids
    assert {worker.pid for worker in cluster.status().workers} == pids


def test_jobs_may_change_folder_and_signals(cluster: ps.LocalCluster, tmp_path: Path) -> None:
    with ps.LocalCluster(1) as other:
        other.submit(os.chdir, str(tmp_path)).result(PATIENCE_S)
        assert other.submit(os.getcwd).result(PATIENCE_S) == str(tmp_path)
        assert other.submit(jobs.change_signals).result(PATIENCE_S)
        assert other.submit(abs, -1).result(PATIENCE_S) == 1


def test_a_job_may_have_a_cluster_of_its_own(cluster: ps.LocalCluster) -> None:
    def nested() -> int:
        import paramserver as ps

        with ps.LocalCluster(1) as inner:
            return inner.submit(pow, 2, 3).result(30)

    assert cluster.submit(nested).result(60) == 8


# --- how it looks ---------------------------------------------------------------------------------


def test_it_shows_itself_in_notebooks(cluster: ps.LocalCluster) -> None:
    assert repr(cluster).startswith("<LocalCluster at unix://")
    assert repr(cluster).endswith(": 2 workers>")
    shown = cluster._repr_html_()
    for worker in cluster.status().workers:
        assert worker.worker_id in shown
        assert str(worker.pid) in shown
    assert "http" not in shown
    assert "<script" not in shown


def test_submitting_to_a_closed_cluster_raises_what_the_standard_pools_raise() -> None:
    with ps.LocalCluster(1) as cluster:
        view = cluster.with_options(priority=1)
        assert view.submit(abs, -1).result(PATIENCE_S) == 1
    for executor in (cluster, view, cluster.with_options(priority=2)):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(abs, -1)
        with pytest.raises(RuntimeError):
            executor.map(abs, [1])
    for use in (cluster.status, lambda: cluster.scale(2), lambda: cluster.wait_for_workers(1)):
        with pytest.raises(ClusterClosed):
            use()
    assert cluster._repr_html_() == "<p>LocalCluster: closed</p>"
    cluster.shutdown()
