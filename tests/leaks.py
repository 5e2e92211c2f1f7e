"""What a test has left behind: threads, processes, open files, scratch folders, signal handlers.

Rule 1: a look at the world (`World.now`) changes nothing; two looks differ by what was left.
Rule 2: things that are on their way out get `GRACE_S` to leave.
Rule 3: what another program on this machine does at the same time is not ours to complain of.
Rule 4: a leak is told so that it can be found: the thread's frame, the process's command line,
        the target of the file descriptor.
"""

from __future__ import annotations

import gc
import multiprocessing.resource_tracker
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import psutil

GRACE_S = 5.0
SWEEP_GRACES = 5
"""So many times longer a scratch folder may stay: what a killed master of another session has left
is removed when any of them starts a cluster."""
MARK = "LEAK_CHECK_SESSION"
"""Environment variable that every process started by the tests inherits, orphans included."""
SCRATCH_BASES = (
    Path("/dev/shm") / f"paramserver-{os.getuid()}",
    Path(tempfile.gettempdir()) / f"paramserver-{os.getuid()}",
)
CAPTURED = (0, 1, 2)
"""Descriptors that pytest leads elsewhere while a test runs, and back where it is stopped (-x)."""
WATCHED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP)


@dataclass(frozen=True)
class World:
    """One look at everything that a test could leave behind."""

    threads: frozenset[threading.Thread]
    pids: frozenset[int]
    """Of all processes on the machine: which are ours is asked only of those that are new."""
    descriptors: dict[int, str]
    scratch: frozenset[Path]
    handlers: dict[signal.Signals, object]
    folder: str

    @classmethod
    def now(cls) -> World:
        return cls(
            threads=frozenset(threading.enumerate()),
            pids=frozenset(psutil.pids()),
            descriptors=_descriptors(),
            scratch=frozenset(_scratch_entries()),
            handlers={number: signal.getsignal(number) for number in WATCHED_SIGNALS},
            folder=os.getcwd(),
        )


def mark_this_session() -> None:
    """Make every process started from here recognisable, whoever its parent is by then."""
    os.environ[MARK] = f"{os.getpid()}-{os.urandom(8).hex()}"


def left_behind(before: World, grace_s: float = GRACE_S) -> list[str]:
    """Say what is there now and was not there before, after waiting for it to leave.

    Leaked processes are killed once they are written down, so that one bad test does not
    spoil the next.
    """
    deadline = time.monotonic() + grace_s
    for thread in _new_threads(before):
        thread.join(max(0.0, deadline - time.monotonic()))
    psutil.wait_procs(_new_processes(before), timeout=max(0.0, deadline - time.monotonic()))
    leaks = [_tell_thread(thread) for thread in _new_threads(before)]
    for process in _new_processes(before):
        leaks.append(_tell_process(process))
        _end(process)
    leaks += [f"descriptor {fd} -> {target}" for fd, target in _kept_open(before, deadline).items()]
    patience = deadline + SWEEP_GRACES * grace_s
    leaks += [f"scratch {path}" for path in _new_scratch(before, patience)]
    for number, handler in before.handlers.items():
        if signal.getsignal(number) != handler:
            leaks.append(f"handler of {number.name}: {signal.getsignal(number)!r}")
    if os.getcwd() != before.folder:
        leaks.append(f"working folder {os.getcwd()} (was {before.folder})")
    return leaks


def _new_threads(before: World) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread not in before.threads]


def _tell_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    where = "".join(traceback.format_stack(frame)[-3:]).rstrip() if frame else "  (no frame)"
    return f"thread {thread.name!r} (daemon={thread.daemon}), now at\n{where}"


def _new_processes(before: World) -> list[psutil.Process]:
    tracker = multiprocessing.resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    found = []
    for pid in psutil.pids():
        if pid in before.pids or pid == tracker:
            continue
        try:
            process = psutil.Process(pid)
            if process.ppid() == os.getpid() or _is_marked(process):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def _is_marked(process: psutil.Process) -> bool:
    try:
        return process.environ().get(MARK) == os.environ[MARK]
    except (psutil.AccessDenied, psutil.ZombieProcess):
        return False


def _tell_process(process: psutil.Process) -> str:
    try:
        words = " ".join(process.cmdline()) or process.name()
        return f"process {process.pid} ({process.status()}, parent {process.ppid()}): {words}"
    except psutil.NoSuchProcess:
        return f"process {process.pid}: ended too late, after {GRACE_S} s"


def _end(process: psutil.Process) -> None:
    try:
        process.kill()
        process.wait(GRACE_S)
    except psutil.NoSuchProcess:
        return


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of this very listing
    return found


def _kept_open(before: World, deadline: float) -> dict[int, str]:
    """Look until the time is over: a server closes a connection after its client has done so."""
    while new := _new_descriptors(before):
        gc.collect()  # what only a reference cycle holds is closed, and warned about, by now
        if time.monotonic() > deadline:
            return new
        time.sleep(0.01)
    return new


def _new_descriptors(before: World) -> dict[int, str]:
    tracker = multiprocessing.resource_tracker._resource_tracker._fd  # type: ignore[attr-defined]
    return {
        fd: target
        for fd, target in _descriptors().items()
        if before.descriptors.get(fd) != target and fd != tracker and fd not in CAPTURED
    }


def _scratch_entries() -> list[Path]:
    return [path for base in SCRATCH_BASES if base.is_dir() for path in base.iterdir()]


def _new_scratch(before: World, deadline: float) -> list[Path]:
    """Look until the time is over: what a killed master of another program left is swept soon."""
    while True:
        new = sorted(set(_scratch_entries()) - before.scratch)
        new = [path for path in new if not _is_in_use_by_others(path)]
        if not new or time.monotonic() > deadline:
            return new
        time.sleep(0.05)


def _is_in_use_by_others(path: Path) -> bool:
    """Say whether a foreign process holds the run's lock file (`<run>.lock` beside `<run>`)."""
    lock = path if path.suffix == ".lock" else path.with_name(f"{path.name}.lock")
    try:
        inode = lock.stat().st_ino
    except FileNotFoundError:
        return not path.exists()
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()  # 1: FLOCK ADVISORY WRITE 4711 fe:01:123456 0 EOF
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            holder = int(words[4])
            return holder != os.getpid() and not _is_marked_pid(holder)
    return False


def _is_marked_pid(pid: int) -> bool:
    try:
        return _is_marked(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False
