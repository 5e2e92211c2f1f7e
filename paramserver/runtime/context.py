"""What a running job can ask of its worker: its inputs, progress reports, services of the master.

Rule 1: there is a context only while a job runs, and it belongs to that attempt alone.
Rule 2: it is used by the thread that runs the job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from paramserver.errors import JobError, LocalProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload


class LostInput(JobError):
    """An output of the phase before cannot be read any more; that job will be run again.

    Attributes
    ----------
    index : int
        Position of the job that made it within its phase.
    """

    index: int

    def __init__(self, message: str = "", *, index: int) -> None:
        super().__init__(message, index=index)


class AttemptIsOver(JobError):
    """The attempt that asked does not count any more; its job should end at once."""


class JobContext(Protocol):
    """What `current` returns."""

    worker_id: str
    job: int
    attempt: int
    scratch_fast: str
    scratch_disk: str
    trusted: bool
    """Whether the master is inside the local trust domain."""
    accepts_code: bool
    """Whether the operator of this worker accepts code from a master outside of it."""

    def function(self, name: str) -> Callable[..., Any]:
        """Return the function of that name (``module:qualname``), if this worker may run it.

        Raises
        ------
        JobFailed
            A refusal in words.
        """

    def inputs(self) -> list[Any]:
        """Return the results of the phase before, in the order of its jobs."""

    def progress(self, done: int, total: int = 0) -> None:
        """Report how far the job is; renews its lease."""

    def call(self, service: str, method: str, body: Payload) -> Payload:
        """Ask a service of the master and wait for the answer.

        Raises
        ------
        AttemptIsOver
            If this attempt does not count any more.
        """


_current: list[JobContext] = []


def current() -> JobContext:
    """Return the context of the job that runs in this process.

    Raises
    ------
    LocalProtocolError
        If no job is running here.
    """
    if not _current:
        raise LocalProtocolError("No job is running here: this can only be called inside a job.")
    return _current[-1]


def run_in(context: JobContext, fn: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> Any:
    """Call a function with a context in place."""
    _current.append(context)
    try:
        return fn(*args, **kwargs)
    finally:
        _current.pop()


def call_with_inputs(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``fn(inputs, *args, **kwargs)`` with the results of the phase before."""
    return fn(current().inputs(), *args, **kwargs)


def run_chunk(fn: Callable[..., Any], rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call a function for each row of arguments."""
    return [fn(*row) for row in rows]


def run_chunk_until_error(
    fn: Callable[..., Any], rows: Sequence[tuple[Any, ...]]
) -> tuple[list[Any], tuple[int, Any, Any] | None, str]:
    """Call a function for each row until one raises.

    Returns
    -------
    results : list
        Of the rows before the error.
    error : payload or None
        What ended it, as `protocol.calls.encode_error` writes it.
    worker_id : str
    """
    results: list[Any] = []
    try:
        for row in rows:
            results.append(fn(*row))  # noqa: PERF401 - the results before the error are wanted
    except Exception as error:  # noqa: BLE001 - it is raised where the results are read
        return results, calls.encode_error(error, trusted=True), current().worker_id
    return results, None, ""


def cut_chunk(
    value: tuple[list[Any], tuple[int, Any, Any] | None, str], worker_id: str
) -> tuple[list[Any], tuple[int, Any, Any] | None, str]:
    """Cut the value of `run_chunk_until_error` at the first result that cannot be sent."""
    results, error, _ = value
    for n, result in enumerate(results):
        try:
            calls.encode_value(result, trusted=True)
        except Exception as trouble:  # noqa: BLE001 - it is raised where that result is read
            return results[:n], calls.encode_error(trouble, trusted=True), worker_id
    return results, error, worker_id
