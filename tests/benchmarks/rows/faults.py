"""Rows 14 and 15: 40 jobs of 0.25 s on 4 workers, one of which is hit after a second."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial

from tests.benchmarks.contender import Contender
from tests.benchmarks.jobs import nap
from tests.benchmarks.peers import CONTENDERS
from tests.benchmarks.row import Measured, Metric, Row

N_WORKERS = 4
LIMIT_S = 45.0
IDEAL = "ideal"


def measure(number: signal.Signals, contender: str, quick: bool) -> Measured:
    """Time the jobs without a fault, then with one worker hit by the signal."""
    n_jobs, job_s, hit_after_s = (8, 0.1, 0.1) if quick else (40, 0.25, 1.0)
    if contender == IDEAL:
        ideal_s = n_jobs * job_s / N_WORKERS
        return {"no fault": ideal_s, "with fault": ideal_s}
    cluster = CONTENDERS[contender]()
    cluster.load()
    cluster.start(N_WORKERS)
    victim = cluster.meet(N_WORKERS)[0]
    naps = [job_s] * n_jobs
    start = time.perf_counter()
    cluster.submit_all(nap, naps)
    measured: Measured = {"no fault": time.perf_counter() - start}
    timeout_s = 1.0 if number == signal.SIGSTOP else None
    limit_s = 5.0 if quick else LIMIT_S
    hit = threading.Timer(hit_after_s, os.kill, (victim, number))
    hit.start()
    measured |= _run_under_fault(cluster, naps, timeout_s, limit_s)
    if "with fault" in measured:
        cluster.stop()  # the others cannot be stopped any more; they are killed
    return measured


def _run_under_fault(
    cluster: Contender, naps: list[float], timeout_s: float | None, limit_s: float
) -> Measured:
    """Run the jobs in a thread, since some contenders never come back from it."""
    outcome: Measured = {"outcome": f"no end in {limit_s:.0f} s"}

    def run() -> None:
        start = time.perf_counter()
        try:
            results = cluster.submit_all(nap, naps, timeout_s=timeout_s)
        except BaseException as error:
            took = time.perf_counter() - start
            outcome["outcome"] = f"{type(error).__name__} after {took:.1f} s"
            return
        took = time.perf_counter() - start
        outcome["outcome"] = "all results" if results == naps else "wrong results"
        outcome["with fault"] = took

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    return dict(outcome)


KILL = Row(
    key="14",
    title="40 jobs of 0.25 s on 4 workers, one SIGKILLed after 1 s",
    contenders=(*CONTENDERS, IDEAL),
    metrics=(Metric("with fault", "s", goal=2.8), Metric("no fault", "s")),
    measure=partial(measure, signal.SIGKILL),
    n_repeats=3,
)
STOP = Row(
    key="15",
    title="the same, SIGSTOP (our jobs with timeout_s=1)",
    contenders=(*CONTENDERS, IDEAL),
    metrics=(Metric("with fault", "s", goal=6.0), Metric("no fault", "s")),
    measure=partial(measure, signal.SIGSTOP),
    n_repeats=2,
)
