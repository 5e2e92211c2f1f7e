"""Jobs as the standard library's futures. What a user calls; it decides nothing.

Rule 1: whoever knows `concurrent.futures.ProcessPoolExecutor` knows this, in every corner.
Rule 2: a future is settled on the master's I/O thread, and nothing here keeps a reference to it, to
        its function or to its arguments afterwards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import chain, count, islice
from typing import Any, NoReturn, ParamSpec, TypeVar

from paramserver.core.events import CancelRequested, JobsSubmitted, PhaseOpened
from paramserver.core.jobs import JobOptions, JobSpec, PhaseSpec
from paramserver.errors import ClusterClosed, LocalProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload
from paramserver.runtime.arguments import whole_number
from paramserver.runtime.context import run_chunk, run_chunk_until_error
from paramserver.runtime.futures import FutureOwner, JobFuture
from paramserver.runtime.master import Master
from paramserver.runtime.results_in_order import results_in_order

P = ParamSpec("P")
T = TypeVar("T")

CHUNKS_PER_WORKER = 32
"""`map` makes about this many chunks for each worker, so that the last ones end together."""
CHUNK_MAX = 1024


class JobCounter:
    """Numbers for the jobs and phases of one cluster."""

    def __init__(self) -> None:
        self._jobs = count(1)
        self._phases = count(1)
        self._phases_by_options: dict[JobOptions, int] = {}
        self._lock = threading.Lock()

    def next_job(self) -> int:
        """Return a number no job has had."""
        return next(self._jobs)

    def next_phase(self) -> int:
        """Return a number no phase has had."""
        return next(self._phases)

    def phase_for(self, options: JobOptions, open_phase: Callable[[PhaseSpec], None]) -> int:
        """Return the one phase of all jobs that are submitted with these options."""
        with self._lock:
            number = self._phases_by_options.get(options)
            if number is None:
                number = self.next_phase()
                open_phase(PhaseSpec(number, "submit", options))
                self._phases_by_options[options] = number
            return number


class JobExecutor(Executor):
    """Hands in jobs with one set of options. `Cluster` is one, `Cluster.with_options` makes more.

    Parameters
    ----------
    master : Master
    numbers : JobCounter
    options : JobOptions
    trusted : bool
        Whether calls and results may be pickled.
    ship_code : bool
        Whether functions may be sent as code to workers outside of the trust domain.
    buffersize : int or None
        For `map`: how many items may be in flight; None hands all in at once.
    n_workers : callable
        How many workers there are, for the size of chunks.
    parent : JobExecutor, optional
        The cluster whose workers it uses: kept alive by it, and closed before it.
    """

    def __init__(
        self,
        master: Master,
        numbers: JobCounter,
        options: JobOptions,
        *,
        trusted: bool,
        ship_code: bool,
        buffersize: int | None,
        n_workers: Callable[[], int],
        parent: JobExecutor | None = None,
    ) -> None:
        self._master = master
        self._parent = parent
        self._numbers = numbers
        self._job_options = options
        self._trusted = trusted
        self._ship_code = ship_code
        self._buffersize = buffersize
        self._n_workers = n_workers
        self._owner = FutureOwner(trusted=trusted, is_settling_thread=lambda: master.is_own_thread)
        self._shutdown_lock = threading.Lock()
        self._is_shut_down = False
        self._phase = numbers.phase_for(
            options, lambda spec: master.post(PhaseOpened(master.clock(), spec))
        )

    # --- concurrent.futures.Executor --------------------------------------------------------------

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` on a worker and return its future.

        Raises
        ------
        ClusterClosed
            After `shutdown` (a RuntimeError, as for the standard executors).

        Notes
        -----
        The call is pickled here and now, so later changes of the arguments do not reach it. An
        exception of `fn` is final; a lost worker means another try on another one.
        """
        return self._hand_in(fn, args, kwargs, (*args, *kwargs.values()) if kwargs else args)

    def map(
        self,
        fn: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Run `fn` for each row of arguments; return the results in order, lazily.

        Parameters
        ----------
        fn : callable
        *iterables : iterables
            Read to their end at once, unless `buffersize` is given.
        timeout : float, optional
            Seconds from the call of `map` after which waiting for a result raises TimeoutError.
        chunksize : int, optional
            Items that travel, and are run again, together; by default so many that each worker gets
            some 32 chunks, and one where the options say something for each job (`timeout_s`,
            `max_failures`).
        buffersize : int, optional
            At most so many items are in flight, and the iterables are read only as far as needed.

        Notes
        -----
        An exception of `fn` is raised when its item is reached; items before it are not lost.
        """
        if chunksize is not None:
            chunksize = whole_number(chunksize, "chunksize", 1)
        if buffersize is None:
            buffersize = self._buffersize
        else:
            buffersize = whole_number(buffersize, "buffersize", 1)
        end_at = None if timeout is None else time.monotonic() + timeout
        rows: Iterable[tuple[Any, ...]] = zip(*iterables, strict=False)
        if buffersize is None:
            rows = list(rows)
            size = chunksize or self._chunk_size(len(rows))
        else:
            size = min(chunksize or max(1, buffersize // (4 * self._n_workers())), buffersize)
        options = self._job_options
        is_for_each = options.timeout_s is not None or options.max_failures > 1
        if not self._trusted or (is_for_each and chunksize is None):
            size = 1  # what was asked for each job is meant for each item
        ahead = None if buffersize is None else max(1, buffersize // size)
        return results_in_order(
            _chunked(iter(rows), size),
            lambda chunk: self._submit_chunk(fn, chunk),
            self._read_chunk,
            ahead,
            end_at,
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs; with `wait`, return when all are settled."""
        with self._shutdown_lock:
            self._is_shut_down = True
        if not self._master.is_own_process:
            return
        self._withdraw([self._owner], cancel_futures)
        if wait and not self._master.is_own_thread:
            self._owner.wait_until_idle()

    # --- beyond the standard ----------------------------------------------------------------------

    @property
    def home(self) -> JobExecutor:
        """The cluster whose workers it uses: itself, if it is one."""
        return self if self._parent is None else self._parent.home

    @property
    def n_workers(self) -> int:
        """How many workers there are now; 1 while nobody is there."""
        return self._n_workers()

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel a job even if it is running: its worker is then killed and replaced.

        Returns
        -------
        bool
            False if the job had ended already, or is none of this executor's. A future that was
            running raises CancelledError from `result`.
        """
        job = self._job_of(future)
        if job is None or future.done():
            return False
        future.cancel()
        self._master.post(CancelRequested(self._master.clock(), (job,)))
        return True

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a cluster cannot be sent to its workers: let the job return what is to be done, or "
            "make a cluster inside the job"
        )

    # --- inside -----------------------------------------------------------------------------------

    def _withdraw(self, owners: Sequence[FutureOwner], cancel_futures: bool) -> None:
        """Take back what was cancelled, so that nobody waits for workers to find it unwanted."""
        for owner in owners:
            if cancel_futures:
                owner.cancel_pending()
            if cancelled := owner.cancelled():
                self._master.post(CancelRequested(self._master.clock(), cancelled))

    def _job_of(self, future: Future[Any]) -> int | None:
        return self._owner.job_of(future)

    def _hand_in(
        self, fn: Callable[..., Any], args: Any, kwargs: Any, given: Iterable[Any]
    ) -> Future[Any]:
        """Hand in a job; `given` are the arguments of the user's own function."""
        self._check_open()
        future: JobFuture[Any] = JobFuture()
        master, owner = self._master, self._owner
        try:
            check_stays(given)
            payload = calls.encode_call(
                fn, args, kwargs, trusted=self._trusted, ship_code=self._ship_code
            ).snapshot()  # the caller may change an array, and another try must send the same
        except Exception as error:  # noqa: BLE001 - like the standard pools: it is the future's
            future.set_running_or_notify_cancel()
            future.set_exception(error)
            return future
        with self._shutdown_lock:
            self._check_not_ended()
            job = self._numbers.next_job()
            try:
                owner.add(job, future)
                master.own_one(job, owner)
                master.post(JobsSubmitted(master.clock(), self._phase, (JobSpec(job, payload),)))
            except BaseException:  # Ctrl-C: nobody will ever have this future, or wait for it
                owner.forget(job)
                raise
        if master.has_ended:
            owner.break_off(job, ClusterClosed("the cluster ended while the job was handed in"))
        return future

    def _check_open(self) -> None:
        if not self._master.is_own_process:
            raise ClusterClosed(
                "This process was forked from the one that has the cluster, which cannot be used "
                "from here. Make another cluster here, or leave the work to that process."
            )
        self._check_not_ended()

    def _check_not_ended(self) -> None:
        failure = self._master.failure
        if failure is not None:
            raise ClusterClosed("the master has ended") from failure
        parent = self._parent
        was_shut_down = self._is_shut_down or (parent is not None and parent._is_shut_down)
        if was_shut_down or self._master.has_ended:  # at the interpreter's end nobody shuts it down
            raise ClusterClosed(
                "cannot schedule new futures after shutdown: this cluster has ended. Hand jobs in "
                "inside of its `with` block, or make another cluster."
            )

    def _submit_chunk(self, fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> Future[Any]:
        if not self._trusted:  # functions go by name there, and only at the top of a call
            return self._hand_in(fn, chunk[0], {}, chunk[0])
        final = self._job_options.max_failures == 1
        run = run_chunk_until_error if final else run_chunk
        return self._hand_in(run, (fn, chunk), {}, chain.from_iterable(chunk))

    def _read_chunk(self, value: Any) -> tuple[list[Any], BaseException | None]:
        """Return the results of a chunk, and the error that ended it early."""
        if not self._trusted:
            return [value], None
        if self._job_options.max_failures > 1:
            return value, None
        results, error, worker_id = value
        if error is None:
            return results, None
        kind, data, buffers = error
        payload = Payload(kind, data, buffers)
        return results, calls.decode_error(payload, trusted=True, worker_id=worker_id, attempts=1)

    def _chunk_size(self, n_items: int) -> int:
        return max(1, min(CHUNK_MAX, n_items // (CHUNKS_PER_WORKER * self._n_workers())))


def check_stays(values: Iterable[Any]) -> None:
    """Refuse to send what only works in the process that has it."""
    for value in values:
        if isinstance(value, Future):
            raise LocalProtocolError(
                "A job was handed a future, which stays in the process that has it. Hand in its "
                "result (future.result()) instead, or submit the second job when the first is done."
            )
        if isinstance(value, JobExecutor):
            raise LocalProtocolError(
                "A job was handed a cluster, which stays in the process that has it. Let the job "
                "return what is to be done next and submit that from here, or make a LocalCluster "
                "inside of the job."
            )


def _chunked(rows: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(islice(rows, size)):
        yield chunk
