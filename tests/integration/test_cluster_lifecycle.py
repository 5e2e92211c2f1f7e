"""How a cluster begins and ends: whatever the program does, nothing hangs and nothing is left."""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
import time
from concurrent.futures import wait
from functools import partialmethod
from pathlib import Path
from typing import Any

import psutil
import pytest
from zmq.utils import garbage

import paramserver as ps
from paramserver.cluster import Cluster
from paramserver.errors import ClusterClosed, ConfigError, NoWorkers
from paramserver.runtime.plan import Call, PhaseCalls
from paramserver.runtime.plan_run import PlanRun
from paramserver.runtime.scratch import sweep
from paramserver.runtime.worker_process import WorkerProcess
from paramserver.transport import unix_master
from tests.conformance import executor_jobs as jobs
from tests.integration import scripts
from tests.integration.scripts import PATIENCE_S, until

# --- the end of the interpreter -------------------------------------------------------------------


def test_a_script_without_guard_and_without_shutdown_finishes_its_jobs(tmp_path: Path) -> None:
    script = scripts.run(
        tmp_path,
        """
        import time
        import paramserver as ps

        class Oops(Exception):
            def __init__(self, n):
                super().__init__(n)

        def oops(n):
            raise Oops(n)

        def work(word):
            time.sleep(0.3)
            print(word, flush=True)

        cluster = ps.LocalCluster(2)
        try:
            cluster.submit(oops, 3).result()
        except Oops as error:
            print("caught", error.args)
        for word in ("apple", "pear", "plum"):
            future = cluster.submit(work, word)
        future.add_done_callback(lambda future: cluster.submit(work, "last"))
        """,
    )
    assert sorted(script.out.split()) == sorted(["caught", "(3,)", "apple", "pear", "plum", "last"])
    assert script.err == ""


def test_submitting_after_the_end_of_the_interpreter_is_refused(tmp_path: Path) -> None:
    script = scripts.run(
        tmp_path,
        """
        import atexit
        import paramserver as ps

        @atexit.register  # before the cluster registers itself, so called after it has ended
        def submit_late():
            for executor in (cluster, view):
                try:
                    executor.submit(abs, -1)
                except RuntimeError as error:
                    print(str(error)[:42])

        cluster = ps.LocalCluster(1)
        view = cluster.with_options(priority=1)
        """,
    )
    assert script.out.splitlines() == ["cannot schedule new futures after shutdown"] * 2
    assert script.err == ""


def test_a_script_may_leave_at_once_and_the_jobs_still_run(tmp_path: Path) -> None:
    script = scripts.run(
        tmp_path,
        """
        import time
        import paramserver as ps

        cluster = ps.LocalCluster(1)
        cluster.submit(time.sleep, 0.2)
        cluster.submit(print, "apple", flush=True)
        cluster.shutdown(wait=False)
        other = ps.LocalCluster(1)
        other.submit(time.sleep, 0.2)
        never = [other.submit(print, "never", flush=True) for _ in range(3)]
        other.shutdown(wait=False, cancel_futures=True)
        """,
        "-O",
    )
    assert script.out.split() == ["apple"]
    assert script.err == ""


def test_an_error_of_the_script_is_its_error(tmp_path: Path) -> None:
    script = scripts.start(
        tmp_path,
        """
        import paramserver as ps

        with ps.LocalCluster(1) as cluster:
            cluster.submit(abs, -1).result()
            raise ValueError("mine")
        """,
    )
    assert script.wait() == 1
    assert script.err.rstrip().endswith("ValueError: mine")


# --- Ctrl-C ---------------------------------------------------------------------------------------

LONG_JOBS = """
    import os, sys, time
    from pathlib import Path
    import paramserver as ps

    def work(k):
        Path(f"runs-{k}").touch()
        time.sleep(1000)

    """


@pytest.mark.parametrize("with_block", [True, False])
def test_ctrl_c_ends_a_script_with_its_jobs(tmp_path: Path, with_block: bool) -> None:
    block = "with cluster:" if with_block else "if True:"
    script = scripts.start(
        tmp_path,
        LONG_JOBS
        + f"""
    cluster = ps.LocalCluster(2)
    {block}
        futures = [cluster.submit(work, k) for k in range(10)]
        futures[-1].result()
    """,
    )
    for name in ("runs-0", "runs-1"):
        script.wait_for_file(name)
    workers = script.workers()
    begun = time.monotonic()
    script.popen.send_signal(signal.SIGINT)
    assert script.wait() == -signal.SIGINT
    assert time.monotonic() - begun < 5
    assert "KeyboardInterrupt" in script.err
    assert not any(worker.is_running() for worker in workers)
    assert not (tmp_path / "runs-2").exists()


def test_a_second_ctrl_c_does_not_wait_for_anything(tmp_path: Path) -> None:
    script = scripts.start(
        tmp_path,
        LONG_JOBS
        + """
    cluster = ps.LocalCluster(1)
    cluster.submit(work, 0)
    try:
        Path("is-over").touch()
        cluster.shutdown()
    except KeyboardInterrupt:
        Path("first").touch()
    """,
    )
    for name in ("runs-0", "is-over"):
        script.wait_for_file(name)
    script.popen.send_signal(signal.SIGINT)
    script.wait_for_file("first")
    time_begun = time.monotonic()
    until(lambda: script.popen.send_signal(signal.SIGINT) or script.popen.poll() is not None, "end")
    script.wait()
    assert time.monotonic() - time_begun < 5
    sweep()  # what one that was cut off in its last steps has left is for the next start to remove


# As a program of its own: a signal within a destructor is only reported by Python, which pytest
# takes for an error, and one within the tracer of coverage leaves that locked for ever.
def test_ctrl_c_while_jobs_are_handed_in_hangs_nowhere(tmp_path: Path) -> None:
    scripts.run(
        tmp_path,
        """
        import signal
        import threading
        import time
        from concurrent.futures import wait
        import paramserver as ps

        main = threading.main_thread().ident
        begun, sent = threading.Event(), threading.Event()

        def interrupt(after_s):
            begun.wait()
            time.sleep(after_s)
            signal.pthread_kill(main, signal.SIGINT)
            sent.set()

        n_interrupted = 0
        with ps.LocalCluster(1) as cluster:
            for k in range(30):
                begun.clear()
                sent.clear()
                thread = threading.Thread(target=interrupt, args=(0.001 + 0.0007 * k,))
                thread.start()
                futures = []
                try:
                    begun.set()
                    while not sent.is_set():
                        futures.append(cluster.submit(abs, -1))
                    thread.join()
                except KeyboardInterrupt:
                    n_interrupted += 1
                    thread.join()
                assert not wait(futures, 30).not_done
            assert cluster._owner.wait_until_idle(30)
        assert n_interrupted > 10
        """,
    )


def test_a_notebook_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    script = scripts.start(
        tmp_path,
        LONG_JOBS
        + """
    cluster = ps.LocalCluster(2)
    for k in (0, 1):  # two cells, each interrupted
        try:
            cluster.submit(work, k).result()
        except KeyboardInterrupt:
            Path(f"interrupted-{k}").touch()
    pids = {worker.pid for worker in cluster.status().workers}
    assert len(pids) == 2
    cluster.scale(3)
    cluster.wait_for_workers(3)
    print(cluster.submit(abs, -7).result())
    cluster.__exit__(KeyboardInterrupt, None, None)
    """,
    )
    for k in (0, 1):
        script.wait_for_file(f"runs-{k}")
        script.popen.send_signal(signal.SIGINT)
        script.wait_for_file(f"interrupted-{k}")
    assert script.wait() == 0, script.err
    assert script.out.split() == ["7"]


# --- the death of the driver ----------------------------------------------------------------------


def test_no_worker_outlives_a_driver_that_was_killed(tmp_path: Path) -> None:
    script = scripts.start(
        tmp_path,
        LONG_JOBS
        + """
    def hold_the_lock(k):
        import ctypes
        Path(f"runs-{k}").touch()
        ctypes.PyDLL(None).sleep(1000)

    cluster = ps.LocalCluster(3)
    futures = [cluster.submit(work, 0), cluster.submit(hold_the_lock, 1)]
    print(cluster.scratch_folder, flush=True)
    futures[0].result()
    """,
    )
    for k in (0, 1):
        script.wait_for_file(f"runs-{k}")
    workers = script.workers()
    assert len(workers) == 3
    os.kill(workers[2].pid, signal.SIGSTOP)
    script.popen.kill()
    gone, alive = psutil.wait_procs(workers, timeout=2)
    script.wait()
    assert (len(gone), alive) == (3, [])
    leftover = Path(script.out.strip())
    with ps.LocalCluster(1):  # a later start sweeps, if no other program's is about to
        until(lambda: not leftover.exists(), "it is swept")


def test_a_master_that_was_stopped_blames_nobody(tmp_path: Path) -> None:
    script = scripts.start(
        tmp_path,
        """
        import time
        from pathlib import Path
        import paramserver as ps

        def work(k):
            Path(f"runs-{k}").touch()
            time.sleep(0.1)
            return k

        with ps.LocalCluster(4) as cluster:
            view = cluster.with_options(timeout_s=1.0)
            futures = [view.submit(work, k) for k in range(60)]
            assert [future.result() for future in futures] == list(range(60))
            counters = cluster.status().counters
            assert counters.get("workers_lost", 0) == 0, counters
            assert counters["attempts"] == 60, counters
            print(counters.get("master_pauses", 0))
        """,
    )
    script.wait_for_file("runs-3")
    script.popen.send_signal(signal.SIGSTOP)
    time.sleep(3)  # longer than the deadline of every job; nothing to wait for
    script.popen.send_signal(signal.SIGCONT)
    assert script.wait() == 0, script.err
    assert int(script.out) >= 1


# --- forks ----------------------------------------------------------------------------------------


def test_a_forked_process_cannot_use_the_cluster_and_does_it_no_harm(tmp_path: Path) -> None:
    script = scripts.run(
        tmp_path,
        """
        import os, sys, gc
        import paramserver as ps

        cluster = ps.LocalCluster(2)
        view = cluster.with_options(priority=1)

        def use(way):
            try:
                way()
            except RuntimeError as error:
                assert "forked" in str(error), error
            else:
                raise AssertionError(way)

        def in_child(act, code=0):
            pid = os.fork()
            if pid == 0:
                act()
                sys.exit(code)  # atexit runs, as it does after any exit of a script
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code

        def refused():
            use(lambda: cluster.submit(abs, 1))
            use(lambda: view.submit(abs, 1))
            use(lambda: list(cluster.map(abs, [1])))
            use(cluster.status)
            use(lambda: cluster.scale(3))
            use(lambda: cluster.wait_for_workers(1))

        def shut_down():
            with cluster:
                pass
            view.shutdown()
            cluster.shutdown(wait=False, cancel_futures=True)

        def collect():
            global cluster, view
            del cluster, view
            gc.collect()

        def nested():
            with ps.LocalCluster(1) as mine:
                assert mine.submit(abs, -5).result() == 5

        pending = cluster.submit(pow, 2, 5)
        if os.environ.get("PARENT") is None:
            for act in (refused, shut_down, collect, nested):
                in_child(act)
                assert cluster.submit(abs, -3).result() == 3
            in_child(lambda: None, code=4)
        pid = os.fork()  # one that comes back to the end of the script
        if pid:
            os.waitpid(pid, 0)
            assert pending.result() == 32
            with cluster:
                print(cluster.submit(abs, -7).result())
            assert cluster.scratch_folder.exists() is False
        """,
    )
    assert script.out.split() == ["7"]


def test_multiprocessing_works_beside_a_cluster(tmp_path: Path) -> None:
    script = scripts.run(
        tmp_path,
        """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        import paramserver as ps

        with ps.LocalCluster(1) as cluster:
            with multiprocessing.get_context("fork").Pool(2) as pool:
                assert pool.map(abs, [-1, -2]) == [1, 2]
            with ProcessPoolExecutor(2) as pool:
                assert list(pool.map(abs, [-1, -2])) == [1, 2]
            print(cluster.submit(abs, -7).result())
        """,
    )
    assert script.out.split() == ["7"]


# --- shutdown -------------------------------------------------------------------------------------


def test_shutdown_waits_for_the_jobs() -> None:
    cluster = ps.LocalCluster(2)
    futures = [cluster.submit(time.sleep, 0.05) for _ in range(20)]
    cluster.shutdown()
    assert all(future.done() and future.exception() is None for future in futures)


def test_shutdown_without_waiting_finishes_the_jobs_all_the_same(tmp_path: Path) -> None:
    cluster = ps.LocalCluster(1)
    gate = cluster.submit(jobs.touch_and_wait, str(tmp_path / "runs"), str(tmp_path / "key"))
    futures = [gate, *(cluster.submit(abs, -n) for n in range(6))]
    cluster.shutdown(wait=False)
    with pytest.raises(ClusterClosed):
        cluster.submit(abs, 1)
    assert not any(future.done() for future in futures)
    (tmp_path / "key").touch()
    assert not wait(futures, PATIENCE_S).not_done
    assert all(future.exception() is None for future in futures)
    cluster.shutdown()  # waits for the first one
    assert not cluster.scratch_folder.exists()


@pytest.mark.parametrize("wait_for_end", [True, False])
def test_shutdown_that_cancels_leaves_no_future_pending(tmp_path: Path, wait_for_end: bool) -> None:
    cluster = ps.LocalCluster(1)
    gate = cluster.submit(jobs.touch_and_wait, str(tmp_path / "runs"), str(tmp_path / "key"))
    until((tmp_path / "runs").exists, "the first job runs")
    view = cluster.with_options(timeout_s=60.0)
    futures = [view.submit(jobs.touch, str(tmp_path / "never")) for _ in range(50)]
    threading.Timer(0.1, (tmp_path / "key").touch).start()
    cluster.shutdown(wait=wait_for_end, cancel_futures=True)
    pending = wait([gate, *futures], PATIENCE_S).not_done
    assert not pending
    assert gate.result() == "waited"
    assert all(future.cancelled() for future in futures)
    assert not (tmp_path / "never").exists()
    cluster.shutdown()


def test_shutdown_in_a_callback_and_after_a_cancelled_job() -> None:
    cluster = ps.LocalCluster(1)
    future = cluster.submit(time.sleep, 0.05)
    future.add_done_callback(lambda _: cluster.shutdown(wait=True))
    future.result(PATIENCE_S)
    cluster.shutdown()
    cluster = ps.LocalCluster(1)
    cluster.submit(int).cancel()
    cluster.shutdown()


def test_a_cluster_that_is_collected_finishes_its_jobs_and_ends() -> None:
    cluster = ps.LocalCluster(1)
    folder = cluster.scratch_folder
    futures = [cluster.submit(time.sleep, 0.05) for _ in range(4)]
    results = cluster.map(abs, range(5))
    del cluster
    gc.collect()
    assert list(results) == list(range(5))
    assert not wait(futures, PATIENCE_S).not_done
    del results
    gc.collect()
    until(lambda: not folder.exists(), "the cluster has ended")


def test_a_view_keeps_its_cluster() -> None:
    view = ps.LocalCluster(1).with_options(priority=1)
    gc.collect()
    assert view.submit(abs, -1).result(PATIENCE_S) == 1
    folder = view._parent.scratch_folder  # type: ignore[union-attr]
    del view
    gc.collect()
    until(lambda: not folder.exists(), "the cluster has ended")


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), ValueError()])
def test_a_with_block_that_is_left_by_an_error_waits_for_its_jobs(error: BaseException) -> None:
    with pytest.raises(type(error)), ps.LocalCluster(1) as cluster:  # noqa: PT012
        futures = [cluster.submit(time.sleep, 0.05) for _ in range(4)]
        raise error
    assert all(future.exception(0) is None for future in futures)


# --- size -----------------------------------------------------------------------------------------


def test_a_cluster_is_scaled_up_and_down_while_it_works() -> None:
    def pids() -> set[int]:
        return {worker.pid for worker in cluster.status().workers}

    def children() -> set[int]:
        return {child.pid for child in psutil.Process().children()} - others

    others: set[int] = set()  # of other tests, such as pools that are kept for the next call
    others = children()
    with ps.LocalCluster(1) as cluster:
        futures = [cluster.submit(time.sleep, 0.01) for _ in range(100)]
        first = pids()
        cluster.scale(4)
        cluster.wait_for_workers(4)
        assert first < pids()
        cluster.scale(1)
        until(lambda: pids() == first, "the newest workers have left")
        cluster.scale(6)
        cluster.scale(2)  # while they are starting
        cluster.wait_for_workers(2)
        until(lambda: len(children()) == 2, "those too many are gone")
        assert not wait(futures, PATIENCE_S).not_done
        counters = cluster.status().counters
        assert counters.get("workers_lost", 0) == 0
        assert cluster.n_workers == 2


def test_jobs_without_workers_wait_and_then_say_so() -> None:
    with ps.LocalCluster(1, no_workers_timeout_s=1.5) as cluster:
        cluster.scale(0)
        until(lambda: cluster.n_workers == 0, "the worker has left")
        cancelled = cluster.submit(abs, -1)
        cancelled.cancel()
        error = cluster.submit(abs, -1).exception(PATIENCE_S)
        assert isinstance(error, NoWorkers)
        assert "cluster.scale" in str(error)
        assert not wait([cancelled], PATIENCE_S).not_done
        with pytest.raises(NoWorkers, match="0 of 1"):
            cluster.wait_for_workers(1, timeout_s=0.1)
        # From here on a worker has to come in time, on a busy machine, too.
        cluster._master.ask(lambda machine: setattr(machine._loneliness, "_timeout_s", PATIENCE_S))
        future = cluster.submit(abs, -1)
        cluster.scale(1)
        assert future.result(PATIENCE_S) == 1
        cluster.submit(abs, -1).cancel()
        cluster.scale(0)


def test_patience_without_end_is_allowed() -> None:
    with ps.LocalCluster(1, no_workers_timeout_s=float("inf"), transport="zeromq") as cluster:
        cluster.scale(0)
        until(lambda: cluster.n_workers == 0, "the worker has left")
        future = cluster.submit(abs, -1)
        until(lambda: cluster.status().jobs["ready"] == 1, "the job waits")
        cluster.scale(1)
        assert future.result(PATIENCE_S) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"no_workers_timeout_s": "long"},
        {"no_workers_timeout_s": None},
        {"no_workers_timeout_s": float("nan")},
        {"start_timeout_s": -1},
        {"blas_threads": 0},
        {"memory_limit_bytes": 1.5e9},
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_started(
    settings: dict[str, Any],
) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(settings))} must be a"):
        ps.LocalCluster(1, **settings)


def test_a_plan_for_a_closed_cluster_is_refused() -> None:
    with ps.LocalCluster(1) as cluster:
        pass
    with pytest.raises(ClusterClosed):
        cluster.run_plan([PhaseCalls("late", [Call(abs, (-1,))])])


def test_a_plan_that_is_handed_to_a_master_that_ends_is_told_so() -> None:
    with ps.LocalCluster(1) as cluster:
        run = PlanRun(
            cluster._master,
            cluster.internals().next_job,
            cluster.internals().next_phase,
            trusted=True,
            make_error=lambda ended: AssertionError(ended),
        )
    with pytest.raises(ClusterClosed):
        run.run([PhaseCalls("late", [Call(abs, (-1,))])])


def test_a_local_cluster_goes_over_zeromq_where_asked() -> None:
    with ps.LocalCluster(1, transport="zeromq") as cluster:
        assert cluster.address.startswith("ipc://")
        assert cluster.trusted
        assert list(cluster.map(abs, range(-1000, 0))) == list(range(1000, 0, -1))
        block = bytes(3_000_000)
        assert cluster.submit(bytes.__add__, block, b"1").result(PATIENCE_S) == block + b"1"
        os.kill(cluster.submit(os.getpid).result(PATIENCE_S), signal.SIGKILL)
        assert cluster.submit(abs, -1).result(PATIENCE_S) == 1
        assert cluster.status().counters["workers_lost"] == 1
    garbage.gc.stop()  # the thread that pyzmq starts, once in a process, for large frames


def test_a_transport_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="'auto', 'unix' or 'zeromq', not 'pigeons'"):
        ps.LocalCluster(1, transport="pigeons")


@pytest.mark.parametrize("n", [0, -1, 2.5, "3", float("nan")])
def test_numbers_of_workers_that_make_no_sense_are_refused(n: int) -> None:
    with pytest.raises(ConfigError, match="n_workers must be a whole number, 1 or more"):
        ps.LocalCluster(n)


# --- workers that are stopped before they have come up --------------------------------------------


class Halting(WorkerProcess):
    """The first of them is stopped at birth, as by `kill -STOP`."""

    n_made = 0

    def __init__(self, *who: Any) -> None:
        super().__init__(*who)
        if Halting.n_made == 0:
            os.kill(self.pid, signal.SIGSTOP)
        Halting.n_made += 1


def test_a_worker_that_is_stopped_before_it_has_come_up_is_replaced_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("paramserver.runtime.agent.WorkerProcess", Halting)
    monkeypatch.setattr(Halting, "n_made", 0)
    monkeypatch.setattr("paramserver.core.starting.LOOK_EVERY_S", 0.1)
    with ps.LocalCluster(2) as cluster:
        names = sorted(w.worker_id for w in cluster.status().workers)
        assert cluster.submit(pow, 2, 3).result() == 8
    agent_id = names[0].rpartition("-")[0]
    assert names == [f"{agent_id}-1", f"{agent_id}-2"]
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert re.fullmatch(
        rf"paramserver: worker {agent_id}-0 \(process \d+\) is replaced: it was stopped "
        r"\(SIGSTOP\) before it had come up",
        said[0],
    )


def test_a_worker_that_is_given_up_since_it_is_stopped_is_named_with_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(unix_master, "STOPPED_S", 0.0)
    monkeypatch.setattr(unix_master, "_LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(Cluster, "_open", partialmethod(Cluster._open, grace_s=0.05))
    said = ""
    with ps.LocalCluster(2) as cluster:
        stopped = cluster.status().workers[0]
        os.kill(stopped.pid, signal.SIGSTOP)
        until(lambda: cluster.n_workers == 1, "it is given up")

        def is_said() -> bool:
            nonlocal said
            said += capfd.readouterr().err
            return said.endswith("\n")

        until(is_said, "that is said")
        os.kill(stopped.pid, signal.SIGCONT)
        cluster.wait_for_workers(2, PATIENCE_S)  # it works on
        assert stopped.worker_id in {w.worker_id for w in cluster.status().workers}
    assert said == (
        f"paramserver: worker {stopped.worker_id} (process {stopped.pid}) is stopped (SIGSTOP): "
        f"what it held was given to others. To let it work on: kill -CONT {stopped.pid}; to have "
        f"it replaced: kill -KILL {stopped.pid}\n"
    )


def test_who_does_not_come_up_is_named_while_it_is_waited_for_and_when_it_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("paramserver.runtime.agent.WorkerProcess", Halting)
    monkeypatch.setattr(Halting, "n_made", 0)
    monkeypatch.setattr("paramserver.core.starting.LOOK_EVERY_S", 1_000.0)
    monkeypatch.setattr("paramserver.runtime.membership.REMIND_S", 1.0)
    named = r"Started, and not heard of yet: local\d+-0 \(process \d+\)\."
    with pytest.raises(NoWorkers, match=rf"0 of 1 workers were there after 1.5 s\. {named}"):
        ps.LocalCluster(1, start_timeout_s=1.5)
    (said,) = capfd.readouterr().err.splitlines()
    assert re.fullmatch(rf"paramserver: 0 of 1 workers are there\. {named}", said)
