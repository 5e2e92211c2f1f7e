"""The child's side of its birth: its configuration comes in, and no orphan goes out.

Rule 1: the configuration comes as one line of JSON on standard input: nothing secret is in the
        arguments or in the environment, where other users can read it.
Rule 2: the same pipe stays open as the *lifeline*. Nothing more is ever written to it; when it
        ends, the parent is gone, and so is the child.
Rule 3: on Linux the kernel kills the child when its parent's thread ends (PR_SET_PDEATHSIG): also
        a child that is stopped, or that holds the interpreter's lock in C and sees no pipe.
Rule 4: only light modules are imported here: this runs before anything else in every worker.
"""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import json
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

EXIT_ORPHANED = 75
"""Exit code of a child whose parent is gone: nothing is wrong with it, start it again."""
EXIT_NOT_INITIALIZED = 76
"""Exit code of a worker whose initializer has raised, on its way up."""

_LIFELINE_MIN_FD = 3
_PR_SET_PDEATHSIG = 1
_PARENT_CHECK_S = 1.0
_MAX_CONFIG_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class ChildConfig:
    """All that a worker process is told at its start. Plain values only: it travels as JSON."""

    address: str
    """Where the master listens."""
    worker_id: str
    agent_id: str
    token: str = field(repr=False)
    """Secret of the launch: proves to the master that its agent started this process."""
    run: str
    recorder_fd: int
    parent_pid: int
    trusted: bool = False
    keys_dir: str | None = None
    allow: tuple[str, ...] = ()
    accept_code: bool = False
    sys_path: tuple[str, ...] = ()
    python_path: str | None = None
    """PYTHONPATH as it was before the agent amended it for the start."""
    memory_limit_bytes: int | None = None
    scratch_fast: str | None = None
    scratch_disk: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of the worker, plain values by name."""
    lifeline_fd: int = -1
    """Filled in by `read_config`."""

    def to_line(self) -> bytes:
        """Return the configuration as one line of JSON."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes, lifeline_fd: int = -1) -> Self:
        """Read what `to_line` wrote.

        Raises
        ------
        ValueError
            If it is not the line of this release of the package.
        """
        values = json.loads(line)
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or values.keys() != known:
            raise ValueError("The configuration on standard input is not one of this release.")
        values["lifeline_fd"] = lifeline_fd
        for name in ("allow", "sys_path"):
            values[name] = tuple(values[name])
        return cls(**values)


def read_config() -> ChildConfig:
    """Read the configuration from standard input, and bind this process to its parent.

    Afterwards standard input is empty (the null device), the pipe lives on under another number
    (`ChildConfig.lifeline_fd`) that no grandchild inherits, the memory limit is in force,
    `sys.path` is the parent's, and a crash in C writes a traceback to standard error.

    Raises
    ------
    ValueError
        If standard input does not hold the configuration of a worker.
    """
    die_with_parent()
    line = _read_line(0)
    config = ChildConfig.from_line(line, _move_stdin_away())
    _leave_if_orphaned(config.parent_pid)
    faulthandler.enable()
    if config.memory_limit_bytes is not None:
        limit = config.memory_limit_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if config.sys_path:
        sys.path[:] = config.sys_path
    if config.python_path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = config.python_path
    return config


def hold_lifeline(
    config: ChildConfig, on_close: Callable[[], None] | None = None
) -> threading.Thread:
    """Watch the lifeline from a thread of its own, and leave when the parent is gone.

    Parameters
    ----------
    config : ChildConfig
        As it was returned by `read_config`.
    on_close : callable, optional
        Called first, on that thread; the process ends when it returns or raises.
    """

    def watch() -> None:
        try:
            _wait_for_end(config.lifeline_fd, config.parent_pid)
            if on_close is not None:
                on_close()
        finally:
            os._exit(EXIT_ORPHANED)

    thread = threading.Thread(target=watch, name="paramserver-lifeline", daemon=True)
    thread.start()
    return thread


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends (Linux only)."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _leave_if_orphaned(parent_pid: int) -> None:
    # The parent may have died before the kernel was asked; then nobody will send the signal.
    if os.getppid() != parent_pid:
        os._exit(EXIT_ORPHANED)


def _read_line(fd: int) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(fd, 65536)
        if not piece:
            raise ValueError("Standard input ended before the configuration of the worker did.")
        line += piece
        if len(line) > _MAX_CONFIG_BYTES:
            raise ValueError("The configuration on standard input is too long.")
    return bytes(line)


def _move_stdin_away() -> int:
    lifeline = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _LIFELINE_MIN_FD)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0, inheritable=True)
    os.close(null)
    return lifeline


def _wait_for_end(fd: int, parent_pid: int) -> None:
    """Return when the pipe has ended, or (where no signal tells) the parent is another one."""
    # A process that the master forked may hold the pipe's other end beyond the master's death;
    # on Linux the signal covers that, elsewhere a look at the parent once a second does.
    timeout_ms = None if sys.platform == "linux" else int(_PARENT_CHECK_S * 1000)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while True:
        if poll.poll(timeout_ms) and not os.read(fd, 4096):
            return
        if os.getppid() != parent_pid:
            return
