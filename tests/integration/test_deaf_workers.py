"""A job holds the interpreter lock in C for longer than any silence that is put up with.

On each way that messages go at once: sockets of the kernel, ZeroMQ over ipc, CURVE over TCP.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import paramserver as ps
from paramserver.transport.security import make_keys
from tests.integration import failing_jobs as jobs
from tests.integration.remote import PATIENCE_S, AgentProcess

pytestmark = pytest.mark.usefixtures("no_lending_thread")

SILENCE_S = 4.0
"""After which libzmq's heartbeats take a connection for dead."""
GRACE_S = 1.0


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[dict[str, ps.Cluster]]:
    """One worker each: nobody else could take the job over unseen."""
    tmp_path.chmod(0o700)
    keys = make_keys(tmp_path / "keys")
    with ExitStack() as stack:
        far = stack.enter_context(
            ps.Cluster("tcp://127.0.0.1:0", keys, grace_s=GRACE_S, verbose=False)
        )
        stack.enter_context(AgentProcess(far.address, keys))
        found = {
            "unix": stack.enter_context(ps.LocalCluster(1, transport="unix")),
            "zeromq": stack.enter_context(ps.LocalCluster(1, transport="zeromq")),
            "tcp": far,
        }
        far.wait_for_workers(1, PATIENCE_S)
        yield found


@pytest.mark.parametrize(
    "seconds",
    [
        SILENCE_S + GRACE_S + 2.0,  # too short for the grace of local workers, 5 s
        pytest.param(15.0, marks=pytest.mark.full),
    ],
)
def test_a_worker_whose_job_holds_the_lock_is_not_given_up(
    clusters: dict[str, ps.Cluster], seconds: float
) -> None:
    futures = {name: it.submit(jobs.hold_the_lock, seconds) for name, it in clusters.items()}
    begun = time.monotonic()
    pids = {name: it.status().workers[0].pid for name, it in clusters.items()}
    for name, future in futures.items():
        assert future.result(PATIENCE_S + seconds) == "done", name
    assert time.monotonic() - begun > 0.9 * seconds, "they did not hold it at all"
    for name, it in clusters.items():
        status = it.status()
        assert [(worker.pid, worker.state) for worker in status.workers] == [(pids[name], "ready")]
        assert status.counters.get("attempts") == 1, name
        assert "workers_lost" not in status.counters, name
        assert it.submit(jobs.hold_the_lock, 0.0).result(PATIENCE_S) == "done", name
