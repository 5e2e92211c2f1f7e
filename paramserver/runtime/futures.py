"""What became of jobs, as the standard library's futures.

Rule 1: a future is settled on the master's I/O thread; nothing here keeps a reference to it, to its
        result or to its error afterwards.
Rule 2: a future belongs to whoever holds it: they may cancel it, or even fill it, at any moment,
        and the job's own end is dropped then.
Rule 3: who waits for a cancelled future is told.
Rule 4: the I/O thread, on which callbacks run, waits for no future: it is who would settle it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures._base import PENDING, RUNNING
from typing import Any, Final, TypeVar

from paramserver.core.commands import SettleJob
from paramserver.core.jobs import Verdict
from paramserver.errors import ClusterError
from paramserver.protocol import calls
from paramserver.runtime.job_error import job_error

T = TypeVar("T")

_CANCELLED: Final = Verdict.CANCELLED
_SUCCEEDED: Final = Verdict.SUCCEEDED


class JobFuture(Future[T]):
    """A future of the standard library that knows the number of its job, and who handed it in."""

    __slots__ = ("job", "owner")

    job: int
    owner: FutureOwner

    # Of one moment, as `running` and `done` are, but without taking the lock for it.

    @property
    def is_pending(self) -> bool:
        """Whether nothing has become of it."""
        return self._state is PENDING

    @property
    def is_running(self) -> bool:
        """Whether its job has been granted, and nothing else has become of it."""
        return self._state is RUNNING

    # Both let go of `self` at the end: the traceback of what they raise leads to their frame.

    def result(self, timeout: float | None = None) -> T:
        """Return the result, as of any future; `ClusterError` where that would wait for ever."""
        try:
            self._refuse_to_wait_for_itself()
            return Future.result(self, timeout)
        finally:
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, as of any future; `ClusterError` where that would wait for ever."""
        try:
            self._refuse_to_wait_for_itself()
            return Future.exception(self, timeout)
        finally:
            del self

    def _refuse_to_wait_for_itself(self) -> None:
        if (self.is_pending or self.is_running) and self.owner.is_settling_thread():
            raise ClusterError(
                "A callback of a future has asked for the result of another one that is not "
                "settled yet: callbacks run on the very thread that settles futures, so this would "
                "wait for ever. Give that future a callback of its own, or wait for it in another "
                "thread."
            )


class FutureOwner:
    """The futures of the jobs that were handed in one by one. See `runtime.owners.JobOwner`."""

    def __init__(
        self, *, trusted: bool, is_settling_thread: Callable[[], bool] = lambda: False
    ) -> None:
        self._futures: dict[int, JobFuture[Any]] = {}
        self._trusted = trusted
        self.is_settling_thread = is_settling_thread
        """Whether the caller runs on the thread that settles the futures."""
        self._idle = threading.Condition()
        self._n_waiting = 0

    def add(self, job: int, future: JobFuture[Any]) -> None:
        """Remember a future until its job is settled."""
        future.job = job
        future.owner = self
        self._futures[job] = future

    def job_of(self, future: Future[Any]) -> int | None:
        """Return the job behind a future that is not settled."""
        job = getattr(future, "job", 0)
        return job if self._futures.get(job) is future else None

    def made(self, future: Future[Any]) -> bool:
        """Say whether a future is one of these, settled or not."""
        return getattr(future, "owner", None) is self

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

    def cancelled(self) -> tuple[int, ...]:
        """Numbers of the jobs whose futures were cancelled, and that the master still has."""
        return tuple(job for job, future in list(self._futures.items()) if future.cancelled())

    def wait_until_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until all jobs are settled; return whether they are."""
        with self._idle:
            self._n_waiting += 1  # before the look: who drops the last future looks afterwards
            try:
                return self._idle.wait_for(lambda: not self._futures, timeout_s)
            finally:
                self._n_waiting -= 1

    def claim(self, job: int) -> bool:
        """Set a future running, unless it was cancelled first."""
        future = self._futures.get(job)
        if future is None:
            return False
        if future.is_running or _start(future):
            return True
        del self._futures[job]
        return False

    def settle(self, ended: SettleJob) -> None:
        """Give a future its result or its error."""
        try:
            if ended.job in self._futures:
                settle_future(self._futures[ended.job], ended, trusted=self._trusted)
        finally:  # whoever has waited until all are settled finds them so
            self._drop(ended.job)

    def break_off(self, job: int, error: BaseException) -> None:
        """Fail a future because the master itself is gone."""
        try:
            future = self._futures.get(job)
            if future is not None and (future.is_running or _start(future)):
                _give(future, None, error)
        finally:
            self._drop(job)

    def _drop(self, job: int) -> None:
        self._futures.pop(job, None)
        if self._n_waiting and not self._futures:
            with self._idle:
                self._idle.notify_all()


def settle_future(future: JobFuture[Any], ended: SettleJob, *, trusted: bool) -> None:
    """Give a future what its job ended with, unless its owner has cancelled or filled it."""
    try:
        if ended.verdict is _CANCELLED:
            future.cancel()
        if not future.is_running and not _start(future):
            return
        if ended.verdict is _SUCCEEDED:
            _give(future, *_result_of(ended, trusted=trusted))
        else:
            _give(future, None, job_error(ended, trusted=trusted))
    finally:
        del future  # an error's traceback leads to this frame, and must not lead to its future


def _start(future: JobFuture[Any]) -> bool:
    """Set a future running; if it was cancelled, tell those who wait for it, and return False."""
    if not future.is_pending and not future.cancelled():
        return False  # someone else has filled it, as they may
    return future.set_running_or_notify_cancel()


def _give(future: Future[Any], result: Any, error: BaseException | None) -> None:
    try:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
    except InvalidStateError:
        return  # someone else was faster to fill it


def _result_of(ended: SettleJob, *, trusted: bool) -> tuple[Any, BaseException | None]:
    assert ended.payload is not None
    try:
        return calls.decode_value(ended.payload, trusted=trusted), None
    except BaseException as error:  # noqa: BLE001 - it belongs to who waits for the result
        return None, error
