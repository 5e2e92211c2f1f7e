"""A cluster of this machine alone: it starts its workers itself, and replaces those that die.

Rule 1: it is ready when all its workers are; if one cannot be started, nothing is left of it.
Rule 2: nobody else can reach it: its master listens in a folder that is this user's own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from paramserver.cluster import START_S, Cluster
from paramserver.errors import ConfigError
from paramserver.executor import check_stays
from paramserver.protocol import calls
from paramserver.runtime.arguments import seconds, whole_number
from paramserver.runtime.cores import n_cores
from paramserver.runtime.scratch import Scratch
from paramserver.runtime.worker_spec import WorkerSpec
from paramserver.transport.base import MasterTransport

_cluster_numbers = count(1)
"""They name the workers of this process's clusters apart, for who reads logs."""


class LocalCluster(Cluster):
    """A master and workers on this machine, ready when the constructor returns.

    Parameters
    ----------
    n_workers : int, optional
        Worker processes; by default one for each processor this process may use.
    blas_threads : int, default=1
        Threads of the numeric libraries in each worker.
    memory_limit_bytes : int, optional
        Address space of each worker; a job that passes it gets a MemoryError.
    no_workers_timeout_s : float, default=60
        How long jobs wait while nobody is there, before they fail with `NoWorkers`.
    start_timeout_s : float, default=60
        How long the workers may take to come up, their initializer included.
    transport : {'auto', 'unix', 'zeromq'}, default='auto'
        What the messages go over: sockets of the kernel (Linux), or ZeroMQ over ipc. 'auto' takes
        the first where it can be had: a round trip costs a fraction of the other's.
    initializer : callable, optional
        Called as ``initializer(*initargs)`` in each worker before it takes jobs, also in those that
        replace others. What it assigns to globals, those of ``__main__`` included, is there for the
        jobs of that worker.
    initargs : sequence, default=()
        Its arguments, as they are now.
    max_tasks_per_child : int, optional
        Jobs after which a worker leaves and another one takes its place; by default it stays.

    Raises
    ------
    ConfigError
        If `n_workers` is less than 1, or there is no such transport here.
    LaunchFailed
        If workers do not come up; with the last lines of their standard error.
    InitializerFailed
        If the initializer raises; with its traceback.
    LocalProtocolError
        If the initializer or its arguments cannot be pickled.

    Examples
    --------
    >>> import paramserver as ps
    >>> with ps.LocalCluster(n_workers=2) as cluster:
    ...     print(cluster.submit(pow, 2, 10).result())
    ...     print(list(cluster.map(abs, [-1, -2, 3])))
    1024
    [1, 2, 3]
    """

    def __init__(
        self,
        n_workers: int | None = None,
        *,
        blas_threads: int | None = 1,
        memory_limit_bytes: int | None = None,
        no_workers_timeout_s: float = 60.0,
        start_timeout_s: float = START_S,
        transport: str = "auto",
        initializer: Callable[..., Any] | None = None,
        initargs: Sequence[Any] = (),
        max_tasks_per_child: int | None = None,
    ) -> None:
        bind = _binder(transport)
        if n_workers is None:
            n_workers = n_cores()
        n_workers = whole_number(n_workers, "n_workers", 1)
        if blas_threads is not None:
            blas_threads = whole_number(blas_threads, "blas_threads", 1)
        if memory_limit_bytes is not None:
            memory_limit_bytes = whole_number(memory_limit_bytes, "memory_limit_bytes", 1)
        no_workers_timeout_s = seconds(no_workers_timeout_s, "no_workers_timeout_s")
        start_timeout_s = seconds(start_timeout_s, "start_timeout_s")
        if max_tasks_per_child is not None:
            max_tasks_per_child = whole_number(max_tasks_per_child, "max_tasks_per_child", 1)
        first = None if initializer is None else _encoded(initializer, tuple(initargs))
        scratch = Scratch.create()
        try:
            end = bind(str(scratch.socket_path("master")))
        except BaseException:
            scratch.close()
            raise
        self._open(scratch, end, no_workers_timeout_s)
        spec = WorkerSpec(
            address=self.address,
            run=scratch.run,
            trusted=True,
            blas_threads=blas_threads,
            memory_limit_bytes=memory_limit_bytes,
            scratch_fast=str(scratch.fast),
            scratch_disk=str(scratch.disk),
            options={
                "nonce_path": str(scratch.nonce_path),
                "initializer": None if first is None else str(scratch.disk / "initializer"),
                "max_tasks_per_child": max_tasks_per_child,
            },
        )
        self._parts.start_agent(f"local{next(_cluster_numbers)}", spec)
        try:
            if first is not None:
                (scratch.disk / "initializer").write_bytes(first)
            self.scale(n_workers)
            self.wait_for_workers(n_workers, start_timeout_s)
        except BaseException:
            self.shutdown(wait=True)
            raise

    def scale(self, n_workers: int) -> None:
        """Keep this many workers on this machine; those too many finish their job and leave.

        Raises
        ------
        ConfigError
            If `n_workers` is not a whole number, or negative.
        ClusterClosed
            After `shutdown`.
        """
        n_workers = whole_number(n_workers, "n_workers", 0)
        self._check_open()
        self._n_wanted = n_workers
        self._parts.scale(n_workers)

    @property
    def n_wanted(self) -> int:
        """How many workers it keeps, also while some of them are being replaced."""
        return self._n_wanted

    def _tell_wait(self, n_there: int, n: int) -> None:
        words = f"{n_there} of {n} workers are there. {self._parts.missing()}"
        print(f"paramserver: {words.rstrip()}", file=sys.stderr, flush=True)


def _encoded(initializer: Callable[..., Any], initargs: tuple[Any, ...]) -> bytes:
    """Return the initializer and its arguments as the workers read them."""
    if not callable(initializer):
        raise TypeError(f"initializer must be a callable, not {initializer!r:.80}.")
    check_stays(initargs)
    return calls.encode_initializer(initializer, initargs)


def _binder(transport: str) -> Callable[[str], MasterTransport]:
    """Return what opens the master's end at a path."""
    if transport == "auto":
        transport = "unix" if sys.platform.startswith("linux") else "zeromq"
    if transport == "unix":
        from paramserver.transport.unix_master import UnixMasterTransport

        return lambda path: UnixMasterTransport.bind(f"unix://{path}")
    if transport == "zeromq":
        from paramserver.transport.zmq_master import ZmqMasterTransport

        return lambda path: ZmqMasterTransport.bind(f"ipc://{path}")
    raise ConfigError(
        f"transport must be 'auto', 'unix' or 'zeromq', not {transport!r}.",
        field="transport",
        value=transport,
    )
