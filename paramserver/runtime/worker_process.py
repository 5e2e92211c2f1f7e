"""One worker process, seen by its parent: how it is spawned, watched, killed and reaped.

Rule 1: everything here belongs to one thread, the agent's; nothing here waits.
Rule 2: a process is reaped by its own pid only: the other children of the user are not ours.
Rule 3: signals are sent only before it is reaped, while its number cannot be another's.
Rule 4: the child inherits its recorder, its lifeline and the standard streams, nothing else.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from paramserver.protocol.messages import ProcessExited
from paramserver.runtime.flight_recorder import FlightRecorder
from paramserver.runtime.stderr_relay import StderrRelay, Tail
from paramserver.runtime.worker_spec import WorkerSpec

EXIT_UNKNOWN = 255
"""Reported where another part of the program has taken the exit status away from us."""

_READ_BYTES = 65536
_MAX_DRAIN_BYTES = 1 << 20
_MAX_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


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
    """The most memory it held at once; None where that cannot be told from its parent's."""


@dataclass(frozen=True, slots=True)
class _Exit:
    code: int
    max_rss_bytes: int


class WorkerProcess:
    """One child of this process, spawned by the constructor.

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
        To be watched for reading; -1 when closed, or (`pidfd`) not known to the system.
    config_fd : int
        To be watched for writing while `has_unsent_config`; afterwards it is the lifeline.
    """

    def __init__(self, worker_id: str, agent_id: str, token: str, spec: WorkerSpec) -> None:
        self.worker_id = worker_id
        self.stderr_fd = self.config_fd = self.pidfd = -1
        self._killed_for = ""
        self._tail = Tail()
        self._exit: _Exit | None = None
        self._recorder = FlightRecorder.create()
        try:
            self._popen = self._spawn(spec)
            try:
                self.pid = self._popen.pid
                self.pidfd = _open_pidfd(self.pid)
                config = spec.config(worker_id, agent_id, token, self._recorder.fd)
                self._unsent = memoryview(config.to_line())
                self.send_config()
            except BaseException:
                self._popen.kill()
                self._popen.wait()
                raise
        except BaseException:
            self.close()
            raise
        # Until it runs its own program, a child is in its parent's memory, and the kernel counts
        # that as the child's: what is not above the parent's own peak says nothing.
        self._parent_rss_bytes = _MAX_RSS_UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

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

    def ask_to_leave(self) -> None:
        """Tell the process (by SIGTERM) to hand back what it has not begun, and go."""
        with suppress(ProcessLookupError):  # as below
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)
            elif self._exit is None:
                os.kill(self.pid, signal.SIGTERM)

    def kill(self, reason: str) -> None:
        """End the process now, whatever it is doing."""
        self._killed_for = self._killed_for or reason
        with suppress(ProcessLookupError):  # only where someone else has reaped it
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            elif self._exit is None:
                os.kill(self.pid, signal.SIGKILL)

    @property
    def is_killed(self) -> bool:
        """Whether `kill` was called."""
        return bool(self._killed_for)

    def is_over(self) -> bool:
        """Whether the process has ended, for systems that do not say so by themselves."""
        if self._exit is None:
            self._end_grandchildren_of_the_dead()
            self._exit = self._wait(os.WNOHANG)
        return self._exit is not None

    def is_stopped(self, *, by_debugger: bool = True) -> bool:
        """Say whether the process is held by SIGSTOP, or (where that can be told) by a debugger."""
        if sys.platform != "linux":
            import psutil

            try:
                return bool(psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)
            except psutil.NoSuchProcess:
                return False
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
        # The name, in parentheses, may hold anything; state and parent follow the last ")".
        state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
        held = (b"T", b"t") if by_debugger else (b"T",)
        return state in held and int(parent) == os.getpid()

    def reap(self, relay: StderrRelay, lived_s: float) -> Death:
        """Take the exit status and close everything; the process must be over."""
        if self._exit is None:
            self._end_grandchildren_of_the_dead()
        exit_ = self._exit or self._wait(0)
        assert exit_ is not None
        self._popen.returncode = exit_.code  # so that Popen does not wait for it, either
        self._drain_stderr(relay)
        flight = self._recorder.read()
        # Also one that had ended: it may have broken the process so that its result was not sent.
        # If it was sent, the master does not wait for that attempt any more, and blames nobody.
        job, attempt = self._recorder.last_begun()
        self.close()
        return Death(
            exited=ProcessExited(
                worker_id=self.worker_id,
                pid=self.pid,
                exit_code=exit_.code,
                job=job,
                attempt=attempt,
                stderr_tail=self._tail.text(),
            ),
            killed_for=self._killed_for if exit_.code == -signal.SIGKILL else "",
            n_ended=flight.n_ended,
            lived_s=lived_s,
            max_rss_bytes=(
                exit_.max_rss_bytes if exit_.max_rss_bytes > self._parent_rss_bytes else None
            ),
        )

    def close(self) -> None:
        """Close the descriptors. The child sees the end of its lifeline. May be called twice."""
        for fd in (self.stderr_fd, self.config_fd, self.pidfd):
            if fd >= 0:
                os.close(fd)
        self.stderr_fd = self.config_fd = self.pidfd = -1
        self._recorder.close()

    def _spawn(self, spec: WorkerSpec) -> subprocess.Popen[bytes]:
        stdin, self.config_fd = os.pipe()
        try:
            self.stderr_fd, stderr = os.pipe()
            try:
                os.set_blocking(self.config_fd, False)
                os.set_blocking(self.stderr_fd, False)
                # No preexec_fn: without it the child is made by vfork, in a millisecond or two
                # however large this process is. What it would do, the child does for itself.
                return subprocess.Popen(
                    spec.arguments(),
                    stdin=stdin,
                    stderr=stderr,
                    env=spec.environment(),
                    cwd=spec.cwd,
                    pass_fds=(self._recorder.fd,),
                    # A Ctrl-C in the terminal is for the master, which then drains the workers.
                    start_new_session=True,
                )
            finally:
                os.close(stderr)
        finally:
            os.close(stdin)

    def _end_grandchildren_of_the_dead(self) -> None:
        # What a job has started ends with its worker. Not SIGKILL: the resource trackers of the
        # standard library and of joblib ignore SIGTERM, clean up, and leave by themselves.
        # Only while the dead one is still in the process table is its group certainly the one
        # meant. macOS before Python 3.13 cannot look without reaping: nothing is sent there.
        if not hasattr(os, "waitid"):
            return
        with suppress(ChildProcessError, ProcessLookupError, PermissionError):
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                os.killpg(self.pid, signal.SIGTERM)

    def _wait(self, flags: int) -> _Exit | None:
        try:
            pid, status, usage = os.wait4(self.pid, flags)
        except ChildProcessError:
            # SIGCHLD is ignored in this program, or some part of it waits for any child.
            self._tail.add(b"[its exit status was taken by another part of the program]\n")
            return _Exit(EXIT_UNKNOWN, 0)
        if not pid:
            return None
        return _Exit(os.waitstatus_to_exitcode(status), usage.ru_maxrss * _MAX_RSS_UNIT)

    def _drain_stderr(self, relay: StderrRelay) -> None:
        # Not until the end of the stream: a grandchild may hold it open, and even write to it.
        for _ in range(_MAX_DRAIN_BYTES // _READ_BYTES):
            try:
                data = os.read(self.stderr_fd, _READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            self._tail.add(data)
            relay.put(data)


def _open_pidfd(pid: int) -> int:
    if not hasattr(os, "pidfd_open"):  # not Linux
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        # Linux before 5.3, as on many a computing cluster, or a container that forbids it.
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return -1
        raise
