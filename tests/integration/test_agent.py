"""The agent with real processes: what it notices, how fast, and what it leaves behind (nothing)."""

from __future__ import annotations

import errno
import json
import os
import queue
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from paramserver.core.restarts import RestartLimits, RestartPolicy
from paramserver.errors import (
    ClusterClosed,
    ClusterError,
    ConfigError,
    InitializerFailed,
    InternalError,
)
from paramserver.protocol.messages import ProcessExited
from paramserver.runtime import agent as agent_module
from paramserver.runtime.agent import Agent, Death
from paramserver.runtime.flight_recorder import FlightRecorder
from paramserver.runtime.scratch import sweep
from paramserver.runtime.stderr_relay import StderrRelay
from paramserver.runtime.worker_process import WorkerProcess
from paramserver.runtime.worker_spec import WorkerSpec

PATIENCE_S = 20.0
"""How long a test waits for what should take milliseconds, on a machine that is busy."""
CHILD = "tests.integration.agent_child"
PARENT = "tests.integration.agent_parent"
IMPATIENT = RestartLimits(n_free=1_000_000)
"""Restarts at once, however often."""


class Station:
    """Where the children report to."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "s")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(PATIENCE_S)

    def hear(self) -> dict[str, Any]:
        return dict(json.loads(self._socket.recv(1 << 20)))

    def hear_all(self, n: int) -> dict[str, int]:
        return {said["worker_id"]: said["pid"] for said in (self.hear() for _ in range(n))}

    def close(self) -> None:
        self._socket.close()


class Crew:
    """An agent of stand-in workers, and the deaths it has told of."""

    def __init__(
        self, station: Station, do: str, policy: RestartPolicy | None = None, **spec: Any
    ) -> None:
        options = {"station": station.path, "do": do} | spec.pop("options", {})
        self._deaths: queue.Queue[tuple[ProcessExited, bool, float]] = queue.Queue()
        self.spec = WorkerSpec("ipc:///nowhere", "run", module=CHILD, options=options, **spec)
        self.agent = Agent("a", self.spec, self._on_exit, policy=policy)

    def _on_exit(self, exited: ProcessExited, expected: bool) -> None:
        self._deaths.put((exited, expected, time.monotonic()))

    def next_death(self) -> tuple[ProcessExited, bool, float]:
        return self._deaths.get(timeout=PATIENCE_S)

    def no_more_deaths(self) -> bool:
        return self._deaths.empty()

    def death_of(self, worker_id: str) -> Death:
        death = self.agent.death(worker_id)
        assert death is not None
        return death


@pytest.fixture
def station() -> Iterator[Station]:
    with tempfile.TemporaryDirectory() as folder:  # a short path, for a socket
        station = Station(folder)
        yield station
        station.close()


@pytest.fixture
def crew(station: Station) -> Iterator[Callable[..., Crew]]:
    with ExitStack() as stack:

        def make(do: str, **kwargs: Any) -> Crew:
            made = Crew(station, do, **kwargs)
            stack.callback(made.agent.close)
            return made

        yield make


@pytest.fixture(params=["Linux", "old Linux", "macOS", "old macOS"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system as it is, and as poor as others are."""
    if request.param == "old Linux":
        monkeypatch.setattr(os, "pidfd_open", refuse_with(errno.ENOSYS))
    if "macOS" in request.param:
        monkeypatch.delattr(os, "pidfd_open")
    if request.param == "old macOS":
        monkeypatch.delattr(os, "waitid")


def refuse_with(number: int) -> Callable[[int], int]:
    def refuse(pid: int) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look again and again, for what tells nothing by itself."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        threading.Event().wait(0.002)


def ends_within(pidfd: int, seconds: float) -> bool:
    return bool(select.select([pidfd], [], [], seconds)[0])


# --- deaths --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("system")
def test_a_kill_is_noticed_at_once_with_the_job_that_ran(
    crew: Callable[..., Crew], station: Station
) -> None:
    it = crew("wait_in_a_job")
    it.agent.scale(1)
    said = station.hear()
    assert it.agent.live() == {"a-0": said["pid"]}
    killed_at = time.monotonic()
    os.kill(said["pid"], signal.SIGKILL)
    exited, expected, noticed_at = it.next_death()
    assert exited == ProcessExited("a-0", said["pid"], -signal.SIGKILL, 7, 2, "")
    assert not expected
    assert noticed_at - killed_at < 2.0
    replacement = station.hear()
    assert replacement["worker_id"] == "a-1"
    assert it.agent.live() == {"a-1": replacement["pid"]}
    assert it.death_of("a-0").killed_for == ""
    assert it.agent.death("a-1") is None


def test_between_two_jobs_the_last_one_is_named_as_its_result_may_be_lost(
    crew: Callable[..., Crew], station: Station
) -> None:
    it = crew("wait_after_a_job")
    it.agent.scale(1)
    os.kill(station.hear()["pid"], signal.SIGTERM)
    exited, _, _ = it.next_death()
    assert (exited.exit_code, exited.job, exited.attempt) == (-signal.SIGTERM, 7, 2)
    assert it.death_of("a-0").n_ended == 1


def test_the_exit_code_and_the_last_lines_are_told_and_passed_on(
    crew: Callable[..., Crew], capfd: pytest.CaptureFixture[str]
) -> None:
    it = crew("complain_and_fail", policy=RestartPolicy(RestartLimits(n_free=0, first_delay_s=60)))
    it.agent.scale(1)
    exited, _, _ = it.next_death()
    assert exited.exit_code == 3
    assert exited.stderr_tail == "".join(f"complaint {i}\n" for i in range(10, 30))
    it.agent.close()
    assert capfd.readouterr().err == "".join(f"complaint {i}\n" for i in range(30))


@pytest.mark.usefixtures("system")
def test_last_words_that_nobody_has_read_yet_are_read_at_the_death(
    crew: Callable[..., Crew],
) -> None:
    process = WorkerProcess("a-0", "a", "token", crew("complain_and_fail").spec)
    pidfd = process.pidfd
    wait_until(process.is_over if pidfd < 0 else lambda: ends_within(pidfd, 0.0), "over")
    process.kill("too late to be the cause")
    reader, writer = os.pipe()
    death = process.reap(StderrRelay(writer), lived_s=1.5)
    process.close()
    os.close(writer)
    assert death.exited.exit_code == 3
    assert death.exited.stderr_tail.endswith("complaint 29\n")
    assert os.read(reader, 65536).endswith(b"complaint 29\n")
    assert (death.killed_for, death.lived_s) == ("", 1.5)
    os.close(reader)


def test_a_crash_in_c_leaves_a_traceback(crew: Callable[..., Crew]) -> None:
    it = crew("crash_in_c")
    it.agent.scale(1)
    exited, _, _ = it.next_death()
    assert (exited.exit_code, exited.job) == (-signal.SIGSEGV, 9)
    assert "in crash_in_c" in exited.stderr_tail


def test_a_child_without_memory_says_so(crew: Callable[..., Crew]) -> None:
    it = crew("eat_memory", memory_limit_bytes=1 << 30)
    it.agent.scale(1)
    exited, _, _ = it.next_death()
    assert exited.exit_code == 1
    assert exited.stderr_tail.endswith("MemoryError\n")


def test_the_memory_of_the_dead_is_told(crew: Callable[..., Crew], station: Station) -> None:
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # of this process
    n_bytes = peak_bytes + (256 << 20)
    it = crew("fill_memory", options={"n_bytes": n_bytes})
    it.agent.scale(1)
    os.kill(station.hear()["pid"], signal.SIGKILL)
    it.next_death()
    told = it.death_of("a-0").max_rss_bytes
    assert told is not None
    assert n_bytes < told < n_bytes + (128 << 20)


def test_memory_that_may_be_the_parent_s_is_not_told(
    crew: Callable[..., Crew], station: Station
) -> None:
    ballast = bytearray(128 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    it = crew("wait_in_a_job")
    it.agent.scale(1)
    os.kill(station.hear()["pid"], signal.SIGKILL)
    it.next_death()
    assert it.death_of("a-0").max_rss_bytes is None


@pytest.mark.usefixtures("system")
def test_a_kill_by_the_agent_is_told_with_its_reason(
    crew: Callable[..., Crew], station: Station
) -> None:
    it = crew("wait_in_a_job")
    it.agent.scale(1)
    station.hear()
    it.agent.kill("a-0", "past its deadline")
    it.agent.kill("a-0", "again")
    it.agent.kill("nobody", "no matter")
    exited, expected, _ = it.next_death()
    assert exited.exit_code == -signal.SIGKILL
    assert not expected
    assert it.death_of("a-0").killed_for == "past its deadline"
    assert station.hear()["worker_id"] == "a-1"


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_grandchild_that_holds_stderr_open_delays_nothing(
    crew: Callable[..., Crew], station: Station, stubborn: bool
) -> None:
    it = crew("leave_a_grandchild", options={"stubborn": stubborn})
    it.agent.scale(1)
    said = station.hear()
    grandchild = os.pidfd_open(said["grandchild"])
    it.agent.retire("a-0")
    killed_at = time.monotonic()
    os.kill(said["pid"], signal.SIGKILL)
    _, _, noticed_at = it.next_death()
    assert noticed_at - killed_at < 2.0
    if stubborn:
        assert not ends_within(grandchild, 0.0)
        signal.pidfd_send_signal(grandchild, signal.SIGKILL)
    assert ends_within(grandchild, PATIENCE_S)  # an obedient one has been told to end
    os.close(grandchild)


def test_an_exit_status_that_others_took_is_told_as_unknown(
    crew: Callable[..., Crew], station: Station
) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    try:
        it = crew("wait_in_a_job")
        it.agent.scale(1)
        os.kill(station.hear()["pid"], signal.SIGKILL)
        exited, _, _ = it.next_death()
        assert exited.exit_code == 255
        assert "taken by another part" in exited.stderr_tail
        it.agent.close()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_other_children_of_the_program_are_left_alone(
    crew: Callable[..., Crew], station: Station
) -> None:
    other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(42)"])
    it = crew("wait_in_a_job")
    it.agent.scale(1)
    os.kill(station.hear()["pid"], signal.SIGKILL)
    it.next_death()
    it.agent.close()
    assert other.wait() == 42


def test_the_recorder_is_whole_at_whatever_moment_the_worker_is_killed(
    crew: Callable[..., Crew], station: Station
) -> None:
    it = crew("fly", policy=RestartPolicy(IMPATIENT))
    it.agent.scale(1)
    for k in range(12):
        pid = station.hear()["pid"]
        for _ in range(200):  # while it writes
            process = it.agent._processes[f"a-{k}"][0]
            running, n_ended = process._recorder.read()
            assert running in (None, (n_ended, n_ended % 97))
        os.kill(pid, signal.SIGKILL)
        exited, _, _ = it.next_death()
        n_ended = it.death_of(f"a-{k}").n_ended
        last = n_ended - 1
        assert (exited.job, exited.attempt) in ((n_ended, n_ended % 97), (last, last % 97))


# --- birth ---------------------------------------------------------------------------------------


def test_a_child_inherits_what_it_needs_and_nothing_else(
    crew: Callable[..., Crew], station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/my/modules")
    secret_fd = os.memfd_create("mine")
    os.set_inheritable(secret_fd, True)
    it = crew("describe_itself", cwd=str(tmp_path), allow=("mine",), trusted=True)
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    it.agent.scale(1)
    said = station.hear()
    needed = {0, 1, 2, said["recorder_fd"], said["lifeline_fd"]}
    page = said["fds"][str(said["recorder_fd"])]
    others = {int(fd) for fd, target in said["fds"].items() if target != page}  # mmap has its own
    assert others | {said["recorder_fd"]} == needed, said["fds"]
    assert said["inheritable"] == [0, 1, 2]
    assert said["stdin"] == ""
    assert said["is_session_leader"]
    assert said["cwd"] == str(tmp_path)
    assert said["sys_path"] == [entry or os.getcwd() for entry in sys.path]
    assert said["env"]["PYTHONPATH"] == "/my/modules"
    assert said["env"]["OMP_NUM_THREADS"] == said["env"]["MKL_NUM_THREADS"] == "1"
    assert (said["token"], said["agent_id"]) == (it.agent.token, "a")
    assert (said["allow"], said["trusted"]) == (["mine"], True)
    assert it.agent.token not in " ".join(said["argv"])
    assert it.agent.token not in json.dumps(said["environment"])
    assert said["argv"][-3:] == ["-m", CHILD, "--child"]
    os.close(secret_fd)


def test_a_configuration_larger_than_a_pipe_arrives(
    crew: Callable[..., Crew], station: Station
) -> None:
    it = crew("describe_itself", allow=tuple(f"package_{i:05}" for i in range(20_000)))
    it.agent.scale(1)
    assert station.hear()["n_allowed"] == 20_000


def test_a_child_that_does_not_read_its_configuration_holds_nobody_up(
    crew: Callable[..., Crew], tmp_path: Path
) -> None:
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o700)
    it = crew("wait_in_a_job", allow=("x" * 100,) * 20_000, executable=str(sleeper))
    it.agent.scale(2)
    wait_until(lambda: len(it.agent.live()) == 2, "both are there")
    it.agent.kill("a-0", "it does not listen")
    assert it.next_death()[0].exit_code == -signal.SIGKILL


def test_a_large_configuration_of_a_child_that_dies_before_reading_it_is_no_trouble(
    crew: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = crew("wait_in_a_job", allow=("x" * 100,) * 20_000, executable="/bin/false")
    it.agent.scale(1)
    exited, _, _ = it.next_death()
    assert exited.exit_code == 1


def test_ten_workers_are_started_and_named_once(
    crew: Callable[..., Crew], station: Station
) -> None:
    it = crew("wait_in_a_job")
    it.agent.scale(6)
    said = station.hear_all(6)
    assert set(said) == {f"a-{k}" for k in range(6)}
    assert it.agent.live() == said


@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_it_works_under_an_optimising_interpreter(
    station: Station, tmp_path: Path, flag: str
) -> None:
    with parent(station, "describe_itself", 1, tmp_path, flag):
        said = station.hear()
        assert said["optimize"] == flag.count("O")
        assert flag in said["argv"]


# --- how many ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("system")
def test_a_retired_worker_is_not_replaced(crew: Callable[..., Crew], station: Station) -> None:
    it = crew("leave_when_told")
    it.agent.scale(2)
    said = station.hear_all(2)
    it.agent.retire("a-0")
    os.kill(said["a-0"], signal.SIGUSR1)
    exited, expected, _ = it.next_death()
    assert (exited.worker_id, exited.exit_code, expected) == ("a-0", 0, True)
    it.agent.scale(2)  # somebody is wanted again: the next is a new one
    assert station.hear()["worker_id"] == "a-2"
    assert set(it.agent.live()) == {"a-1", "a-2"}


def test_a_worker_that_leaves_unasked_is_replaced(
    crew: Callable[..., Crew], station: Station
) -> None:
    it = crew("leave_when_told")
    it.agent.scale(1)
    os.kill(station.hear()["pid"], signal.SIGUSR1)
    exited, expected, _ = it.next_death()
    assert (exited.exit_code, expected) == (0, False)
    assert station.hear()["worker_id"] == "a-1"


def test_a_crash_loop_is_slowed_down(crew: Callable[..., Crew]) -> None:
    limits = RestartLimits(n_free=1, first_delay_s=0.3)
    it = crew("complain_and_fail", policy=RestartPolicy(limits))
    it.agent.scale(1)
    times = [it.next_death()[2] for _ in range(3)]
    assert times[2] - times[1] >= 0.3


def test_a_worker_whose_initializer_raises_is_not_replaced_before_any_has_come_up(
    crew: Callable[..., Crew],
) -> None:
    it = crew("fail_to_initialize")
    for number in range(2):
        it.agent.scale(1)
        exited, expected, _ = it.next_death()
        assert (exited.worker_id, exited.exit_code, expected) == (f"a-{number}", 76, False)
        it.agent.catch_up()
        failure = it.agent.launch_failure()
        assert type(failure) is InitializerFailed
        assert f"in worker a-{number}. What it wrote at last:\nValueError: no such" in str(failure)
        assert it.agent.live() == {}
        assert it.agent._policy.target == 0
    assert it.no_more_deaths()


def test_workers_that_never_come_up_are_a_failed_launch(crew: Callable[..., Crew]) -> None:
    it = crew("fail_at_once")
    it.agent.scale(1)
    for _ in range(3):
        assert it.agent.launch_failure() is None
        exited, _, _ = it.next_death()
        assert exited.exit_code == 1
    wait_until(lambda: it.agent.launch_failure() is not None, "launch failure")
    failure = it.agent.launch_failure()
    assert failure is not None
    assert failure.exit_code == 1
    assert "ImportError: no module named luck" in failure.stderr_tail
    assert "ImportError: no module named luck" in str(failure)
    it.agent.note_ready("a-99")  # a late one comes up after all
    wait_until(lambda: it.agent.launch_failure() is None, "hope")


def test_one_worker_that_was_ready_makes_the_launch_good(
    crew: Callable[..., Crew], station: Station
) -> None:
    it = crew("wait_in_a_job")
    it.agent.scale(4)
    said = station.hear_all(4)
    it.agent.note_ready("a-0")
    for pid in said.values():
        os.kill(pid, signal.SIGKILL)
    for _ in said:
        it.next_death()
    assert it.agent.launch_failure() is None


def test_an_interpreter_that_is_missing_is_a_failed_launch(
    crew: Callable[..., Crew], capfd: pytest.CaptureFixture[str]
) -> None:
    limits = RestartLimits(first_delay_s=60.0)
    it = crew("wait_in_a_job", policy=RestartPolicy(limits), executable="/no/such/python")
    it.agent.scale(1)
    wait_until(lambda: it.agent.launch_failure() is not None, "launch failure")
    failure = it.agent.launch_failure()
    assert failure is not None
    assert failure.exit_code is None
    assert "/no/such/python" in failure.stderr_tail
    assert "could not be started" in str(failure)
    it.agent.close()
    assert capfd.readouterr().err.count("cannot start a worker") == 1
    assert it.no_more_deaths()


def test_a_child_that_cannot_be_watched_is_not_left_running(
    crew: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = set(psutil.Process().children())  # pools of other tests, kept for the next call
    monkeypatch.setattr(os, "pidfd_open", refuse_with(errno.EMFILE))
    it = crew("wait_in_a_job", policy=RestartPolicy(RestartLimits(n_free=0, first_delay_s=60)))
    it.agent.scale(1)
    wait_until(lambda: it.agent._trouble.said != "", "start error")
    assert it.agent.live() == {}
    assert set(psutil.Process().children()) <= others


def test_thirty_restarts_leave_nothing_behind(crew: Callable[..., Crew], station: Station) -> None:
    others = set(psutil.Process().children())
    it = crew("do_a_job_and_fail", policy=RestartPolicy(IMPATIENT))
    it.agent.scale(2)
    for _ in range(4):
        it.next_death()
    n_fds, n_threads = [], []
    for _ in range(30):
        it.next_death()
        n_fds.append(len(os.listdir("/proc/self/fd")))
        n_threads.append(threading.active_count())
    it.agent.scale(0)
    wait_until(lambda: it.agent.live() == {}, "all gone")
    assert set(psutil.Process().children()) <= others
    assert min(n_fds[15:]) <= min(n_fds[:15])  # there are more while somebody is being started
    assert len(set(n_threads)) == 1
    assert len(it.agent._watch._selector.get_map()) == 1


def test_a_stopped_worker_is_seen_as_stopped(crew: Callable[..., Crew], station: Station) -> None:
    it = crew("wait_in_a_job")
    it.agent.scale(1)
    pid = station.hear()["pid"]
    assert not it.agent.is_stopped("a-0")
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: it.agent.is_stopped("a-0"), "stopped")
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not it.agent.is_stopped("a-0"), "continued")
    assert not it.agent.is_stopped("nobody")


def test_elsewhere_psutil_says_who_is_stopped(
    crew: Callable[..., Crew], station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = crew("wait_in_a_job")
    it.agent.scale(1)
    pid = station.hear()["pid"]
    monkeypatch.setattr("sys.platform", "darwin")
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: it.agent.is_stopped("a-0"), "stopped")
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not it.agent.is_stopped("a-0"), "continued")


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("system")
def test_close_kills_also_a_stopped_child(crew: Callable[..., Crew], station: Station) -> None:
    it = crew("wait_in_a_job")
    it.agent.scale(2)
    for pid in station.hear_all(2).values():
        os.kill(pid, signal.SIGSTOP)
    it.agent.close(grace_s=0.1)
    deaths = [it.next_death() for _ in range(2)]
    assert {exited.exit_code for exited, _, _ in deaths} == {-signal.SIGKILL}
    assert {expected for _, expected, _ in deaths} == {True}
    assert it.death_of("a-0").killed_for == "the agent closes"
    assert it.agent.live() == {}
    assert it.no_more_deaths()


@pytest.mark.usefixtures("system")
def test_close_waits_for_children_that_leave_by_themselves(
    crew: Callable[..., Crew], station: Station
) -> None:
    it = crew("leave_when_told")
    it.agent.scale(2)
    said = station.hear_all(2)
    closing = threading.Thread(target=it.agent.close, kwargs={"grace_s": 60.0})
    closing.start()
    wait_until(lambda: it.agent._kill_at is not None, "closing")
    assert len(it.agent.live()) == 2
    for pid in said.values():
        os.kill(pid, signal.SIGUSR1)
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert [it.next_death()[:2] for _ in said] == [
        (ProcessExited(name, said[name], 0, 0, 0, ""), True)
        for name in [d.exited.worker_id for d in it.agent._deaths]
    ]


@pytest.mark.parametrize("ask", [False, True])
def test_winding_down_waits_for_nobody_and_may_ask_the_workers_to_leave(
    crew: Callable[..., Crew], station: Station, ask: bool
) -> None:
    it = crew("wait_in_a_job")
    it.agent.wind_down(0.0, ask=ask)  # nothing there, nothing to do
    it.agent.scale(1)
    station.hear()
    it.agent.wind_down(60.0 if ask else 0.0, ask=ask)
    exited, expected, _ = it.next_death()
    assert exited.exit_code == -(signal.SIGTERM if ask else signal.SIGKILL)
    assert expected
    it.agent.close()
    assert it.no_more_deaths()


def test_a_second_close_may_be_less_patient(crew: Callable[..., Crew], station: Station) -> None:
    it = crew("wait_in_a_job")
    it.agent.scale(1)
    station.hear()
    patient = threading.Thread(target=it.agent.close, kwargs={"grace_s": 60.0})
    patient.start()
    wait_until(lambda: it.agent._kill_at is not None, "closing")
    it.agent.close(grace_s=0.0)
    patient.join(PATIENCE_S)
    assert not patient.is_alive()


def test_after_close_nothing_is_started(crew: Callable[..., Crew]) -> None:
    unused = crew("wait_in_a_job")
    unused.agent.close()
    unused.agent.close()
    with pytest.raises(ClusterClosed, match="make a new one"):
        unused.agent.scale(1)
    unused.agent.kill("a-0", "no matter")
    assert unused.agent.live() == {}


def test_a_negative_number_of_workers_is_refused(crew: Callable[..., Crew]) -> None:
    with pytest.raises(ConfigError, match="0 or more"):
        crew("wait_in_a_job").agent.scale(-1)


def test_a_close_while_workers_are_being_started_leaves_none(
    crew: Callable[..., Crew], station: Station
) -> None:
    it = crew("wait_in_a_job")
    it.agent.scale(8)
    it.agent.close()
    assert it.agent.live() == {}


def test_a_process_that_cannot_be_killed_is_named(
    crew: Callable[..., Crew], station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = crew("wait_in_a_job")
    it.agent.scale(1)
    pid = station.hear()["pid"]
    monkeypatch.setattr(agent_module, "_KILL_WAIT_S", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(signal, "pidfd_send_signal", lambda fd, number: None)
        with pytest.raises(ClusterError, match=rf"\[{pid}\] do not end"):
            it.agent.close()
    os.kill(pid, signal.SIGKILL)
    it.next_death()


def test_the_agent_s_own_thread_cannot_close_it(
    crew: Callable[..., Crew], station: Station
) -> None:
    caught: queue.Queue[Exception] = queue.Queue()
    it = crew("wait_in_a_job")

    def close_from_within(exited: ProcessExited, expected: bool) -> None:
        try:
            it.agent.close()
        except InternalError as error:
            caught.put(error)

    it.agent._on_exit = close_from_within
    it.agent.scale(1)
    os.kill(station.hear()["pid"], signal.SIGKILL)
    assert "own thread" in str(caught.get(timeout=PATIENCE_S))


def test_a_bug_of_the_caller_does_not_end_the_watch(
    crew: Callable[..., Crew], station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: queue.Queue[threading.ExceptHookArgs] = queue.Queue()
    monkeypatch.setattr(threading, "excepthook", told.put)
    it = crew("wait_in_a_job")

    def fail(exited: ProcessExited, expected: bool) -> None:
        raise KeyError("a bug")

    it.agent._on_exit = fail
    it.agent.scale(1)
    os.kill(station.hear()["pid"], signal.SIGKILL)
    args = told.get(timeout=PATIENCE_S)
    assert args.exc_type is KeyError
    assert args.thread is it.agent._thread
    assert station.hear()["worker_id"] == "a-1"
    it.agent.close()
    assert told.get(timeout=PATIENCE_S).exc_type is KeyError


def test_a_bug_of_the_agent_kills_the_children_and_is_told(
    crew: Callable[..., Crew], station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    it = crew("wait_in_a_job")
    it.agent.scale(1)
    pid = station.hear()["pid"]
    pidfd = os.pidfd_open(pid)
    it.agent._order(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    assert ends_within(pidfd, PATIENCE_S)
    os.close(pidfd)
    with pytest.raises(InternalError, match="division by zero"):
        it.agent.close()
    it.agent.close()
    assert it.agent.live() == {}


# --- standard error ------------------------------------------------------------------------------


def test_a_flood_waits_in_the_worker_while_the_terminal_is_full(
    crew: Callable[..., Crew], station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    it = crew("flood", options={"n_lines": 10_000})
    it.agent._watch._relay._fd = writer  # a terminal that nobody reads yet
    it.agent.scale(2)
    wait_until(lambda: it.agent._watch._is_paused, "paused")
    pids = it.agent.live()
    it.agent.kill("a-0", "deaths are noticed all the same")
    exited, _, _ = it.next_death()
    assert exited.worker_id == "a-0"
    received = bytearray()
    while received.count(b"the end\n") < 2:
        received += os.read(reader, 1 << 20)
    assert set(pids) == {"a-0", "a-1"}
    assert {station.hear()["worker_id"] for _ in range(2)} == {"a-1", "a-2"}
    it.agent.close()
    os.close(reader)
    os.close(writer)


# --- no orphans ----------------------------------------------------------------------------------


@contextmanager
def parent(
    station: Station, do: str, n: int, base: Path, *flags: str
) -> Iterator[subprocess.Popen[str]]:
    """A master in a process of its own; killed at the end if the test has not done so."""
    process = subprocess.Popen(
        [sys.executable, *flags, "-m", PARENT, station.path, do, str(n), str(base)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("do", ["wait_in_a_job", "hold_the_interpreter", "know_the_lifeline_only"])
def test_children_of_a_killed_master_are_gone_within_two_seconds(
    station: Station, tmp_path: Path, do: str
) -> None:
    with parent(station, do, 2, tmp_path) as master:
        pidfds = [os.pidfd_open(pid) for pid in station.hear_all(2).values()]
        if do == "wait_in_a_job":
            signal.pidfd_send_signal(pidfds[0], signal.SIGSTOP)
        killed_at = time.monotonic()
        master.kill()
        for pidfd in pidfds:
            assert ends_within(pidfd, 2.0 - (time.monotonic() - killed_at))
            os.close(pidfd)
    if do == "know_the_lifeline_only":
        assert os.path.exists(f"{station.path}.marker")


def test_children_of_a_master_that_forgot_to_close_are_gone_too(
    station: Station, tmp_path: Path
) -> None:
    with parent(station, "hold_the_interpreter", 2, tmp_path) as master:
        pidfds = [os.pidfd_open(pid) for pid in station.hear_all(2).values()]
        master.communicate("leave\n", timeout=PATIENCE_S)
        assert master.returncode == 0
        for pidfd in pidfds:
            assert ends_within(pidfd, PATIENCE_S)
            os.close(pidfd)


def test_what_a_killed_master_left_is_swept_and_what_a_living_one_holds_is_not(
    station: Station, tmp_path: Path
) -> None:
    with (
        parent(station, "wait_in_a_job", 1, tmp_path) as killed,
        parent(station, "wait_in_a_job", 1, tmp_path) as living,
    ):
        station.hear_all(2)  # a child that is being made shares the locks of its parent
        assert killed.stdout is not None
        assert living.stdout is not None
        left = Path(killed.stdout.readline().strip())
        held = Path(living.stdout.readline().strip())
        assert sweep(tmp_path) == []
        killed.kill()
        killed.wait()
        assert sweep(tmp_path) == [left]
        assert not left.exists()
        assert held.exists()


def test_a_child_whose_parent_is_another_than_it_was_told_leaves_at_once() -> None:
    recorder = FlightRecorder.create()
    config = WorkerSpec("", "", module=CHILD).config("a-0", "a", "t", recorder.fd)
    line = config.to_line().replace(b'"parent_pid": ', b'"parent_pid": 1')
    done = subprocess.run(
        [sys.executable, "-m", CHILD], input=line, pass_fds=[recorder.fd], capture_output=True
    )
    recorder.close()
    assert (done.returncode, done.stderr) == (75, b"")
