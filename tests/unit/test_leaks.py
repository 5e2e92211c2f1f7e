"""The leak check sees what it is there to see."""

import dataclasses
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests import leaks
from tests.leaks import World, left_behind

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


def test_nothing_is_left_behind_by_nothing() -> None:
    assert left_behind(World.now()) == []


def test_a_thread_that_goes_on_is_told_with_its_name_and_place() -> None:
    before = World.now()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="lingerer", daemon=True)
    thread.start()
    [leak] = left_behind(before, grace_s=0.01)
    stop.set()
    thread.join()
    assert leak.startswith("thread 'lingerer' (daemon=True)")
    assert "threading.py" in leak
    assert left_behind(before) == []


def test_a_thread_on_its_way_out_is_waited_for() -> None:
    before = World.now()
    stop = threading.Event()
    threading.Thread(target=stop.wait).start()
    threading.Timer(0.05, stop.set).start()
    assert left_behind(before) == []


def test_a_child_process_is_told_and_killed() -> None:
    before = World.now()
    with subprocess.Popen(SLEEPER) as child:
        [leak] = left_behind(before, grace_s=0.01)
    assert leak.startswith(f"process {child.pid} ")
    assert "signal.pause()" in leak
    assert not psutil.pid_exists(child.pid)


def test_an_orphan_is_recognised_by_its_environment() -> None:
    before = World.now()
    parent = "import subprocess, sys; subprocess.Popen(sys.argv[1:])"
    subprocess.run([sys.executable, "-c", parent, *SLEEPER], check=True)
    [leak] = left_behind(before, grace_s=0.01)
    assert f"parent {os.getpid()}" not in leak
    assert "signal.pause()" in leak


def test_a_process_of_somebody_else_is_not_ours() -> None:
    before = World.now()
    orphan_of_another_session = {**os.environ, leaks.MARK: "another"}
    parent = "import subprocess as s, sys; print(s.Popen(sys.argv[1:], stdout=-3, stderr=-3).pid)"
    done = subprocess.run(
        [sys.executable, "-c", parent, *SLEEPER],
        check=True,
        capture_output=True,
        text=True,
        env=orphan_of_another_session,
    )
    try:
        assert left_behind(before, grace_s=0.01) == []
    finally:
        psutil.Process(int(done.stdout)).kill()


def test_an_open_descriptor_is_told_with_what_it_leads_to() -> None:
    before = World.now()
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        assert left_behind(before, grace_s=0.01) == [f"descriptor {fd} -> {os.devnull}"]
    finally:
        os.close(fd)


def test_a_descriptor_that_another_thread_is_about_to_close_is_waited_for() -> None:
    before = World.now()
    closes = threading.Event()
    ours, theirs = socket.socketpair()

    def serve() -> None:  # as a fixture's server does when its client has gone
        closes.wait()
        theirs.close()

    threads = threading.Thread(target=serve), threading.Timer(0.05, closes.set)
    for thread in threads:
        thread.start()
    ours.close()
    assert left_behind(dataclasses.replace(before, threads=before.threads.union(threads))) == []
    for thread in threads:
        thread.join()


def test_a_signal_handler_that_was_changed_is_told() -> None:
    before = World.now()
    former = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        [leak] = left_behind(before)
        assert leak.startswith("handler of SIGTERM")
    finally:
        signal.signal(signal.SIGTERM, former)


def test_another_working_folder_is_told(tmp_path: Path) -> None:
    before = World.now()
    os.chdir(tmp_path)
    try:
        assert left_behind(before) == [f"working folder {tmp_path} (was {before.folder})"]
    finally:
        os.chdir(before.folder)


def test_a_scratch_folder_with_a_free_lock_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(leaks, "SCRATCH_BASES", (tmp_path,))
    before = World.now()
    (tmp_path / "5f0c").mkdir()
    (tmp_path / "5f0c.lock").touch()
    assert left_behind(before, grace_s=0.01) == [
        f"scratch {tmp_path}/5f0c",
        f"scratch {tmp_path}/5f0c.lock",
    ]


def test_a_scratch_folder_that_another_program_uses_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "5f0c").mkdir()
    with _locked_by_another_session(tmp_path / "5f0c.lock"):
        before = World.now()
        monkeypatch.setattr(leaks, "SCRATCH_BASES", (tmp_path,))
        assert left_behind(before) == []
    assert left_behind(before, grace_s=0.01) == [
        f"scratch {tmp_path}/5f0c",
        f"scratch {tmp_path}/5f0c.lock",
    ]


def test_a_scratch_folder_that_this_process_still_holds_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(leaks, "SCRATCH_BASES", (tmp_path,))
    before = World.now()
    (tmp_path / "5f0c").mkdir()
    with (tmp_path / "5f0c.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert f"scratch {tmp_path}/5f0c" in left_behind(before, grace_s=0.01)


@contextmanager
def _locked_by_another_session(path: Path) -> Iterator[None]:
    """Hold a lock from a process that is neither a child of the tests nor marked as theirs."""
    hold = (
        "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX);"
        "print(flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, leaks.MARK: "another"},
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.stdin.write(b"\n")
