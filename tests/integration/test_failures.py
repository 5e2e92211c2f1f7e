"""Workers die, stop, hang, run out of memory and lie; the results are exact all the same.

All on one cluster of ten workers, which has to be as good as new after each test.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, wait
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest

import paramserver as ps
from paramserver.cluster import Cluster
from paramserver.errors import JobTimeout, PoisonJob
from paramserver.protocol import codec
from paramserver.protocol.messages import Envelope, Hello, Refused, Welcome
from paramserver.runtime.plan import Call, PhaseCalls
from paramserver.runtime.release import release
from paramserver.runtime.status import WorkerStatus
from paramserver.transport import unix_master
from paramserver.transport.base import WorkerTransport
from paramserver.transport.unix_worker import UnixWorkerTransport
from tests import leaks
from tests.integration import failing_jobs as jobs
from tests.integration.scripts import until

N = 10
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[ps.LocalCluster]:
    before = leaks.World.now()
    with ps.LocalCluster(N) as cluster:
        yield cluster
    assert leaks.left_behind(before) == []


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(cluster: ps.LocalCluster) -> Iterator[None]:
    """Replaces the check around each test: here workers come and go. See `cluster`."""
    yield
    cluster.wait_for_workers(N)
    assert cluster.submit(abs, -1).result(PATIENCE_S) == 1
    status = cluster.status()
    assert {worker.state for worker in status.workers} == {"ready"}
    assert sum(status.jobs[state] for state in ("waiting", "ready", "granted")) == 0


def counters(cluster: ps.LocalCluster) -> Counter[str]:
    return Counter(cluster.status().counters)


def workers(cluster: ps.LocalCluster, *, busy: bool) -> list[WorkerStatus]:
    return [w for w in cluster.status().workers if (w.job is not None) == busy]


def executions(folder: Path) -> dict[int, int]:
    """How often each job has been begun."""
    return {
        int(path.name.removeprefix("job-")): len(path.read_text().splitlines())
        for path in folder.glob("job-*")
    }


def results(futures: list[Future[Any]]) -> list[Any]:
    return [future.result(PATIENCE_S) for future in futures]


# --- death ----------------------------------------------------------------------------------------


def test_an_idle_worker_is_killed_and_replaced(cluster: ps.LocalCluster) -> None:
    until(lambda: len(workers(cluster, busy=False)) == N, "all are idle")
    before = counters(cluster)
    victim = cluster.status().workers[3]
    os.kill(victim.pid, signal.SIGKILL)
    until(
        lambda: victim.worker_id not in {w.worker_id for w in cluster.status().workers},
        "its loss is noticed",
    )
    assert results([cluster.submit(pow, k, 2) for k in range(50)]) == [k * k for k in range(50)]
    cluster.wait_for_workers(N)
    assert counters(cluster)["workers_lost"] == before["workers_lost"] + 1


def test_a_killed_job_runs_again_and_no_other_does(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    before = counters(cluster)
    futures = [cluster.submit(jobs.wait_for, str(tmp_path), k, "key") for k in range(N)]
    until(lambda: len(executions(tmp_path)) == N, "all run")
    os.kill(int((tmp_path / "job-4").read_text()), signal.SIGKILL)
    until(lambda: executions(tmp_path)[4] == 2, "it runs again")
    (tmp_path / "key").touch()
    assert results(futures) == [k * k for k in range(N)]
    assert executions(tmp_path) == {k: 2 if k == 4 else 1 for k in range(N)}
    after = counters(cluster) - before
    assert after["workers_lost"] == 1
    # Once for the loss; once more where it was put behind a job that had only just begun.
    assert after["attempts"] - N == after["requeued"] in (1, 2)


def test_all_workers_are_killed_and_others_finish_the_work(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    futures = [cluster.submit(jobs.square_slowly, str(tmp_path), k, 0.05) for k in range(60)]
    until(lambda: len(executions(tmp_path)) >= N, "all run")
    pids = {worker.pid for worker in cluster.status().workers}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert results(futures) == [k * k for k in range(60)]
    assert sum(executions(tmp_path).values()) <= 60 + len(pids)


def test_a_result_that_was_sent_before_the_death_counts_once(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    before = counters(cluster)
    release_master = threading.Event()
    stall = threading.Thread(
        target=cluster._parts.master.ask, args=[lambda _: release_master.wait(PATIENCE_S)]
    )
    futures = [cluster.submit(jobs.wait_for, str(tmp_path), k, "key") for k in range(N)]
    until(lambda: len(executions(tmp_path)) == N, "all run")
    pid = int((tmp_path / "job-2").read_text())
    stall.start()  # from now on the master hears nothing
    try:
        (tmp_path / "key").touch()
        until(lambda: is_asleep(pid), "the worker has nothing more to do")
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in cluster._parts.agent.live().values(), "it is reaped")  # type: ignore[union-attr]
    finally:
        release_master.set()
        stall.join()
    assert results(futures) == [k * k for k in range(N)]
    assert executions(tmp_path)[2] == 1, "a result that had arrived was computed again"
    after = counters(cluster) - before
    assert after["workers_lost"] == 1


def is_asleep(pid: int, looks: int = 5) -> bool:
    """Whether every thread of a process sleeps, at several looks."""
    for _ in range(looks):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        if any((task / "stat").read_text().rpartition(")")[2].split()[0] != "S" for task in tasks):
            return False
        time.sleep(0.01)
    return True


def test_a_job_that_was_granted_but_never_begun_is_charged_nothing(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    until(lambda: len(workers(cluster, busy=False)) == N, "all are idle")
    stopped = [worker.pid for worker in cluster.status().workers]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    future = cluster.submit(jobs.square_slowly, str(tmp_path), 3, 0.0)
    n_killed = 0
    try:
        while n_killed < 5 and not future.done():
            holders = [w for w in cluster.status().workers if w.n_held and w.pid in stopped]
            if holders:
                os.kill(holders[0].pid, signal.SIGKILL)
                stopped.remove(holders[0].pid)
                n_killed += 1
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert future.result(PATIENCE_S) == 9
    assert n_killed >= 1
    assert executions(tmp_path) == {3: 1}


@pytest.mark.parametrize("seed", [1, 2])
def test_workers_are_killed_at_random_and_every_result_is_exact(
    cluster: ps.LocalCluster, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    before = counters(cluster)
    futures = [
        cluster.submit(jobs.square_slowly, str(tmp_path), k, rng.uniform(0, 0.06))
        for k in range(400)
    ]
    n_killed = kill_at_random(cluster, rng, futures)
    assert results(futures) == [k * k for k in range(400)]
    after = counters(cluster) - before
    assert after["workers_lost"] == n_killed
    assert 400 <= after["attempts"] <= 400 + 128 * n_killed
    # Of each killed worker the job that ran, and one shorter than a millisecond before it.
    assert sum(executions(tmp_path).values()) <= 400 + 2 * n_killed


class Killer:
    """Kills workers at any moment, but no third one under the same job.

    That job would be taken for the cause (`PoisonJob`), and rightly: nobody could tell.
    """

    def __init__(self, cluster: ps.LocalCluster, rng: random.Random) -> None:
        self.n_killed = 0
        self._cluster = cluster
        self._rng = rng
        self._struck: Counter[int] = Counter()

    def strike(self) -> None:
        """Kill one of the workers, if enough are there; return when the master knows."""
        alive = self._cluster.status().workers
        if len(alive) <= 2:
            return
        victim = self._rng.choice(alive)
        job = self._freeze(victim)
        if job is not None and self._struck[job] == 2:
            os.kill(victim.pid, signal.SIGCONT)
            return
        lost = counters(self._cluster)["workers_lost"]
        os.kill(victim.pid, signal.SIGKILL)
        self.n_killed += 1
        if job is not None:
            self._struck[job] += 1
        until(lambda: counters(self._cluster)["workers_lost"] > lost, "the loss is known")

    def _freeze(self, victim: WorkerStatus) -> int | None:
        """Stop a worker where it is; return the job that it is in the middle of."""
        agent = self._cluster._parts.agent
        assert agent is not None
        os.kill(victim.pid, signal.SIGSTOP)
        until(lambda: agent.is_stopped(victim.worker_id), "it is stopped")
        process, _ = agent._processes[victim.worker_id]
        running = process._recorder.running()
        return None if running is None else running[0]


def kill_at_random(cluster: ps.LocalCluster, rng: random.Random, futures: list[Any]) -> int:
    killer = Killer(cluster, rng)
    while killer.n_killed < 8 and wait(futures, rng.uniform(0.0, 0.3)).not_done:
        killer.strike()
    return killer.n_killed


# --- map and reduce -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    rng = random.Random(7)
    words = [bytes(rng.choices(b"abcdefgh", k=rng.randint(1, 4))) for _ in range(3000)]
    lines = [b" ".join(rng.choices(words, k=12)) for _ in range(20_000)]
    path.write_bytes(b"\n".join([*lines, b"dies"]))
    return path


@pytest.mark.parametrize("seed", [3, 4])
def test_word_counts_are_exact_while_workers_are_killed(
    cluster: ps.LocalCluster, text: Path, seed: int
) -> None:
    rng = random.Random(seed)
    stop = threading.Event()
    killer = Killer(cluster, rng)

    def nemesis() -> None:
        while killer.n_killed < 6 and not stop.wait(rng.uniform(0.02, 0.3)):
            killer.strike()

    thread = threading.Thread(target=nemesis)
    thread.start()
    try:
        counts = ps.MapReduce(jobs.count_words, jobs.add).run(text, cluster, n_map=30, n_reduce=60)
    finally:
        stop.set()
        thread.join()
    assert counts == Counter(text.read_bytes().lower().split())
    assert killer.n_killed


def test_the_last_worker_dies_in_a_reduce_job(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIES_ONCE", str(tmp_path / "died"))
    with ps.LocalCluster(1) as lonely:
        counts = ps.MapReduce(jobs.count_words, jobs.add_and_die_once).run(
            text, lonely, n_map=2, n_reduce=3
        )
        assert lonely.status().counters["workers_lost"] == 1
    assert (tmp_path / "died").exists()
    assert counts == Counter(text.read_bytes().lower().split())


def test_a_straggler_gets_a_backup_copy(cluster: ps.LocalCluster, tmp_path: Path) -> None:
    before = counters(cluster)
    calls = [Call(jobs.slow_the_first_time, (str(tmp_path), k)) for k in range(20)]
    begun = time.monotonic()
    [found] = cluster.run_plan([PhaseCalls("work", calls)])
    (tmp_path / "free").touch()
    assert found == [k * k for k in range(20)]
    assert time.monotonic() - begun < 30  # the straggler takes 60
    assert executions(tmp_path)[7] == 2
    assert (counters(cluster) - before)["backups"] >= 1


# --- hanging --------------------------------------------------------------------------------------


def test_a_stopped_worker_goes_on_and_one_that_holds_the_lock_is_left_alone(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    before = counters(cluster)
    deaf = cluster.submit(jobs.hold_the_lock, 6.0)  # longer than any heartbeat
    future = cluster.submit(jobs.square_slowly, str(tmp_path), 3, 1.0)
    until(lambda: executions(tmp_path) == {3: 1}, "it runs")
    pid = int((tmp_path / "job-3").read_text())
    os.kill(pid, signal.SIGSTOP)
    known_long_at = time.monotonic() + 0.1  # from then on nothing is granted behind these two
    until(lambda: time.monotonic() > known_long_at, "both are known to run long")
    others = [cluster.submit(pow, k, 2) for k in range(100)]
    assert results(others) == [k * k for k in range(100)]
    time.sleep(5)  # longer than any heartbeat; there is nothing to wait for
    assert not future.done()
    os.kill(pid, signal.SIGCONT)
    assert future.result(PATIENCE_S) == 9
    assert deaf.result(PATIENCE_S) == "done"
    assert executions(tmp_path) == {3: 1}
    assert (counters(cluster) - before)["workers_lost"] == 0


def test_a_worker_that_is_stopped_for_long_loses_its_work_is_fenced_and_works_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_master, "STOPPED_S", 0.0)
    monkeypatch.setattr(unix_master, "_LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(Cluster, "_open", partialmethod(Cluster._open, grace_s=0.05))
    with ps.LocalCluster(2) as pair:
        future = pair.submit(jobs.wait_for, str(tmp_path), 4, "key")
        until(lambda: executions(tmp_path) == {4: 1}, "it runs")
        pid = int((tmp_path / "job-4").read_text())
        os.kill(pid, signal.SIGSTOP)
        until(lambda: executions(tmp_path) == {4: 2}, "it was given to the other worker")
        os.kill(pid, signal.SIGCONT)
        (tmp_path / "key").touch()  # now both end it, and one result counts
        assert future.result(PATIENCE_S) == 16
        until(lambda: pid in {w.pid for w in pair.status().workers}, "it has come back")
        assert {w.state for w in pair.status().workers} == {"ready"}
        found = counters(pair)
        assert (found["attempts"], found["workers_lost"], found["workers_joined"]) == (2, 1, 3)
        assert found["unknown"] >= 1, "it was not fenced"
        both = [pair.submit(jobs.wait_for, str(tmp_path), k, "key to both") for k in (5, 6)]
        until(lambda: executions(tmp_path) == {4: 2, 5: 1, 6: 1}, "each of them has one")
        assert str(pid) in [(tmp_path / f"job-{k}").read_text().strip() for k in (5, 6)]
        (tmp_path / "key to both").touch()
        assert results(both) == [25, 36]


def test_what_a_deaf_worker_holds_is_run_elsewhere_if_it_may_run_twice(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    pure = cluster.with_options(pure=True)
    results([pure.submit(pow, k, 2) for k in range(500)])  # so short that many are granted at once
    blockers = [cluster.submit(jobs.wait_for, str(tmp_path), k, "free") for k in range(N)]
    until(lambda: len(executions(tmp_path)) == N, "all are busy")
    before = counters(cluster)
    others = [pure.submit(pow, k, 2) for k in range(300)]
    deaf = pure.submit(jobs.hold_the_lock, 6.0)
    others += [pure.submit(pow, k, 2) for k in range(300, 600)]  # about thirty of them behind it
    (tmp_path / "free").touch()
    assert results(others) == [k * k for k in range(600)]
    assert not deaf.done()
    assert results(blockers) == [k * k for k in range(N)]
    found = counters(cluster) - before
    assert found["backups"] >= 1
    assert found["workers_lost"] == 0
    assert deaf.result(PATIENCE_S) == "done"


def test_a_stopped_worker_loses_its_job_at_the_deadline(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    before = counters(cluster)
    future = cluster.with_options(timeout_s=1.0).submit(jobs.square_slowly, str(tmp_path), 3, 0.2)
    until(lambda: executions(tmp_path) == {3: 1}, "it runs")
    os.kill(int((tmp_path / "job-3").read_text()), signal.SIGSTOP)
    assert future.result(PATIENCE_S) == 9
    assert executions(tmp_path) == {3: 2}
    assert (counters(cluster) - before)["timeouts"] == 1


def test_an_endless_job_fails_alone_after_its_tries(cluster: ps.LocalCluster) -> None:
    view = cluster.with_options(timeout_s=0.3)
    endless, fine = view.submit(jobs.spin), view.submit(pow, 3, 2)
    error = endless.exception(PATIENCE_S)
    assert isinstance(error, JobTimeout)
    assert (error.timeout_s, error.attempts) == (0.3, 2)
    assert fine.result(PATIENCE_S) == 9


# --- jobs that kill -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "args", "code"),
    [
        (jobs.leave, (3,), 3),
        (jobs.crash, (), -signal.SIGSEGV),
        (jobs.kill_myself, (), -signal.SIGKILL),
        (jobs.close_descriptors, (), 1),
    ],
)
def test_a_job_that_always_kills_its_worker_fails_alone(
    cluster: ps.LocalCluster, act: Any, args: tuple[int, ...], code: int
) -> None:
    before = counters(cluster)
    poison = cluster.submit(act, *args)
    fine = [cluster.submit(pow, k, 2) for k in range(200)]
    error = poison.exception(PATIENCE_S)
    assert isinstance(error, PoisonJob)
    assert (error.exit_code, error.attempts) == (code, 3)
    assert results(fine) == [k * k for k in range(200)]
    assert (counters(cluster) - before)["workers_lost"] == 3


def test_how_many_workers_a_job_may_lose_is_said_by_the_user(cluster: ps.LocalCluster) -> None:
    program = ps.MapReduce(jobs.leave, sum)
    error = cluster.with_options(max_lost=1).submit(jobs.leave, 3).exception(PATIENCE_S)
    with pytest.raises(PoisonJob, match=r"max_lost=\.\.\.") as caught:
        program.run([3], cluster, n_map=1, n_reduce=1, max_lost=2)
    assert isinstance(error, PoisonJob)
    assert (error.exit_code, error.attempts) == (3, 1)
    assert (caught.value.exit_code, caught.value.attempts) == (3, 2)


def test_a_job_that_needs_too_much_memory_gets_an_error(cluster: ps.LocalCluster) -> None:
    with ps.LocalCluster(1, memory_limit_bytes=2_000_000_000) as small:
        error = small.submit(jobs.take_memory, 3_000_000_000).exception(PATIENCE_S)
        assert isinstance(error, MemoryError)
        assert small.submit(jobs.take_memory, 1_000_000).result(PATIENCE_S) == 1_000_000
        assert small.status().counters.get("workers_lost", 0) == 0


def test_cancelling_running_jobs_again_and_again_costs_no_patience(tmp_path: Path) -> None:
    with ps.LocalCluster(1) as lonely:
        for k in range(6):  # none of these workers has ever ended a job
            future = lonely.submit(jobs.wait_for, str(tmp_path), k, "never")
            begun = time.monotonic()
            until(lambda k=k: k in executions(tmp_path), "it runs")
            assert time.monotonic() - begun < 5
            assert lonely.cancel(future)
        assert lonely.submit(abs, -1).result(PATIENCE_S) == 1


# --- leaving --------------------------------------------------------------------------------------


def test_a_worker_that_is_told_to_end_finishes_its_job(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    before = counters(cluster)
    futures = [cluster.submit(jobs.wait_for, str(tmp_path), k, "key") for k in range(3 * N)]
    until(lambda: len(executions(tmp_path)) == N, "all run")
    for k in range(3):
        os.kill(int((tmp_path / f"job-{k}").read_text()), signal.SIGTERM)
    until(
        lambda: [w.state for w in cluster.status().workers].count("draining") == 3,
        "they have said that they leave",
    )
    (tmp_path / "key").touch()
    assert results(futures) == [k * k for k in range(3 * N)]
    assert executions(tmp_path) == dict.fromkeys(range(3 * N), 1)
    after = counters(cluster) - before
    assert (after["workers_lost"], after["workers_left"]) == (0, 3)


def test_workers_that_join_while_the_cluster_ends_hold_nobody_up(tmp_path: Path) -> None:
    begun = time.monotonic()
    with ps.LocalCluster(1) as cluster:
        future = cluster.submit(pow, 3, 2)
        cluster.scale(5)
    assert future.result(0) == 9
    assert time.monotonic() - begun < 10


def test_a_large_result_does_not_wait_for_the_job_behind_it(tmp_path: Path) -> None:
    """No thread but the one that is held could send what the kernel had no room for at first."""
    with ps.LocalCluster(1) as lonely:
        for _ in range(20):  # so that jobs are granted ahead
            lonely.submit(abs, -1).result(PATIENCE_S)
        large = lonely.submit(bytes, 30_000_000)
        behind = lonely.submit(jobs.hold_the_lock_and_say_so, 2, str(tmp_path / "held"))
        assert len(large.result(PATIENCE_S)) == 30_000_000
        assert not (tmp_path / "held").exists()
        behind.result(PATIENCE_S)


# --- hostile peers --------------------------------------------------------------------------------


def said(peer: WorkerTransport) -> Any:
    """Return the next message of the master."""
    end_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_at:
        if (frames := peer.receive()) is not None:
            return codec.decode(frames, codec.FROM_MASTER)[1]
        peer.poll(0.1)
    raise AssertionError("the master says nothing")


def say(peer: WorkerTransport, *frames: bytes) -> None:
    until(lambda: peer.send(frames).name == "TAKEN", "the connection is there")


def hello(worker_id: str, agent_id: str, token: str) -> list[Any]:
    greeting = Hello(worker_id, agent_id, token, 0, 0, os.getpid(), "", "", release())
    return codec.encode(Envelope("", 0, worker_id, 0, 0, 0), greeting)


def test_who_takes_the_name_of_a_worker_needs_its_secret() -> None:
    with ps.LocalCluster(1) as lonely:
        _take_the_name(lonely)


def _take_the_name(cluster: ps.LocalCluster) -> None:
    before = counters(cluster)
    agent = cluster._parts.agent
    assert agent is not None
    name = cluster.status().workers[0].worker_id
    peer = UnixWorkerTransport.connect(cluster.address)
    try:
        say(peer, *hello(name, agent.agent_id, "not the token"))
        assert isinstance(said(peer), Refused)
        assert name in {worker.worker_id for worker in cluster.status().workers}
        assert (counters(cluster) - before)["unauthenticated"] == 1
        say(peer, *hello(name, agent.agent_id, agent.token))  # a newer life of that worker
        assert isinstance(said(peer), Welcome)
        assert (counters(cluster) - before)["workers_lost"] == 1
        assert [worker.pid for worker in cluster.status().workers] == [os.getpid()]
    finally:
        peer.close()


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_garbage_and_bombs_are_counted_and_nothing_explodes(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    import pickle

    import msgpack

    before = counters(cluster)
    canary = str(tmp_path / "canary")
    bomb = pickle.dumps(Bomb(canary))
    as_numpy = {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": (1,), b"data": bomb}
    prefix = codec.MAGIC + bytes([codec.PROTOCOL_VERSION])
    rubbish = [
        [b"x"],
        [bomb],
        [prefix],
        [prefix + bomb],
        [prefix + msgpack.packb(as_numpy)],
        [prefix + msgpack.packb((1, as_numpy, 1, "w", 1, 1, 1))],
        [prefix + msgpack.packb((2, "r", 1, "w", 1, 1, 1, as_numpy))],
        [prefix + msgpack.packb((99, "r", 1, "w", 1, 1, 1))],
        [prefix + b"\x91" * 600],
        [prefix + bytes(1_000_000)],
        [codec.MAGIC + b"\x07" + bytes(10)],
        [*hello("w", "a", "t"), b"trailing"],
    ]
    peer = UnixWorkerTransport.connect(cluster.address)
    try:
        for frames in rubbish * 20:
            say(peer, *frames)
        until(
            lambda: (counters(cluster) - before)["mismatched"] >= 20 * len(rubbish),
            f"all are counted {counters(cluster) - before}",
        )
    finally:
        peer.close()
    assert not Path(canary).exists()
    assert results([cluster.submit(pow, k, 2) for k in range(20)]) == [k * k for k in range(20)]
