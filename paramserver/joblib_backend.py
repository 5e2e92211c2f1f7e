"""A cluster as a backend of joblib: what scikit-learn runs in parallel survives lost workers.

Rule 1: what of joblib could block (the caller's iterator, pickling, its bookkeeping) runs on the
        caller's thread or on a thread of the call, never on the master's I/O thread.
Rule 2: whatever goes wrong there reaches the caller as an exception: joblib waits for each batch.
Rule 3: a call of `Parallel` has its own backend object, so that two that overlap (generators) keep
        their batches apart: to abort one leaves the other alone.
Rule 4: to other machines a batch goes as any job does: functions by name and plain values, or as
        code where the cluster and its workers were told so. Results are plain values, unless the
        user has said, by `unpickle_results`, that the workers may be trusted with this process.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from types import BuiltinFunctionType, FunctionType
from typing import Any, Final

from joblib import parallel_config
from joblib.parallel import (
    TASK_ERROR,
    AutoBatchingMixin,
    BatchCompletionCallBack,
    BatchedCalls,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    ThreadingBackend,
    register_parallel_backend,
)

from paramserver.cluster import Cluster
from paramserver.errors import ConfigError, JobFailed, LocalProtocolError
from paramserver.executor import JobExecutor
from paramserver.joblib_arrays import SharedArrays
from paramserver.joblib_results import run_and_pack, unpack

__all__ = ["ClusterBackend", "register_joblib"]
__remote_jobs__ = ("run_by_name",)

NAME = "paramserver"
NOT_PLAIN: Final = "paramserver.errors.LocalProtocolError"
"""What a worker fails with that has a result which is no plain value."""
JOIN_S = 1.0
"""How long the end of a call waits for its thread: the iterator of the caller may hold that up."""


def register_joblib() -> None:
    """Make ``joblib.parallel_config(backend="paramserver", cluster=...)`` known to joblib.

    Importing `paramserver.joblib_backend` does the same.

    Notes
    -----
    Everything that scikit-learn and others run through joblib goes to the cluster then, and
    survives its workers. ``n_jobs=-1``, the default there, means all workers, a smaller number at
    most so many at a time, and ``n_jobs=1``, as always in joblib, a loop in this very process. When
    a call fails, passes its `timeout` or is interrupted, its jobs are taken back, and workers that
    are in the middle of one are replaced. Parallel calls inside of a job use threads of its worker.
    Large arrays, tables and sparse matrices that several calls are given are written once and
    mapped, read-only, as joblib has it for its own processes: see its `max_nbytes` and `mmap_mode`.

    Workers on other machines run functions by name that their operator has allowed (``--allow``),
    on plain values and arrays, and give such back. scikit-learn hands objects over: its searches
    need ``Cluster(..., ship_code=True)`` and workers with ``--accept-code``. What gives fitted
    estimators back (forests, ``return_estimator=True``) needs ``unpickle_results=True`` in
    `parallel_config` as well. To unpickle is to run what was sent: say so only if whoever can start
    a worker, by a copy of the keys, may run code in your process.

    In place of the cluster ``cluster.with_options(...)`` can be given, for other rules.

    Examples
    --------
    >>> import joblib
    >>> import paramserver as ps
    >>> ps.register_joblib()
    >>> with ps.LocalCluster(2) as cluster, joblib.parallel_config("paramserver", cluster=cluster):
    ...     print(joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(5)))
    [0, 1, 4, 9, 16]
    """
    register_parallel_backend(NAME, ClusterBackend)


class ClusterBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """What joblib calls. Made by joblib, from the arguments of `parallel_config`.

    Parameters
    ----------
    cluster : Cluster, or what its `with_options` returns
    unpickle_results : bool, default=False
        Let workers on other machines give any object back, as a pickle, which is run here.
    nesting_level : int, optional
        joblib's: how many parallel calls this one is inside of.

    Raises
    ------
    ConfigError
        If there is no cluster, or one that sends no code is asked for pickles.
    """

    default_n_jobs = -1
    supports_retrieve_callback = True  # and so time-outs, and results as generators

    def __init__(
        self,
        cluster: JobExecutor | None = None,
        nesting_level: int | None = None,
        *,
        unpickle_results: bool = False,
    ) -> None:
        if not isinstance(cluster, JobExecutor):
            raise ConfigError(
                "joblib needs a cluster of paramserver: with joblib.parallel_config("
                f"backend='paramserver', cluster=ps.LocalCluster(4)), not cluster={cluster!r}.",
                field="cluster",
                value=cluster,
            )
        super().__init__(nesting_level=nesting_level)
        home = cluster.home
        if unpickle_results and isinstance(home, Cluster) and not home.trusted | home.ships_code:
            raise ConfigError(
                "unpickle_results=True is for calls that go as code: make the cluster with "
                "ship_code=True and start its workers with --accept-code.",
                field="unpickle_results",
                value=True,
            )
        self._cluster = cluster
        self._may_unpickle = unpickle_results
        self._unpickles = False
        self._limit: int | None = None
        self._max_nbytes: int | None = None
        self._mmap_mode: str | None = None
        self._arrays: SharedArrays | None = None
        self._goes_by_name = False
        self._batches: Batches | None = None
        self.parallel: Any = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many jobs can run at a time.

        Two also where there is one worker, or none yet: told 1, joblib would not ask the cluster at
        all, but run everything in the caller's process.
        """
        n_workers = self._cluster.n_workers
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or n_jobs == -1:
            return max(2, n_workers)
        if n_jobs < 0:
            return max(1, n_workers + 1 + n_jobs)
        return 1 if n_jobs == 1 else max(2, min(n_jobs, n_workers))

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        max_nbytes: int | None = None,
        mmap_mode: str | None = None,
        **_: Any,
    ) -> int:
        """Take a `Parallel` on, by a backend of its own (rule 3)."""
        n = self.effective_n_jobs(n_jobs)
        if n == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if self.parallel is not parallel:
            own = ClusterBackend(
                self._cluster,
                nesting_level=self.nesting_level,
                unpickle_results=self._may_unpickle,
            )
            own.parallel = parallel
            raise FallbackToBackend(own)
        self._limit = n if n < self._cluster.n_workers else None
        self._max_nbytes, self._mmap_mode = max_nbytes, mmap_mode
        return n

    def start_call(self) -> None:
        """Begin a call of `Parallel`."""
        home = self._cluster.home
        if isinstance(home, Cluster) and home.trusted:  # so on this machine
            folders = (home.internals().fast_folder, home.scratch_folder)
            self._arrays = SharedArrays(folders, self._max_nbytes, self._mmap_mode)
        elif isinstance(home, Cluster):
            self._goes_by_name = not home.ships_code
            self._unpickles = self._may_unpickle
        self._batches = Batches(self._cluster, self._limit, self._fail)

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None]) -> Any:
        """Hand in a batch; `callback` is called on the call's thread when it has ended."""
        assert self._batches is not None, "joblib starts a call before it submits"
        if self._arrays is not None and isinstance(func, BatchedCalls):
            func.items = self._arrays.replace(func.items)
        if self._unpickles:
            return self._batches.submit(run_and_pack, (func,), callback)
        args = _by_name(func) if self._goes_by_name else ()
        return self._batches.submit(run_by_name if args else func, args, callback)

    apply_async = submit
    """What joblib called it before 1.5."""

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return what a batch returned, or raise what it raised, its remote traceback as cause."""
        try:
            result = out.result()
        except JobFailed as error:
            if not self._goes_by_name and error.error_type == NOT_PLAIN:
                error.add_note(
                    "A result that is an object comes back with joblib.parallel_config(..., "
                    "unpickle_results=True), which lets the workers run code in this process."
                )
            raise
        return unpack(result) if self._unpickles else result

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Take the batches of the call back, also those that run. The cluster stays as it is."""
        if self._batches is not None:
            self._batches.abort()

    def stop_call(self) -> None:
        """End a call of `Parallel`."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None
        if self._arrays is not None:
            self._arrays.close()
            self._arrays = None

    def terminate(self) -> None:
        """Forget how long batches took: the next call is another one's."""
        self.reset_batch_stats()

    def _fail(self, error: BaseException) -> None:
        """End the call by an error that belongs to no batch.

        As joblib does itself when the caller's iterator raises an Exception: by a batch that was
        never handed in.
        """
        batch = BatchCompletionCallBack(0.0, 1, self.parallel)
        if self.parallel.return_ordered:
            self.parallel._jobs.append(batch)
        batch._register_outcome({"result": error, "status": TASK_ERROR})


@dataclass(slots=True, eq=False)
class Batch:
    """Some calls of the user's, a job of the cluster's."""

    call: Callable[..., Any]
    args: tuple[Any, ...]
    on_end: Callable[[Any], None]
    future: Future[Any] | None = None


class Batches:
    """The batches of one call of `Parallel`, and the thread that is told when they end.

    Parameters
    ----------
    cluster : JobExecutor
    limit : int or None
        At most so many are with the cluster at a time.
    on_error : callable
        Called with what a batch's `on_end` raises.

    Notes
    -----
    The thread is not the master's: `on_end` draws the next calls from the caller's iterator, which
    may take its time, or even wait for another job of the same cluster.
    """

    def __init__(
        self, cluster: JobExecutor, limit: int | None, on_error: Callable[[BaseException], None]
    ) -> None:
        self._cluster = cluster
        self._limit = limit
        self._on_error = on_error
        self._lock = threading.Lock()
        self._waiting: deque[Batch] = deque()
        self._handed_in: set[Batch] = set()
        self._is_over = False
        self._ended: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="paramserver-joblib", daemon=True)
        self._thread.start()

    def submit(
        self, call: Callable[..., Any], args: tuple[Any, ...], on_end: Callable[[Any], None]
    ) -> Batch:
        """Run a call on the cluster, as soon as the limit lets it."""
        batch = Batch(call, args, on_end)
        with self._lock:
            self._waiting.append(batch)
        self._hand_in()
        return batch

    def abort(self) -> None:
        """Take everything back; workers that are in the middle of a batch are replaced."""
        with self._lock:
            self._is_over = True
            self._waiting.clear()
            futures = [batch.future for batch in self._handed_in if batch.future is not None]
        for future in futures:
            self._cluster.cancel(future)

    def close(self) -> None:
        """End the thread."""
        self._ended.put(None)
        if self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)

    def _hand_in(self) -> None:
        while (batch := self._next()) is not None:
            try:
                batch.future = self._cluster.submit(batch.call, *batch.args)
            except Exception as error:  # noqa: BLE001 - a closed cluster: the batch's own end
                batch.future = Future()
                batch.future.set_exception(error)
            if self._is_over:  # aborted meanwhile, and not seen there
                self._cluster.cancel(batch.future)
            batch.future.add_done_callback(partial(self._tell, batch))

    def _tell(self, batch: Batch, _: Future[Any]) -> None:
        self._ended.put(batch)

    def _next(self) -> Batch | None:
        with self._lock:
            is_full = self._limit is not None and len(self._handed_in) >= self._limit
            if self._is_over or is_full or not self._waiting:
                return None
            batch = self._waiting.popleft()
            self._handed_in.add(batch)
            return batch

    def _run(self) -> None:
        while (batch := self._ended.get()) is not None:
            with self._lock:
                self._handed_in.discard(batch)
            self._hand_in()
            try:
                batch.on_end(batch.future)
            except BaseException as error:  # noqa: BLE001 - whoever waits for the call is told
                self._on_error(error)
            del batch  # nobody holds on to its arguments while this waits


def run_by_name(rows: list[tuple[int, Any, Any]], *functions: Callable[..., Any]) -> list[Any]:
    """Run a batch whose functions were sent by name, on a worker of another machine.

    Parameters
    ----------
    rows : list of (int, tuple, dict)
        The number of a function, its positional and its keyword arguments.
    *functions : callables
    """
    with parallel_config(ThreadingBackend(nesting_level=1)):  # as joblib has it for batches
        return [functions[number](*args, **kwargs) for number, args, kwargs in rows]


def _by_name(batch: Any) -> tuple[Any, ...]:
    """Return the arguments of `run_by_name` for a batch.

    Raises
    ------
    LocalProtocolError
        If what it calls is no plain function.
    """
    functions: dict[Callable[..., Any], int] = {}
    rows = []
    for fn, args, kwargs in batch.items:
        if not isinstance(fn, FunctionType | BuiltinFunctionType | type):
            raise LocalProtocolError(
                f"What is to be called is an object ({type(fn).__module__}.{type(fn).__name__}), "
                "and to other machines functions go by name. scikit-learn's calls are such "
                "objects: make the cluster with ship_code=True and start its workers with "
                "--accept-code, or use a LocalCluster."
            )
        rows.append((functions.setdefault(fn, len(functions)), args, kwargs))
    return rows, *functions


register_joblib()
