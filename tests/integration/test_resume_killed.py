"""Kill -9 of the master at random moments: what is left is gone on from, to the right end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramserver as ps
from tests.integration.far_worker import FAR_AGENT
from tests.integration.remote import AgentProcess
from tests.integration.training_master import N_ROWS, settings


def start(folder: Path, *arguments: str, stderr: int | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.integration.training_master", str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)


def next_line(master: subprocess.Popen[str]) -> str:
    assert master.stdout is not None
    return master.stdout.readline()


def last_line(master: subprocess.Popen[str]) -> str:
    assert master.stdout is not None
    return master.stdout.readlines()[-1]


def run_to_the_end(folder: Path, name: str, *options: str) -> dict[str, Any]:
    with start(folder, name, *options) as master:
        last = last_line(master)
    assert master.returncode == 0
    found: dict[str, Any] = json.loads(last)
    return found


def kill_again_and_again(folder: Path, name: str, n_kills: int, seed: int) -> list[int]:
    """Start masters and kill them; return how far the checkpoint was each time, at least once."""
    chance, reached = random.Random(seed), []
    for _ in range(n_kills):
        with start(folder, name) as master:
            # It is training when it first says so; how long it may after that is left to chance.
            next_line(master)
            try:
                master.wait(chance.uniform(0, 0.08))
            except subprocess.TimeoutExpired:
                master.kill()
        if master.returncode == 0:  # it has come to its end before its turn
            break
        assert master.returncode == -signal.SIGKILL
        state = ps.Checkpoints(folder).newest()  # a warning of a damaged one would be an error
        reached.append(0 if state is None else state.meta["unit"])
    assert reached
    return reached


@pytest.fixture(scope="module")
def calm() -> Iterator[dict[str, ps.TrainingResult]]:
    """What comes out where nobody is killed."""
    with ps.LocalCluster(2) as cluster:
        yield {
            name: ps.fit(cluster=cluster, **settings(name, pause_s=0.0))
            for name in ("avg", "outer", "adam")
        }


def check(name: str, found: dict[str, Any], calm: dict[str, ps.TrainingResult]) -> None:
    if name in calm:
        assert found["sha256"] == calm[name].sha256
        assert (found["units"], found["examples"]) == (calm[name].units, calm[name].examples)
        return
    assert (found["pushes"], found["examples"]) == (N_ROWS, 2 * N_ROWS)
    weights = np.array(found["weights"])
    if name == "bsp":  # each row adds its share of the step it is in
        assert ((weights > 0) & (weights <= 2)).all()
    else:
        assert np.array_equal(weights, np.full(N_ROWS, 2.0))


@pytest.mark.parametrize(
    ("name", "n_kills"),
    [("avg", 2), ("outer", 3), ("async", 2), ("bsp", 1), ("ssp", 1), ("adam", 1)],
)
def test_a_training_whose_master_is_killed_again_and_again_comes_to_the_same_end(
    tmp_path: Path, calm: dict[str, ps.TrainingResult], name: str, n_kills: int
) -> None:
    reached = kill_again_and_again(tmp_path, name, n_kills, seed=1)
    assert reached == sorted(reached)
    check(name, run_to_the_end(tmp_path, name), calm)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["avg", "outer", "async", "bsp", "ssp", "adam"])
def test_a_training_whose_master_is_killed_many_times_comes_to_the_same_end(
    tmp_path: Path, calm: dict[str, ps.TrainingResult], name: str, seed: int
) -> None:
    kill_again_and_again(tmp_path, name, 4, seed=100 + seed)
    check(name, run_to_the_end(tmp_path, name), calm)


def test_a_master_killed_between_applying_a_push_and_answering_it_loses_nothing(
    tmp_path: Path, calm: dict[str, ps.TrainingResult]
) -> None:
    with start(tmp_path, "async", "--dies-at", "90") as master:
        last_line(master)
    assert master.returncode == -signal.SIGKILL
    check("async", run_to_the_end(tmp_path, "async"), calm)


def stop_for_a_while(master: subprocess.Popen[str], seconds: float) -> None:
    os.kill(master.pid, signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        master.wait(seconds)
    os.kill(master.pid, signal.SIGCONT)


def test_a_master_that_was_stopped_for_a_while_evicts_nobody_whatever_the_wall_clock_says(
    tmp_path: Path, calm: dict[str, ps.TrainingResult]
) -> None:
    """Longer than the heartbeats of its connections allow for: its workers wait, and go on."""
    with start(tmp_path, "outer", "--jumps") as master:
        next_line(master)
        stop_for_a_while(master, 4.0)
        found = json.loads(last_line(master))
    assert abs(found["clock"]) > 7_000  # two looks at it in a row
    assert found["workers_lost"] == 0
    check("outer", found, calm)


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_remote", [False, True], ids=["local", "tcp"])
@pytest.mark.parametrize("name", ["outer", "ssp"])
def test_a_master_of_ten_workers_that_was_stopped_for_20_s_evicts_nobody(
    tmp_path: Path, keys: Path, name: str, is_remote: bool
) -> None:
    options = ["--n", "10", "--jumps"]
    if is_remote:
        options += ["--keys", str(keys), "--address", "tcp://127.0.0.1:0"]
    with ExitStack() as stack:
        master = stack.enter_context(start(tmp_path, name, *options))
        if is_remote:
            address = next_line(master).strip()
            stack.enter_context(AgentProcess(address, keys, 10, program=("-c", FAR_AGENT)))
        next_line(master)
        stop_for_a_while(master, 20.0)
        found = json.loads(last_line(master))
    assert abs(found["clock"]) > 7_000
    assert found["workers_lost"] == 0
    check_ten(name, found)


def check_ten(name: str, found: dict[str, Any]) -> None:
    """Compare with what one process makes of ten partitions, undisturbed."""
    calm = {}
    if name == "outer":
        calm[name] = ps.fit(cluster=None, **settings(name, pause_s=0.0, n_workers=10))
    check(name, found, calm)


def test_two_masters_do_not_train_in_one_folder(
    tmp_path: Path, calm: dict[str, ps.TrainingResult]
) -> None:
    with start(tmp_path, "outer") as first:
        next_line(first)
        os.kill(first.pid, signal.SIGSTOP)  # so that it does not end meanwhile
        try:
            with start(tmp_path, "outer", stderr=subprocess.PIPE) as second:
                assert second.stderr is not None
                complaint = second.stderr.read()
        finally:
            first.kill()
    assert second.returncode == 1
    assert f"ConfigError: Process {first.pid} is training in {tmp_path}" in complaint
    check("outer", run_to_the_end(tmp_path, "outer"), calm)


@pytest.mark.parametrize("name", ["outer", "ssp"])
def test_workers_of_other_machines_wait_for_the_next_master_and_go_on(
    tmp_path: Path, keys: Path, calm: dict[str, ps.TrainingResult], name: str
) -> None:
    """What they were sending to the one that was killed counts for nothing with the next one."""
    here = ("--keys", str(keys), "--address")
    with start(tmp_path, name, *here, "tcp://127.0.0.1:0") as first:
        address = next_line(first).strip()
        with AgentProcess(address, keys, 2, program=("-c", FAR_AGENT)):
            assert int(next_line(first)) >= 0  # it trains
            first.kill()
            found = run_to_the_end(tmp_path, name, *here, address)
    assert first.returncode == -signal.SIGKILL
    check_fenced(found, 2)
    check(name, found, calm)


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["outer", "async", "ssp"])
def test_ten_computing_workers_wait_for_the_next_master_and_go_on(
    tmp_path: Path, keys: Path, name: str
) -> None:
    here = ("--n", "10", "--keys", str(keys), "--address")
    with start(tmp_path, name, *here, "tcp://127.0.0.1:0") as first:
        address = next_line(first).strip()
        with AgentProcess(address, keys, 10, program=("-c", FAR_AGENT)):
            assert int(next_line(first)) >= 0
            first.kill()
            found = run_to_the_end(tmp_path, name, *here, address)
    assert first.returncode == -signal.SIGKILL
    check_fenced(found, 10)
    check_ten(name, found)


def check_fenced(found: dict[str, Any], n_workers: int) -> None:
    """See that all who were let in by the master before were asked to begin anew."""
    assert found["fenced"] >= n_workers + 1  # and their agent
    assert found["workers_lost"] == 0
    assert found["rejected"] == {}  # nothing of the old lives came as far as the weights
