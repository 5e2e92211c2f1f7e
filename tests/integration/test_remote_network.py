"""A machine with a network of its own: what happens when the cable is pulled, and put back."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from paramserver.cluster import Cluster
from paramserver.runtime.invitation import dialable
from paramserver.transport.security import make_keys
from tests.integration import remote_jobs as jobs
from tests.integration.remote import PATIENCE_S, AgentProcess, wait_until

pytestmark = [pytest.mark.full, pytest.mark.timeout(240)]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=PATIENCE_S)


class Cable:
    """A network namespace and the pair of interfaces that leads there."""

    def __init__(self, number: int) -> None:
        self.name = f"ps{number}"
        subnet = f"10.77.{number % 250}"
        self.near_address = f"{subnet}.1"
        ip("netns", "add", self.name)
        ip("link", "add", self.name, "type", "veth", "peer", "name", "far", "netns", self.name)
        ip("address", "add", f"{subnet}.1/24", "dev", self.name)
        ip("-n", self.name, "address", "add", f"{subnet}.2/24", "dev", "far")
        ip("-n", self.name, "link", "set", "far", "up")
        ip("link", "set", self.name, "up")

    @property
    def prefix(self) -> tuple[str, ...]:
        """What makes a command run at the far end."""
        return ("ip", "netns", "exec", self.name)

    def pull(self) -> None:
        ip("link", "set", self.name, "down")

    def put_back(self) -> None:
        ip("link", "set", self.name, "up")

    def remove(self) -> None:
        ip("netns", "delete", self.name)  # and with it the pair


@pytest.fixture
def cable() -> Iterator[Cable]:
    cable = Cable(os.getpid())
    yield cable
    cable.remove()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return make_keys(tmp_path / "keys")


def pids(cluster: Cluster) -> set[int]:
    return {worker.pid for worker in cluster.status().workers}


def test_a_pulled_cable_costs_the_work_of_that_machine_and_no_result(
    cable: Cable, keys: Path, tmp_path: Path
) -> None:
    with (
        Cluster(f"tcp://{cable.near_address}:0", keys, grace_s=1.0, verbose=False) as cluster,
        AgentProcess(cluster.address, keys, 2, prefix=cable.prefix) as far,
    ):
        cluster.wait_for_workers(2, PATIENCE_S)
        far_pids = pids(cluster)
        gate = str(tmp_path / "go")
        stuck = [cluster.submit(jobs.wait_for, gate) for _ in range(2)]
        wait_until(lambda: all(future.running() for future in stuck), "they run")
        cable.pull()
        with AgentProcess(cluster.address, keys, 2) as near:
            wait_until(lambda: not far_pids & pids(cluster), "the far machine is missed")
            far.expect("the connection to the master is lost")
            Path(gate).touch()
            results = {future.result(PATIENCE_S) for future in stuck}
            assert not results & far_pids
            cable.put_back()
            far.expect("connected to the master again", 60.0)
            wait_until(lambda: far_pids <= pids(cluster), "both are back", 60.0)
            near.signal(signal.SIGTERM)
            assert near.wait() == 0
        wait_until(lambda: pids(cluster) == far_pids, "the near machine has left")
        squares = cluster.map(jobs.slow_square, range(20))
        assert list(squares) == [k * k for k in range(20)]
        counters = cluster.status().counters
        assert (counters["workers_joined"], counters["agents_lost"]) == (6, 1)


def test_a_short_interruption_costs_nothing(cable: Cable, keys: Path, tmp_path: Path) -> None:
    with (
        Cluster(f"tcp://{cable.near_address}:0", keys, grace_s=60.0, verbose=False) as cluster,
        AgentProcess(cluster.address, keys, 2, prefix=cable.prefix) as far,
    ):
        cluster.wait_for_workers(2, PATIENCE_S)
        gate = str(tmp_path / "go")
        running = [cluster.submit(jobs.wait_for, gate) for _ in range(2)]
        wait_until(lambda: all(future.running() for future in running), "they run")
        cable.pull()
        far.expect("the connection to the master is lost")
        Path(gate).touch()  # so they end while nobody hears of it
        cable.put_back()
        assert {future.result(60.0) for future in running} == pids(cluster)
        counters = cluster.status().counters
        assert (counters["workers_joined"], counters["attempts"]) == (2, 2)


def test_a_machine_without_a_way_to_the_master_says_so(cable: Cable, keys: Path) -> None:
    with AgentProcess("tcp://10.78.0.1:5555", keys, prefix=cable.prefix) as agent:
        agent.expect("there is no way to that network")


def test_the_line_of_a_master_that_listens_everywhere_can_be_dialled(
    cable: Cable, keys: Path
) -> None:
    """From the namespace only the cable's address can be reached, so it is put in by hand."""
    with Cluster("tcp://0.0.0.0:0", keys, verbose=False) as cluster:
        assert "0.0.0.0" not in dialable(cluster.address)
        port = cluster.address.rpartition(":")[2]
        address = f"tcp://{cable.near_address}:{port}"
        with AgentProcess(address, keys, prefix=cable.prefix):
            assert cluster.submit(jobs.add, 1, 2).result(PATIENCE_S) == 3
