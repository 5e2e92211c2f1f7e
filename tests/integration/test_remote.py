"""Workers on another machine: real agents and workers over TCP, and what may go wrong with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zmq

from paramserver.cluster import Cluster
from paramserver.core.events import JobsSubmitted
from paramserver.core.jobs import JobSpec
from paramserver.errors import (
    AuthenticationFailed,
    ClusterError,
    JobFailed,
    JobTimeout,
    LocalProtocolError,
    NoWorkers,
    PoisonJob,
)
from paramserver.mapreduce import MapReduce
from paramserver.protocol import calls, codec
from paramserver.protocol.arrays import pack_plain
from paramserver.protocol.messages import (
    Envelope,
    Fenced,
    GrantJobs,
    Hello,
    JobProgressed,
    JobResult,
    JobsEnded,
    Outcome,
    Payload,
    PayloadKind,
    ProcessExited,
    Refused,
)
from paramserver.runtime.futures import JobFuture
from paramserver.runtime.plan import Call, PhaseCalls
from paramserver.runtime.release import release
from paramserver.transport.security import load_worker_keys
from tests.integration import remote_jobs as jobs
from tests.integration.far_worker import FAR_AGENT
from tests.integration.remote import PATIENCE_S, ROOT, AgentProcess, Puppet, Wire, wait_until

pytestmark = pytest.mark.usefixtures("no_lending_thread")

GRACE_S = 0.5
StartAgent = Callable[..., AgentProcess]


@pytest.fixture
def cluster(keys: Path) -> Iterator[Cluster]:
    with listening(keys) as cluster:
        yield cluster


def listening(keys: Path, **options: Any) -> Cluster:
    settings: dict[str, Any] = {"grace_s": GRACE_S, "verbose": False} | options
    return Cluster("tcp://127.0.0.1:0", keys, **settings)


@pytest.fixture
def agents(keys: Path) -> Iterator[StartAgent]:
    """Start agents; those that are left are killed."""
    with ExitStack() as stack:

        def start(cluster: Cluster, n_workers: int = 1, *options: str, **how: Any) -> AgentProcess:
            agent = AgentProcess(cluster.address, keys, n_workers, *options, **how)
            return stack.enter_context(agent)

        yield start


def pid_of(cluster: Cluster, worker_id: str) -> int:
    return next(w.pid for w in cluster.status().workers if w.worker_id == worker_id)


def pids(cluster: Cluster) -> set[int]:
    return {worker.pid for worker in cluster.status().workers}


# --- what works there as it does here -------------------------------------------------------------


def test_functions_of_modules_run_by_name_and_results_are_plain(
    cluster: Cluster, agents: StartAgent
) -> None:
    agents(cluster, 2)
    cluster.wait_for_workers(2, PATIENCE_S)
    assert cluster.submit(jobs.add, 1, b=2).result(PATIENCE_S) == 3
    assert list(cluster.map(jobs.add, range(40), range(40))) == [2 * k for k in range(40)]
    vector = cluster.submit(jobs.double, np.arange(3, dtype=np.float32)).result(PATIENCE_S)
    assert vector.dtype == np.float32
    assert vector.tolist() == [0.0, 2.0, 4.0]
    long = cluster.submit(jobs.make_vector, 3_000_000).result(PATIENCE_S)  # 24 MB: several frames
    assert long.shape == (3_000_000,)
    assert long[-1] == 2_999_999.0
    with pytest.raises(LocalProtocolError, match="ship_code=True"):
        cluster.submit(lambda: 1).result(PATIENCE_S)
    with pytest.raises(JobFailed, match="AnObject"):
        cluster.submit(jobs.AnObject).result(PATIENCE_S)
    with pytest.raises(ClusterError, match=r"--n-workers 3.*Ctrl-C"):
        cluster.scale(3)
    status = cluster.status()
    assert [worker.state for worker in status.workers] == ["ready", "ready"]
    assert status.jobs["succeeded"] == 43
    assert status.counters["workers_joined"] == 2


def test_an_exception_comes_back_as_text_with_the_remote_traceback(
    cluster: Cluster, agents: StartAgent, tmp_path: Path
) -> None:
    agents(cluster)
    cluster.wait_for_workers(1, PATIENCE_S)
    with pytest.raises(JobFailed) as caught:
        cluster.submit(jobs.fail, "of all things").result(PATIENCE_S)
    error = caught.value
    assert error.error_type == "ValueError"
    assert "ValueError: of all things" in error.traceback
    assert "remote_jobs.py" in str(error.__cause__)
    assert error.worker_id == cluster.status().workers[0].worker_id
    stubborn = cluster.with_options(max_failures=3)
    assert stubborn.submit(jobs.fail_twice, str(tmp_path)).result(PATIENCE_S) == 3


def test_deadlines_and_cancellation_reach_a_process_of_another_machine(
    cluster: Cluster, agents: StartAgent, tmp_path: Path
) -> None:
    agent = agents(cluster)
    cluster.wait_for_workers(1, PATIENCE_S)
    (first,) = pids(cluster)
    impatient = cluster.with_options(timeout_s=0.2)
    with pytest.raises(JobTimeout, match=r"deadline of 0\.2 s on each of 2 tries"):
        impatient.submit(jobs.spin).result(PATIENCE_S)
    running = cluster.submit(jobs.note_and_wait, str(tmp_path / "note"), str(tmp_path / "never"))
    wait_until(lambda: list(tmp_path.glob("note.*")), "the job runs")
    assert cluster.cancel(running)
    assert cluster.submit(jobs.add, 2, 2).result(PATIENCE_S) == 4
    assert first not in pids(cluster)
    agent.expect("is ended: its job passed the deadline")
    agent.expect("is ended: its job was cancelled")


def test_a_plan_runs_its_phases_with_the_results_of_the_one_before(
    cluster: Cluster, agents: StartAgent
) -> None:
    agents(cluster, 2)
    first = PhaseCalls("square", [Call(jobs.slow_square, (k,)) for k in range(6)])
    calls_ = [Call(jobs.sum_of_inputs, (1000,)), Call(jobs.sum_of_inputs, (), {"offset": 2000})]
    second = PhaseCalls("sum", calls_, wants_inputs=True)
    squares, sums = cluster.run_plan([first, second])
    assert squares == [0, 1, 4, 9, 16, 25]
    assert sums == [1055, 2055]


def test_a_map_reduce_counts_exactly_though_a_worker_is_killed(
    cluster: Cluster, agents: StartAgent, tmp_path: Path
) -> None:
    text = b" ".join(b"word%d" % (k * k % 101) for k in range(30_000))
    (tmp_path / "text").write_bytes(text)
    agents(cluster, 2)
    cluster.wait_for_workers(2, PATIENCE_S)
    lost: list[int] = []

    def kill_one(phase: str, n_done: int, _: int) -> None:
        if phase == "reduce" and n_done > 2 and not lost:
            lost.append(min(pids(cluster)))
            os.kill(lost[0], signal.SIGKILL)

    program = MapReduce(jobs.count_words, sum, unit="words")
    counted = program.run(
        str(tmp_path / "text"), cluster, n_map=6, n_reduce=40, on_progress=kill_one
    )
    assert dict(counted) == Counter(text.split())
    assert lost


@pytest.mark.parametrize("into_files", [False, True], ids=["into memory", "into files"])
def test_a_map_reduce_needs_no_common_folder(
    cluster: Cluster, agents: StartAgent, tmp_path: Path, into_files: bool
) -> None:
    """Whether a map job or a reduce job runs near or far is left to chance."""
    text = b"\n".join(b"line %d of %d" % (k, k * k) for k in range(40_000))
    (tmp_path / "text").write_bytes(text)
    agents(cluster, 1, program=("-c", FAR_AGENT))
    cluster.wait_for_workers(1, PATIENCE_S)
    options: dict[str, Any] = {"out_dir": tmp_path / "out"} if into_files else {}
    program = MapReduce(jobs.count_words, sum, unit="words")

    def add_a_near_one(phase: str, n_done: int, _: int) -> None:
        if (phase, n_done) == ("map", 5) and cluster.n_workers == 1:
            agents(cluster, 1)
            cluster.wait_for_workers(2, PATIENCE_S)

    inputs = str(tmp_path / "text")
    counted = program.run(
        inputs, cluster, 10, 20, memory_limit_bytes=1 << 16, on_progress=add_a_near_one, **options
    )
    truth = Counter(text.split())
    if into_files:
        lines = [line.split(b"\t") for p in counted.paths for line in p.read_bytes().splitlines()]
        assert {word: int(count) for word, count in lines} == truth
        assert len(lines) == len(truth)
    else:
        assert dict(counted) == truth
    assert counted.counters["spilled_runs"] > 0
    assert not list(cluster.scratch_folder.glob("mapreduce*"))


@pytest.mark.full
def test_a_map_reduce_runs_where_the_masters_folders_do_not_exist(
    cluster: Cluster, agents: StartAgent, tmp_path: Path
) -> None:
    """In a mount namespace of its own, the agent's machine has other scratch folders."""
    text = b" ".join(b"word%d" % (k * k % 997) for k in range(50_000))
    (tmp_path / "text").write_bytes(text)
    disk = cluster.scratch_folder.parent
    hide = f"mount -t tmpfs -o mode=0700 none {disk} && mount -t tmpfs none /dev/shm"
    prefix = ("unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh")
    agents(cluster, 2, prefix=prefix)
    cluster.wait_for_workers(2, PATIENCE_S)
    far_folder = cluster.submit(jobs.scratch_folder).result(PATIENCE_S)
    assert Path(far_folder).parent == disk
    assert not Path(far_folder).exists()
    program = MapReduce(jobs.count_words, sum, unit="words")
    counted = program.run(str(tmp_path / "text"), cluster, 6, 10)
    assert dict(counted) == Counter(text.split())


def test_the_relay_reaches_only_what_is_shared(cluster: Cluster, agents: StartAgent) -> None:
    agents(cluster, 1)
    folder = cluster.scratch_folder
    (folder / "mine").write_text("secret")
    (folder / "link").symlink_to("/etc/passwd")
    for path in (folder / "mine", "/etc/passwd", folder / ".." / "x"):
        with pytest.raises(JobFailed, match="not in a folder that is shared"):
            cluster.submit(jobs.read_by_relay, str(path), 6).result(PATIENCE_S)
    with cluster.share_folder(folder):
        read = cluster.submit(jobs.read_by_relay, str(folder / "mine"), 6)
        assert read.result(PATIENCE_S) == b"secret"
        for name, words in (("link", "symbolic link"), ("..", "not in"), ("absent", "no file")):
            with pytest.raises(JobFailed, match=words):
                cluster.submit(jobs.read_by_relay, f"{folder}/{name}", 1).result(PATIENCE_S)
        with pytest.raises(JobFailed, match="cut off"):
            cluster.submit(jobs.read_by_relay, str(folder / "mine"), 7).result(PATIENCE_S)
        with pytest.raises(JobFailed, match="File exists"):
            cluster.submit(jobs.write_by_relay, b"x", str(folder / "mine")).result(PATIENCE_S)
        large = os.urandom((5 << 20) // 2)
        cluster.submit(jobs.write_by_relay, large, str(folder / "new")).result(PATIENCE_S)
        assert (folder / "new").read_bytes() == large
        cluster.submit(jobs.write_by_relay, b"", str(folder / "empty")).result(PATIENCE_S)
        assert (folder / "empty").read_bytes() == b""
    assert (folder / "mine").read_text() == "secret"


def test_code_travels_only_where_both_sides_were_told_so(keys: Path, agents: StartAgent) -> None:
    secret = 41
    with listening(keys, ship_code=True) as cluster:
        strict = agents(cluster, 1)
        cluster.wait_for_workers(1, PATIENCE_S)
        with pytest.raises(JobFailed, match="--accept-code"):
            cluster.submit(lambda x: x + secret, 1).result(PATIENCE_S)
        strict.signal(signal.SIGTERM)
        assert strict.wait() == 0
        agents(cluster, 1, "--accept-code", allow=())
        assert cluster.submit(lambda x: x + secret, 1).result(PATIENCE_S) == 42
        first = PhaseCalls("square", [Call(lambda k: k * k, (k,)) for k in range(4)])
        second = PhaseCalls("sum", [Call(lambda squares: sum(squares))], wants_inputs=True)
        assert cluster.run_plan([first, second]) == [[0, 1, 4, 9], [14]]


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "tests.integration.remote_jobs:os.system",
        "tests.integration.remote_jobs:np.load",
        "tests.integration.remote_jobs:add.__globals__",
        "tests.integration.remote_jobs:Path",
        "paramserver.worker:main",
        "paramserver.runtime.worker_main:main_child",
        "paramserver.protocol.pickling:loads",
    ],
)
def test_a_worker_refuses_what_its_operator_has_not_allowed(
    lenient: tuple[Cluster, AgentProcess], name: str
) -> None:
    cluster, _ = lenient
    buffers: list[Any] = []
    data = pack_plain((name, ("exit 3",), {}), buffers)
    with pytest.raises(JobFailed, match="The worker refused a job"):
        submit_raw(cluster, Payload(PayloadKind.PLAIN, data)).result(PATIENCE_S)


def test_a_worker_opens_no_pickle_that_comes_over_the_network(
    lenient: tuple[Cluster, AgentProcess],
) -> None:
    cluster, _ = lenient
    bomb = calls.encode_call(os.system, ("exit 3",), trusted=True)
    assert bomb.kind is PayloadKind.PICKLE
    with pytest.raises(JobFailed, match="not allowed by this connection"):
        submit_raw(cluster, bomb).result(PATIENCE_S)
    with pytest.raises(JobFailed, match="--accept-code"):
        submit_raw(cluster, bomb._replace(kind=PayloadKind.CODE)).result(PATIENCE_S)


@pytest.fixture(scope="module")
def lenient(keys: Path) -> Iterator[tuple[Cluster, AgentProcess]]:
    """One cluster and one worker, for tests that break nothing."""
    with listening(keys) as cluster, AgentProcess(cluster.address, keys) as agent:
        cluster.wait_for_workers(1, PATIENCE_S)
        yield cluster, agent


def submit_raw(cluster: Cluster, payload: Payload) -> Any:
    """Hand in a payload that `submit` would never make."""
    future: JobFuture[Any] = JobFuture()
    internals = cluster.internals()
    job = internals.next_job()
    cluster._owner.add(job, future)
    internals.master.own_one(job, cluster._owner)
    event = JobsSubmitted(internals.master.clock(), cluster._phase, (JobSpec(job, payload),))
    internals.master.post(event)
    return future


# --- workers that die -----------------------------------------------------------------------------


def test_a_killed_worker_costs_a_retry_and_is_known_at_once(
    keys: Path, agents: StartAgent, tmp_path: Path
) -> None:
    with listening(keys, grace_s=60.0) as cluster:  # so nothing here comes from the grace time
        agent = agents(cluster, 2)
        cluster.wait_for_workers(2, PATIENCE_S)
        stuck = cluster.submit(jobs.note_and_wait, str(tmp_path / "note"), str(tmp_path / "go"))
        wait_until(lambda: list(tmp_path.glob("note.*")), "the job runs")
        (note,) = tmp_path.glob("note.*")
        results = cluster.map(jobs.slow_square, range(60))
        killed = int(note.suffix[1:])
        killed_at = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(list(tmp_path.glob("note.*"))) == 2, "the job runs elsewhere")
        assert time.monotonic() - killed_at < 10.0
        (tmp_path / "go").touch()
        assert list(results) == [k * k for k in range(60)]
        assert stuck.result(PATIENCE_S) != killed
        assert cluster.status().counters["workers_lost"] == 1
        agent.expect(f"(process {killed}) ended with signal 9 (SIGKILL)")


def test_a_job_that_always_kills_its_worker_fails_alone(
    cluster: Cluster, agents: StartAgent
) -> None:
    agents(cluster, 1)
    with pytest.raises(PoisonJob) as caught:
        cluster.submit(jobs.die).result(PATIENCE_S)
    assert (caught.value.exit_code, caught.value.attempts) == (-signal.SIGKILL, 3)
    assert cluster.submit(jobs.add, 1, 1).result(PATIENCE_S) == 2


def test_all_workers_die_and_others_take_over(cluster: Cluster, agents: StartAgent) -> None:
    doomed = agents(cluster, 2)
    cluster.wait_for_workers(2, PATIENCE_S)
    results = cluster.map(jobs.slow_square, range(100))
    wait_until(lambda: cluster.status().jobs["succeeded"] >= 5, "some jobs are done")
    workers = doomed.workers()
    doomed.signal(signal.SIGKILL)
    psutil.wait_procs(workers, PATIENCE_S)
    wait_until(lambda: cluster.n_workers == 0, "they are missed")
    agents(cluster, 3)
    assert list(results) == [k * k for k in range(100)]


def test_without_workers_a_job_fails_when_the_time_is_over(keys: Path) -> None:
    with listening(keys, no_workers_timeout_s=0.3) as cluster:
        started = time.monotonic()
        with pytest.raises(NoWorkers, match=r"No worker was there for 0\.\d s"):
            cluster.submit(jobs.add, 1, 1).result(PATIENCE_S)
        assert time.monotonic() - started < 10.0
        with pytest.raises(NoWorkers, match=r"0 of 2 workers"):
            cluster.wait_for_workers(2, 0.1)


def test_a_result_counts_though_its_worker_died_before_the_acknowledgement(
    cluster: Cluster, keys: Path
) -> None:
    with puppet_pair(cluster, keys, "a") as (agent, worker):
        future = cluster.submit(jobs.add, 1, 2)
        ((grant,),) = (worker.hear(GrantJobs).grants,)
        value = calls.encode_value(3, trusted=False)
        worker.say(JobsEnded((JobResult(grant.job, grant.attempt, Outcome.OK, 1, value),)))
        worker.close()
        agent.say(ProcessExited(worker.name, 1_000_000, -9, 0, 0, ""))
        assert future.result(PATIENCE_S) == 3
        wait_until(lambda: cluster.n_workers == 0, "its death is known")
        assert cluster.status().counters["attempts"] == 1


def test_a_worker_that_dies_between_grant_and_start_costs_the_job_no_try(
    cluster: Cluster, keys: Path, agents: StartAgent
) -> None:
    future = cluster.submit(jobs.add, 1, 2)
    with ExitStack() as stack:
        for k in range(5):  # a job may lose three workers, but it had not begun on these
            agent, worker = stack.enter_context(puppet_pair(cluster, keys, f"a{k}"))
            worker.hear(GrantJobs)
            worker.close()
            agent.say(ProcessExited(worker.name, 1_000_000, -9, 0, 0, ""))
            wait_until(lambda: cluster.n_workers == 0, "its death is known")
        agents(cluster, 1)
        assert future.result(PATIENCE_S) == 3
    assert cluster.status().counters["attempts"] == 6


class puppet_pair:
    """An agent and a worker of its that both do only what the test says."""

    def __init__(self, cluster: Cluster, keys: Path, name: str) -> None:
        self.agent = Puppet.join(cluster.address, keys, name)
        self.worker = Puppet.join(cluster.address, keys, f"{name}-0", agent_id=name)

    def __enter__(self) -> tuple[Puppet, Puppet]:
        return self.agent, self.worker

    def __exit__(self, *_: object) -> None:
        self.agent.close()
        self.worker.close()


# --- machines that stop, come back, or leave ------------------------------------------------------


def test_a_machine_that_stops_loses_its_work_and_works_on_when_it_returns(
    cluster: Cluster, agents: StartAgent, tmp_path: Path
) -> None:
    sleeper = agents(cluster, 1)
    cluster.wait_for_workers(1, PATIENCE_S)
    (asleep,) = pids(cluster)
    future = cluster.submit(jobs.note_and_wait, str(tmp_path / "note"), str(tmp_path / "go"))
    wait_until(lambda: (tmp_path / f"note.{asleep}").exists(), "the job runs")
    sleeper.signal_all(signal.SIGSTOP)
    try:
        other = agents(cluster, 1)
        wait_until(lambda: len(list(tmp_path.glob("note.*"))) == 2, "the job runs elsewhere")
        (tmp_path / "go").touch()
        assert future.result(PATIENCE_S) != asleep
        assert asleep not in pids(cluster)
        # Its connection is another one than its worker's, and may be found silent later.
        wait_until(lambda: cluster.status().counters.get("agents_lost"), "its agent is lost, too")
        sleeper.forget()
    finally:
        sleeper.signal_all(signal.SIGCONT)
    sleeper.expect("connected to the master again")
    wait_until(lambda: asleep in pids(cluster), "the zombie has said hello")
    other.signal(signal.SIGTERM)
    assert other.wait() == 0
    assert cluster.submit(jobs.where).result(PATIENCE_S) == asleep
    counters = cluster.status().counters
    assert counters["workers_joined"] == 3
    assert counters["agents_lost"] == 1


def test_a_connection_that_breaks_and_mends_costs_nothing(keys: Path, tmp_path: Path) -> None:
    """The worker resumes its life: what it runs goes on, and its results are said again."""
    with (
        listening(keys, grace_s=PATIENCE_S) as cluster,
        Wire(cluster.address) as wire,
        AgentProcess(wire.address, keys, 2) as agent,
    ):
        cluster.wait_for_workers(2, PATIENCE_S)
        before = pids(cluster)
        for n in range(1, 4):
            go = tmp_path / f"go{n}"
            note = str(tmp_path / f"note{n}")
            futures = [cluster.submit(jobs.note_and_wait, note, str(go)) for _ in range(2)]
            wait_until(lambda n=n: len(list(tmp_path.glob(f"note{n}.*"))) == 2, "they run")  # type: ignore[misc]
            wire.cut()
            agent.expect("the connection to the master is lost")
            wait_until(lambda: all(w.state == "suspect" for w in cluster.status().workers), "seen")
            go.touch()  # so they end while nobody hears of it
            wire.mend()
            assert {future.result(PATIENCE_S) for future in futures} == before
            agent.expect("connected to the master again")
            agent.forget()
        counters = cluster.status().counters
        assert (counters["workers_joined"], counters["attempts"]) == (2, 6)


def test_the_masters_own_pause_is_nobodys_fault(keys: Path) -> None:
    master = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.paused_master", str(keys)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with master:
        assert master.stdout is not None
        assert master.stdin is not None
        with AgentProcess(master.stdout.readline().strip(), keys, 2) as agent:
            assert master.stdout.readline() == "running\n"
            master.send_signal(signal.SIGSTOP)
            agent.expect("the connection to the master is lost")
            master.send_signal(signal.SIGCONT)
            said, _ = master.communicate(timeout=PATIENCE_S)
            assert "60 results, joined 2, lost 0" in said
            assert agent.wait() == 0


def test_a_job_nobody_waits_for_any_more_ends_with_its_process(
    cluster: Cluster, agents: StartAgent, tmp_path: Path
) -> None:
    """Otherwise a worker that was cut off would be busy for ever, and nobody would know."""
    sleeper = agents(cluster, 1)
    cluster.wait_for_workers(1, PATIENCE_S)
    (asleep,) = pids(cluster)
    future = cluster.submit(jobs.note_and_wait, str(tmp_path / "note"), str(tmp_path / "never"))
    wait_until(lambda: (tmp_path / f"note.{asleep}").exists(), "the job runs")
    sleeper.signal_all(signal.SIGSTOP)
    try:
        wait_until(lambda: cluster.n_workers == 0, "the machine is missed")
    finally:
        sleeper.signal_all(signal.SIGCONT)
    assert cluster.cancel(future)
    assert cluster.submit(jobs.where).result(PATIENCE_S) != asleep
    sleeper.expect(f"(process {asleep}) ended with exit code 75")


def test_a_drained_agent_finishes_what_runs_and_hands_back_the_rest(
    cluster: Cluster, agents: StartAgent, tmp_path: Path
) -> None:
    agent = agents(cluster, 1)
    cluster.wait_for_workers(1, PATIENCE_S)
    running = cluster.submit(jobs.note_and_wait, str(tmp_path / "note"), str(tmp_path / "go"))
    waiting = [cluster.submit(jobs.add, k, k) for k in range(20)]
    wait_until(lambda: list(tmp_path.glob("note.*")), "the job runs")
    (leaver,) = pids(cluster)
    agent.signal(signal.SIGTERM)
    agent.expect("running jobs have 30 s to end")
    wait_until(lambda: cluster.status().workers[0].state == "draining", "it drains")
    (tmp_path / "go").touch()
    assert running.result(PATIENCE_S) == leaver
    assert agent.wait() == 0
    assert "Left as asked" in agent.said
    assert not any(future.done() for future in waiting)
    agents(cluster, 1)
    assert [future.result(PATIENCE_S) for future in waiting] == [2 * k for k in range(20)]
    counters = cluster.status().counters
    assert counters["workers_left"] == 1
    assert counters.get("workers_lost", 0) == 0
    assert counters.get("agents_lost", 0) == 0


def test_a_job_cut_off_by_leaving_is_charged_to_nobody(
    cluster: Cluster, agents: StartAgent, tmp_path: Path
) -> None:
    future = cluster.submit(jobs.note_and_wait, str(tmp_path / "note"), str(tmp_path / "go"))
    for k in range(1, 4):  # as many as would make it poison
        agent = agents(cluster, 1, "--grace", "0.1")
        wait_until(lambda n=k: len(list(tmp_path.glob("note.*"))) == n, "the job runs")  # type: ignore[misc]
        agent.signal(signal.SIGINT)
        assert agent.wait() == 0
    (tmp_path / "go").touch()
    agents(cluster, 1)
    assert future.result(PATIENCE_S)


def test_sigterm_to_a_worker_lets_its_job_end_and_brings_another_worker(
    cluster: Cluster, agents: StartAgent, tmp_path: Path
) -> None:
    agent = agents(cluster, 1)
    cluster.wait_for_workers(1, PATIENCE_S)
    future = cluster.submit(jobs.note_and_wait, str(tmp_path / "note"), str(tmp_path / "go"))
    others = [cluster.submit(jobs.add, k, 1) for k in range(10)]
    wait_until(lambda: list(tmp_path.glob("note.*")), "the job runs")
    (leaver,) = pids(cluster)
    os.kill(leaver, signal.SIGTERM)
    wait_until(lambda: cluster.status().workers[0].state == "draining", "it drains")
    (tmp_path / "go").touch()
    assert future.result(PATIENCE_S) == leaver
    assert [other.result(PATIENCE_S) for other in others] == list(range(1, 11))
    agent.expect(f"(process {leaver}) ended with exit code 0")
    assert cluster.status().counters.get("workers_lost", 0) == 0


def test_workers_may_join_in_the_last_round_and_at_the_very_end(
    keys: Path, agents: StartAgent, tmp_path: Path
) -> None:
    with listening(keys) as cluster:
        agents(cluster, 1)
        first = cluster.submit(jobs.wait_for, str(tmp_path / "go"))
        wait_until(lambda: first.running(), "the last job runs")
        agents(cluster, 1)
        cluster.wait_for_workers(2, PATIENCE_S)
        late = agents(cluster, 1)
        (tmp_path / "go").touch()
        assert first.result(PATIENCE_S)
        late.expect("connected;")
    assert late.wait() == 0  # whether it came just before the end, or just in it
    assert "the master has closed the cluster" in late.said


# --- nobody is left over --------------------------------------------------------------------------


def test_closing_the_cluster_ends_agents_and_workers_which_say_so(
    keys: Path, agents: StartAgent
) -> None:
    with listening(keys) as cluster:
        agent = agents(cluster, 2)
        cluster.wait_for_workers(2, PATIENCE_S)
        workers = agent.workers()
    assert agent.wait() == 0
    assert "the master has closed the cluster; the workers leave" in agent.said
    assert "Done: the cluster is closed" in agent.said
    _, alive = psutil.wait_procs(workers, PATIENCE_S)
    assert alive == []


def test_workers_die_with_their_agent(cluster: Cluster, agents: StartAgent) -> None:
    agent = agents(cluster, 2)
    cluster.wait_for_workers(2, PATIENCE_S)
    spinning = [cluster.submit(jobs.spin) for _ in range(2)]
    wait_until(lambda: all(future.running() for future in spinning), "they compute")
    workers = agent.workers()
    agent.signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, 2.0)
    assert alive == []
    for future in spinning:
        assert cluster.cancel(future)


def test_an_agent_gives_up_a_master_that_was_killed(keys: Path) -> None:
    program = (
        "import sys; from paramserver.cluster import Cluster; "
        "c = Cluster('tcp://127.0.0.1:0', sys.argv[1], verbose=False); "
        "print(c.address, flush=True); sys.stdin.readline()"
    )
    master = subprocess.Popen(
        [sys.executable, "-c", program, str(keys)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with master:
        assert master.stdout is not None
        address = master.stdout.readline().strip()
        with AgentProcess(address, keys, 1, "--give-up", "1.5") as agent:
            agent.expect("1 worker up")
            workers = agent.workers()
            master.kill()
            agent.expect("the connection to the master is lost")
            agent.expect("No master has answered for 1.5 s")
            assert agent.wait() == 75
            _, alive = psutil.wait_procs(workers, PATIENCE_S)
            assert alive == []


def test_an_agent_serves_the_next_master_at_the_same_address(keys: Path) -> None:
    with listening(keys) as first:
        address = first.address
        agent = AgentProcess(address, keys)
        with agent:
            first.wait_for_workers(1, PATIENCE_S)
            assert first.submit(jobs.add, 1, 1).result(PATIENCE_S) == 2
            (worker,) = pids(first)
            vanish(first)
            agent.expect("the connection to the master is lost")
            with Cluster(address, keys, verbose=False) as second:
                second.wait_for_workers(1, PATIENCE_S)
                assert second.submit(jobs.where).result(PATIENCE_S) == worker
                agent.expect("connected to the master again")
            assert agent.wait() == 0


def vanish(cluster: Cluster) -> None:
    """Close the master's socket without a word, as the kernel does for a killed process."""
    master = cluster.internals().master
    master._machine.roster.by_peer.clear()  # nobody to be told, nobody to wait for
    master._machine.roster.workers.clear()
    master._machine.roster.agents.clear()
    master.close(linger_s=0.0)


# --- who is let in --------------------------------------------------------------------------------


def test_of_two_that_claim_one_name_the_newer_wins(cluster: Cluster, keys: Path) -> None:
    with (
        puppet_pair(cluster, keys, "a") as (_, older),
        Puppet.join(cluster.address, keys, "a-0", agent_id="a") as newer,
    ):
        future = cluster.submit(jobs.add, 1, 2)
        ((grant,),) = (newer.hear(GrantJobs).grants,)
        older.say_as(JobProgressed(grant.job, grant.attempt, 1, 2))
        assert "say Hello" in older.hear(Fenced).reason
        value = calls.encode_value(3, trusted=False)
        newer.say(JobsEnded((JobResult(grant.job, grant.attempt, Outcome.OK, 1, value),)))
        assert future.result(PATIENCE_S) == 3
        assert cluster.n_workers == 1


def test_nobody_can_take_the_name_or_speak_in_the_name_of_another(
    cluster: Cluster, keys: Path
) -> None:
    with (
        puppet_pair(cluster, keys, "a") as (_, victim),
        puppet_pair(cluster, keys, "b") as (_, thief),
    ):
        future = cluster.submit(jobs.add, 1, 2)
        wait_until(lambda: future.running(), "it is granted")
        incarnation = victim.session.incarnation
        lie = JobsEnded((JobResult(1, 1, Outcome.OK, 1, calls.encode_value(666, trusted=False)),))
        thief.say_as(lie, worker_id=victim.name, incarnation=incarnation)
        assert "unauthenticated" in thief.hear(Fenced).reason
        hello = Hello("a-0", "a", "guess", 0, 0, 1, "there", "", release())
        thief.say_as(hello, worker_id="a-0", incarnation=0)
        assert "belongs to b-0" in thief.hear(Refused).reason
        with Puppet(cluster.address, keys, "a-0", "guess", "a") as stranger:
            stranger.greet()
            assert "not the one of this name" in stranger.hear(Refused).reason
        assert not future.done()
        assert {w.worker_id for w in cluster.status().workers} == {"a-0", "b-0"}
        assert cluster.status().counters["unauthenticated"] == 3
        cluster.cancel(future)


def test_a_connection_without_keys_is_refused_and_counted(cluster: Cluster, keys: Path) -> None:
    context = zmq.Context()
    try:
        with context.socket(zmq.DEALER) as sock:
            sock.linger = 0
            sock.connect(cluster.address)
            hello = Hello("x-0", "x", "t", 0, 0, 1, "here", "", release())
            (frame,) = codec.encode(Envelope("", 0, "x-0", 0, 0, 0), hello)
            with suppress(zmq.Again):  # refused so soon that there is no way left to send it by
                sock.send(frame, zmq.DONTWAIT)
            wait_until(
                lambda: cluster.status().counters.get("handshake_failed", 0), "it is refused", 5.0
            )
            assert sock.poll(0) == 0
    finally:
        context.term()
    assert cluster.n_workers == 0


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://127.0.0.1:0", "tcp://[::]:0"])
def test_nothing_listens_on_tcp_without_keys(address: str) -> None:
    with pytest.raises(AuthenticationFailed, match="paramserver keys DIR"):
        Cluster(address)


def test_whoever_finds_no_room_is_told_so(keys: Path) -> None:
    """300 workers come to a master whose limit is 256 open files."""
    master = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.small_master", str(keys)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 400)
    with master:
        assert master.stdout is not None
        assert master.stdin is not None
        address = master.stdout.readline().strip()
        answers: Counter[str] = Counter()
        crowd: list[zmq.Socket[bytes]] = []
        try:
            for first in range(0, 300, 10):  # all at once they would be a flood, see the transport
                crowd += [_guest(context, address, keys, first + k) for k in range(10)]
                for sock in crowd[first:]:
                    message = _answer(sock)
                    answers[type(message).__name__] += 1
                    if isinstance(message, Refused):
                        assert "ulimit -n" in message.reason
                        sock.close()  # as an agent does that was refused
        finally:
            for sock in crowd:
                sock.close()
            context.term()
            master.stdin.close()
        said = master.stdout.read()
    assert answers.keys() == {"Welcome", "Refused"}
    assert answers["Welcome"] >= 50
    assert "3 = 1 + 2" in said  # it works on
    assert f"workers {answers['Welcome']}" in said


def _answer(sock: zmq.Socket[bytes]) -> object:
    """Return what the master says to a Hello."""
    while sock.poll(PATIENCE_S * 1000):
        frames = sock.recv_multipart()
        if frames != [b""]:  # else it was a probe
            return codec.decode(frames, codec.FROM_MASTER)[1]
    raise AssertionError("no answer")


def _guest(context: zmq.Context[Any], address: str, keys: Path, k: int) -> zmq.Socket[bytes]:
    sock = context.socket(zmq.DEALER)
    load_worker_keys(keys).apply_to(sock)
    sock.linger = 0
    sock.connect(address)
    hello = Hello(f"g{k}-0", f"g{k}", "t", 0, 0, 1, "here", "", release())
    sock.send_multipart(codec.encode(Envelope("", 0, f"g{k}-0", 0, 0, 0), hello))
    return sock
