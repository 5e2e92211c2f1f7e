"""What the workers of one agent have in common, and how that becomes a command line.

Rule 1: it is a value: it describes and starts nothing.
Rule 2: nothing of it that is secret, or that is long, is in the arguments or the environment.
"""

from __future__ import annotations

import os
import site
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramserver
from paramserver.runtime.lifeline import ChildConfig

THREADS_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Read by the numeric libraries when they are first loaded; later is too late."""

KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
"""Let glibc keep up to 64 MiB of freed memory. By default the arrays that a job makes and drops go
back to the kernel each time, and every page of the next ones is a fault: 3 us on a virtual machine,
most of the time of a chain of numpy calls over some 100 KB. The user's own settings come first."""


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

    def arguments(self) -> list[str]:
        """Return the command line of a worker."""
        # The interpreter's own options (-O, -W, -X ...), as multiprocessing passes them on, too. -P
        # keeps the working folder off the search path: a random.py there must not break the start.
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        return [self.executable, *flags, "-P", "-m", self.module, "--child"]

    def environment(self) -> dict[str, str]:
        """Return the environment of a worker."""
        env = KEPT_MEMORY | os.environ
        if self.blas_threads is not None:
            env |= dict.fromkeys(THREADS_VARIABLES, str(self.blas_threads))
        env |= self.env
        root = str(Path(paramserver.__file__).parent.parent)
        if root not in [*site.getsitepackages(), site.getusersitepackages()]:
            # This package was found by the master's own search path, which the child does not have
            # before it has imported this package. The child takes the addition back.
            env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), root]))
        return env

    def config(self, worker_id: str, agent_id: str, token: str, recorder_fd: int) -> ChildConfig:
        """Return what one worker is told on its standard input."""
        sys_path = self.sys_path
        if sys_path is None:
            sys_path = tuple(entry or os.getcwd() for entry in sys.path)
        return ChildConfig(
            address=self.address,
            worker_id=worker_id,
            agent_id=agent_id,
            token=token,
            run=self.run,
            recorder_fd=recorder_fd,
            parent_pid=os.getpid(),
            trusted=self.trusted,
            keys_dir=self.keys_dir,
            allow=self.allow,
            accept_code=self.accept_code,
            sys_path=sys_path,
            python_path=self.env.get("PYTHONPATH", os.environ.get("PYTHONPATH")),
            memory_limit_bytes=self.memory_limit_bytes,
            scratch_fast=self.scratch_fast,
            scratch_disk=self.scratch_disk,
            options=dict(self.options),
        )
