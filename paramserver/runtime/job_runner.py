"""One job in its worker: it is read, run, and its result is written. No socket, no lock, no master.

Rule 1: whatever the call and its result do, an outcome comes back; also a SystemExit is one.
Rule 2: only the flight recorder says what runs: the parent reads it when this process is dead.
Rule 3: a child that a job has forked never comes back from here to speak for the worker.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from paramserver.core.events import JobEnded
from paramserver.protocol import calls
from paramserver.protocol.limits import check_size
from paramserver.protocol.messages import JobGrant, Outcome, Payload
from paramserver.runtime import context as job_context
from paramserver.runtime.flight_recorder import FlightRecorder
from paramserver.runtime.lifeline import ChildConfig

_OK: Final = Outcome.OK


class JobRunner:
    """Runs the jobs of one worker process, one at a time.

    Parameters
    ----------
    config : ChildConfig
    recorder : FlightRecorder
    trusted : bool
        Whether the master is inside the local trust domain.
    """

    def __init__(self, config: ChildConfig, recorder: FlightRecorder, *, trusted: bool) -> None:
        self._config = config
        self._recorder = recorder
        self._trusted = trusted
        self._pid = os.getpid()

    def run(self, grant: JobGrant, context: job_context.JobContext) -> JobEnded:
        """Run one attempt; return how it ended, and when."""
        trusted = self._trusted
        clock = time.monotonic
        detail = 0
        started = clock()
        self._recorder.started(grant.job, grant.attempt)
        try:
            fn, args, kwargs = calls.decode_call(
                grant.payload,
                trusted=trusted,
                accept_code=self._config.accept_code,
                allowed=self._config.allow,
                with_inputs=job_context.call_with_inputs,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the owner of the job must know
            outcome, payload = Outcome.REFUSED, calls.encode_error(error, trusted=trusted)
        else:
            try:
                value = job_context.run_in(context, fn, args, kwargs)
                payload = self._encode_result(fn, value)
                outcome = _OK
                del value
            except job_context.LostInput as lost:
                outcome, detail = Outcome.LOST_INPUT, lost.index
                payload = calls.encode_error(lost, trusted=trusted)
            except BaseException as error:  # noqa: BLE001 - user code: also SystemExit is a result
                outcome = Outcome.ERROR
                payload = calls.encode_error(error, trusted=trusted)
        if os.getpid() != self._pid:
            leave_forked()
        self._recorder.ended()
        ended = clock()
        return JobEnded(ended, outcome, int((ended - started) * 1e6), payload, detail)

    def _encode_result(self, fn: Callable[..., Any], value: Any) -> Payload:
        trusted = self._trusted
        try:
            payload = calls.encode_value(value, trusted=trusted)
        except Exception:
            if fn is not job_context.run_chunk_until_error:
                raise
            value = job_context.cut_chunk(value, self._config.worker_id)
            payload = calls.encode_value(value, trusted=trusted)
        check_size(payload, "result")
        return payload.snapshot()  # the next job may change an array that this one has returned


def leave_forked() -> NoReturn:
    """End a forked child as multiprocessing does: nothing of its parent's is closed by it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)
