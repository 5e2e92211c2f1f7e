"""A machine on which every worker dies: restarts without end, and a master that stays as it was."""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import psutil
import pytest

import paramserver as ps
from paramserver.core.jobs import Attempt, Job
from paramserver.core.link import Link
from paramserver.core.quarantine import QUARANTINE_AFTER
from paramserver.core.restarts import RestartLimits
from paramserver.core.roster import Worker
from paramserver.errors import PoisonJob
from paramserver.runtime.worker_process import WorkerProcess
from paramserver.transport.security import make_keys
from tests.integration import failing_jobs as jobs
from tests.integration.remote import AgentProcess
from tests.integration.scripts import until

N = 2
LIVES_A_JOB = 3
"""Workers that are lost under one job before it is taken to be the cause."""
PATIENCE_S = 300.0
GROWTH_BYTES = 4_000_000
"""Far less than what a hundred forgotten workers with their pipes and links would take."""


def crash(cluster: ps.LocalCluster, n_jobs: int) -> None:
    """Let so many jobs lose three workers each, with no job that ends well in between."""
    futures = [cluster.submit(jobs.leave, 3) for _ in range(n_jobs)]
    done, _ = wait(futures, PATIENCE_S)
    assert [type(future.exception()) for future in futures] == [PoisonJob] * n_jobs
    assert len(done) == n_jobs
    cluster.wait_for_workers(N)


def remembered(cluster: ps.LocalCluster) -> dict[str, Any]:
    """What is there now of all that comes and goes with workers."""
    agent = cluster._parts.agent
    assert agent is not None
    until(lambda: len(agent.live()) == N, "all dead ones are reaped")
    gc.collect()
    kinds = (Worker, Attempt, Job, Link, WorkerProcess)
    # Not isinstance: it asks a weak proxy of somebody else for its class, and that may be gone.
    alive = Counter(type(one).__name__ for one in gc.get_objects() if issubclass(type(one), kinds))
    return {
        "backlog": cluster._parts.master.ask(lambda machine: machine.backlog.remembered()),
        "objects": dict(alive),
        "lives": len(agent._policy._lives),
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "children": len(psutil.Process().children()),
    }


@pytest.mark.parametrize(
    "n_restarts",
    [12, pytest.param(100, marks=[pytest.mark.full, pytest.mark.timeout(900)])],
)
def test_a_crash_loop_is_put_in_quarantine_and_leaves_the_master_as_it_was(
    n_restarts: int,
) -> None:
    with ps.LocalCluster(N) as cluster:
        agent = cluster._parts.agent
        assert agent is not None
        agent._policy.limits = RestartLimits(n_free=1_000_000)  # no pauses between the lives
        crash(cluster, 2)
        before, rss_before = remembered(cluster), psutil.Process().memory_info().rss
        n_jobs = -(-n_restarts // LIVES_A_JOB)
        crash(cluster, n_jobs)
        after, rss_after = remembered(cluster), psutil.Process().memory_info().rss

        counters = cluster.status().counters
        assert counters["workers_lost"] == LIVES_A_JOB * (2 + n_jobs)
        # Each quarantine is twice as long as the one before: few of them cover many losses.
        assert 1 <= counters["quarantines"] <= 12
        assert after == before
        assert rss_after - rss_before < GROWTH_BYTES
        assert cluster.submit(pow, 2, 5).result(PATIENCE_S) == 32, "there is no other machine"


def test_a_machine_on_which_every_job_dies_costs_tries_and_no_results(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    keys = make_keys(tmp_path / "keys")
    with (
        ps.Cluster("tcp://127.0.0.1:0", keys, verbose=False) as cluster,
        AgentProcess(cluster.address, keys),
        AgentProcess(cluster.address, keys, prefix=("env", "DOOMED=1")),
    ):
        cluster.wait_for_workers(2, PATIENCE_S)
        n_jobs = 0
        while cluster.status().counters.get("quarantines", 0) < 1:
            futures = [cluster.submit(jobs.square_unless_doomed, k) for k in range(2)]
            assert [future.result(PATIENCE_S) for future in futures] == [0, 1]
            n_jobs += 2
        counters = cluster.status().counters
        assert counters["workers_lost"] >= QUARANTINE_AFTER
        assert counters["attempts"] == n_jobs + counters["workers_lost"]
