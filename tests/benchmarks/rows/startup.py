"""Row 3: from nothing to two workers that have numpy and have answered."""

from __future__ import annotations

import time

from tests.benchmarks.peers import CONTENDERS
from tests.benchmarks.row import Measured, Metric, Row

N_WORKERS = 2


def measure(contender: str, _quick: bool) -> Measured:
    """Time the import of the library, and from there until both workers have run a job."""
    cluster = CONTENDERS[contender]()
    begin = time.perf_counter()
    cluster.load()
    loaded = time.perf_counter()
    cluster.start(N_WORKERS)
    cluster.meet(N_WORKERS)
    ready = time.perf_counter()
    cluster.stop()
    stopped = time.perf_counter()
    return {"ready": ready - loaded, "import": loaded - begin, "stop": stopped - ready}


ROW = Row(
    key="3",
    title="start of two local workers, ready with numpy",
    contenders=tuple(CONTENDERS),
    metrics=(Metric("ready", "s", goal=0.6), Metric("import", "s"), Metric("stop", "s")),
    measure=measure,
    n_repeats=7,
)
