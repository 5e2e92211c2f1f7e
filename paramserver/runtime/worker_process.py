"""One worker process, seen by its parent: how it is spawned, watched, killed and reaped.

Rule 1: everything here belongs to one thread, the agent's; nothing here waits.
Rule 2: a process is reaped by its own pid only: the other children of the user are not ours.
Rule 3: until it is reaped its pid cannot become another's, so signals are sent only before.
Rule 4: the child inherits its recorder, its lifeline and the standard streams, nothing else.
"""

from __future__ import annotations

import os
import secrets
import signal
import site
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramserver
from paramserver.protocol.messages import ProcessExited
from paramserver.runtime.flight_recorder import Flight, FlightRecorder
from paramserver.runtime.lifeline import ChildConfig
from paramserver.runtime.stderr_relay import StderrRelay, Tail

THREADS_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Read by the numeric libraries when they are first loaded; later is too late."""

EXIT_UNKNOWN = 255
"""Reported where another part of the program has taken the exit status away from us."""

_READ_BYTES = 65536
_MAX_DRAIN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What the workers of an agent have in common.

    Parameters
    ----------
    address : str
        Where the master listens.
    run : str
        Identity of the run (16 hex digits).
    trusted : bool
        Whether the workers are inside the local trust domain.
    keys_dir : str, optional
        Folder of the keys, for addresses that need them.
    allow : tuple of str
        Modules whose functions a worker outside of the trust domain may run.
    accept_code : bool
        Whether such a worker runs functions shipped as code.
    executable : str
        The Python interpreter.
    module : str
        What it runs, as ``python -m``.
    env : mapping
        Additions to the environment of this process.
    sys_path : tuple of str, optional
        Module search path of the workers; by default the agent's own at the time of each start.
    cwd : str, optional
        Working folder; by default the agent's own.
    blas_threads : int, optional
        Threads of the numeric libraries in each worker; None leaves the environment alone.
    memory_limit_bytes : int, optional
        Address space of each worker (RLIMIT_AS).
    scratch_fast, scratch_disk : str, optional
        Folders for shared memory and for large files.
    options : mapping
        Further settings of the worker, plain values by name.
    """

    address: str
    run: str
    trusted: bool = False
    keys_dir: str | None = None
    allow: tuple[str, ...] = ()
    accept_code: bool = False
    executable: str = sys.executable
    module: str = "paramserver.worker"
    env: Mapping[str, str] = field(default_factory=dict)
    sys_path: tuple[str, ...] | None = None
    cwd: str | None = None
    blas_threads: int | None = 1
    memory_limit_bytes: int | None = None
    scratch_fast: str | None = None
    scratch_disk: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Death:
    """All that is known of the end of a worker process."""

    exited: ProcessExited
    killed_for: str
    """Why the agent killed it; '' when the agent did not."""
    n_ended: int
    """Attempts that came to an end in it."""
    lived_s: float
    max_rss_bytes: int | None
    """The most memory it held at once, where that can be told from its parent's."""


class WorkerProcess:
    """One child of this process. Spawned by the constructor.

    Parameters
    ----------
    worker_id, agent_id, token : str
        Who it is, who watches it, and the secret that proves it.
    spec : WorkerSpec
        What it shares with the others.

    Raises
    ------
    OSError
        If it cannot be started; nothing is left behind.

    Attributes
    ----------
    stderr_fd, pidfd : int
        To be watched for reading; -1 when closed or not supported by the system.
    config_fd : int
        To be watched for writing while `has_unsent_config`; it is the lifeline.
    """

    def __init__(self, worker_id: str, agent_id: str, token: str, spec: WorkerSpec) -> None:
        self.worker_id = worker_id
        self.killed_for = ""
        self._tail = Tail()
        self.stderr_fd = self.config_fd = self.pidfd = -1
        self._recorder = FlightRecorder.create()
        try:
            self._popen = self._spawn(spec)
        except BaseException:
            self.close()
            raise
        self.pid = self._popen.pid
        # A child starts its life in its parent's memory, and the kernel counts that as its own.
        self._parent_rss_bytes = _max_rss_bytes(_own_usage())
        if hasattr(os, "pidfd_open"):
            self.pidfd = os.pidfd_open(self.pid)
        config = self._config(worker_id, agent_id, token, spec)
        self._unsent = memoryview(config.to_line())
        self.send_config()

    @property
    def has_unsent_config(self) -> bool:
        """Whether the pipe was too full for all of the configuration."""
        return bool(self._unsent)

    def send_config(self) -> None:
        """Write as much of the configuration as the pipe takes now."""
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self.config_fd, self._unsent) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it is dead already, which is reported in its own way
            self._unsent = self._unsent[:0]

    def read_stderr(self, relay: StderrRelay) -> bool:
        """Pass on what it wrote to standard error; returns False at the end of the stream."""
        try:
            data = os.read(self.stderr_fd, _READ_BYTES)
        except BlockingIOError:
            return True
        self._tail.add(data)
        relay.put(data)
        return bool(data)

    def kill(self, reason: str) -> None:
        """End the process now, whatever it is doing."""
        self.killed_for = self.killed_for or reason or "killed"
        os.kill(self.pid, signal.SIGKILL)

    def is_over(self) -> bool:
        """Whether the process has ended and waits to be reaped. Never waits."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._reap_unseen()
        try:
            state = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        return state is not None

    def reap(self, relay: StderrRelay, lived_s: float) -> Death:
        """Take the exit status and close everything; the process must be over."""
        self._end_grandchildren()
        exit_code, usage = self._wait()
        self._drain_stderr(relay)
        flight = self._recorder.read()
        max_rss = None if usage is None else _max_rss_bytes(usage)
        if max_rss is not None and max_rss <= self._parent_rss_bytes:
            max_rss = None
        self.close()
        return Death(
            exited=self._report(exit_code, flight),
            killed_for=self.killed_for,
            n_ended=flight.n_ended,
            lived_s=lived_s,
            max_rss_bytes=max_rss,
        )

    def close(self) -> None:
        """Close the descriptors. The child sees the end of its lifeline."""
        for name in ("stderr_fd", "config_fd", "pidfd"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)
        self._recorder.close()

    _status: tuple[int, Any] | None = None

    def _spawn(self, spec: WorkerSpec) -> subprocess.Popen[bytes]:
        stdin, self.config_fd = os.pipe()
        try:
            self.stderr_fd, stderr = os.pipe()
            try:
                os.set_blocking(self.config_fd, False)
                os.set_blocking(self.stderr_fd, False)
                return subprocess.Popen(
                    _arguments(spec),
                    stdin=stdin,
                    stderr=stderr,
                    env=_environment(spec),
                    cwd=spec.cwd,
                    pass_fds=(self._recorder.fd,),
                    # A Ctrl-C in the terminal is for the master, which then drains the workers.
                    start_new_session=True,
                )
            finally:
                os.close(stderr)
        finally:
            os.close(stdin)

    def _config(self, worker_id: str, agent_id: str, token: str, spec: WorkerSpec) -> ChildConfig:
        return ChildConfig(
            address=spec.address,
            worker_id=worker_id,
            agent_id=agent_id,
            token=token,
            run=spec.run,
            recorder_fd=self._recorder.fd,
            parent_pid=os.getpid(),
            trusted=spec.trusted,
            keys_dir=spec.keys_dir,
            allow=spec.allow,
            accept_code=spec.accept_code,
            sys_path=_search_path(spec),
            python_path=spec.env.get("PYTHONPATH", os.environ.get("PYTHONPATH")),
            memory_limit_bytes=spec.memory_limit_bytes,
            scratch_fast=spec.scratch_fast,
            scratch_disk=spec.scratch_disk,
            options=dict(spec.options),
        )

    def _end_grandchildren(self) -> None:
        # What a job has started ends with its worker. Not SIGKILL: the resource trackers of the
        # standard library and of joblib ignore SIGTERM, clean up, and leave by themselves.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGTERM)

    def _reap_unseen(self) -> bool:
        if self._status is None:
            self._status = self._wait4(os.WNOHANG)
        return self._status is not None

    def _wait(self) -> tuple[int, Any]:
        status = self._status or self._wait4(0)
        assert status is not None
        self._popen.returncode = status[0]  # so that Popen does not wait for it, either
        return status

    def _wait4(self, flags: int) -> tuple[int, Any] | None:
        try:
            pid, status, usage = os.wait4(self.pid, flags)
        except ChildProcessError:
            # SIGCHLD is ignored, or someone waits for any child.
            self._tail.add(b"[its exit status was taken by another part of the program]\n")
            return EXIT_UNKNOWN, None
        return (os.waitstatus_to_exitcode(status), usage) if pid else None

    def _drain_stderr(self, relay: StderrRelay) -> None:
        # Not until the end of the stream: a grandchild may hold it open.
        for _ in range(_MAX_DRAIN_BYTES // _READ_BYTES):
            try:
                data = os.read(self.stderr_fd, _READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            self._tail.add(data)
            relay.put(data)

    def _report(self, exit_code: int, flight: Flight) -> ProcessExited:
        job, attempt = flight.running or (0, 0)
        return ProcessExited(
            worker_id=self.worker_id,
            pid=self.pid,
            exit_code=exit_code,
            job=job,
            attempt=attempt,
            stderr_tail=self._tail.text(),
        )


def new_token() -> str:
    """Return a fresh secret for the launches of one agent."""
    return secrets.token_hex(16)


def _arguments(spec: WorkerSpec) -> list[str]:
    # The interpreter's own options (-O, -W, -X ...) as multiprocessing passes them on, too. -P
    # keeps the working folder off the search path: a random.py there must not break the start.
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [spec.executable, *flags, "-P", "-m", spec.module, "--child"]


def _environment(spec: WorkerSpec) -> dict[str, str]:
    threads = (
        {}
        if spec.blas_threads is None
        else dict.fromkeys(THREADS_VARIABLES, str(spec.blas_threads))
    )
    env = {**os.environ, **threads, **spec.env}
    root = str(Path(paramserver.__file__).parent.parent)
    if root not in [*site.getsitepackages(), site.getusersitepackages()]:
        # This package was found by the master's own search path, which the child does not have
        # before it has imported this package. The child takes the addition back.
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), root]))
    return env


def _search_path(spec: WorkerSpec) -> tuple[str, ...]:
    if spec.sys_path is not None:
        return spec.sys_path
    return tuple(entry or os.getcwd() for entry in sys.path)


def _own_usage() -> Any:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF)


def _max_rss_bytes(usage: Any) -> int:
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)
