"""The exception of a job that did not succeed: what happened, and what helps. It raises nothing."""

from __future__ import annotations

from concurrent.futures import CancelledError

from paramserver.core.commands import SettleJob
from paramserver.core.jobs import Verdict
from paramserver.errors import JobError, JobTimeout, NoWorkers, PoisonJob
from paramserver.protocol import calls


def job_error(ended: SettleJob, *, trusted: bool) -> BaseException:
    """Return the exception of a job that did not succeed.

    Parameters
    ----------
    ended : SettleJob
    trusted : bool
        Whether the exception of a function may come as a pickle: then it is the original one.
    """
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
                f"Job {job} lost one worker after another ({tries} tries, the last one ended by "
                f"{how}), so it is taken to be the cause and not tried again. If it needs too much "
                "memory, give it less to do at once; if something else kills workers, let it lose "
                "more of them (max_lost=..., for cluster.with_options and MapReduce.run). Last "
                "words of the worker:\n" + (ended.text or "(none)"),
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
