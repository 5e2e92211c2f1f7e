"""What every worker does first, and how long it stays: as in a pool, and after losses."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramserver as ps
from paramserver.errors import ConfigError, InitializerFailed, LaunchFailed, LocalProtocolError
from tests.integration import initializer_jobs as jobs
from tests.integration.scripts import run, until

PATIENCE_S = 60.0


def count(cluster: ps.LocalCluster, what: str) -> int:
    return cluster.status().counters.get(what, 0)


def kill(cluster: ps.LocalCluster, pid: int) -> None:
    """Kill a worker, and wait until that is known."""
    before = count(cluster, "workers_lost")
    os.kill(pid, signal.SIGKILL)
    until(lambda: count(cluster, "workers_lost") > before, "the loss is known")


# --- what it leaves -------------------------------------------------------------------------------


def test_each_worker_has_called_it_once_also_those_that_replace_others_or_come_later() -> None:
    with ps.LocalCluster(2, initializer=jobs.remember, initargs=(1, [2])) as cluster:
        seen = dict(cluster.map(jobs.pid_and_remembered, range(64), chunksize=1))
        old = {worker.pid for worker in cluster.status().workers}
        assert set(seen) <= old
        for pid in old:
            kill(cluster, pid)
        cluster.scale(3)
        cluster.wait_for_workers(3)
        until(
            lambda: (
                seen.update(cluster.map(jobs.pid_and_remembered, range(8)))
                or len(set(seen) - old) == 3
            ),
            "all three have had a job",
        )
        assert all(values == [(1, [2])] for values in seen.values())


def test_its_arguments_are_those_of_the_start_and_the_worker_s_own() -> None:
    rows = np.ones(100_000)
    with ps.LocalCluster(1, initializer=jobs.scale_in_place, initargs=[rows]) as cluster:
        rows[:] = 5
        assert cluster.submit(jobs.total_of_remembered).result(PATIENCE_S) == 200_000
        kill(cluster, cluster.status().workers[0].pid)
        assert cluster.submit(jobs.total_of_remembered).result(PATIENCE_S) == 200_000


SCRIPT = """
    import os, signal
    from concurrent.futures import ProcessPoolExecutor
    import paramserver as ps

    N = 1
    model = None
    table = {"a": 1}

    def start(value):
        global model, factor
        model = value
        factor = N
        table["b"] = os.getpid()

    def work(x):
        return x * factor, model, sorted(table), table["b"] == os.getpid()

    def check(pool):
        assert list(pool.map(work, range(20))) == [
            (x, "m", ["a", "b"], True) for x in range(20)
        ]
        assert (model, table) == (None, {"a": 1})
"""


def test_functions_of_a_script_find_what_its_initializer_has_set_as_in_the_standard_pool(
    tmp_path: Path,
) -> None:
    run(
        tmp_path,
        SCRIPT + "\n"
        "    if __name__ == '__main__':\n"
        "        with ProcessPoolExecutor(2, initializer=start, initargs=('m',)) as pool:\n"
        "            check(pool)\n"
        "        with ps.LocalCluster(2, initializer=start, initargs=('m',)) as pool:\n"
        "            check(pool)\n"
        "            for worker in pool.status().workers:\n"
        "                os.kill(worker.pid, signal.SIGKILL)\n"
        "            check(pool)\n"
        "            pool.scale(4)\n"
        "            pool.wait_for_workers(4)\n"
        "            check(pool)\n",
    )


def test_what_a_notebook_defines_anew_is_seen_by_the_next_job(tmp_path: Path) -> None:
    run(
        tmp_path,
        SCRIPT + "\n"
        "    cluster = ps.LocalCluster(2, initializer=start, initargs=('m',))\n"
        "    check(cluster)\n"
        "    N, table = 30, 'what the initializer has changed stays'\n"
        "    def work(x):\n"
        "        return helper(x), model, table['a']\n"
        "    def helper(x):\n"
        "        return x + N\n"
        "    assert cluster.submit(work, 1).result(60) == (31, 'm', 1)\n"
        "    def helper(x):\n"
        "        return x - N\n"
        "    assert cluster.submit(work, 1).result(60) == (-29, 'm', 1)\n"
        "    def count():\n"
        "        global factor\n"
        "        factor += 1\n"
        "        return factor\n"
        "    # What a job itself sets is gone with it, whoever runs the next one.\n"
        "    assert [cluster.submit(count).result(60) for _ in range(6)] == [2] * 6\n"
        "    # Two clusters have nothing in common.\n"
        "    table = {'a': 1}\n"
        "    with ps.LocalCluster(1, initializer=start, initargs=('other',)) as other:\n"
        "        assert other.submit(work, 1).result(60) == (-29, 'other', 1)\n"
        "        assert cluster.submit(work, 1).result(60) == (-29, 'm', 1)\n"
        "    with ps.LocalCluster(1) as plain:\n"
        "        assert plain.submit(lambda: (model, N)).result(60) == (None, 30)\n"
        "    cluster.shutdown()\n",
    )


# --- where it fails -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("initializer", "argument", "words"),
    [(jobs.fail, "no such model", "ValueError: no such model"), (jobs.leave, 3, "SystemExit: 3")],
)
def test_one_that_raises_ends_the_start_with_its_traceback(
    initializer: Callable[[Any], None], argument: Any, words: str
) -> None:
    with pytest.raises(InitializerFailed) as caught:
        ps.LocalCluster(3, initializer=initializer, initargs=(argument,))
    error = caught.value
    assert isinstance(error, LaunchFailed)
    assert isinstance(error, RuntimeError), "as BrokenProcessPool is"
    assert words in str(error)
    assert words in error.stderr_tail
    assert f"in {initializer.__name__}\n" in error.stderr_tail
    assert error.exit_code == 76


def test_what_cannot_be_called_or_sent_is_refused_before_anything_is_started() -> None:
    with pytest.raises(TypeError, match="initializer must be a callable, not 3"):
        ps.LocalCluster(1, initializer=3)  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="the initializer cannot be pickled"):
        ps.LocalCluster(1, initializer=jobs.remember, initargs=(threading.Lock(),))
    future: Future[int] = Future()
    with pytest.raises(LocalProtocolError, match="was handed a future"):
        ps.LocalCluster(1, initializer=jobs.remember, initargs=(future,))
    for n in (0, -1, 1.5, "2"):
        with pytest.raises(ConfigError, match="max_tasks_per_child must be a whole number, 1 or"):
            ps.LocalCluster(1, max_tasks_per_child=n)  # type: ignore[arg-type]


def test_one_that_raises_later_costs_that_worker_and_not_the_others(tmp_path: Path) -> None:
    bar = tmp_path / "bar"
    with ps.LocalCluster(1, initializer=jobs.fail_while_there, initargs=(str(bar),)) as cluster:
        agent = cluster._parts.agent
        assert agent is not None
        bar.touch()
        cluster.scale(2)
        with pytest.raises(InitializerFailed, match="bar is in the way"):
            cluster.wait_for_workers(2, PATIENCE_S)
        assert cluster.submit(jobs.remembered).result(PATIENCE_S) == [str(bar)]
        with pytest.raises(InitializerFailed):
            cluster.wait_for_workers(2, PATIENCE_S)
        bar.unlink()
        until(lambda: agent.launch_failure() is None, "the next one has come up")
        cluster.wait_for_workers(2, PATIENCE_S)


def test_jobs_that_wait_for_a_worker_in_the_making_run_on_it_and_a_shutdown_ends_it_at_once(
    tmp_path: Path,
) -> None:
    bar, end = tmp_path / "bar", tmp_path / "end"
    waiting = (str(bar), str(end))
    with ps.LocalCluster(1, initializer=jobs.wait_if_there, initargs=waiting) as cluster:
        agent = cluster._parts.agent
        assert agent is not None
        bar.touch()
        kill(cluster, cluster.status().workers[0].pid)
        future = cluster.submit(pow, 2, 3)
        until(lambda: not bar.exists(), "the next worker is being initialized")
        assert not future.done()
        end.touch()
        assert future.result(PATIENCE_S) == 8

        end.unlink()
        bar.touch()
        cluster.scale(2)
        until(lambda: not bar.exists(), "one more is being initialized")
        (name,) = agent.starting()
    death = agent.death(name)
    assert death is not None
    assert death.killed_for == "it is not needed any more"


def test_a_process_that_it_forks_does_not_become_a_worker() -> None:
    with ps.LocalCluster(1, initializer=jobs.fork) as cluster:
        assert cluster.submit(jobs.remembered).result(PATIENCE_S) == [0]
        assert len(cluster.status().workers) == 1


# --- how long a worker stays ----------------------------------------------------------------------


def test_a_worker_leaves_after_its_number_of_jobs_and_nothing_counts_as_lost() -> None:
    started: dict[str, Any] = {"initializer": jobs.remember, "initargs": ("hello",)}
    with ps.LocalCluster(2, max_tasks_per_child=3, **started) as cluster:
        ran = list(cluster.map(jobs.pid_and_remembered, range(14), chunksize=1))
        assert all(values == [("hello",)] for _, values in ran)
        pids = [pid for pid, _ in ran]
        counts = [pids.count(pid) for pid in set(pids)]
        assert max(counts) == 3
        n_used_up = counts.count(3)
        until(lambda: count(cluster, "workers_left") == n_used_up, "those that did theirs leave")
        assert count(cluster, "workers_lost") == count(cluster, "quarantines") == 0
        cluster.wait_for_workers(2, PATIENCE_S)


def test_long_jobs_may_each_have_a_process_of_their_own() -> None:
    with ps.LocalCluster(1, max_tasks_per_child=1) as cluster:
        pids = [cluster.submit(jobs.nap, 0.03).result(PATIENCE_S) for _ in range(2)]
    assert len(set(pids)) == 2
