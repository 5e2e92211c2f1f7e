"""Jobs as the standard library's futures. What a user calls; it decides nothing.

Rule 1: whoever knows `concurrent.futures.ProcessPoolExecutor` knows this, in every corner.
Rule 2: a future is settled on the master's I/O thread, and nothing here keeps a reference to it, to
        its function or to its arguments afterwards.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from itertools import count, islice
from typing import Any, ParamSpec, TypeVar

from paramserver.core.commands import SettleJob
from paramserver.core.events import CancelRequested, JobsSubmitted, PhaseOpened
from paramserver.core.jobs import JobOptions, JobSpec, PhaseSpec, Verdict
from paramserver.errors import (
    ClusterClosed,
    ConfigError,
    JobError,
    JobTimeout,
    NoWorkers,
    PoisonJob,
)
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload
from paramserver.runtime.context import run_chunk, run_chunk_until_error
from paramserver.runtime.master import Master

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

    def next_job(self) -> int:
        """Return a number no job has had."""
        return next(self._jobs)

    def next_phase(self) -> int:
        """Return a number no phase has had."""
        return next(self._phases)


class FutureOwner:
    """The futures of the jobs that were handed in one by one. See `runtime.master.JobOwner`."""

    def __init__(self, *, trusted: bool) -> None:
        self._futures: dict[int, Future[Any]] = {}
        self._trusted = trusted
        self._idle = threading.Condition()

    def add(self, job: int, future: Future[Any]) -> None:
        """Remember a future until its job is settled."""
        self._futures[job] = future

    def job_of(self, future: Future[Any]) -> int | None:
        """Return the job behind a future that is not settled."""
        return next((job for job, known in list(self._futures.items()) if known is future), None)

    def forget(self, job: int) -> None:
        """Undo `add`."""
        self._futures.pop(job, None)

    def __len__(self) -> int:
        return len(self._futures)

    def jobs(self) -> list[int]:
        """Numbers of the jobs that are not settled."""
        return list(self._futures)

    def cancel_pending(self) -> None:
        """Cancel the futures whose jobs have not been granted."""
        for future in list(self._futures.values()):
            future.cancel()

    def wait_until_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until all jobs are settled; return whether they are."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._futures, timeout_s)

    def claim(self, job: int) -> bool:
        """Set a future running, unless it was cancelled first."""
        future = self._futures.get(job)
        if future is None:
            return False
        return future.running() or future.set_running_or_notify_cancel()

    def settle(self, ended: SettleJob) -> None:
        """Give a future its result or its error."""
        future = self._futures.pop(ended.job, None)
        if future is not None:
            settle_future(future, ended, trusted=self._trusted)
        if not self._futures:
            with self._idle:
                self._idle.notify_all()

    def break_off(self, job: int, error: BaseException) -> None:
        """Fail a future because the master itself is gone."""
        future = self._futures.pop(job, None)
        if future is not None and not future.done():
            if not future.running():
                future.set_running_or_notify_cancel()
            if not future.cancelled():
                future.set_exception(error)
        with self._idle:
            self._idle.notify_all()


def settle_future(future: Future[Any], ended: SettleJob, *, trusted: bool) -> None:
    """Give a future what its job ended with."""
    if not future.running() and not future.done() and not future.set_running_or_notify_cancel():
        return  # the user cancelled it before it was granted
    if future.done():
        if future.cancelled() and ended.verdict is Verdict.CANCELLED:
            return
        raise AssertionError(f"job {ended.job} was settled twice")
    try:
        if ended.verdict is Verdict.SUCCEEDED:
            assert ended.payload is not None
            result = calls.decode_value(ended.payload, trusted=trusted)
        else:
            raise job_error(ended, trusted=trusted)
    except BaseException as error:  # noqa: BLE001 - it belongs to who waits for the result
        future.set_exception(error)
    else:
        future.set_result(result)


def job_error(ended: SettleJob, *, trusted: bool) -> BaseException:
    """Make the exception for a job that did not succeed."""
    job, tries = ended.job, ended.attempts
    match ended.verdict:
        case Verdict.ERROR if ended.payload is not None:
            return calls.decode_error(
                ended.payload, trusted=trusted, worker_id=ended.worker_id, attempts=tries
            )
        case Verdict.TIMEOUT:
            return JobTimeout(
                f"Job {job} ran past its deadline of {ended.text} s on each of {tries} tries; its "
                "worker was killed each time. Give it more time with "
                "cluster.with_options(timeout_s=...).",
                timeout_s=float(ended.text),
                attempts=tries,
            )
        case Verdict.POISON:
            code = ended.exit_code
            how = "silence" if code is None else f"signal {-code}" if code < 0 else f"exit {code}"
            return PoisonJob(
                f"Job {job} lost its worker on each of {tries} tries (the last one by {how}), so "
                "it is not tried again. Last words of the worker:\n" + (ended.text or "(none)"),
                exit_code=code,
                stderr_tail=ended.text,
                attempts=tries,
            )
        case Verdict.NO_WORKERS:
            return NoWorkers(
                f"No worker was there for {ended.text} s, so job {job} was given up. Start workers "
                "(cluster.scale(n), or the worker command the master printed) and submit it again.",
                waited_s=float(ended.text),
            )
        case Verdict.CANCELLED:
            return CancelledError(ended.text or "the job was cancelled")
    return JobError(f"Job {job} ended as {ended.verdict.name}: {ended.text}")


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
    ) -> None:
        self._master = master
        self._numbers = numbers
        self._job_options = options
        self._trusted = trusted
        self._ship_code = ship_code
        self._buffersize = buffersize
        self._n_workers = n_workers
        self._owner = FutureOwner(trusted=trusted)
        self._shutdown_lock = threading.Lock()
        self._is_shut_down = False
        self._phase = numbers.next_phase()
        master.post(PhaseOpened(master.clock(), PhaseSpec(self._phase, "submit", options)))

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
        return self._hand_in(fn, args, kwargs)

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
            some 32 chunks.
        buffersize : int, optional
            At most so many items are in flight, and the iterables are read only as far as needed.

        Notes
        -----
        An exception of `fn` is raised when its item is reached; items before it are not lost.
        """
        if chunksize is not None and chunksize < 1:
            raise ConfigError("chunksize must be 1 or more.", field="chunksize", value=chunksize)
        buffersize = self._buffersize if buffersize is None else buffersize
        if buffersize is not None and buffersize < 1:
            raise ConfigError("buffersize must be 1 or more.", field="buffersize", value=buffersize)
        end_at = None if timeout is None else time.monotonic() + timeout
        rows: Iterable[tuple[Any, ...]] = zip(*iterables, strict=False)
        ahead: int | None = None
        if buffersize is None:
            rows = list(rows)
            size = chunksize or self._chunk_size(len(rows))
            if not self._trusted:
                size = 1
        elif not self._trusted:
            size, ahead = 1, buffersize
        else:
            size = min(chunksize or max(1, buffersize // (4 * self._n_workers())), buffersize)
            ahead = max(1, buffersize // size)
        chunks = _chunked(iter(rows), size)
        del rows
        pending = deque(self._submit_chunk(fn, chunk) for chunk in islice(chunks, ahead))
        return self._results(fn, chunks, pending, end_at)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs; with `wait`, return when all are settled."""
        with self._shutdown_lock:
            self._is_shut_down = True
        if cancel_futures:
            self._owner.cancel_pending()
            self._withdraw_cancelled()
        if wait:
            self._owner.wait_until_idle()

    # --- beyond the standard ----------------------------------------------------------------------

    def cancel(self, future: Future[Any]) -> bool:
        """Cancel a job even if it is running: its worker is then killed and replaced.

        Returns
        -------
        bool
            False if the job had ended already, or is none of this executor's. A future that was
            running raises CancelledError from `result`.
        """
        job = self._owner.job_of(future)
        if job is None or future.done():
            return False
        future.cancel()
        self._master.post(CancelRequested(self._master.clock(), (job,)))
        return True

    # --- inside -----------------------------------------------------------------------------------

    def _hand_in(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        master = self._master
        try:
            payload = calls.encode_call(
                fn, args, kwargs, trusted=self._trusted, ship_code=self._ship_code
            ).snapshot()  # the caller may change an array, and another try must send the same
        except Exception as error:  # noqa: BLE001 - like the standard pools: it is the future's
            self._check_open()
            future.set_running_or_notify_cancel()
            future.set_exception(error)
            return future
        with self._shutdown_lock:
            self._check_open()
            job = self._numbers.next_job()
            self._owner.add(job, future)
            master.own_one(job, self._owner)
            master.post(JobsSubmitted(master.clock(), self._phase, (JobSpec(job, payload),)))
        return future

    def _check_open(self) -> None:
        if self._is_shut_down:
            raise ClusterClosed("cannot schedule new futures after shutdown")
        if self._master.failure is not None:
            raise ClusterClosed("the master has ended") from self._master.failure

    def _submit_chunk(self, fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> Future[Any]:
        if not self._trusted:  # functions go by name there, and only at the top of a call
            return self._hand_in(fn, chunk[0], {})
        final = self._job_options.max_failures == 1
        run = run_chunk_until_error if final else run_chunk
        return self._hand_in(run, (fn, chunk), {})

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

    def _results(
        self,
        fn: Callable[..., Any],
        chunks: Iterator[list[tuple[Any, ...]]],
        pending: deque[Future[Any]],
        end_at: float | None,
    ) -> Iterator[Any]:
        def results() -> Iterator[Any]:
            try:
                while pending:
                    left = None if end_at is None else end_at - time.monotonic()
                    values, error = self._read_chunk(pending[0].result(left))
                    pending.popleft()
                    for chunk in islice(chunks, 1):
                        pending.append(self._submit_chunk(fn, chunk))
                    values.reverse()
                    while values:
                        yield values.pop()
                    if error is not None:
                        raise error
            finally:
                for future in pending:
                    future.cancel()

        return results()

    def _chunk_size(self, n_items: int) -> int:
        return max(1, min(CHUNK_MAX, n_items // (CHUNKS_PER_WORKER * self._n_workers())))

    def _withdraw_cancelled(self) -> None:
        cancelled = [
            job for job, future in list(self._owner._futures.items()) if future.cancelled()
        ]
        if cancelled:
            self._master.post(CancelRequested(self._master.clock(), tuple(cancelled)))


def _chunked(rows: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(islice(rows, size)):
        yield chunk
