"""Machines, wires and processes fail at random, under work whose result is known."""

from __future__ import annotations

import random
import signal
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from paramserver.cluster import Cluster
from paramserver.transport.security import make_keys
from tests.integration import remote_jobs as jobs
from tests.integration.remote import PATIENCE_S, AgentProcess, Wire

N_JOBS = 1_500
N_MACHINES = 2


class Machine:
    """An agent with two workers, behind a wire of its own."""

    def __init__(self, address: str, keys: Path, stack: ExitStack) -> None:
        self._keys = keys
        self._stack = stack
        self._wire = stack.enter_context(Wire(address))
        self._start()

    def _start(self) -> None:
        self._agent = self._stack.enter_context(AgentProcess(self._wire.address, self._keys, 2))

    def suffer(self, chance: random.Random) -> None:
        """Let one thing go wrong, and end where it does."""
        match chance.choice(["kill", "kill", "stop", "cut", "crash"]):
            case "kill":
                for worker in self._agent.workers()[:1]:
                    worker.kill()
            case "stop":
                for worker in self._agent.workers()[:1]:
                    worker.suspend()
                    rest(2.0 * chance.random())
                    worker.resume()
            case "cut":
                self._wire.cut()
                rest(chance.random())
                self._wire.mend()
            case "crash":
                self._agent.signal(signal.SIGKILL)
                self._agent.wait()
                self._start()


def rest(seconds: float) -> None:
    threading.Event().wait(seconds)


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(5))
def test_whatever_fails_every_result_is_right_and_comes_once(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    tmp_path.chmod(0o700)
    keys = make_keys(tmp_path / "keys")
    with ExitStack() as stack:
        cluster = stack.enter_context(
            Cluster("tcp://127.0.0.1:0", keys, grace_s=0.5, verbose=False)
        )
        machines = [Machine(cluster.address, keys, stack) for _ in range(N_MACHINES)]
        cluster.wait_for_workers(2 * N_MACHINES, PATIENCE_S)
        futures = [cluster.submit(jobs.slow_square, number) for number in range(N_JOBS)]
        end_at = time.monotonic() + 20.0
        while time.monotonic() < end_at and not futures[-1].done():
            with suppress(psutil.NoSuchProcess):  # it has ended by itself
                chance.choice(machines).suffer(chance)
            rest(0.3)
        assert [future.result(60.0) for future in futures] == [n * n for n in range(N_JOBS)]
        assert cluster.status().counters["workers_lost"] > 0
