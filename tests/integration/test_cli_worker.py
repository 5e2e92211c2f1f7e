"""The commands `paramserver keys` and `python -m paramserver.worker`, as their users meet them."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from paramserver.cluster import Cluster
from paramserver.core.master import MasterMachine
from paramserver.transport.security import make_keys
from tests.integration import remote_jobs as jobs
from tests.integration.remote import PATIENCE_S, ROOT, AgentProcess, wait_until

SOON_S = 5.0
"""What has to be said within two seconds, on a machine that is busy with other tests."""


@pytest.fixture
def cluster(keys: Path) -> Iterator[Cluster]:
    with Cluster("tcp://127.0.0.1:0", keys, grace_s=0.5, verbose=False) as cluster:
        yield cluster


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paramserver.cli", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def part_of_the_keys(keys: Path, folder: Path, *names: str) -> Path:
    folder.mkdir(mode=0o700)
    for name in names:
        (folder / name).write_bytes((keys / name).read_bytes())
        (folder / name).chmod(0o600)
    return folder


# --- paramserver keys -----------------------------------------------------------------------------


def test_keys_are_made_once_and_the_next_step_is_shown(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    done = command("keys", str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"scp {folder}/worker.secret {folder}/master.public" in done.stdout
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("master.secret", "master.public", "worker.secret", "worker.public"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        if name.endswith(".secret"):
            assert (folder / name).read_text().split()[-1] not in done.stdout
    before = (folder / "worker.secret").read_bytes()
    again = command("keys", str(folder))
    assert again.returncode == 77
    assert "holds keys already" in again.stderr
    assert "Traceback" not in again.stderr
    assert (folder / "worker.secret").read_bytes() == before


def test_keys_that_cannot_be_written_are_one_line_of_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = command("keys", str(tmp_path / "file" / "keys"))
    assert done.returncode == 77
    assert done.stderr.count("\n") == 1
    assert "Not a directory" in done.stderr


def test_help_lists_the_commands_and_imports_nothing_that_they_need() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert {"keys", "worker"} <= set(done.stdout.split())
    program = (
        "import sys; from paramserver import cli; sys.argv[1:] = ['--help']\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert "typer" in modules
    assert modules.isdisjoint({"zmq", "numpy", "rich.console", "msgpack"})


def test_a_child_imports_nothing_of_the_command_line() -> None:
    program = (
        "import sys; sys.argv[1:] = ['--child']; import paramserver.worker as w\n"
        "try: w.main()\n"
        "except ValueError as error: print(error)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "Standard input ended" in done.stdout
    modules = set(done.stdout.splitlines()[-1].split())
    assert "paramserver.runtime.worker" in modules
    assert modules.isdisjoint({"typer", "click", "rich"})


# --- the story that an agent tells ----------------------------------------------------------------


def test_the_printed_line_starts_workers_and_each_step_is_told(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Cluster("tcp://127.0.0.1:0", keys) as cluster:
        printed = capsys.readouterr().out
        assert printed == f"Start workers with:  {cluster.worker_command()}\n"
        words = cluster.worker_command(n_workers=2).split()
        assert words[:3] == ["python", "-m", "paramserver.worker"]
        options = dict(zip(words[4::2], words[5::2], strict=True))
        folder = Path(options["--keys"])
        with AgentProcess(words[3], folder, int(options["--n-workers"])) as agent:
            assert agent.expect("paramserver: connecting to tcp://127.0.0.1:") < SOON_S
            agent.expect("connected; starting 2 workers")
            agent.expect("2 workers up, waiting for jobs; Ctrl-C to leave")
            cluster.wait_for_workers(2, PATIENCE_S)
            assert cluster.submit(jobs.add, 20, 22).result(PATIENCE_S) == 42


def test_where_nobody_listens_the_reason_is_told_and_it_tries_until_it_gives_up(keys: Path) -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))  # bound, but not listening: nobody else gets the port
        address = f"tcp://127.0.0.1:{placeholder.getsockname()[1]}"
        with AgentProcess(address, keys, 1, "--give-up", "2") as agent:
            told_s = agent.expect(f"no master at {address}: nothing listens at that port")
            assert told_s < SOON_S
            assert "It is tried again for" in agent.said
            assert agent.wait() == 75
            assert "No master has answered for 2 s" in agent.said


def test_a_master_that_comes_late_is_found(keys: Path) -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{placeholder.getsockname()[1]}"
        agent = AgentProcess(address, keys)
        with agent:
            agent.expect("no master at")
            placeholder.close()
            with Cluster(address, keys, verbose=False) as cluster:
                cluster.wait_for_workers(1, PATIENCE_S)
                agent.expect("1 worker up")
            assert agent.wait() == 0


def test_a_name_that_no_machine_has_is_told(keys: Path) -> None:
    with AgentProcess("tcp://no-such-machine.invalid:5555", keys, 1, "--give-up", "30") as agent:
        agent.expect("there is no machine of the name no-such-machine.invalid")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((), "is used only with keys"),
        (("master.public",), "worker.secret cannot be read"),
        (("worker.secret",), "master.public cannot be read"),
    ],
)
def test_missing_keys_are_told_at_once(
    keys: Path, tmp_path: Path, cluster: Cluster, files: tuple[str, ...], words: str
) -> None:
    folder = part_of_the_keys(keys, tmp_path / "part", *files) if files else None
    with AgentProcess(cluster.address, folder) as agent:
        assert agent.wait(SOON_S) == 77
        assert words in agent.said
        assert "Traceback" not in agent.said


@pytest.mark.parametrize("options", [("--n-workers", "0"), ("--nonsense",)])
def test_an_option_that_cannot_be_is_one_paragraph_and_77(options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "paramserver.worker", "tcp://127.0.0.1:1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 77
    assert options[0] in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stranger", ["worker.secret", "master.public"])
def test_keys_of_another_master_are_refused_in_words(
    keys: Path, tmp_path: Path, cluster: Cluster, stranger: str
) -> None:
    folder = part_of_the_keys(keys, tmp_path / "mixed", "worker.secret", "master.public")
    others = make_keys(tmp_path / "others")
    (folder / stranger).write_bytes((others / stranger).read_bytes())
    with AgentProcess(cluster.address, folder) as agent:
        told_s = agent.expect(f"copy {stranger} anew")
        assert told_s < SOON_S
        assert agent.wait() == 77
    assert cluster.n_workers == 0


def test_another_release_is_refused_in_words(keys: Path, cluster: Cluster) -> None:
    program = (
        "import paramserver, sys; paramserver.__version__ = '0.0.1'; sys.argv[0] = 'worker';"
        "from paramserver.worker import main; sys.exit(main())"
    )
    with AgentProcess(cluster.address, keys, program=("-c", program)) as agent:
        assert agent.wait() == 77
        assert "it runs paramserver 0.0.1" in agent.said
        assert "install the same versions" in agent.said
    assert cluster.status().counters["refused"] == 1


@pytest.mark.parametrize(
    "address", ["localhost:5555", "http://localhost:1", "tcp://host", "tcp://h:x"]
)
def test_an_address_that_is_none_is_one_paragraph(keys: Path, address: str) -> None:
    with AgentProcess(address, keys) as agent:
        assert agent.wait() == 77
        assert "cannot be used" in agent.said
        assert "Traceback" not in agent.said


def test_workers_that_never_come_up_end_the_agent_with_their_last_words(
    keys: Path, tmp_path: Path, cluster: Cluster
) -> None:
    program = (
        "import sys; sys.argv[0] = 'worker'; from functools import partial\n"
        "from paramserver.runtime import remote_agent as remote\n"
        "remote.WorkerSpec = partial(remote.WorkerSpec, module='tests.nothing')\n"
        "from paramserver.worker import main; sys.exit(main())"
    )
    with AgentProcess(cluster.address, keys, program=("-c", program)) as agent:
        assert agent.wait() == 1
        assert "No module named tests.nothing" in agent.said
        assert "No worker of agent" in agent.said


def test_workers_for_whom_there_is_no_room_are_told_and_not_replaced(
    keys: Path, cluster: Cluster
) -> None:
    limit_members(cluster, 2)
    with AgentProcess(cluster.address, keys, 3) as agent:
        agent.expect("1 worker up")
        assert agent.said.count("it is not replaced") == 2
        assert "it has room for 2 workers and agents" in agent.said
        assert cluster.submit(jobs.add, 1, 1).result(PATIENCE_S) == 2


def test_an_agent_whose_workers_are_all_refused_ends_with_their_words(
    keys: Path, cluster: Cluster
) -> None:
    limit_members(cluster, 1)
    with AgentProcess(cluster.address, keys, 2) as agent:
        assert agent.wait() == 77
        assert agent.said.count("it is not replaced") == 2
        assert agent.said.rstrip().endswith("raise the limit where the master runs (ulimit -n).")


def limit_members(cluster: Cluster, n: int) -> None:
    def limit(machine: MasterMachine) -> None:
        machine._admission.max_members = n

    cluster.internals().master.ask(limit)


# --- how it ends ----------------------------------------------------------------------------------


def test_ctrl_c_lets_jobs_end_and_a_second_one_does_not(
    keys: Path, cluster: Cluster, tmp_path: Path
) -> None:
    with AgentProcess(cluster.address, keys) as agent:
        cluster.wait_for_workers(1, PATIENCE_S)
        future = cluster.submit(jobs.note_and_wait, str(tmp_path / "note"), str(tmp_path / "go"))
        wait_until(lambda: list(tmp_path.glob("note.*")), "the job runs")
        agent.signal(signal.SIGINT)
        agent.expect("once more (Ctrl-C) to end at once")
        wait_until(lambda: cluster.status().workers[0].state == "draining", "it drains")
        second_at = time.monotonic()
        agent.signal(signal.SIGINT)
        assert agent.wait() == 0
        assert time.monotonic() - second_at < SOON_S
    (tmp_path / "go").touch()
    with AgentProcess(cluster.address, keys):
        assert future.result(PATIENCE_S)


def test_an_idle_agent_leaves_at_once(keys: Path, cluster: Cluster) -> None:
    with AgentProcess(cluster.address, keys, 2) as agent:
        agent.expect("2 workers up")
        workers = agent.workers()
        asked_at = time.monotonic()
        agent.signal(signal.SIGTERM)
        assert agent.wait() == 0
        assert time.monotonic() - asked_at < SOON_S
        _, alive = psutil.wait_procs(workers, PATIENCE_S)
        assert alive == []
        wait_until(lambda: cluster.n_workers == 0, "the master has heard it")
        assert cluster.status().counters["workers_left"] == 2


def test_an_agent_without_master_leaves_at_once(keys: Path) -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        with AgentProcess(f"tcp://127.0.0.1:{placeholder.getsockname()[1]}", keys) as agent:
            agent.expect("no master at")
            agent.signal(signal.SIGINT)
            assert agent.wait(SOON_S) == 0


def test_a_reader_that_has_gone_does_not_end_the_work(keys: Path, cluster: Cluster) -> None:
    """As with ``python -m paramserver.worker ... | head``."""
    agent = AgentProcess(cluster.address, keys)
    with agent:
        agent.expect("1 worker up")
        agent.stop_reading()
        (worker,) = agent.workers()
        worker.send_signal(signal.SIGKILL)  # of which it tells, to nobody
        worker.wait(PATIENCE_S)
        assert cluster.submit(jobs.where).result(PATIENCE_S) != worker.pid
        os.kill(agent.pid, signal.SIGTERM)
        assert agent.wait() == 0
